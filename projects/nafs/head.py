"""Attention between all scales of an image and of a caption, as a loss and as a score."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.nafs.attention import Regions, Words, local_similarity
from projects.nafs.clauses import CLAUSES
from projects.nafs.image import HALVES, THIRDS
from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.models.gather import gather_all, widened
from sen_toolbox.models.losses.similarity import kl_divergence, same_identity
from sen_toolbox.models.parts import PartLinear
from sen_toolbox.registry import HEADS

REGIONS = 1 + THIRDS + HALVES
EPSILON = 1e-8


@HEADS.register_module()
class FullScaleHead(nn.Module):
    """Compares an image, its thirds and halves with a caption, its clauses and its words.

    The loss is the divergence of the softmax over captions of local similarities from the captions
    of the same person, for each image. The score of a candidate is the cosine of the embeddings
    and the local similarity. Words are the caption's embedding, its clauses, and its tokens but
    the first and the last; their norm has a weight for every place, so rows keep their length.

    Args:
        sharpness: Factor before both softmaxes, that over words and that over captions.
        spec: Sizes of the backbone; BERT is as wide as the joint space.

    Raises:
        ValueError: If it is not.
    """

    reads = frozenset({'image.extra.stripes', 'text.tokens', 'text.extra.clauses'})

    def __init__(self, *, sharpness: float = 20.0, spec: PairSpec) -> None:
        super().__init__()
        width, wide = spec.embed_dim, spec.image.width
        if spec.text.width != width:
            raise ValueError(
                f'words have {spec.text.width} numbers, the joint space {width}: they stand in one '
                'sequence, so set embed_dim of the backbone to the width of the words'
            )
        self.sharpness, self.width = sharpness, width
        self.places = spec.text.context_length // (1 + CLAUSES) + 1
        self.stripes = _part_linear(REGIONS - 1, wide, width)
        self.query, self.value = (_part_linear(REGIONS, width, width) for _ in range(2))
        self.word_key, self.word_value = (nn.Linear(width, width) for _ in range(2))
        self.key_norm, self.value_norm = (nn.LayerNorm((self.places, width)) for _ in range(2))

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss``, in at least float32."""
        regions, words = self.regions(pair), self.words(pair)
        labels, mask, keys, values, *regions = gather_all(
            pair.of_texts(batch['labels']),
            words.mask,
            *(widened(x) for x in (words.keys, words.values, *map(pair.of_texts, regions))),
        )
        with torch.autocast(labels.device.type, enabled=False):
            regions, words = Regions(*(x[None] for x in regions)), Words(keys, values, mask)
            local = local_similarity(words, regions, self.sharpness)
            same = same_identity(labels).to(local.dtype)
            log_true = torch.log(F.normalize(same, dim=1) + EPSILON)
            return dict(loss=kl_divergence(self.sharpness * local.t(), log_true))

    def regions(self, pair: PairFeatures) -> Regions:
        """Queries and values (B, 6, D) of the whole, three stripes and two."""
        stripes = self.stripes(pair.image.extra['stripes'])
        whole = pair.image.embedding[:, None].to(stripes.dtype)
        regions = torch.cat([whole, stripes], dim=1)
        return Regions(self.query(regions), self.value(regions))

    def words(self, pair: PairFeatures) -> Words:
        """Keys and values (T, L + 1, D) of the whole, the clauses and the words of captions.

        As many places are read as the caption has tokens, and three: the first is not among them,
        so one place of padding is.
        """
        text = pair.text
        tokens = text.tokens[:, 1 : self.places - CLAUSES]
        whole = text.embedding[:, None].to(tokens.dtype)
        words = torch.cat([whole, text.extra['clauses'], tokens], dim=1)
        keys = self.key_norm(self.word_key(words))
        values = self.value_norm(self.word_value(words))
        places = torch.arange(self.places, device=words.device)
        return Words(keys, values, places < text.mask.sum(dim=1, keepdim=True) + 3)

    def candidate_image(self, pair: PairFeatures) -> Tensor:
        """The embedding, the queries and the values of images, (B, 13 D)."""
        parts = [F.normalize(widened(pair.image.embedding), dim=1), *self.regions(pair)]
        return torch.cat([widened(part).flatten(1) for part in parts], dim=1)

    def candidate_text(self, pair: PairFeatures) -> Tensor:
        """The embedding, the keys, the values and which of them are read, (T, ...)."""
        parts = [F.normalize(widened(pair.text.embedding), dim=1), *self.words(pair)]
        return torch.cat([widened(part.to(parts[0].dtype)).flatten(1) for part in parts], dim=1)

    def score(self, texts: Tensor, images: Tensor) -> Tensor:
        """Cosines of embeddings and local similarities, added, (T, k).

        Args:
            texts: Of ``candidate_text``, (T, ...).
            images: Of ``candidate_image``, k for each caption, (T, k, ...).
        """
        size = self.places * self.width
        text, keys, values, mask = texts.split([self.width, size, size, self.places], dim=1)
        image, queries, region_values = images.split(
            [self.width, REGIONS * self.width, REGIONS * self.width], dim=2
        )
        words = Words(
            keys.unflatten(1, (self.places, -1)), values.unflatten(1, (self.places, -1)), mask > 0
        )
        regions = Regions(
            queries.unflatten(2, (REGIONS, -1)), region_values.unflatten(2, (REGIONS, -1))
        )
        local = local_similarity(words, regions, self.sharpness)
        return local + torch.einsum('tkd,td->tk', image, text)


def _part_linear(parts: int, in_features: int, out_features: int) -> PartLinear:
    """Layers that begin as torch's."""
    layer = PartLinear(parts, in_features, out_features, bias=True)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -(in_features**-0.5), in_features**-0.5)
    return layer
