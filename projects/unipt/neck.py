"""Maxima over projected tokens, and parts that queries find among them."""

from torch import Tensor, nn

from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.models.necks.part_queries import PartQueries
from sen_toolbox.registry import NECKS


@NECKS.register_module()
class ProjectedMaxima(nn.Module):
    """A linear layer for each modality, and the maximum over all tokens behind it.

    Class tokens take part, and the padding behind a caption, so rows must keep their length.

    Args:
        spec: Sizes of the backbone.
        width: Width of what comes out.

    Raises:
        ValueError: If the text encoder lets rows be cut.
    """

    reads = frozenset({'image.tokens', 'text.tokens'})

    def __init__(self, *, spec: PairSpec, width: int) -> None:
        super().__init__()
        if spec.text.cuts_padding:
            raise ValueError(
                'ProjectedMaxima reads padding like words: set cuts_padding=False of the text '
                'encoder'
            )
        self.image = nn.Linear(spec.image.width, width)
        self.text = nn.Linear(spec.text.width, width)

    def embed_image(self, pair: PairFeatures) -> Tensor:
        """Returns (B, width)."""
        return self.image(pair.image.tokens).amax(dim=1)

    def embed_text(self, pair: PairFeatures) -> Tensor:
        """Returns (T, width)."""
        return self.text(pair.text.tokens).amax(dim=1)


@NECKS.register_module()
class MaximaAndParts(ProjectedMaxima):
    """The maxima as a whole, and parts that shared queries find among the projected tokens.

    Queries look neither at class tokens nor at padding.

    Args:
        spec: Sizes of the backbone.
        width: Width of the whole.
        parts: Number K of parts.
        part_width: Width of a part.
        decoder: Arguments of the decoder of the parts, but its width.
    """

    def __init__(
        self, *, spec: PairSpec, width: int, parts: int, part_width: int, decoder: dict
    ) -> None:
        super().__init__(spec=spec, width=width)
        self.widths = {'whole': (1, width), 'parts': (parts, part_width)}
        self.parts = PartQueries(width=width, parts=parts, part_width=part_width, decoder=decoder)

    def embed_image(self, pair: PairFeatures) -> dict[str, Tensor]:
        """Both levels (B, K, ...) of images."""
        tokens = self.image(pair.image.tokens)
        return dict(whole=tokens.amax(dim=1, keepdim=True), parts=self.parts(tokens[:, 1:]))

    def embed_text(self, pair: PairFeatures) -> dict[str, Tensor]:
        """Both levels (T, K, ...) of captions."""
        tokens = self.text(pair.text.tokens)
        parts = self.parts(tokens[:, 1:], pair.text.mask[:, 1:])
        return dict(whole=tokens.amax(dim=1, keepdim=True), parts=parts)
