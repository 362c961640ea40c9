"""A whole and parts, of captions by one pass of words whose first stands for the whole."""

from torch import Tensor

from sen_toolbox.models.features import PairSpec, TextFeatures
from sen_toolbox.models.necks.aligned_parts import AlignedParts
from sen_toolbox.registry import NECKS


@NECKS.register_module()
class FirstWordParts(AlignedParts):
    """:class:`AlignedParts` of one stream of words, the first of which stands for the caption.

    Args:
        spec: Sizes of the backbone, whose map and states have one width.
        stage: The map.
        **options: Those of ``AlignedParts``.
    """

    def __init__(self, *, spec: PairSpec, stage: str, **options) -> None:
        super().__init__(spec=spec, stage=stage, **options)
        self.reads = frozenset({f'image.stages.{stage}', 'text.tokens'})

    def whole_and_words(self, text: TextFeatures) -> tuple[Tensor, Tensor]:
        """The state (T, C) of the first word, and those of all (T, L, C)."""
        return text.tokens[:, 0], text.tokens
