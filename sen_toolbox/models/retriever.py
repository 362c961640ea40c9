"""The model of every method: one backbone, a dict of heads, one weight per head."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor, nn

from sen_toolbox.checks import checked_at_least
from sen_toolbox.models.blocks import compile_blocks as compile_all_blocks
from sen_toolbox.models.blocks import recompute_blocks
from sen_toolbox.models.chunking import require_chunkable, train_step_in_chunks
from sen_toolbox.models.features import EMBEDDINGS, PairFeatures
from sen_toolbox.models.gather import widened
from sen_toolbox.registry import BACKBONES, HEADS, MODELS
from sen_toolbox.text.tokens import Tokens

if TYPE_CHECKING:
    from mmengine.optim import OptimWrapper

# Of 256 captions with 29 +- 9 tokens, groups of 16 have 31 tokens on average, padding included.
CAPTIONS_AT_ONCE = 16


@MODELS.register_module()
class TextImageRetriever(nn.Module):
    """A backbone trained by a weighted sum of heads.

    It has what MMEngine's Runner asks of a model, and not MMEngine's base class of one: that
    imports all of its training, which takes longer than torch and a search has no use for.

    Retrieval compares the backbone's embeddings, and beside or instead of them those of the heads
    that have some (see HEADS in ``registry.py``): the score is the weighted mean of the cosines.

    Args:
        backbone: Config of a backbone.
        heads: Config of a head by its name; the name prefixes what it logs.
        loss_weights: Weight of each head in the objective, by the same names.
        data_preprocessor: Config of the data preprocessor.
        chunks: Pieces in which a training batch is computed, at least 1. More need less memory and
            a second forward pass; the gradient stays that of the whole batch.
        global_score_weight: Weight of the backbone's cosine in retrieval, from 0; of a head's it
            is 1 unless the head has another ``score_weight``.
        checkpoint_activations: Whether training keeps the input of each attention block only and
            computes the block again for its gradient: less memory, a second forward pass of them.
        compile_blocks: Whether ``torch.compile`` compiles the attention blocks, once for all
            lengths of captions and sizes of batches. It pays on a GPU.

    Raises:
        ValueError: If ``chunks`` is below 1, or above it and the model has batch norm, if nothing
            is left to score by or the backbone has nothing to be compared, if two heads score
            candidates, or if no block is there to be recomputed or compiled.
        KeyError: If ``heads`` and ``loss_weights`` do not name the same heads, or a head reads a
            feature that the backbone does not provide.
    """

    def __init__(
        self,
        *,
        backbone: dict,
        heads: dict,
        loss_weights: dict,
        data_preprocessor: dict,
        chunks: int = 1,
        global_score_weight: float = 1.0,
        checkpoint_activations: bool = False,
        compile_blocks: bool = False,
    ) -> None:
        super().__init__()
        self.data_preprocessor = MODELS.build(data_preprocessor)
        if set(heads) != set(loss_weights):
            raise KeyError(
                f'heads and loss_weights must name the same heads, got heads {sorted(heads)} '
                f'and loss_weights {sorted(loss_weights)}'
            )
        self.backbone = BACKBONES.build(backbone)
        self.heads = nn.ModuleDict(
            {name: HEADS.build({**cfg, 'spec': self.backbone.spec}) for name, cfg in heads.items()}
        )
        self._set_up_heads()
        self.loss_weights = dict(loss_weights)
        self.embedding_heads = [n for n, head in self.heads.items() if hasattr(head, 'embed_image')]
        self.score_weights = _score_weights(
            global_score_weight, [self.heads[name] for name in self.embedding_heads]
        )
        if self.backbone.spec.embed_dim is None and global_score_weight > 0:
            raise ValueError(
                f'the backbone has no joint space to score by: set global_score_weight to 0, got '
                f'{global_score_weight}'
            )
        self.scorers = [name for name, head in self.heads.items() if hasattr(head, 'score')]
        if len(self.scorers) > 1:
            raise ValueError(f'one head may score candidates, got {self.scorers}')
        self.reads = self._features_read(self.heads)
        self.embedding_reads = self._features_read([*self.embedding_heads, *self.scorers])
        if checkpoint_activations:
            recompute_blocks(self)
        if compile_blocks:
            compile_all_blocks(self.backbone)
        checked_at_least('chunks', chunks, 1)
        if chunks > 1:
            require_chunkable(self)
        self.chunks = chunks

    def _set_up_heads(self) -> None:
        for head in self.heads.values():
            if hasattr(head, 'setup'):
                head.setup(self.backbone)

    def _features_read(self, names: Iterable[str]) -> frozenset[str]:
        """What these heads read of ``PairFeatures``; the backbone leaves out the rest."""
        reads = EMBEDDINGS
        for name in names:
            wanted = frozenset(getattr(self.heads[name], 'reads', EMBEDDINGS))
            if missing := sorted(wanted - self.backbone.provides):
                raise KeyError(
                    f'head {name!r} reads {missing}, which the backbone does not provide; it '
                    f'provides {sorted(self.backbone.provides)}'
                )
            reads |= wanted
        return reads

    def init_weights(self) -> None:
        """Does nothing: the Runner calls it in every training, weights come by load_weights."""

    def load_weights(self) -> None:
        """Loads the pretrained weights of the backbone; to be called before a new training."""
        self.backbone.load_weights()
        self._set_up_heads()

    def forward(self, mode: str = 'tensor', **batch) -> dict | list | PairFeatures:
        """Runs the model on a preprocessed batch.

        Args:
            mode: 'loss', 'predict' or 'tensor'.
            **batch: ``images`` (B, 3, H, W), ``tokens`` of T captions, ``image_of`` (T,) where not
                every image has one caption; in training ``labels`` (B,), in 'predict'
                ``person_ids`` (B,).

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
            return self._features(batch, EMBEDDINGS)
        raise ValueError(f"mode is one of 'loss', 'predict', 'tensor', got {mode!r}")

    def _features(self, batch: dict, reads: frozenset[str]) -> PairFeatures:
        return self.backbone(batch['images'], batch['tokens'], reads, batch.get('image_of'))

    def loss(self, batch: dict) -> dict[str, Tensor]:
        """Weighted loss and detached statistics of each head, keyed ``<head>.<name>``."""
        pair = self._features(batch, self.reads)
        logged = {}
        for name, head in self.heads.items():
            values = head(pair, batch, self.backbone)
            logged[f'{name}.loss'] = values.pop('loss') * self.loss_weights[name]
            # Every key with 'loss' in it is added to the objective.
            if any('loss' in key for key in values):
                raise KeyError(f"head {name!r} names a statistic with 'loss' in it: {list(values)}")
            logged |= {f'{name}.{key}': value.detach() for key, value in values.items()}
        return logged

    def train_step(self, data: dict, optim_wrapper: 'OptimWrapper') -> dict[str, Tensor]:
        """One training step; returns what is logged. On several processes their wrapper does."""
        if self.chunks == 1:
            with optim_wrapper.optim_context(self):
                losses = self(**self.data_preprocessor(data, True), mode='loss')
            loss, logged = self.parse_losses(losses)
            optim_wrapper.update_params(loss)
        else:
            logged = train_step_in_chunks(self, data, optim_wrapper, self.chunks)
        self.after_step(optim_wrapper)
        return logged

    def val_step(self, data: dict) -> list[dict]:
        """What :meth:`predict` returns of a collated batch."""
        return self(**self.data_preprocessor(data, False), mode='predict')

    def test_step(self, data: dict) -> list[dict]:
        """The same."""
        return self.val_step(data)

    def after_step(self, optim_wrapper: 'OptimWrapper') -> None:
        """Tells the heads that the optimiser has stepped; an accumulated batch does not step it."""
        if optim_wrapper.should_update():
            for head in self.heads.values():
                if hasattr(head, 'after_step'):
                    head.after_step()

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of this process for the backward pass, and what all log: means over processes.

        So the log has the numbers of one process with the whole batch. The loss is the sum of all
        that have 'loss' in their names.
        """
        means = {name: value.mean() for name, value in losses.items()}
        loss = sum(value for name, value in means.items() if 'loss' in name)
        # What is logged outlives the step, its graph must not.
        logged = {name: value.detach() for name, value in {'loss': loss, **means}.items()}
        if get_world_size() > 1:
            means = torch.stack(list(logged.values()))
            all_reduce(means, op='mean')
            logged = dict(zip(logged, means.unbind(), strict=True))
        return loss, logged

    def predict(self, batch: dict) -> list[dict]:
        """One record per image.

        Returns:
            Dicts with ``image_embedding`` (E,) and ``text_embeddings`` (n, E) of the n captions of
            the image, L2-normalised, and ``person_id``; with a head that scores candidates also
            ``candidate_image``, ``candidate_text`` and its function ``score``.
        """
        images, tokens = batch['images'], batch['tokens']
        counts = _captions_of_each(batch)
        columns = dict(
            image_embedding=self.embed_images(images),
            text_embeddings=self.embed_text(tokens).split(counts),
            person_id=batch['person_ids'].tolist(),
        )
        for name in self.scorers:
            head = self.heads[name]
            pair = self._features(batch, self.embedding_reads)
            columns['candidate_image'] = head.candidate_image(pair)
            columns['candidate_text'] = head.candidate_text(pair).split(counts)
            columns['score'] = [head.score] * len(images)
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def embed_images(self, images: Tensor) -> Tensor:
        """L2-normalised embeddings (B, E) of preprocessed images (B, 3, H, W)."""
        pair = self.backbone(images, None, self.embedding_reads)
        added = [self.heads[name].embed_image(pair) for name in self.embedding_heads]
        return self._joined([pair.image.embedding, *added])

    def embed_text(self, tokens: Tokens) -> Tensor:
        """L2-normalised embeddings (T, E) of captions.

        Captions of like length are computed together and cut behind their last token, where the
        encoder allows that. The host waits for the lengths.
        """
        lengths = tokens.lengths
        order = lengths.argsort()
        parts = []
        for rows in order.split(CAPTIONS_AT_ONCE):
            part = tokens[rows]
            if self.backbone.spec.text.cuts_padding:
                part = part.cut(int(lengths[rows[-1]]))
            parts.append(self.embed_tokens(part))
        return torch.cat(parts)[order.argsort()]

    def embed_tokens(self, tokens: Tokens) -> Tensor:
        """L2-normalised embeddings (T, E) of captions, computed at once as they are."""
        pair = self.backbone(None, tokens, self.embedding_reads)
        added = [self.heads[name].embed_text(pair) for name in self.embedding_heads]
        return self._joined([pair.text.embedding, *added])

    def _joined(self, embeddings: Sequence[Tensor]) -> Tensor:
        """Unit vectors whose inner products are the weighted means of the cosines of the parts."""
        parts = [
            unit(embedding) * weight**0.5
            for embedding, weight in zip(embeddings, self.score_weights, strict=True)
            if weight > 0
        ]
        return torch.cat(parts, dim=1)


def _score_weights(global_weight: float, heads: Sequence[nn.Module]) -> list[float]:
    """Share of each embedding in the score, the backbone's first; they add up to 1."""
    weights = [global_weight, *(getattr(head, 'score_weight', 1.0) for head in heads)]
    if min(weights) < 0 or sum(weights) <= 0:
        raise ValueError(
            f'weights of scores are from 0 up and not all 0, got global_score_weight '
            f'{global_weight} and {weights[1:]} of the heads'
        )
    return [weight / sum(weights) for weight in weights]


def _captions_of_each(batch: dict) -> list[int]:
    """Number of captions of each image; those of one image follow each other."""
    count = len(batch['images'])
    if (image_of := batch.get('image_of')) is None:
        return [1] * count
    return torch.bincount(image_of, minlength=count).tolist()


def unit(embedding: Tensor) -> Tensor:
    """L2-normalised rows, in at least float32: in half precision unequal scores would be ties."""
    return F.normalize(widened(embedding), dim=-1)
