"""Three branches of a pair: all of it, what is left without colour, and the colour alone."""

from collections.abc import Sequence
from copy import deepcopy
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.batch_norm import statistics_kept
from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.models.gather import gather, gather_all, widened
from sen_toolbox.models.heads.pairs import second_tokens
from sen_toolbox.models.heads.restoration import to_grey
from sen_toolbox.registry import HEADS, LOSSES

# The paper's names: coloured pictures, grey ones, and the difference of their features.
BRANCHES = ('rgb', 'grs', 'clr')
DIVERGENCES = ('cross_entropy', 'kl')


@HEADS.register_module()
class ColourBranchesHead(nn.Module):
    """Matches and classifies a pair three times, and lets the three classifications agree.

    CAIBC, arXiv:2209.05773. Branch 'rgb' compares image and caption, 'grs' the grey image and the
    caption without colour words, 'clr' their differences, rgb less grs. Retrieval compares the
    first alone, the backbone's embeddings; its batch norms learn no running statistics of what has
    no colour. A caption that names none has a difference of 0, without a direction; such pairs are
    not matched in 'clr'.

    Args:
        num_classes: Number of training identities; each branch has a classifier, which images and
            captions share.
        loss: Config of the matching loss ``(image_embedding, text_embedding, labels)``.
        identity_weight: Weight of the classification of each branch.
        mutual_weight: Weight of how far the branches' classifications are from each other.
        divergence: 'cross_entropy' of two distributions, or 'kl', that less the entropy of the
            one that is followed.
        detach: Whether the distribution that is followed has no gradient from there.
        own_trunk: Whether grey images have an image encoder of their own, which starts as a copy
            of the other; else both are one.
        spec: Sizes of the backbone.

    Raises:
        ValueError: If there is no such divergence.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        loss: dict,
        identity_weight: float = 1.0,
        mutual_weight: float = 1.0,
        divergence: str = 'cross_entropy',
        detach: bool = True,
        own_trunk: bool = False,
        spec: PairSpec,
    ) -> None:
        super().__init__()
        if divergence not in DIVERGENCES:
            raise ValueError(f'divergence is one of {list(DIVERGENCES)}, got {divergence!r}')
        self.num_classes = num_classes
        self.loss = LOSSES.build(loss)
        self.identity_weight, self.mutual_weight = identity_weight, mutual_weight
        self.divergence, self.detach, self.own_trunk = divergence, detach, own_trunk
        self.classifiers = nn.ModuleDict(
            {name: nn.Linear(spec.embed_dim, num_classes) for name in BRANCHES}
        )
        self.trunk: nn.Module | None = None

    def setup(self, backbone: nn.Module) -> None:
        """Copies the image encoder, with its projection, if grey images have their own."""
        if self.own_trunk:
            own = nn.ModuleDict(dict(image=backbone.image, projection=backbone.image_projection))
            if self.trunk is None:
                self.trunk = deepcopy(own)
            else:
                self.trunk.load_state_dict(own.state_dict())

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss`` and each term of it, without its weight.

        Raises:
            KeyError: If the batch has no captions without colours.
        """
        labels = pair.of_texts(batch['labels'])
        coloured = gather((batch['tokens'].ids != second_tokens(batch).ids).any(dim=1).long())
        values, logits = {}, {}
        for name, (image, text) in self.branches(pair, batch, backbone).items():
            compared = gather_all(widened(image), widened(text), labels)
            values[f'matching_{name}'] = self.match(compared, coloured if name == 'clr' else None)
            logits[name] = [self.classifiers[name](features) for features in (image, text)]
            values[f'identity_{name}'] = sum(F.cross_entropy(x, labels) for x in logits[name])
        values['mutual'] = sum(self.disagreement(x) for x in zip(*logits.values(), strict=True))
        weights = dict(identity=self.identity_weight, mutual=self.mutual_weight)
        weighted = (weights.get(key.split('_')[0], 1.0) * value for key, value in values.items())
        return dict(loss=sum(weighted), **values)

    def match(self, compared: Sequence[Tensor], chosen: Tensor | None) -> Tensor:
        """The matching loss of some pairs; 0 if there is none.

        Args:
            compared: Embeddings of images and captions (P, D), and labels (P,).
            chosen: Not 0 (P,) for the pairs that count; None for all.
        """
        if chosen is not None:
            # The one place where the host waits for the device, which alone knows how many.
            rows = chosen.nonzero().squeeze(1)
            if len(rows) == 0:
                return compared[0].new_zeros(())
            compared = [part.index_select(0, rows) for part in compared]
        with torch.autocast(compared[0].device.type, enabled=False):
            return self.loss(*compared)

    def branches(
        self, pair: PairFeatures, batch: dict, backbone: nn.Module
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Features (T, D) of images and captions by branch."""
        image, text = pair.of_texts(pair.image.embedding), pair.text.embedding
        with statistics_kept(backbone):
            grey = pair.of_texts(self.embed_grey(to_grey(batch['images']), backbone))
            colourless = backbone.encode_text(second_tokens(batch)).embedding
        return dict(
            rgb=(image, text), grs=(grey, colourless), clr=(image - grey, text - colourless)
        )

    def embed_grey(self, images: Tensor, backbone: nn.Module) -> Tensor:
        """Embeddings (B, D) of grey images (B, 3, H, W)."""
        if self.trunk is not None:
            return self.trunk.projection(self.trunk.image(images).embedding)
        return backbone.encode_image(images).embedding

    def disagreement(self, logits: Sequence[Tensor]) -> Tensor:
        """How far each branch's distribution is from each other's, a mean over pairs of branches.

        Args:
            logits: Scores (T, C) of the identities by branch.
        """
        total = 0.0
        for learner, teacher in permutations([x.log_softmax(dim=1) for x in logits], 2):
            followed = teacher.detach() if self.detach else teacher
            distance = -learner if self.divergence == 'cross_entropy' else followed - learner
            total = total + (followed.exp() * distance).sum(dim=1).mean()
        return total / (len(logits) * (len(logits) - 1))
