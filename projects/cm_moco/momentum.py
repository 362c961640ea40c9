"""Momentum encoders and the queues of what they made of earlier batches."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.models.gather import gather_all, is_first_sight, widened
from sen_toolbox.registry import HEADS


@HEADS.register_module()
class MomentumQueueHead(nn.Module):
    """Cross-modal InfoNCE against queues of keys, which slowly moving encoders make.

    The query of an image is to find the key of its caption among the captions of the queue, and a
    caption that of its image. Of the queue all columns are left out, for all rows, whose identity
    is one of the batch. Projections to the joint space have no slow copy: keys pass through those
    of the queries. The encoders of keys normalise by the batch and keep statistics of their own.

    Args:
        size: Columns K of each queue.
        momentum: Share of its weights that a slow encoder keeps in a step.
        temperature: Divides cosines.
        restarts_linear: Whether the linear layers of both encoders start at random, apart, whatever
            was pretrained: the release does so with CLIP's attention pool, by accident.
        spec: Sizes of the backbone.
    """

    def __init__(
        self,
        *,
        size: int = 2048,
        momentum: float = 0.999,
        temperature: float = 0.07,
        restarts_linear: bool = True,
        spec: PairSpec,
    ) -> None:
        super().__init__()
        self.momentum, self.temperature = momentum, temperature
        self.restarts_linear = restarts_linear
        for name in ('image', 'text'):
            columns = F.normalize(torch.rand(spec.embed_dim, size), dim=0)
            self.register_buffer(f'{name}_queue', columns)
        self.register_buffer('identities', torch.full((size,), -1))
        self.register_buffer('pointer', torch.zeros(1, dtype=torch.int64))
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []

    def setup(self, backbone: nn.Module) -> None:
        """Makes the slow encoders, or renews them when weights were loaded."""
        if not hasattr(self, 'slow'):
            self.slow = copy.deepcopy(backbone).requires_grad_(False)
            self._fast = [backbone]  # in a list, because it is not a part of this head
        self.slow.load_state_dict(backbone.state_dict())
        if self.restarts_linear:
            for part in (backbone, self.slow):
                restart_linear(part)
        self.follow()

    @torch.no_grad()
    def follow(self) -> None:
        """Moves the slow encoders towards those of the queries; projections are the same."""
        fast = dict(self._fast[0].named_parameters())
        for name, slow in self.slow.named_parameters():
            slow.lerp_(fast[name], 1.0 if '_projection.' in name else 1 - self.momentum)

    @torch.no_grad()
    def after_step(self) -> None:
        """Puts the keys of the step into the queues and moves the slow encoders."""
        for image, text, labels in self._waiting:
            places = torch.arange(len(labels), device=labels.device) + self.pointer
            places = places % len(self.identities)
            self.image_queue[:, places] = image.t().to(self.image_queue)
            self.text_queue[:, places] = text.t().to(self.text_queue)
            self.identities[places] = labels
            self.pointer.add_(len(labels)).remainder_(len(self.identities))
        self._waiting.clear()
        self.follow()

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss``, the sum of both directions, in at least float32."""
        with torch.no_grad():
            keys = self.slow(batch['images'], batch['tokens'])
        image, text, image_key, text_key = (
            F.normalize(widened(rows), dim=1)
            for rows in (
                pair.of_texts(pair.image.embedding),
                pair.text.embedding,
                pair.of_texts(keys.image.embedding),
                keys.text.embedding,
            )
        )
        of_all = gather_all(image_key, text_key, pair.of_texts(batch['labels']))
        labels = of_all[2]
        if self.training and is_first_sight():
            self._waiting.append(of_all)
        with torch.autocast(image.device.type, enabled=False):
            there = (self.identities[:, None] == labels).any(dim=1)
            loss = self._contrast(image, text_key, self.text_queue, there)
            loss = loss + self._contrast(text, image_key, self.image_queue, there)
        return dict(loss=loss)

    def _contrast(self, query: Tensor, key: Tensor, queue: Tensor, there: Tensor) -> Tensor:
        logits = self.logits(query, key, queue, there) / self.temperature
        return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))

    def logits(self, query: Tensor, key: Tensor, queue: Tensor, there: Tensor) -> Tensor:
        """Cosines (B, 1 + K) with the own key and the queue, whose columns ``there`` are left out.

        Args:
            query: Unit rows (B, D).
            key: Unit rows (B, D), of the other modality.
            queue: Unit columns (D, K).
            there: Which columns (K,) belong to identities of the batch.
        """
        own = (query * key).sum(dim=1, keepdim=True)
        others = (query @ queue.to(query)).masked_fill(there, -torch.inf)
        return torch.cat([own, others], dim=1)


def restart_linear(part: nn.Module) -> None:
    """Draws the weights of all linear layers anew and makes their biases 0."""
    for module in part.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode='fan_out')
            if module.bias is not None:
                nn.init.zeros_(module.bias)
