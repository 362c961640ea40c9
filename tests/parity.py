"""What the parity tests have in common: losses, features, gradients and optimiser steps."""

import itertools
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from tiny import build_optimizer

from sen_toolbox.config import load_config
from sen_toolbox.registry import PARAM_SCHEDULERS

# What a loss may differ by from the official one: absolutely, and where it is large by some twenty
# roundings of single precision, in which both codes add.
LOSS = dict(rel=2e-6, abs=2e-5)


def load_arrays(*files: Path) -> dict[str, np.ndarray]:
    """The arrays of ``.npz`` files."""
    found = {}
    for file in files:
        with np.load(file) as content:
            found |= content
    return found


class GivenPath(torch.nn.Module):
    """Stands for timm's DropPath: call k keeps the rows whose given number is at least the rate.

    Args:
        rate: Share of the rows that are left out; what stays is scaled up.
        draws: Numbers (B,) in 0..1 for each call in turn, over and over.
    """

    def __init__(self, rate: float, draws: list[np.ndarray]) -> None:
        super().__init__()
        self.rate, self.calls = rate, itertools.cycle(draws)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = torch.from_numpy(next(self.calls)).float() >= self.rate
        return x * kept.view(-1, 1, 1) / (1 - self.rate)


def after_backward(model: torch.nn.Module, batch: dict) -> tuple[torch.nn.Module, dict]:
    """The model with gradients, and what it logged, with the objective as 'total'."""
    logged = model(**batch, mode='loss')
    total, _ = model.parse_losses(logged)
    total.backward()
    return model, {**logged, 'total': total}


def check_array(
    found: torch.Tensor, official: np.ndarray, tolerance: float = 1e-5, name: str = ''
) -> None:
    """Every number within a tolerance of the largest magnitude of the official ones, at least 1.

    Small numbers among large ones are what those leave when they cancel, and have their rounding.
    """
    bound = tolerance * max(1, np.abs(official).max(initial=0))
    np.testing.assert_allclose(found.detach().numpy(), official, rtol=0, atol=bound, err_msg=name)


def check_close(expected: dict, **ours: torch.Tensor) -> None:
    """Each tensor against the array of its name."""
    for name, value in ours.items():
        check_array(value, expected[name], name=name)


def relative_error(ours: torch.Tensor, official: np.ndarray) -> float:
    """Distance over length."""
    return np.linalg.norm(ours.numpy() - official) / np.linalg.norm(official)


def check_gradients(model: torch.nn.Module, names: dict[str, str], expected: dict) -> None:
    """Every norm, and the gradients that the fixture holds in full.

    Args:
        model: After a backward pass of ours.
        names: Our name of each official parameter that the release uses.
        expected: Group 'expected' of a fixture; the norm of an unused parameter is nan.
    """
    gradients = {name: p.grad for name, p in model.named_parameters()}
    norms = dict(zip(expected['grad_norm_names'], expected['grad_norm'], strict=True))
    used = {name for name, norm in norms.items() if not np.isnan(norm)}
    assert {names[name] for name in used} == set(gradients)
    found = {name: gradients[names[name]] for name in used}
    check_norms(found, used, [norms[name] for name in used])
    full = under('grad/', expected)
    assert len(full) >= 10
    check_full_gradients(found, full, len(full))


def check_three_steps(
    model: torch.nn.Module, batch: dict, config: str, names: dict[str, str], optim: dict
) -> None:
    """Rate and decay of every parameter, and how far three steps move it.

    Args:
        model: With the official weights.
        batch: The official batch.
        config: Path of the config whose optimiser is checked.
        names: Our name of each official parameter that the release uses.
        optim: Group 'optim' of a fixture; unused parameters do not move.
    """
    wrapper = load_config(config).optim_wrapper
    # The fixtures were made with a base rate of 1e-3, a hundred times the releases'.
    wrapper.optimizer.lr = 1e-3
    optimizer = build_optimizer(wrapper, model)
    rules = {
        id(p): (group['lr'], group['weight_decay'])
        for group in optimizer.param_groups
        for p in group['params']
    }
    parameters = dict(model.named_parameters())
    for name, *rule in zip(optim['names'], optim['lr'], optim['decay'], strict=True):
        if name in names:
            assert rules[id(parameters[names[name]])] == pytest.approx(rule), name
    base = [group['lr'] for group in optimizer.param_groups]
    before = {name: p.detach().clone() for name, p in parameters.items()}
    for step in (1, 2, 3):
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group['lr'] = lr * optim['lr_group0'][step - 1] / 1e-3
        total, _ = model.parse_losses(model(**batch, mode='loss'))
        assert total.item() == pytest.approx(optim['total_loss_before_step'][step - 1], rel=1e-5)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        norms = zip(optim['names'], optim[f'delta_norm_after_step{step}'], strict=True)
        for name, norm in norms:
            if name in names:
                moved = parameters[names[name]].detach() - before[names[name]]
                assert moved.double().norm().item() == pytest.approx(norm, rel=1e-4), name
            else:
                assert norm == 0, name
    for key in optim:
        if key.startswith('delta_after_step3/'):
            name = names[key.removeprefix('delta_after_step3/')]
            moved = parameters[name].detach() - before[name]
            assert relative_error(moved, optim[key]) < 1e-4, key


