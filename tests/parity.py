"""What the parity tests have in common: losses, features, gradients and optimiser steps."""

import itertools

import numpy as np
import pytest
import torch
from tiny import build_optimizer

from sen_toolbox.config import load_config

# What a loss may differ by from the official one: absolutely, and where it is large by some twenty
# roundings of single precision, in which both codes add.
LOSS = dict(rel=2e-6, abs=2e-5)


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
    for name in used:
        norm = gradients[names[name]].double().norm().item()
        assert norm == pytest.approx(norms[name], rel=1e-4), name
    full = [key.removeprefix('grad/') for key in expected if key.startswith('grad/')]
    assert len(full) >= 10
    for name in full:
        assert relative_error(gradients[names[name]], expected[f'grad/{name}']) < 1e-4, name


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
