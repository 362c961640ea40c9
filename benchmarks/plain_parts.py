"""What the plain renditions of the classic methods share, at the cost of the releases.

Modules with weights of their own, copied from ours: torchvision's ResNet, transformers' BERT, a
convolution for each part, an LSTM whose captions are sorted and sorted back, and ranking that
leaves torch to look for its negatives in loops.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import BertModel

from sen_toolbox.text.tokens import Tokens

SLOPE = 0.25


def trunk(ours: nn.Module, last_stride: int) -> nn.Sequential:
    """torchvision's ResNet-50 up to its last map."""
    resnet = torchvision.models.resnet50(weights=None)
    first = resnet.layer4[0]
    first.conv2.stride = first.downsample[0].stride = (last_stride, last_stride)
    resnet.load_state_dict(ours.state_dict(), strict=False)
    return nn.Sequential(*list(resnet.children())[:-2])


def frozen_bert(ours: nn.Module) -> BertModel:
    """transformers' BERT with our weights, which are not trained."""
    bert = BertModel(ours.encoder.config)
    bert.load_state_dict(ours.state_dict(), strict=False)
    return bert.requires_grad_(False)


@torch.no_grad()
def bert_words(bert: BertModel, tokens: Tokens) -> Tensor:
    """Last states (T, L, W) of all positions, padding included."""
    return bert(tokens.ids, attention_mask=tokens.mask.long())[0]


def convolution(weight: Tensor) -> nn.Conv2d:
    """A 1 x 1 convolution without bias, of a weight (out, in)."""
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=False)
    layer.weight.data.copy_(weight[:, :, None, None])
    return layer


def part_convolutions(ours: nn.Module) -> nn.ModuleList:
    """A convolution for each part of a ``PartLinear``."""
    return nn.ModuleList(convolution(weight) for weight in ours.weight.detach())


def by_part(convolutions: nn.ModuleList, x: Tensor) -> Tensor:
    """Maps (B, C, K) by a convolution for each of the K places, one after the other."""
    parts = [
        layer(x[:, :, k, None, None]).squeeze(3).squeeze(2) for k, layer in enumerate(convolutions)
    ]
    return torch.stack(parts, dim=2)


class Classifiers(nn.Module):
    """The identity loss: a linear layer for each part, images and captions in turn."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for weight, bias in zip(ours.weight.detach(), ours.bias.detach(), strict=True):
            layer = nn.Linear(weight.shape[1], weight.shape[0])
            layer.weight.data.copy_(weight)
            layer.bias.data.copy_(bias)
            self.layers.append(layer)

    def forward(self, images: Tensor, texts: Tensor, labels: Tensor) -> Tensor:
        """The loss of parts (B, C, K) of both."""
        total = 0.0
        for number, layer in enumerate(self.layers):
            for parts in (images, texts):
                total = total + F.cross_entropy(layer(parts[:, :, number]), labels)
        return total / len(self.layers)


def sorted_states(rnn: nn.RNNBase, words: Tensor, lengths: Tensor) -> Tensor:
    """States (T, longest, W) of a layer over words (T, L, E), 0 behind the captions."""
    _, order = lengths.sort(descending=True)
    _, back = order.sort()
    packed = pack_padded_sequence(words[order], lengths[order].cpu(), batch_first=True)
    states, _ = pad_packed_sequence(rnn(packed)[0], batch_first=True)
    return states[back]


def sorted_lstm(lstm: nn.LSTM, words: Tensor, lengths: Tensor) -> Tensor:
    """Mean (T, L, W) of both directions over words (T, L, E), 0 behind the captions."""
    _, order = lengths.sort(descending=True)
    _, back = order.sort()
    packed = pack_padded_sequence(words[order], lengths[order].cpu(), batch_first=True)
    states, _ = lstm(packed)
    states, _ = pad_packed_sequence(states, batch_first=True, total_length=words.shape[1])
    states = states[back]
    half = states.shape[2] // 2
    return (states[:, :, :half] + states[:, :, half:]) / 2


def copied_lstm(ours: nn.LSTM) -> nn.LSTM:
    """An LSTM of two directions without biases."""
    lstm = nn.LSTM(ours.input_size, ours.hidden_size, bias=False, bidirectional=True)
    lstm.load_state_dict(ours.state_dict())
    return lstm


def cosines(images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines (B, B) of features of any shape, and those of the pairs (B,)."""
    images, texts = (x.flatten(1) for x in (images, texts))
    images, texts = (x / (x.norm(dim=1, keepdim=True) + 1e-8) for x in (images, texts))
    return images @ texts.t(), (images * texts).sum(dim=1)


