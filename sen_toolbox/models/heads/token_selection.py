"""Token selection embedding of RDE: a second pair of embeddings, for training and retrieval."""

import torch
from torch import Tensor, nn

from sen_toolbox.models.features import BackboneSpec, PairFeatures
from sen_toolbox.registry import HEADS, NECKS

from .weighted_matching import WeightedMatchingHead


@HEADS.register_module()
class TokenSelectionHead(WeightedMatchingHead):
    """Applies the loss to embeddings of the most attended patches and words.

    RDE, arXiv:2308.09911. Patches are chosen by the attention of the class token in the last block,
    words by that of the end token; each modality has its own embedding layer. In retrieval the
    cosine of these embeddings is averaged with that of the global ones.

    Args:
        neck: Config of the embedding layer ``(tokens, score, count) -> (B, W)``, built once for
            the patches and once for the words.
        loss: Config of the loss.
        spec: Sizes of the backbone.
    """

    reads = frozenset({'image_tokens', 'text_tokens', 'image_attention', 'text_attention'})

    def __init__(self, *, neck: dict, loss: dict, spec: BackboneSpec) -> None:
        super().__init__(loss=loss, spec=spec)
        self.image_neck = NECKS.build({**neck, 'num_tokens': spec.num_patches, 'spec': spec})
        # All but start and end; not those of a caption, so that padding has no influence.
        words = spec.context_length - 2
        self.text_neck = NECKS.build({**neck, 'num_tokens': words, 'spec': spec})

    def forward(self, feats: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss``, see ``WeightedMatchingHead``."""
        return super().forward(self._selected(feats, batch), batch, backbone)

    def pair_losses(self, feats: PairFeatures, batch: dict) -> Tensor:
        """Loss of each pair of the batch of all ranks, see ``WeightedMatchingHead``."""
        return super().pair_losses(self._selected(feats, batch), batch)

    def embed_image(self, feats: PairFeatures) -> Tensor:
        """Embeddings (B, W) of the patches the class token attends to most."""
        patches, attention = feats.image_tokens[:, 1:], feats.image_attention
        count = torch.full((len(patches),), patches.shape[1], device=patches.device)
        return self.image_neck(patches, attention, count)

    def embed_text(self, feats: PairFeatures, tokens: Tensor) -> Tensor:
        """Embeddings (B, W) of the words the end token attends to most; token ids are (B, L)."""
        end = tokens.argmax(dim=1, keepdim=True)
        position = torch.arange(tokens.shape[1], device=tokens.device)
        score = feats.text_attention.masked_fill(position > end, 0)
        score = score.masked_fill((position == 0) | (position == end), -1)
        return self.text_neck(feats.text_tokens, score, end[:, 0] - 1)

    def _selected(self, feats: PairFeatures, batch: dict) -> PairFeatures:
        return PairFeatures(
            image=self.embed_image(feats), text=self.embed_text(feats, batch['tokens'])
        )
