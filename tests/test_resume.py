"""Runs that are killed go on as if nothing had happened; samples do not depend on workers."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import commands
import pytest
import torch
from kill_training import differences
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim import CosineAnnealingLR
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler
from toy_data import ROOT, run_tool, toy_records, write_toy_config, write_toy_data

from sen_toolbox.checkpoint.finding import check_unused, find_newest_checkpoint, resumable_meta
from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.checkpoint.resuming import check_fits_training, settings_kept
from sen_toolbox.checkpoint.saving import AtomicLocalBackend
from sen_toolbox.config import load_config
from sen_toolbox.hooks import SafeCheckpointHook
from sen_toolbox.loops import _RemainingItems
from sen_toolbox.registry import DATASETS, FUNCTIONS

KILL = ROOT / 'tests/kill_training.py'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('resume')
    write_toy_data(path / 'data')
    return path


@pytest.fixture
def toy(folder, request):
    return write_toy_config(folder / f'{request.node.name}.py', folder / 'data')


@pytest.mark.slow
def test_a_training_killed_three_times_ends_as_one_that_was_not(tmp_path):
    output = commands.run(tmp_path, KILL, '--kills', 3, '--epochs', 2)
    assert '3 kills, 0 differences in ' in output


def test_a_difference_of_one_bit_is_found():
    a = dict(w=torch.ones(3), log=HistoryBuffer([1.0, 2.0], [1, 1]), time=1)
    b = dict(w=torch.ones(3), log=HistoryBuffer([1.0, 2.0], [1, 1]), time=2)
    assert differences(a, b) == []
    b['w'][1] = torch.nextafter(b['w'][1], torch.tensor(2.0))
    b['log'].update(3.0)
    assert len(differences(a, b)) == 3


@pytest.mark.slow
def test_without_any_checkpoint_resume_starts_over_and_says_so(toy, folder, capfd):
    options = ('--cfg-options', 'max_epochs=1')
    run_tool('train', toy, '--work-dir', folder / 'fresh', '--resume', *options)
    assert 'starts from the beginning' in ''.join(capfd.readouterr())
    assert (folder / 'fresh/epoch_1.pth').exists()


@pytest.mark.slow
def test_a_validation_that_was_interrupted_is_run_before_the_next_epoch(toy, folder, monkeypatch):
    """The run dies within the first validation; the best of it must not be lost."""
    work_dir = folder / 'in_validation'

    class KilledError(Exception):
        pass

    def die(*_):
        raise KilledError

    options = ('--work-dir', work_dir, '--cfg-options', 'max_epochs=1')
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr('sen_toolbox.evaluation.metric.RetrievalMetric.compute_metrics', die)
        run_tool('train', toy, *options)
    assert [path.name for path in work_dir.glob('*.pth')] == ['epoch_1.pth']
    run_tool('train', toy, '--resume', *options)
    assert {path.name for path in work_dir.glob('*.pth')} == {
        'epoch_1.pth',
        'best_t2i_R1_epoch_1.pth',
    }


@pytest.mark.slow
def test_a_kill_after_the_last_write_leaves_no_checkpoint_within_an_epoch(toy, folder, monkeypatch):
    work_dir = folder / 'after_last_write'
    drop = SafeCheckpointHook._drop_within_epochs

    class KilledError(Exception):
        pass

    def die(hook, newest):
        if newest == 'epoch_1.pth':
            raise KilledError
        drop(hook, newest)

    options = ('--work-dir', work_dir, '--cfg-options', 'max_epochs=1')
    options += ('default_hooks.checkpoint.every_iters=2',)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(SafeCheckpointHook, '_drop_within_epochs', die)
        run_tool('train', toy, *options)
    assert len(list(work_dir.glob('iter_*.pth'))) == 1
    run_tool('train', toy, '--resume', *options)
    assert list(work_dir.glob('iter_*.pth')) == []
    assert (work_dir / 'epoch_1.pth').exists()


@pytest.mark.slow
def test_the_seed_of_a_run_that_drew_its_own_is_taken_from_the_checkpoint(toy, folder):
    work_dir = folder / 'drawn_seed'
    options = ('--work-dir', work_dir, '--cfg-options', 'randomness.seed=None')
    run_tool('train', toy, *options, 'max_epochs=2')
    once = load_checkpoint_file(str(work_dir / 'epoch_2.pth'))
    (work_dir / 'epoch_2.pth').unlink()
    run_tool('train', toy, '--resume', *options, 'max_epochs=2')
    again = load_checkpoint_file(str(work_dir / 'epoch_2.pth'))
    assert once['meta']['seed'] == again['meta']['seed'] != 42
    assert differences(once['state_dict'], again['state_dict']) == []


def resumable(**changes: object) -> dict:
    """A checkpoint with everything that a training writes, nearly empty."""
    whole = dict(
        meta=dict(epoch=1, iter=10, seed=0),
        state_dict={},
        optimizer=dict(state={}, param_groups=[]),
        message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={}),
    )
    return whole | changes


def save(path: Path, epoch: int, iteration: int) -> None:
    torch.save(resumable(meta=dict(epoch=epoch, iter=iteration)), path)


def without(*parts: str) -> dict:
    return {key: value for key, value in resumable().items() if key not in parts}


NOT_RESUMABLE = {
    'a list': [1, 2],
    'nothing': None,
    'integer keys': {1: 2},
    'weights alone': without('optimizer', 'message_hub', 'meta'),
    'no optimiser': without('optimizer'),
    'no logs': without('message_hub'),
    'meta is a list': resumable(meta=[3]),
    'meta with integer keys': resumable(meta={1: 2}),
    'the iteration is text': resumable(meta=dict(epoch=1, iter='ten')),
    'the iteration is a list': resumable(meta=dict(epoch=1, iter=[10])),
    'the epoch is negative': resumable(meta=dict(epoch=-1, iter=10)),
    'the epoch is true': resumable(meta=dict(epoch=True, iter=10)),
    'no epoch': resumable(meta=dict(iter=10)),
    'the seed is text': resumable(meta=dict(epoch=1, iter=10, seed='7')),
    'the seed is huge': resumable(meta=dict(epoch=1, iter=10, seed=2**64)),
    'logs are a list': resumable(message_hub=[1]),
    'logs lack a part': resumable(message_hub=dict(log_scalars={}, runtime_info={})),
    'a kept name is text': resumable(
        message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={'train/loss': 'x'})
    ),
    'the optimiser is a list': resumable(optimizer=[1]),
    'averaged weights of others': resumable(ema_state_dict={'module.x': torch.ones(1)}),
}


@pytest.mark.parametrize('content', NOT_RESUMABLE.values(), ids=NOT_RESUMABLE)
def test_what_no_training_goes_on_from_is_refused_in_a_line_and_skipped(tmp_path, content, capfd):
    torch.save(content, tmp_path / 'epoch_2.pth')
    with pytest.raises(ValueError, match=r'epoch_2\.pth') as refused:
        resumable_meta(tmp_path / 'epoch_2.pth')
    assert len(str(refused.value).splitlines()) == 1
    save(tmp_path / 'epoch_1.pth', 1, 5)
    assert find_newest_checkpoint(tmp_path)[0].name == 'epoch_1.pth'
    assert f'skips {tmp_path}/epoch_2.pth' in ''.join(capfd.readouterr())


def test_the_refusal_of_the_best_checkpoint_says_what_to_do(tmp_path):
    torch.save(without('optimizer'), tmp_path / 'best.pth')
    with pytest.raises(
        ValueError,
        match=r'best.pth has no optimizer, so no training goes on from it: resume from an '
        r'epoch_N.pth .*start a new training from these weights by --cfg-options load_from=',
    ):
        resumable_meta(tmp_path / 'best.pth')


def small_training():
    layer = torch.nn.Linear(2, 3)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 2)).sum().backward()
    schedule = CosineAnnealingLR(optimizer, T_max=3)
    optimizer.step()
    saved = resumable(
        optimizer=copy.deepcopy(optimizer.state_dict()),
        param_schedulers=[copy.deepcopy(schedule.state_dict())],
    )
    return saved, dict(optimizer=optimizer, schedulers=[schedule])


def test_the_states_of_the_training_itself_fit():
    saved, training = small_training()
    check_fits_training(saved, 'x.pth', **training)


def test_what_the_config_says_otherwise_than_the_checkpoint_is_told():
    saved, training = small_training()
    assert settings_kept(saved, **training) == []
    [group], schedule = saved['optimizer']['param_groups'], saved['param_schedulers'][0]
    # The first two are how far it is.
    group['lr'], schedule['last_step'] = 0.05, 2
    assert settings_kept(saved, **training) == []
    group['initial_lr'], schedule['T_max'] = 0.3, 9
    assert settings_kept(saved, **training) == [
        'optimizer initial_lr=0.3, not 0.1',
        'param_schedulers.0 T_max=9, not 3',
    ]


def test_a_longer_training_goes_on_with_its_schedule_and_says_so(toy, folder, capfd):
    work_dir = folder / 'longer'
    run_tool('train', toy, '--work-dir', work_dir, '--cfg-options', 'max_epochs=1')
    assert 'goes on as' not in ''.join(capfd.readouterr())
    run_tool('train', toy, '--work-dir', work_dir, '--resume', '--cfg-options', 'max_epochs=2')
    said = ''.join(capfd.readouterr())
    assert 'epoch_1.pth began, not as the config says now: param_schedulers.' in said


@pytest.mark.parametrize('name', ['epoch_3.pth', 'stopped_iter_12.pth', 'best_t2i_R1_epoch_1.pth'])
def test_a_new_training_leaves_the_checkpoints_of_another_alone(toy, tmp_path, name):
    (tmp_path / 'towers.pth').touch()
    check_unused(tmp_path)
    (tmp_path / name).touch()
    with pytest.raises(FileExistsError, match=rf'has checkpoints .* \({name}\): go on .* --resume'):
        run_tool('train', toy, '--work-dir', tmp_path)


def test_groups_of_one_optimiser_may_keep_different_values():
    layer = torch.nn.Linear(2, 3)
    groups = [dict(params=[layer.weight], amsgrad=True), dict(params=[layer.bias])]
    optimizer = torch.optim.Adam(groups, lr=0.1)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    saved = resumable(optimizer=copy.deepcopy(optimizer.state_dict()))
    training = dict(optimizer=optimizer, schedulers=[])
    check_fits_training(saved, 'x.pth', **training)
    del saved['optimizer']['state'][0]['max_exp_avg_sq']
    with pytest.raises(ValueError, match='has for parameter 0 no max_exp_avg_sq'):
        check_fits_training(saved, 'x.pth', **training)


@pytest.mark.parametrize(
    ('place', 'value', 'message'),
    [
        ('optimizer.param_groups', 3, 'has groups of 3 parameters, that of this training'),
        ('optimizer.param_groups', torch.ones(3), r'has groups of tensor\(\[1., 1., 1.\]\)'),
        ('optimizer.param_groups', [dict(params=[0])], r'has groups of \[1\] parameters'),
        ('optimizer.param_groups.0.params', [0], r'has groups of \[1\] parameters'),
        ('optimizer.param_groups.0.lr', 'fast', "group 0, has the lr 'fast', expected 0"),
        ('optimizer.param_groups.0.betas', (0.9,), r'has the betas \(0.9,\)'),
        ('optimizer.state', [1], 'has a list for its state'),
        (
            'optimizer.state.0',
            'x',
            "has for parameter 0 the state 'x', expected step, exp_avg, exp_avg",
        ),
        ('optimizer.state.0', 7, 'has for parameter 0 the state 7, expected step'),
        ('optimizer.state.0', dict(exp_avg=torch.ones(3, 2)), 'parameter 0 no step, exp_avg_sq'),
        ('optimizer.state.0.more', 1, r'parameter 0 the state .*, expected step, exp_avg'),
        ('optimizer.state.9', dict(), r'parameter 9 the state {}, .* of one of 2 parameters'),
        ('optimizer.state.0.exp_avg', torch.ones(1), r'exp_avg \(1,\), expected .* \(3, 2\)'),
        (
            'optimizer.state.0.exp_avg',
            [torch.ones(3, 2)],
            r'the exp_avg \[tensor\(\[\[1., 1.\], \[',
        ),
        ('optimizer.state.0.step', torch.ones(2), r'the step \(2,\), expected a number'),
        ('optimizer.state.0.exp_avg', torch.ones(7), r'exp_avg \(7,\), expected .* \(3, 2\)'),
        (
            'optimizer.param_groups.0.foreach',
            torch.ones(2),
            r'has the foreach tensor.*, expected None',
        ),
        ('param_schedulers', {}, 'has a dict for param_schedulers, this training has 1'),
        ('param_schedulers', [], 'has 0 for param_schedulers, this training has 1'),
        ('param_schedulers.0', 3, 'param_schedulers.0 of x.pth is a int, expected a dict'),
        ('param_schedulers.0.step', 3, 'param_schedulers.0 of x.pth has unknown values, .*step'),
        ('param_schedulers.0.last_step', 'x', "has the last_step 'x', expected"),
    ],
)
def test_states_of_another_training_are_refused_by_name(place, value, message):
    saved, training = small_training()
    *path, last = [int(key) if key.isdigit() else key for key in place.split('.')]
    holder = saved
    for key in path:
        holder = holder[key]
    holder[last] = value
    with pytest.raises(ValueError, match=f'x.pth.*{message}|{message}'):
        check_fits_training(saved, 'x.pth', **training)


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('best_ckpt', '/home/me/thesis.tex'),
        ('best_ckpt', 'work/notes.pth'),
        ('best_ckpt_t2i/R1', 7),
        ('last_ckpt', ['epoch_1.pth']),
        ('keep_ckpt_ids', ['/../../victim']),
        ('keep_ckpt_ids', 3),
        ('dropped_ckpt_ids', [True]),
        ('best_score', 'high'),
    ],
)
def test_a_checkpoint_may_not_name_what_is_deleted_later(tmp_path, key, value):
    hub = MessageHub(f'{tmp_path}')
    hub.update_info_dict({key: value})
    runner = SimpleNamespace(message_hub=hub, cfg=dict(load_from='x.pth'))
    with pytest.raises(ValueError, match=f'{key} in message_hub of x.pth '):
        SafeCheckpointHook().before_train(runner)


@pytest.mark.slow
def test_the_place_within_an_epoch_is_a_number(toy, folder):
    work_dir = folder / 'place'
    options = ('--work-dir', work_dir, '--cfg-options', 'max_epochs=2')
    run_tool('train', toy, *options, 'max_epochs=1')
    content = load_checkpoint_file(str(work_dir / 'epoch_1.pth'))
    content['message_hub']['runtime_info']['batches_done'] = 'three'
    torch.save(content, work_dir / 'epoch_1.pth')
    with pytest.raises(ValueError, match=r"batches_done in .*epoch_1.pth must .* got 'three'"):
        run_tool('train', toy, '--resume', *options)


@pytest.mark.slow
def test_python_in_a_checkpoint_does_not_run_when_a_training_goes_on(toy, folder):
    """MMEngine would run ``meta.config``, to compare it with the config of the training."""
    work_dir, harmed = folder / 'python', folder / 'harmed'
    options = ('--work-dir', work_dir, '--cfg-options', 'max_epochs=2')
    run_tool('train', toy, *options, 'max_epochs=1')
    content = torch.load(work_dir / 'epoch_1.pth', weights_only=False)
    code = f"open({str(harmed)!r}, 'w').close()"
    for key in ('config', 'cfg'):
        content['meta'][key] = code
    torch.save(content, work_dir / 'epoch_1.pth')
    run_tool('train', toy, '--resume', *options)
    assert (work_dir / 'epoch_2.pth').exists()
    assert not harmed.exists()


@pytest.mark.slow
def test_the_best_checkpoint_is_not_resumed_from_whatever_the_way(toy, folder):
    work_dir = folder / 'best'
    options = ('--work-dir', work_dir, '--cfg-options', 'max_epochs=1')
    run_tool('train', toy, *options)
    [best] = work_dir.glob('best_*.pth')
    for way in (('--resume', best), (*options[2:], 'resume=True', f'load_from={best}')):
        with pytest.raises(ValueError, match=r'best_.*pth has no optimizer'):
            run_tool('train', toy, '--work-dir', work_dir, *way)


@pytest.mark.slow
def test_a_training_goes_on_with_other_data_on_purpose_only(tmp_path):
    """As many identities, images and captions as before, but persons have changed places."""
    records = toy_records()
    root = write_toy_data(tmp_path / 'data', records=records)
    toy = write_toy_config(tmp_path / 'toy_other_data.py', root)
    options = ('--work-dir', tmp_path / 'work', '--cfg-options')
    run_tool('train', toy, *options, 'max_epochs=1')
    trained = [record for record in records if record['split'] == 'train']
    ids = [record['id'] for record in trained]
    for record, other in zip(trained, ids[2:] + ids[:2], strict=True):
        record['id'] = other
    write_toy_data(root, records=records)
    with pytest.raises(
        ValueError,
        match=r'epoch_1.pth was trained on other annotations than CUHKPEDES in .*data has now .as '
        r'many of everything.*--cfg-options default_hooks.same_data.required=False',
    ):
        run_tool('train', toy, '--resume', *options, 'max_epochs=2')
    going_on = ('max_epochs=2', 'default_hooks.same_data.required=False')
    run_tool('train', toy, '--resume', *options, *going_on)
    assert (tmp_path / 'work/epoch_2.pth').exists()


def test_the_checkpoint_with_the_most_iterations_is_found_whatever_it_is_called(tmp_path):
    for name, place in {
        'epoch_9.pth': (9, 90),
        'epoch_10.pth': (10, 100),
        'iter_104.pth': (10, 104),
        'iter_96.pth': (9, 96),
        'best_t2i_R1_epoch_11.pth': (11, 110),
    }.items():
        save(tmp_path / name, *place)
    # Not written yet when the run was killed.
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_10.pth'))
    path, meta = find_newest_checkpoint(tmp_path)
    assert (path.name, meta['iter']) == ('iter_104.pth', 104)


def test_the_end_of_an_epoch_is_newer_than_its_last_iteration(tmp_path):
    save(tmp_path / 'iter_100.pth', 9, 100)
    save(tmp_path / 'epoch_10.pth', 10, 100)
    assert find_newest_checkpoint(tmp_path)[0].name == 'epoch_10.pth'


@pytest.mark.parametrize('share', [0.0, 0.5, 0.99])
def test_a_truncated_checkpoint_is_skipped_with_a_warning(tmp_path, share, capfd):
    save(tmp_path / 'epoch_1.pth', 1, 10)
    save(tmp_path / 'epoch_2.pth', 2, 20)
    content = (tmp_path / 'epoch_2.pth').read_bytes()
    (tmp_path / 'epoch_2.pth').write_bytes(content[: int(share * len(content))])
    assert find_newest_checkpoint(tmp_path)[0].name == 'epoch_1.pth'
    assert f'skips {tmp_path}/epoch_2.pth' in ''.join(capfd.readouterr())


def test_no_readable_checkpoint_at_all_is_an_error_and_not_a_new_start(tmp_path):
    (tmp_path / 'epoch_1.pth').write_bytes(b'')
    with pytest.raises(ValueError, match=r'none of the checkpoints .*epoch_1.pth.* start over'):
        find_newest_checkpoint(tmp_path)


def test_the_pointer_counts_only_where_there_are_no_checkpoints(tmp_path):
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    save(elsewhere / 'epoch_5.pth', 5, 50)
    (tmp_path / 'last_checkpoint').write_text(str(elsewhere / 'epoch_5.pth'))
    assert find_newest_checkpoint(tmp_path)[0] == elsewhere / 'epoch_5.pth'
    save(tmp_path / 'epoch_2.pth', 2, 20)
    assert find_newest_checkpoint(tmp_path)[0] == tmp_path / 'epoch_2.pth'
    assert find_newest_checkpoint(elsewhere / 'nowhere') is None


def test_a_stale_or_empty_pointer_to_nothing_means_that_there_is_no_checkpoint(tmp_path):
    for text in ('', str(tmp_path / 'gone.pth')):
        (tmp_path / 'last_checkpoint').write_text(text)
        assert find_newest_checkpoint(tmp_path) is None


@pytest.mark.slow
def test_files_are_written_before_older_ones_are_deleted(toy, folder, monkeypatch):
    """At every write of a checkpoint the one before is still there, the best as well."""
    work_dir = folder / 'order'
    seen = []
    put = AtomicLocalBackend.put

    def watch(self, obj, filepath):
        seen.append((Path(filepath).name, {path.name for path in work_dir.glob('*.pth')}))
        put(self, obj, filepath)

    monkeypatch.setattr(AtomicLocalBackend, 'put', watch)
    # Each epoch is better than the last.
    scores = iter(range(1, 9))
    monkeypatch.setattr(
        'sen_toolbox.evaluation.metric.RetrievalMetric.compute_metrics',
        lambda *_: {'t2i/R1': float(next(scores))},
    )
    run_tool(
        *('train', toy, '--work-dir', work_dir, '--cfg-options', 'max_epochs=3'),
        'default_hooks.checkpoint.max_keep_ckpts=1',
    )
    first = {name: files for name, files in reversed(seen)}
    assert 'epoch_1.pth' in first['epoch_2.pth']
    assert 'epoch_2.pth' in first['epoch_3.pth']
    assert 'best_t2i_R1_epoch_1.pth' in first['best_t2i_R1_epoch_2.pth']
    assert {path.name for path in work_dir.glob('*.pth')} == {
        'epoch_3.pth',
        'best_t2i_R1_epoch_3.pth',
    }
    assert (work_dir / 'last_checkpoint').read_text().endswith('epoch_3.pth')


def test_checkpoints_within_an_epoch_need_a_sensible_interval():
    with pytest.raises(ValueError, match='every_iters is at least 1 .* got 0 with by_epoch=True'):
        SafeCheckpointHook(every_iters=0)
    with pytest.raises(ValueError, match='use interval to save by iterations alone'):
        SafeCheckpointHook(every_iters=5, by_epoch=False)


def test_the_items_that_remain_are_those_after_the_start():
    sampler = _RemainingItems(SequentialSampler(range(10)))
    batches = BatchSampler(sampler, 4, drop_last=False)
    sampler.start = 4
    assert list(batches) == [[4, 5, 6, 7], [8, 9]]
    assert len(batches) == 3, 'hooks count the batches of the whole epoch'


def batches(toy, num_workers, epochs=2):
    """All training batches of some epochs, in which every transform is random."""
    loader = load_config(toy).train_dataloader
    dataset = DATASETS.build(loader.dataset)
    torch.manual_seed(num_workers)
    loader = DataLoader(
        dataset,
        batch_size=8,
        shuffle=False,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        collate_fn=FUNCTIONS.get('collate_pairs'),
    )
    found = []
    for epoch in range(epochs):
        dataset.set_epoch(3, epoch)
        found += list(loader)
    return found


@pytest.mark.slow
def test_samples_are_the_same_whatever_the_number_of_workers(toy):
    alone, *others = [batches(toy, num_workers) for num_workers in (0, 1, 2)]
    for other in others:
        assert differences(alone, other) == []
    half = len(alone) // 2
    assert differences(alone[:half], alone[half:]) != [], 'epochs differ'


def test_drawing_a_sample_leaves_the_generators_of_its_process_alone(toy):
    dataset = DATASETS.build(load_config(toy).train_dataloader.dataset)
    dataset.set_epoch(0, 0)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = dataset[0]
    assert torch.equal(torch.rand(3), expected)
    assert differences(first, dataset[0]) == []
    dataset.set_epoch(1, 0)
    dataset.set_epoch(0, 1)
    assert [differences(first, dataset[0]) for _ in range(2)] != [[], []]


@pytest.mark.slow
def test_averaged_weights_are_evaluated_and_saved_and_the_test_tool_takes_them(toy, folder, capfd):
    averaged = folder / 'averaged.py'
    averaged.write_text(
        f"_base_ = './{toy.name}'\nmax_epochs = 1\n"
        "default_hooks = dict(ema=dict(type='EMAHook', momentum=0.1))\n"
    )
    work_dir = folder / 'averaged'
    run_tool('train', averaged, '--work-dir', work_dir)
    saved = load_checkpoint_file(str(work_dir / 'epoch_1.pth'))
    key = 'backbone.image.conv1.weight'
    # MMEngine puts the averaged ones in the place that everybody reads.
    trained = saved['ema_state_dict'][f'module.{key}']
    assert not torch.equal(saved['state_dict'][key], trained)
    [path] = work_dir.glob('*/vis_data/scalars.json')
    validated = json.loads(path.read_text().splitlines()[-1])
    for config, checked in ((averaged, 'with_hook'), (toy, 'without')):
        options = ('--cfg-options', 'test_dataloader.dataset.split=val')
        arguments = (work_dir / 'epoch_1.pth', '--work-dir', folder / checked, *options)
        run_tool('test', config, *arguments)
        found = json.loads((folder / checked / 'results.json').read_text())
        assert found['evaluations'][0]['metrics']['t2i/mAP'] == validated['t2i/mAP']


@pytest.mark.slow
def test_seed_versions_and_commit_are_in_the_log_and_in_every_checkpoint(toy, folder):
    work_dir = folder / 'provenance'
    run_tool('train', toy, '--work-dir', work_dir, '--cfg-options', 'max_epochs=1')
    [log] = work_dir.glob('*/*.log')
    assert 'Provenance: seed 42, python' in log.read_text()
    for path in work_dir.glob('*.pth'):
        meta = load_checkpoint_file(str(path))['meta']
        assert meta['seed'] == 42
        assert torch.__version__.startswith(meta['versions']['torch'])
        assert meta['git'] is None or len(meta['git'].removesuffix('-dirty')) == 40
