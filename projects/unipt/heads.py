"""The two losses of the pretraining."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from sen_toolbox.models.features import ImageFeatures, PairFeatures, PairSpec, TextFeatures
from sen_toolbox.models.heads import MatchingHead
from sen_toolbox.models.heads.masked_word import masked_word_terms
from sen_toolbox.registry import HEADS, NECKS


@HEADS.register_module()
class NeckMatchingHead(MatchingHead):
    """Matches what a neck makes of images and captions; retrieval compares it, too.

    Args:
        neck: Config of the neck, with ``embed_image(pair)`` and ``embed_text(pair)``.
        loss: Config of the loss ``(image_embedding, text_embedding, labels)``.
        spec: Sizes of the backbone.
    """

    def __init__(self, *, neck: dict, loss: dict, spec: PairSpec) -> None:
        super().__init__(loss=loss, spec=spec)
        self.neck = NECKS.build({**neck, 'spec': spec})
        self.reads = self.neck.reads

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss``, computed in at least float32 whatever the autocast mode."""
        image, text = ImageFeatures(self.embed_image(pair)), TextFeatures(self.embed_text(pair))
        return super().forward(PairFeatures(image, text, pair.image_of), batch, backbone)

    def embed_image(self, pair: PairFeatures) -> Tensor:
        """Embeddings (B, D)."""
        return self.neck.embed_image(pair)

    def embed_text(self, pair: PairFeatures) -> Tensor:
        """Embeddings (T, D)."""
        return self.neck.embed_text(pair)


@HEADS.register_module()
class MaskedCaptionHead(nn.Module):
    """Predicts masked words from the other words alone, as BERT's pretraining does.

    The masked caption is encoded beside the whole one (see ``MaskWholeWords``).

    Args:
        spec: Sizes of the backbone.
    """

    def __init__(self, *, spec: PairSpec) -> None:
        super().__init__()
        width = spec.text.width
        self.classifier = nn.Sequential(
            OrderedDict(
                dense=nn.Linear(width, width),
                gelu=nn.GELU(),
                norm=nn.LayerNorm(width, eps=1e-12),
                words=nn.Linear(width, spec.text.vocab_size),
            )
        )
        for layer in (self.classifier.dense, self.classifier.words):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss``, the mean over masked words, and ``acc``, in 0..1.

        Raises:
            KeyError: If the batch has no masked captions.
        """
        if 'masked_tokens' not in batch:
            raise KeyError(
                "the batch has no 'masked_tokens': end the training pipeline with MaskWholeWords "
                "and PackPair(per_caption=['masked_tokens', 'word_labels'])"
            )
        tokens = backbone.encode_text(batch['masked_tokens'], frozenset({'text.tokens'})).tokens
        labels = batch['word_labels'].flatten()
        # The one place where the host waits for the device, which alone knows how many there are.
        masked = labels.nonzero().squeeze(1)
        scores = self.classifier(tokens.flatten(0, 1).index_select(0, masked))
        with torch.autocast(scores.device.type, enabled=False):
            return masked_word_terms(scores.float(), labels[masked])
