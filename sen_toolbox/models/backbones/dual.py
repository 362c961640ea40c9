"""An image encoder beside a text encoder."""

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn

from sen_toolbox.models.batch_norm import GlobalBatchNorm
from sen_toolbox.models.features import (
    ALWAYS_PROVIDED,
    EMBEDDINGS,
    ImageFeatures,
    PairFeatures,
    PairSpec,
    TextFeatures,
    reads_of,
)
from sen_toolbox.models.pretrained import find_weights, load_weights, read_weights
from sen_toolbox.registry import BACKBONES, IMAGE_ENCODERS, TEXT_ENCODERS
from sen_toolbox.text.tokens import Tokens


@BACKBONES.register_module()
class DualEncoder(nn.Module):
    """Two encoders that know nothing of each other, and the joint space of their embeddings.

    Args:
        image: Config of an image encoder.
        text: Config of a text encoder.
        embed_dim: Width D of the joint space, to which each embedding is projected linearly; None
            if both encoders have one width and their embeddings are compared as they are, or
            there is no joint space. Tokens are not projected.
        projection_norm: Options of the batch norm behind each projection (``eps``, ``momentum``),
            which then has no bias; None for projections without norm, with bias.
        joint: Whether there is a joint space. False where heads alone compare, by features of
            their own: the encoders may differ in width, and ``spec.embed_dim`` is None.
        pretrained: Checkpoint of this toolbox whose projections are loaded before training; the
            encoders have weights of their own. None for random ones.

    Raises:
        ValueError: If there is no projection and the encoders differ in width, weights or a norm of
            projections are given, or there is a width of no joint space.
    """

    def __init__(
        self,
        *,
        image: dict,
        text: dict,
        embed_dim: int | None = None,
        projection_norm: Mapping | None = None,
        joint: bool = True,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        self.pretrained = pretrained
        self.image = IMAGE_ENCODERS.build(image)
        self.text = TEXT_ENCODERS.build(text)
        widths = self.image.spec.width, self.text.spec.width
        if embed_dim is not None and not joint:
            raise ValueError(f'joint=False has no joint space for embed_dim={embed_dim}')
        if embed_dim is None:
            if joint and widths[0] != widths[1]:
                raise ValueError(
                    f'embeddings of images have {widths[0]} numbers, of captions {widths[1]}: set '
                    'embed_dim, to which both are projected'
                )
            if pretrained is not None:
                raise ValueError(
                    f'pretrained={pretrained!r} of a DualEncoder is for its projections, and '
                    'without embed_dim it has none; each encoder has a pretrained of its own'
                )
            if projection_norm is not None:
                raise ValueError('projection_norm is for projections: set embed_dim')
            self.image_projection, self.text_projection = nn.Identity(), nn.Identity()
        else:
            self.image_projection = _projection(widths[0], embed_dim, projection_norm)
            self.text_projection = _projection(widths[1], embed_dim, projection_norm)
        width = embed_dim or widths[0] if joint else None
        self.spec = PairSpec(width, self.image.spec, self.text.spec)
        self.provides = ALWAYS_PROVIDED | {
            f'{modality}.{name}'
            for modality, encoder in (('image', self.image), ('text', self.text))
            for name in encoder.provides
        }

    @property
    def word_embedding(self) -> nn.Embedding:
        """The table of words."""
        return self.text.word_embedding

    def load_weights(self) -> None:
        """Loads the pretrained weights of each encoder and of the projections, if they have some.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If keys or shapes do not match; names them.
        """
        self.image.load_weights()
        self.text.load_weights()
        if self.pretrained is not None:
            for name in ('image_projection', 'text_projection'):
                path = find_weights(self.pretrained, name, 'a checkpoint of this toolbox')
                state, _ = read_weights(path, name)
                load_weights(self.get_submodule(name), state, path)

    def forward(
        self,
        images: Tensor | None,
        tokens: Tokens | None,
        reads: frozenset[str] = EMBEDDINGS,
        image_of: Tensor | None = None,
    ) -> PairFeatures:
        """Encodes images (B, 3, H, W) and T captions.

        Args:
            images: Normalised images; None leaves out their features.
            tokens: The captions; None leaves out their features.
            reads: Names of features; see ``provides``.
            image_of: Image row (T,) of each caption; None where caption i belongs to image i.
        """
        image = None if images is None else self.encode_image(images, reads)
        text = None if tokens is None else self.encode_text(tokens, reads)
        return PairFeatures(image, text, image_of)

    def encode_image(
        self, images: Tensor, reads: frozenset[str] = EMBEDDINGS, keep: Tensor | None = None
    ) -> ImageFeatures:
        """Features of images (B, 3, H, W), or of their patches ``keep`` (B, K) alone."""
        features = self.image(images, reads_of(reads, 'image'), keep)
        features.embedding = self.image_projection(features.embedding)
        return features

    def encode_text(self, tokens: Tokens, reads: frozenset[str] = EMBEDDINGS) -> TextFeatures:
        """Features of T captions."""
        features = self.text(tokens, reads_of(reads, 'text'))
        features.embedding = self.text_projection(features.embedding)
        return features


def _projection(width: int, embed_dim: int, norm: Mapping | None) -> nn.Module:
    if norm is None:
        return nn.Linear(width, embed_dim)
    return nn.Sequential(
        OrderedDict(
            linear=nn.Linear(width, embed_dim, bias=False), norm=GlobalBatchNorm(embed_dim, **norm)
        )
    )
