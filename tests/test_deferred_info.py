"""What is logged is read now and then, with the histories that reading every step gives."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.logging import MessageHub

from sen_toolbox.hooks import DeferredInfoHook

STEPS = 7


class Loader(list):
    dataset = SimpleNamespace(metainfo={})


def fake_runner(name):
    return SimpleNamespace(
        message_hub=MessageHub(name),
        hooks=[LoggerHook(interval=3)],
        train_dataloader=Loader(range(STEPS)),
        cfg=SimpleNamespace(pretty_text=''),
        epoch=0,
        iter=0,
        max_epochs=1,
        max_iters=STEPS,
        seed=0,
    )


def history(hook, runner, steps):
    """Values of both losses after each of the steps."""
    hook.before_train(runner)
    lengths = []
    for index in range(steps):
        outputs = dict(loss=torch.tensor(index / 3), other=torch.tensor(index, dtype=torch.half))
        hook.after_train_iter(runner, index, outputs=outputs)
        found = runner.message_hub.log_scalars.get('train/loss')
        lengths.append(0 if found is None else len(found.data[0]))
    scalars = runner.message_hub.log_scalars
    return {k: v.data[0].tolist() for k, v in scalars.items()}, lengths


def test_every_value_is_there_when_the_logger_looks_and_at_the_end_of_the_epoch():
    ours, read = history(DeferredInfoHook(), fake_runner('ours'), STEPS)
    theirs, _ = history(RuntimeInfoHook(), fake_runner('theirs'), STEPS)
    assert ours == theirs
    assert len(ours['train/loss']) == STEPS
    assert read == [0, 0, 3, 3, 3, 6, 7]


@pytest.mark.parametrize('steps', [1, 3, 5])
def test_a_checkpoint_holds_every_value(steps):
    hook, runner = DeferredInfoHook(), fake_runner(f'saved after {steps}')
    history(hook, runner, steps)
    checkpoint = dict(message_hub=runner.message_hub.state_dict())
    hook.before_save_checkpoint(runner, checkpoint)
    saved = checkpoint['message_hub']['log_scalars']['train/other'].data[0]
    assert saved.tolist() == list(range(steps))
