"""max_epochs alone is right for every length of a training, for the schedule of every config."""

import logging
import re
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from test_configs import CONFIGS, SEN, load_plain
from toy_data import ROOT

from sen_toolbox.config import load_config
from sen_toolbox.hooks.rate_check import RateCheckHook, rate_course, rate_faults

# What a config counts in iterations fits an epoch of about this length: that of the drawn people.
EPOCH = 188
LENGTHS = (1, 2, 3, 5, 20)


def course(path, epochs=None):
    config = load_config(path, {} if epochs is None else {'max_epochs': epochs})
    lr = config.optim_wrapper.optimizer.lr
    rates = rate_course(
        config.param_scheduler, lr, epochs=config.train_cfg.max_epochs, epoch_length=EPOCH
    )
    return list(rates), lr


def schedule(path):
    config = load_plain(path)
    return repr((config.param_scheduler, config.max_epochs))


@pytest.fixture(scope='module')
def reached():
    """Schedules that did, as many configs share one."""
    return set()


@pytest.mark.slow
def test_there_are_schedules():
    assert len(set(map(schedule, CONFIGS))) > 10


@pytest.mark.slow
@pytest.mark.parametrize('path', CONFIGS)
def test_a_training_of_any_length_reaches_its_rate_without_other_overrides(path, reached):
    config = load_plain(path)
    assert config.train_cfg.max_epochs == config.max_epochs
    if schedule(path) in reached:
        return
    for epochs in LENGTHS:
        rates, lr = course(path, epochs)
        faults = rate_faults(rates, lr)
        # Two trainings in the drawn world stop on the way of a cosine of five epochs.
        if epochs > 5:
            faults = [fault for fault in faults if 'from epoch 6 on' not in fault]
        assert faults == [], epochs
    reached.add(schedule(path))


def test_the_published_length_keeps_the_published_schedule():
    rates, lr = course(SEN)
    shares = [rate / lr for rate in rates]
    assert shares[:6] == pytest.approx([0.1, 0.28, 0.46, 0.64, 0.82, 1.0])
    assert len(shares) == 60
    assert shares[6] < 1


@pytest.mark.parametrize(
    ('epochs', 'shares'),
    [(1, [1]), (2, [0.1, 1]), (3, [0.1, 1, 0.5]), (4, [0.1, 0.55, 1, 0.5])],
)
def test_a_short_training_warms_up_for_at_most_half_of_its_epochs(epochs, shares):
    rates, lr = course(SEN, epochs)
    assert [rate / lr for rate in rates] == pytest.approx(shares)


def test_a_warm_up_that_ends_too_late_is_told(capsys):
    load_config(ROOT / SEN, {'max_epochs': 3})
    said = ''.join(capsys.readouterr())
    assert re.search('sen_vitb_cuhk.py: the warm-up takes 1 of the 3 epochs, not 5', said)


def test_schedules_that_keep_a_rate_low_are_told():
    warm_up = [dict(type='LinearLR', start_factor=0.1, end=100, by_epoch=False)]
    rates = list(rate_course(warm_up, 2.0, epochs=2, epoch_length=10))
    assert rate_faults(rates, 2.0) == ['the learning rate never reaches lr=2, at most 0.27 of it']
    cosine = [dict(type='CosineAnnealingLR', end=2, convert_to_iter_based=True)]
    rates = list(rate_course(cosine, 1.0, epochs=4, epoch_length=200))
    [fault] = rate_faults(rates, 1.0)
    assert re.fullmatch(r'the learning rate stays at \S+e-05 from epoch 3 on', fault)


@pytest.mark.parametrize(
    ('schedule', 'warnings'),
    [
        (dict(type='LinearLR', start_factor=0.1, end=100, by_epoch=False), 1),
        ([dict(type='LinearLR', start_factor=0.1, end=10, by_epoch=False)], 0),
        ([], 0),
        (None, 0),
    ],
)
def test_a_training_warns_of_its_schedule_before_it_starts(schedule, warnings, caplog):
    config = Config(dict(param_scheduler=schedule, optim_wrapper=dict(optimizer=dict(lr=1e-3))))
    runner = SimpleNamespace(
        cfg=config, max_epochs=2, train_dataloader=range(10), logger=logging.getLogger('training')
    )
    RateCheckHook().before_train(runner)
    assert len(caplog.records) == warnings
    assert all('never reaches lr=0.001, at most 0.27 of it' in text for text in caplog.messages)
