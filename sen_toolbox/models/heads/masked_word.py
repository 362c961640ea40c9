"""Masked language modelling with the image as context, the auxiliary task of IRRA."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.blocks import QuickGELU
from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.models.gather import global_sum
from sen_toolbox.registry import HEADS, NECKS
from sen_toolbox.text.tokens import Tokens


@HEADS.register_module()
class MaskedWordHead(nn.Module):
    """Predicts the words that the pipeline masked, from the other words and the image.

    IRRA, arXiv:2303.12501, implicit relation reasoning. ``MaskWords`` masks the caption that all
    heads see, so the text tokens at hand are those of the masked caption; the release encodes the
    same ids twice.

    The mean is over the masked words of all ranks. The vocabulary is scored at those words alone,
    about four of 77 positions, which changes nothing.

    Args:
        neck: Config of the encoder ``(text_tokens, image_tokens) -> tokens (B, L, D)``; it has a
            ``depth``, which the initial weights of the vocabulary follow in the release.
        spec: Sizes of the backbone.
    """

    reads = frozenset({'image.tokens', 'text.tokens'})

    def __init__(self, *, neck: dict, spec: PairSpec) -> None:
        super().__init__()
        self.neck = NECKS.build({**neck, 'spec': spec})
        width = spec.text.width
        # Rules for learning rates name classifiers, of identities as of words.
        self.classifier = nn.Sequential(
            OrderedDict(
                dense=nn.Linear(width, width),
                gelu=QuickGELU(),
                norm=nn.LayerNorm(width),
                words=nn.Linear(width, spec.text.vocab_size),
            )
        )
        # Standard deviations of the IRRA release.
        nn.init.normal_(self.classifier.dense.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(self.classifier.words.weight, std=(2 * width * self.neck.depth) ** -0.5)

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss``, the mean cross-entropy of the masked words, and ``acc``, in 0..1.

        Both are 0 where no word is masked.

        Args:
            pair: Features of the masked captions and of the images.
            batch: ``word_labels`` (T, L): the masked word, 0 elsewhere.
            backbone: Not used.

        Raises:
            KeyError: If the batch has no labels.
        """
        if 'word_labels' not in batch:
            raise KeyError(
                'MaskedWordHead needs word_labels: end the training pipeline with MaskWords and '
                "PackPair(per_caption=['word_labels'])"
            )
        tokens = self.neck(pair.text.tokens, pair.of_texts(pair.image.tokens)).flatten(0, 1)
        labels = batch['word_labels'].flatten()
        # The one place where the host waits for the device, which alone knows how many there are.
        masked = labels.nonzero().squeeze(1)
        return masked_word_terms(self.classifier(tokens[masked]), labels[masked])

    @torch.no_grad()
    def word_attention(self, images: Tensor, tokens: Tokens, backbone: nn.Module) -> Tensor:
        """How much each token looks at each patch, (B, L, N)."""
        words = backbone.encode_text(tokens, self.reads).tokens
        patches = backbone.encode_image(images, self.reads).tokens
        return self.neck.attention(words, patches)[:, :, 1:]


def masked_word_terms(scores: Tensor, labels: Tensor) -> dict:
    """``loss``, mean cross-entropy of the masked words of all ranks, and ``acc``, in 0..1.

    Args:
        scores: Scores (M, V) of the words of the vocabulary at each of M masked words; M may be 0.
        labels: The words (M,).
    """
    loss = F.cross_entropy(scores, labels, reduction='sum')
    correct = (scores.argmax(dim=1) == labels).sum().to(loss)
    count = loss.new_full((), len(labels))
    loss, correct, count = global_sum(torch.stack([loss, correct, count]))
    count = count.clamp_min(1)
    return dict(loss=loss / count, acc=correct / count)
