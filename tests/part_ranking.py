"""What the tests of methods that rank parts by drawn negatives have in common."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from parity import rates_by_epoch
from tiny import build_optimizer
from tiny_methods import replace_vocabularies
from torch import Tensor, nn

from sen_toolbox.config import load_config
from sen_toolbox.models.features import ImageFeatures, PairFeatures, PairSpec, TextFeatures
from sen_toolbox.models.losses import compound_ranking
from sen_toolbox.models.text_encoders.recurrence import recurrent_states
from sen_toolbox.registry import HEADS, MODELS


class PartRankingModel(nn.Module):
    """The LSTM and the head of a shipped config behind a given map and given words.

    Args:
        config: The config.
        sizes: What is smaller in the fixture.
        spec: Of what is given.
        given: Arrays ``image_map``, ``pids``, and ``words`` and ``lengths`` of both captions, those
            of the second with ``_cr`` at the end.
        state: Our weights.
        case: 'auto' for adaptive margins.
    """

    def __init__(
        self, *, config: Path, sizes: dict, spec: PairSpec, given: dict, state: dict, case: str
    ) -> None:
        super().__init__()
        head = HEADS.build({**load_config(config, sizes).model.heads.parts, 'spec': spec})
        head.ranking.adaptive = case == 'auto'
        self.given = {key: torch.from_numpy(value) for key, value in given.items()}
        width = self.given['words'].shape[2]
        options = dict(bias=False, batch_first=True, bidirectional=True)
        text = nn.ModuleDict({'rnn': nn.LSTM(width, spec.text.width, **options)})
        self.backbone = nn.ModuleDict({'text': text})
        self.heads = nn.ModuleDict({'parts': head})
        self.load_state_dict(state)

    def encode_text(self, suffix: str, reads: frozenset[str] = frozenset()) -> TextFeatures:
        """Features of the captions whose arrays end so."""
        lengths = self.given[f'lengths{suffix}']
        words = self.given[f'words{suffix}'].float()
        rnn = self.backbone['text']['rnn']
        states = recurrent_states(rnn, words, lengths, average_directions=True)
        mask = torch.arange(states.shape[1]) < lengths[:, None]
        return TextFeatures(states[:, 0], tokens=states, mask=mask)

    def pair(self) -> PairFeatures:
        """Features of images and first captions."""
        stages = {'layer4': self.given['image_map'].float()}
        return PairFeatures(ImageFeatures(torch.zeros(8), stages=stages), self.encode_text(''))

    def forward(self) -> dict[str, Tensor]:
        """What the head logs of the batch."""
        batch = dict(labels=self.given['pids'], second_tokens='_cr')
        encode = SimpleNamespace(encode_text=self.encode_text)
        return self.heads['parts'](self.pair(), batch, encode)


def drawn_negatives(triplets: np.ndarray, margins: np.ndarray) -> Iterator[Tensor]:
    """Which (8, 8) the official code drew, in the order of our calls."""
    for rows, kept in zip(triplets, margins, strict=True):
        found = torch.zeros(8, 8, dtype=torch.bool)
        anchors, _, negatives = rows[kept > 0].T
        found[anchors, negatives] = True
        yield found


def backward_with(model: Callable[[], dict], recorded: Iterator[Tensor]) -> tuple[dict, list[bool]]:
    """What a model logs with given negatives, and of each draw whether it was one of ours.

    That is, whether all of them are among our candidates and no anchor lacks one.
    """
    own, agree = compound_ranking.semi_hard, []

    def given(*arguments):
        drawn, found = next(recorded), own(*arguments)
        agree.append(bool((found.any(1) == drawn.any(1)).all() and (found | ~drawn).all()))
        return drawn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compound_ranking, 'semi_hard', given)
        terms = model()
    terms['loss'].backward()
    return terms, agree


def shipped_rates(path: Path) -> tuple[nn.Module, dict[str, float], list[float]]:
    """The model of a config without numbers, the rate of each parameter that learns, and epochs.

    The last is the largest rate of every epoch, over that of the first parameters.
    """
    config = load_config(path)
    replace_vocabularies(dict(config))
    with torch.device('meta'):
        model = MODELS.build(config.model)
    wrapper = config.optim_wrapper
    wrapper.optimizer.pop('fused', None)
    optimizer = build_optimizer(wrapper, model)
    rates = {id(p): group['lr'] for group in optimizer.param_groups for p in group['params']}
    learnt = {name: rates[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    epochs = rates_by_epoch(config.param_scheduler, optimizer, config.max_epochs)
    return model, learnt, [max(row) / wrapper.optimizer.lr for row in epochs]


def check_tenfold_rates(model: nn.Module, rates: dict[str, float]) -> None:
    """BERT is frozen, the ResNet learns at 1e-4, all else at 1e-3."""
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (not name.startswith('backbone.text.bert.')), name
        if parameter.requires_grad:
            expected = 1e-4 if name.startswith('backbone.image.') else 1e-3
            assert rates[name] == pytest.approx(expected), name
