"""The model of every method: one backbone, a dict of heads, one weight a head."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from sen_toolbox.checks import checked_at_least
from sen_toolbox.models.blocks import recompute_blocks
from sen_toolbox.models.chunking import require_chunkable, train_step_in_chunks
from sen_toolbox.models.features import ALL_FEATURES, GLOBAL_FEATURES
from sen_toolbox.registry import BACKBONES, HEADS, MODELS

# Of 256 captions with 29 +- 9 tokens, groups of 16 have 31 tokens on average, padding included.
CAPTIONS_AT_ONCE = 16


@MODELS.register_module()
class TextImageRetriever(BaseModel):
    """A dual encoder trained by a weighted sum of heads.

    Retrieval compares the backbone's global embeddings. Heads with ``embed_image(feats)`` and
    ``embed_text(feats, tokens)`` add theirs; the score is then the mean of the cosines.

    Args:
        backbone: Config of a backbone.
        heads: Config of a head by its name; the name prefixes what it logs.
        loss_weights: Weight of each head in the objective, by the same names.
        data_preprocessor: Config of the data preprocessor.
        chunks: Pieces in which a training batch is computed, at least 1. More need less memory and
            a second forward pass; the gradient stays that of the whole batch.

    Raises:
        ValueError: If ``chunks`` is below 1, or above it and the model has batch norm.
        KeyError: If ``heads`` and ``loss_weights`` do not name the same heads, or a head reads a
            feature that does not exist.
    """

    def __init__(
        self,
        *,
        backbone: dict,
        heads: dict,
        loss_weights: dict,
        data_preprocessor: dict,
        chunks: int = 1,
    ) -> None:
        super().__init__(data_preprocessor=MODELS.build(data_preprocessor))
        if set(heads) != set(loss_weights):
            raise KeyError(
                f'heads and loss_weights must name the same heads, got heads {sorted(heads)} '
                f'and loss_weights {sorted(loss_weights)}'
            )
        self.backbone = BACKBONES.build(backbone)
        self.heads = nn.ModuleDict(
            {name: HEADS.build({**cfg, 'spec': self.backbone.spec}) for name, cfg in heads.items()}
        )
        if getattr(self.backbone, 'checkpoint_activations', False):
            recompute_blocks(self.heads)
        self.loss_weights = dict(loss_weights)
        self.embedding_heads = [n for n, head in self.heads.items() if hasattr(head, 'embed_image')]
        self.reads = self._features_read(self.heads)
        self.embedding_reads = self._features_read(self.embedding_heads)
        checked_at_least('chunks', chunks, 1)
        if chunks > 1:
            require_chunkable(self)
        self.chunks = chunks

    def _features_read(self, names: Iterable[str]) -> frozenset[str]:
        """What these heads read of ``PairFeatures``; the backbone leaves out the rest."""
        reads = GLOBAL_FEATURES
        for name in names:
            head = self.heads[name]
            wanted = getattr(head, 'reads', GLOBAL_FEATURES)
            if unknown := sorted(set(wanted) - ALL_FEATURES):
                raise KeyError(
                    f'head {name!r} reads unknown features {unknown}; known: {sorted(ALL_FEATURES)}'
                )
            reads |= wanted
        return reads

    def init_weights(self) -> None:
        """Loads the backbone's pretrained weights; the Runner calls it before training only."""
        self.backbone.init_weights()

    def forward(self, mode: str = 'tensor', **batch) -> dict | list | object:
        """Runs the model on a preprocessed batch.

        Args:
            mode: 'loss', 'predict' or 'tensor'.
            **batch: ``images`` (B, 3, H, W), ``tokens`` (T, L), and in training ``pids`` (B,) with
                T = B; in 'predict' also ``num_captions`` (B,), which sums to T.

        Returns:
            'loss': a dict with ``<head>.loss``, weighted, and the statistics of each head.
            'predict': one record per image, see :meth:`predict`.
            'tensor': the backbone's ``PairFeatures``.

        Raises:
            ValueError: If the mode is unknown.
        """
        if mode == 'loss':
            return self.loss(batch)
        if mode == 'predict':
            return self.predict(batch)
        if mode == 'tensor':
            return self.backbone(batch['images'], batch['tokens'])
        raise ValueError(f"mode is one of 'loss', 'predict', 'tensor', got {mode!r}")

    def loss(self, batch: dict) -> dict[str, Tensor]:
        """Weighted loss and detached statistics of each head, keyed ``<head>.<name>``."""
        feats = self.backbone(batch['images'], batch['tokens'], self.reads)
        logged = {}
        for name, head in self.heads.items():
            values = head(feats, batch, self.backbone)
            logged[f'{name}.loss'] = values.pop('loss') * self.loss_weights[name]
            # MMEngine adds every key with 'loss' in it to the objective.
            if any('loss' in key for key in values):
                raise KeyError(f"head {name!r} names a statistic with 'loss' in it: {list(values)}")
            logged |= {f'{name}.{key}': value.detach() for key, value in values.items()}
        return logged

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One optimiser step; returns what is logged. On several processes their wrapper does."""
        if self.chunks == 1:
            return super().train_step(data, optim_wrapper)
        return train_step_in_chunks(self, data, optim_wrapper, self.chunks)

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of this process for the backward pass, and what all log: means over processes.

        So the log has the numbers of one process with the whole batch.
        """
        loss, logged = super().parse_losses(losses)
        # What is logged outlives the step, its graph must not.
        logged = {name: value.detach() for name, value in logged.items()}
        if get_world_size() > 1:
            means = torch.stack(list(logged.values()))
            all_reduce(means, op='mean')
            logged = dict(zip(logged, means.unbind(), strict=True))
        return loss, logged

    def predict(self, batch: dict) -> list[dict]:
        """One record per image: ``image`` (D,), ``text`` (n, D), L2-normalised, and ``pid``."""
        image = self.embed_images(batch['images'])
        text = self.embed_text(batch['tokens']).split(batch['num_captions'].tolist())
        return [
            dict(image=i, text=t, pid=pid)
            for i, t, pid in zip(image, text, batch['pids'].tolist(), strict=True)
        ]

    def embed_images(self, images: Tensor) -> Tensor:
        """L2-normalised embeddings (B, D) of preprocessed images (B, 3, H, W)."""
        if not self.embedding_heads:
            return _unit(self.backbone.embed_image(images))
        feats = self.backbone(images, None, self.embedding_reads)
        added = [self.heads[name].embed_image(feats) for name in self.embedding_heads]
        return _joined([feats.image, *added])

    def embed_text(self, tokens: Tensor) -> Tensor:
        """L2-normalised embeddings (B, D) of token ids (B, L).

        Captions of like length are computed together and cut after their end token, which no later
        one changes. The host waits for the lengths.
        """
        # The end token has the highest id of the vocabulary.
        length = tokens.argmax(dim=1) + 1
        order = length.argsort()
        parts = [
            self._embed_text(tokens[rows, : int(length[rows[-1]])])
            for rows in order.split(CAPTIONS_AT_ONCE)
        ]
        return torch.cat(parts)[order.argsort()]

    def _embed_text(self, tokens: Tensor) -> Tensor:
        if not self.embedding_heads:
            return _unit(self.backbone.embed_text(tokens))
        feats = self.backbone(None, tokens, self.embedding_reads)
        added = [self.heads[name].embed_text(feats, tokens) for name in self.embedding_heads]
        return _joined([feats.text, *added])


def _unit(embedding: Tensor) -> Tensor:
    # Scores of a half-precision model are compared in float32 or ties would appear.
    wide = torch.promote_types(embedding.dtype, torch.float32)
    return F.normalize(embedding.to(wide), dim=-1)


def _joined(embeddings: list[Tensor]) -> Tensor:
    """Unit vectors whose inner products are the means of the cosines of the parts."""
    return torch.cat([_unit(part) for part in embeddings], dim=1) / len(embeddings) ** 0.5
