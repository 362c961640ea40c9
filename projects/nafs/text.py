"""BERT over a caption and over each of its clauses."""

from dataclasses import replace

import torch
from torch import Tensor

from projects.nafs.clauses import CLAUSES
from sen_toolbox.models.features import TextFeatures
from sen_toolbox.models.requests import check_text_request
from sen_toolbox.models.text_encoders import BERT
from sen_toolbox.models.text_encoders.recurrence import columns_read
from sen_toolbox.registry import TEXT_ENCODERS
from sen_toolbox.text.tokens import Tokens


@TEXT_ENCODERS.register_module()
class ClauseBERT(BERT):
    """:class:`BERT` of the rows of ``ClauseTokenizer``.

    ``tokens`` are the last hidden states of the caption, ``extra.clauses`` those of the first
    token of each clause, (T, 2, W).

    Args:
        context_length: Tokens in a row, three times those of a caption.
        **options: Those of ``BERT``, without ``cuts_padding``.
    """

    def __init__(self, *, context_length: int, **options) -> None:
        super().__init__(context_length=context_length // (1 + CLAUSES), **options)
        self.provides = frozenset({'tokens', 'extra.clauses'})
        # As long as a row is, so long is each of its thirds.
        self.spec = replace(self.spec, context_length=context_length, cuts_padding=False)

    def forward(self, tokens: Tokens, reads: frozenset[str] = frozenset()) -> TextFeatures:
        """Encodes rows of ``spec.context_length`` tokens.

        Args:
            tokens: The captions and their clauses.
            reads: Names of features.

        Raises:
            ValueError: If the rows are longer, or if it has no such features.
        """
        check_text_request(self, tokens, reads)
        ids, mask = (x.unflatten(1, (1 + CLAUSES, -1)) for x in (tokens.ids, tokens.mask))
        # The first token is always there; without any, attention would have nothing to weigh.
        seen = torch.cat([torch.ones_like(mask[..., :1]), mask[..., 1:]], dim=2)
        clauses = None
        if 'extra.clauses' not in reads:
            states = self._states(ids[:, :1], seen[:, :1])
        elif (columns := self._columns_of_clauses(seen)) < ids.shape[2]:
            # What reads a caption reads its padding, too, but of clauses the first state alone.
            states = self._states(ids[:, :1], seen[:, :1])
            clauses = self._states(ids[:, 1:, :columns], seen[:, 1:, :columns])[:, :, 0]
        else:
            states = self._states(ids, seen)
            clauses = states[:, 1:, 0]
        return TextFeatures(
            states[:, 0, 0],
            tokens=states[:, 0] if 'tokens' in reads else None,
            mask=mask[:, 0],
            end=tokens.end,
            extra={} if clauses is None else dict(clauses=clauses),
        )

    def _columns_of_clauses(self, seen: Tensor) -> int:
        """Up to which column clauses have tokens, where that is worth knowing."""
        # What is exported has one number of columns for all captions.
        width = seen.shape[2]
        return columns_read(seen[:, 1:].sum(dim=2), width) if self.training else width

    def _states(self, ids: Tensor, seen: Tensor) -> Tensor:
        """Last hidden states (T, n, L, W) of n texts (T, n, L) for each caption."""
        ends = ids.new_zeros(ids.shape[0] * ids.shape[1])
        rows = Tokens(ids.flatten(0, 1), seen.flatten(0, 1), ends)
        return super().forward(rows, frozenset({'tokens'})).tokens.unflatten(0, ids.shape[:2])
