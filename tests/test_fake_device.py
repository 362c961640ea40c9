"""Every config computes on a GPU in half precision without mixed devices and hidden waits."""

from copy import deepcopy

import pytest
import torch
from fake_device import (
    COUNTS,
    DEVICE,
    READS,
    WaitError,
    empty_like,
    fake_device,
    move_to_fake_device,
)
from mmengine.registry import DefaultScope
from small_configs import build_loader, small_config
from test_configs import CONFIGS

from sen_toolbox.registry import MODELS
from sen_toolbox.text.tokens import Tokens

pytestmark = pytest.mark.slow
CPU = torch.device('cpu')


@pytest.fixture(autouse=True, scope='module')
def no_driver_is_asked():
    """Skips where torch, built for CUDA, wants a driver even for a row of a fake tensor (2.6)."""
    try:
        with fake_device(torch.bfloat16):
            torch.ones(3, 2, device=DEVICE)[0]
    except RuntimeError as error:
        if 'CUDA driver' not in str(error):
            raise
        pytest.skip(f'torch {torch.__version__} asks a CUDA driver that is not there')


def build(config):
    """The model of a config and the first batch of its training."""
    with DefaultScope.overwrite_default_scope('sen_toolbox'):
        return MODELS.build(config.model), next(iter(build_loader(config.train_dataloader)))


def to_fake(value):
    """A batch as the loader gives it, on the CPU."""
    if isinstance(value, dict):
        return {name: to_fake(part) for name, part in value.items()}
    return value.map(to_fake) if isinstance(value, Tokens) else empty_like(value, CPU)


def training_step(model, batch):
    return model(**model.data_preprocessor(to_fake(batch), training=True), mode='loss')


@pytest.fixture(scope='module')
def computed():
    """Models and training pipelines that did: configs of several data sets often differ in none."""
    return set()


@pytest.mark.parametrize('path', CONFIGS)
def test_a_config_computes_in_half_precision_and_the_host_does_not_wait(
    path, drawn_people, computed
):
    config = small_config(path, drawn_people)
    parts = repr((config.model, config.train_dataloader.dataset.pipeline))
    if parts in computed:
        return
    built, batch = build(config)
    for dtype in (torch.bfloat16, torch.float16):
        model = deepcopy(built).train()
        with fake_device(dtype) as device:
            move_to_fake_device(model)
            logged = training_step(model, batch)
            assert {name: value.device for name, value in logged.items()} == dict.fromkeys(
                logged, DEVICE
            )
            assert {value.dim() for value in logged.values()} == {0}
            assert device.waited == {type(part).__name__ for part in model.modules()} & set(COUNTS)
            model.eval()
            given = model.data_preprocessor(to_fake(batch))
            embeddings = model.embed_images(given['images']), model.embed_tokens(given['tokens'])
            for embedding in embeddings:
                assert (embedding.device, embedding.dtype) == (DEVICE, torch.float32)
            assert embeddings[0].shape == embeddings[1].shape
    computed.add(parts)


@pytest.mark.parametrize('part', [*COUNTS, *READS])
def test_the_parts_that_may_make_the_host_wait_do_so(part, drawn_people, monkeypatch):
    configs = (small_config(path, drawn_people) for path in CONFIGS)
    config = next((config for config in configs if f"'{part}'" in str(config.model)), None)
    if config is None:
        pytest.skip(f'no config names {part} itself')
    model, batch = build(config)
    for table in (COUNTS, READS):
        monkeypatch.delitem(table, part, raising=False)
    with fake_device(torch.bfloat16), pytest.raises(WaitError, match=f'waits for .* in .*{part}'):
        move_to_fake_device(model)
        training_step(model.train(), batch)


@pytest.mark.parametrize(
    'waits',
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: x.cpu(),
        lambda x: x.tolist(),
        lambda x: x.repeat_interleave(x.long()),
    ],
)
def test_what_waits_is_refused(waits):
    with fake_device(torch.bfloat16), pytest.raises(WaitError, match='the host waits for'):
        waits(torch.ones(3, device=DEVICE))


def test_mixed_devices_are_refused():
    with fake_device(torch.bfloat16), pytest.raises(RuntimeError, match='two (different )?devices'):
        torch.ones(3, device=DEVICE) + torch.ones(3)
