"""Every config takes a training and an evaluation step, as it stands but for small towers."""

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from small_configs import (
    BATCH_SIZE,
    IMAGE_SIZE,
    build_loader,
    but_for_the_data_set,
    small_config,
)
from test_configs import CONFIGS
from tiny_methods import build_optim_wrapper

from sen_toolbox.registry import METRICS, MODELS

pytestmark = pytest.mark.slow


def without_gradient(model):
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [name for name, p in named if p.grad is None or not p.grad.any()]


@pytest.fixture(scope='module')
def stepped():
    """Configs that did; those of a method often differ in the data set alone."""
    return set()


@pytest.mark.parametrize('path', CONFIGS)
def test_a_config_takes_a_training_and_an_evaluation_step(path, drawn_people, stepped):
    config = small_config(path, drawn_people)
    rest = but_for_the_data_set(config)
    if rest in stepped:
        return
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('sen_toolbox'):
        model = MODELS.build(config.model)
        open_norms(model)
        check_training_step(model.train(), config)
        check_evaluation(model.eval(), config)
    stepped.add(rest)


def open_norms(model):
    """Lets the branches take part whose last norm begins at 0, as those of CLIP's ResNet do."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and not module.weight.any():
            torch.nn.init.ones_(module.weight)


def check_training_step(model, config):
    batch = next(iter(build_loader(config.train_dataloader)))
    assert batch['images'].shape == (BATCH_SIZE, 3, *IMAGE_SIZE)
    wrapper = build_optim_wrapper(config, model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    missing = []
    wrapper.optimizer.register_step_pre_hook(lambda *_: missing.append(without_gradient(model)))
    logged = model.train_step(batch, wrapper)
    assert missing == [[]]
    assert logged.keys() >= {'loss', *(f'{name}.loss' for name in model.heads)}
    assert [name for name, value in logged.items() if not value.isfinite()] == []
    groups = wrapper.optimizer.param_groups
    frozen = {p for group in groups if group['lr'] == 0 for p in group['params']}
    for name, parameter in model.named_parameters():
        assert parameter.isfinite().all(), name
        # What is not trained stays, or follows what is.
        if parameter.requires_grad:
            assert torch.equal(parameter, before[name]) == (parameter in frozen), name


@torch.no_grad()
def check_evaluation(model, config):
    loader = build_loader(config.test_dataloader)
    evaluator = Evaluator(METRICS.build(config.test_evaluator))
    for batch in loader:
        evaluator.process(data_samples=model.test_step(batch), data_batch=batch)
    metrics = evaluator.evaluate(len(loader.dataset))
    assert len(loader.dataset) == 6
    assert 0 <= metrics['t2i/R1'] <= 100
    assert 0 <= metrics['i2t/R1'] <= 100