def triplets(
    scores: Tensor, labels: Tensor, margins: np.ndarray, draws: Tensor, adaptive: bool
) -> tuple[Tensor, Tensor]:
    """A semi-hard negative for each anchor, looked for in NumPy, anchor by anchor."""
    values, people = scores.detach().cpu().numpy(), labels.cpu().numpy()
    found = []
    for anchor, person in enumerate(people):
        if adaptive and margins[anchor] < 0.16:
            continue
        others = np.flatnonzero(people != person)
        excess = values[anchor, others] - values[anchor, anchor] + margins[anchor]
        candidates = np.flatnonzero((excess > 0) & (excess < margins[anchor]))
        if len(candidates):
            choice = candidates[int(draws[anchor].item() * len(candidates))]
            found.append((anchor, others[choice]))
    if not found:
        found.append((anchor, others[0]))
    anchors, negatives = torch.tensor(np.array(found)).unbind(1)
    return torch.stack([anchors, negatives]), torch.from_numpy(margins[anchors.numpy()]).float()


def hinges(
    scores: Tensor, labels: Tensor, margins: np.ndarray, draws: Tensor, adaptive: bool
) -> Tensor:
    """The sum over images as anchors and over captions as anchors."""
    total = 0.0
    for side, table in enumerate((scores, scores.t())):
        (anchors, negatives), kept = triplets(table, labels, margins, draws[:, side], adaptive)
        positive, negative = table[anchors, anchors], table[anchors, negatives]
        total = total + F.relu(kept - positive + negative).sum()
    return total


def compound_ranking(
    features: Sequence[Tensor], labels: Tensor, draws: Tensor, adaptive: bool
) -> Tensor:
    """The ranking of images, captions and second captions, margin 0.2."""
    images, texts, seconds = features
    scores, match = cosines(images, texts)
    second_scores, second_match = cosines(images, seconds)
    margins = np.full(len(labels), 0.2)
    second_margins = margins / 2
    if adaptive:
        share = (second_match.detach().abs() / match.detach().abs()).clamp(max=1)
        second_margins = (share.cpu().numpy() + 1) * margins / 2
    first = hinges(scores, labels, margins, draws[:, :2], adaptive)
    return first + 0.1 * hinges(second_scores, labels, second_margins, draws[:, 2:], adaptive)


def words_and_lstms(text: nn.Module) -> tuple[nn.Embedding, nn.ModuleList]:
    """Copies of a text encoder's words and of its two LSTMs, which have no bias."""
    words = nn.Embedding.from_pretrained(
        text.word_embedding.weight.detach().clone(), freeze=False, padding_idx=0
    )
    lstms = nn.ModuleList()
    for ours in (text.first, text.second):
        lstm = nn.LSTM(ours.input_size, ours.hidden_size, bias=False)
        lstm.load_state_dict(ours.state_dict())
        lstms.append(lstm)
    return words, lstms


def groups_of_one(model: nn.Module) -> list[dict]:
    """A group for each parameter that is trained, biases at twice the rate and without decay.

    The numbers are those of ViTAA and CM-MoCo.
    """
    return [
        dict(params=[p], lr=2e-4, weight_decay=0.0)
        if 'bias' in name
        else dict(params=[p], lr=1e-4, weight_decay=4e-5)
        for name, p in model.named_parameters()
        if p.requires_grad
    ]
