"""A whole and parts, of images without what only images have, and of captions."""

from torch import Tensor, nn

from projects.manet.centres import PartCentres
from projects.manet.suppression import ChannelFiltration, RelationMask
from sen_toolbox.models.features import PairFeatures, PairSpec, TextFeatures
from sen_toolbox.registry import NECKS


@NECKS.register_module()
class SuppressedImages(nn.Module):
    """Two steps that suppress, a layer for the whole of each modality, centres for the parts.

    The whole is a maximum: of an image over the positions behind its layer, of a caption before
    it. The padding behind a caption takes part, as zeros, and in the parts as what a layer makes of
    zeros, so rows must keep their length.

    Args:
        spec: Sizes of the backbone, whose map and states have one width.
        stage: The map.
        parts: Number of parts.
        part_width: Width of a part.
        narrow: Width in which positions are compared.
        relation: Width of what is kept of each comparison.
        squeezed: Width between the layers that weigh channels.

    Raises:
        ValueError: If map and states differ in width, or the text encoder lets rows be cut.
    """

    def __init__(
        self,
        *,
        spec: PairSpec,
        stage: str,
        parts: int,
        part_width: int,
        narrow: int,
        relation: int,
        squeezed: int,
    ) -> None:
        super().__init__()
        width, rows, columns = spec.image.stages[stage]
        if width != spec.text.width:
            raise ValueError(
                f'the map {stage} has {width} channels and a state {spec.text.width}: the centres '
                'are for both, so make hidden_dim of the text encoder that number'
            )
        if spec.text.cuts_padding:
            raise ValueError(
                'SuppressedImages reads padding like words: set cuts_padding=False of the text '
                'encoder'
            )
        self.stage = stage
        self.reads = frozenset({f'image.stages.{stage}', 'text.tokens'})
        self.widths = {'whole': (1, width), 'local': (parts, part_width)}
        self.mask = RelationMask(
            width=width, positions=rows * columns, narrow=narrow, relation=relation
        )
        self.filtration = ChannelFiltration(width=width, narrow=squeezed)
        self.image_whole = nn.Linear(width, width)
        self.text_whole = nn.Linear(width, width)
        self.centres = PartCentres(width=width, parts=parts, part_width=part_width)

    def embed_image(self, pair: PairFeatures) -> dict[str, Tensor]:
        """Both levels, and the means (B, C) of the map ``before`` and ``after`` the second step."""
        features = pair.image.stages[self.stage]
        positions = self.mask(features.flatten(2).transpose(1, 2))
        before = positions.transpose(1, 2).view_as(features)
        after = self.filtration(before)
        positions = after.flatten(2).transpose(1, 2)
        return dict(
            whole=self.image_whole(positions).amax(dim=1, keepdim=True),
            local=self.centres(positions),
            before=before.mean(dim=(2, 3)),
            after=after.mean(dim=(2, 3)),
        )

    def embed_words(self, text: TextFeatures) -> dict[str, Tensor]:
        """Both levels of captions."""
        whole = self.text_whole(text.tokens.amax(dim=1, keepdim=True))
        return dict(whole=whole, local=self.centres(text.tokens))
