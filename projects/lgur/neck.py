"""Parts of tokens, and of the same tokens in the words of a dictionary."""

import torch
from torch import Tensor, nn

from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.models.necks.cross_decoder import CrossDecoder
from sen_toolbox.models.necks.part_queries import PartQueries
from sen_toolbox.registry import NECKS


@NECKS.register_module()
class DictionaryParts(nn.Module):
    """A dictionary and part queries that images and captions share.

    In training the words of a caption stand in the dictionary's place once, for the patches of
    their own image. The class token is left out.

    Args:
        spec: Sizes of the backbone, whose tokens have one width.
        entries: Number of entries of the dictionary.
        rebuild: Arguments of the decoder that puts tokens into words of the dictionary, but its
            width.
        parts: Number K of parts.
        part_width: Width F of a part.
        decoder: Those of the decoder of the parts.

    Raises:
        ValueError: If the tokens differ in width.
    """

    def __init__(
        self,
        *,
        spec: PairSpec,
        entries: int,
        rebuild: dict,
        parts: int,
        part_width: int,
        decoder: dict,
    ) -> None:
        super().__init__()
        width = spec.image.width
        if spec.text.width != width:
            raise ValueError(
                f'patches have {width} numbers, words {spec.text.width}: the dictionary is for '
                'both, so make hidden_dim of the text encoder that number'
            )
        self.reads = frozenset({'image.tokens', 'text.tokens'})
        self.widths = {'parts': (parts, part_width)}
        self.dictionary = nn.Parameter(torch.randn(1, entries, width))
        self.rebuild = CrossDecoder(width=width, **rebuild)
        self.mask = nn.Linear(width, 1)
        self.parts = PartQueries(width=width, parts=parts, part_width=part_width, decoder=decoder)

    def embed_image(self, pair: PairFeatures) -> dict[str, Tensor]:
        """Parts (B, K, F) of images in the words of the dictionary."""
        patches = pair.image.tokens[:, 1:]
        return dict(parts=self.parts(self.rebuilt(patches, self.dictionary)))

    def embed_text(self, pair: PairFeatures) -> dict[str, Tensor]:
        """The same of captions."""
        words = self.rebuild(pair.text.tokens, self.dictionary)
        return dict(parts=self.parts(words, pair.text.mask))

    def plain_image(self, pair: PairFeatures) -> Tensor:
        """Parts (T, K, F) of the image of each caption in the words of that caption."""
        patches = pair.of_texts(pair.image.tokens[:, 1:])
        return self.parts(self.rebuilt(patches, pair.text.tokens, pair.text.mask))

    def plain_text(self, pair: PairFeatures) -> Tensor:
        """Parts (T, K, F) of captions as they are."""
        return self.parts(pair.text.tokens, pair.text.mask)

    def rebuilt(self, patches: Tensor, words: Tensor, mask: Tensor | None = None) -> Tensor:
        """Patches (B, N, W) made of words (B, L, W), or (1, L, W) for all, and weighed.

        Args:
            patches: The patches.
            words: The words.
            mask: True (B, L) on words that may be looked at; None for all.
        """
        # A norm follows, so that weights of whole patches change next to nothing.
        return self.rebuild(patches, words, mask) * self.mask(patches).sigmoid()