def check_norms(
    found: dict[str, torch.Tensor], names: list[str], norms: list[float], absolute: float = 0
) -> None:
    """The norm of each gradient.

    Args:
        found: Gradients by official name.
        names: Official names.
        norms: The norm of each.
        absolute: How far from its norm any may be: some have rounding errors for a gradient.
    """
    for name, norm in zip(names, norms, strict=True):
        value = found[name].double().norm().item()
        assert value == pytest.approx(float(norm), rel=1e-4, abs=absolute), name


def check_full_gradients(
    found: dict[str, torch.Tensor], expected: dict[str, np.ndarray], count: int
) -> None:
    """Each of the ``count`` gradients, by official name, that the fixture holds in full."""
    assert len(expected) == count
    for name, official in expected.items():
        assert relative_error(found[name].view(official.shape), official) < 1e-4, name


def under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names begin so, by the rest of their names."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def furthest_moves(model: torch.nn.Module, optim_wrapper: dict) -> dict[str, torch.Tensor]:
    """How far a step of a config's optimiser moves each parameter at most, (1, 1) each.

    The model has gradients, and stays as it is.
    """
    before = {name: value.clone() for name, value in model.state_dict().items()}
    build_optimizer(optim_wrapper, model).step()
    moved = {
        name: (p.detach() - before[name]).abs().max().view(1, 1)
        for name, p in model.named_parameters()
    }
    model.load_state_dict(before)
    return moved


def rates_by_epoch(
    schedulers: list[dict], optimizer: torch.optim.Optimizer, epochs: int
) -> list[list[float]]:
    """The rate of each group of an optimiser in every epoch."""
    built = [
        PARAM_SCHEDULERS.build(dict(one), default_args=dict(optimizer=optimizer))
        for one in schedulers
    ]
    rates = []
    for _ in range(epochs):
        rates.append([group['lr'] for group in optimizer.param_groups])
        optimizer.step()
        for scheduler in built:
            scheduler.step()
    return rates


def one_rate(lr: float) -> torch.optim.Optimizer:
    """An optimiser with one group of this rate."""
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def check_way_back(layout: ModuleType, state: dict[str, torch.Tensor], unused: tuple = ()) -> None:
    """Official weights survive the way to ours and back to the bit, and others are refused.

    Args:
        layout: A module ``official.py``.
        state: The official weights.
        unused: Beginnings of the names that have no way back.
    """
    back = layout.to_official(layout.from_official(state), None)
    used = {key: value for key, value in state.items() if not key.startswith(unused)}
    assert set(back) == set(used)
    for key, value in used.items():
        assert torch.equal(back[key], value.to(back[key].dtype)), key
    with pytest.raises(ValueError, match=re.escape("layout, the first are ['more.weight']")):
        layout.from_official({**state, 'more.weight': torch.zeros(1)})


def release_average_precision(scores: torch.Tensor, same: torch.Tensor) -> float:
    """Mean over rows of the mean of precisions before and at each hit, as several releases have it.

    Args:
        scores: Scores (Q, G) of queries and gallery.
        same: Whether both show one person, (Q, G).
    """
    hits = same.gather(1, scores.argsort(dim=1, descending=True)).double()
    count, places = hits.cumsum(dim=1), torch.arange(1, hits.shape[1] + 1)
    before = torch.where(places == 1, 1.0, (count - 1) / (places - 1))
    values = ((before + count / places) / 2 * hits).sum(dim=1) / hits.sum(dim=1)
    return values.mean().item()


def hit_rates(scores: torch.Tensor, same: torch.Tensor) -> list[float]:
    """Share of the rows with a hit among the first k, for each k."""
    hits = same.gather(1, scores.argsort(dim=1, descending=True))
    return (hits.cumsum(dim=1) > 0).float().mean(dim=0).tolist()
