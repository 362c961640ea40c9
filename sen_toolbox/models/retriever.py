"""The model of every method: one backbone, a dict of heads, one weight a head."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from sen_toolbox.models.features import ALL_FEATURES, GLOBAL_FEATURES
from sen_toolbox.registry import BACKBONES, HEADS, MODELS


@MODELS.register_module()
class TextImageRetriever(BaseModel):
    """A dual encoder trained by a weighted sum of heads.

    Args:
        backbone: Config of a backbone.
        heads: Config of a head by its name; the name prefixes what it logs.
        loss_weights: Weight of each head in the objective, by the same names.
        data_preprocessor: Config of the data preprocessor.

    Raises:
        KeyError: If ``heads`` and ``loss_weights`` do not name the same heads, or a head reads a
            feature that does not exist.
    """

    def __init__(
        self, *, backbone: dict, heads: dict, loss_weights: dict, data_preprocessor: dict
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
        self.loss_weights = dict(loss_weights)
        self.reads = self._features_read()

    def _features_read(self) -> frozenset[str]:
        """What the heads read of ``PairFeatures``; the backbone leaves out the rest."""
        reads = GLOBAL_FEATURES
        for name, head in self.heads.items():
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
        return _unit(self.backbone.embed_image(images))

    def embed_text(self, tokens: Tensor) -> Tensor:
        """L2-normalised embeddings (B, D) of token ids (B, L)."""
        return _unit(self.backbone.embed_text(tokens))


def _unit(embedding: Tensor) -> Tensor:
    # Scores of a half-precision model are compared in float32 or ties would appear.
    wide = torch.promote_types(embedding.dtype, torch.float32)
    return F.normalize(embedding.to(wide), dim=-1)
