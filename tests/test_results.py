"""Results in a file tell what they were measured on and what selected the checkpoint."""

import hashlib
import json
import re

import pytest
import torch
from toy_data import (
    NUM_CLASSES,
    ROOT,
    TOY_CONFIG,
    run_tool,
    toy_records,
    write_toy_config,
    write_toy_data,
)

from sen_toolbox.checkpoint.config_text import read_config_text
from sen_toolbox.config import load_config
from sen_toolbox.evaluation.results import (
    describe_checkpoint,
    describe_pretrained,
    results_record,
    results_table,
    write_results,
)
from sen_toolbox.registry import MODELS

CONFIG = load_config(ROOT / 'configs/sen/sen_vitb_cuhk.py')
ICFG = load_config(ROOT / 'configs/sen/sen_vitb_icfg.py')


@pytest.fixture
def describe(tmp_path):
    def function(name, **meta):
        path = tmp_path / name
        path.write_bytes(b'weights')
        return describe_checkpoint(path, meta)

    return function


def test_the_best_checkpoint_was_selected_on_the_validation_split_it_was_trained_with(describe):
    found = describe('best_t2i_R1_epoch_9.pth', cfg=CONFIG.pretty_text, epoch=9, seed=42)
    assert found['selected'] == 'val'
    assert found['selection'] == 'epoch with the highest t2i/R1 on CUHKPEDES val'
    assert (found['epoch'], found['seed']) == (9, 42)
    assert found['trained_on'] == dict(
        dataset='CUHKPEDES', data_root='data/CUHK-PEDES', split='train'
    )
    assert found['sha256'] == hashlib.sha256(b'weights').hexdigest()


def test_a_checkpoint_selected_on_test_says_so(describe):
    found = describe('best_t2i_R1_epoch_9.pth', cfg=ICFG.pretty_text, epoch=9)
    assert found['selected'] == 'test'
    assert found['selection'].endswith('on ICFGPEDES test, as the papers select')


def test_the_last_epoch_is_told_from_an_earlier_one(describe):
    assert describe('epoch_60.pth', cfg=CONFIG.pretty_text, epoch=60)['selected'] == 'last'
    found = describe('epoch_59.pth', cfg=CONFIG.pretty_text, epoch=59)
    assert (found['selected'], found['selection']) == ('epoch', 'epoch 59 of 60')


@pytest.mark.parametrize('name', ['best.pth', 'best_t2i_R1_epoch_9.pth', 'epoch_9.pth'])
@pytest.mark.parametrize(
    'text', ['', 'import os', 'a = print(1)', 'a = = 1', 'a.b = 1', 'a = {**b}', 'a += 1']
)
def test_a_checkpoint_without_a_readable_config_is_unknown(describe, name, text):
    assert describe(name, cfg=text)['selected'] == 'unknown'
    assert describe(name)['selected'] == 'unknown'


def test_the_config_in_a_checkpoint_is_not_executed(tmp_path):
    witness = tmp_path / 'witness'
    text = f'a = open({str(witness)!r}, "w")\nb = dict(c=__import__("os").getcwd())'
    assert read_config_text(text) == {}
    assert not witness.exists()


@pytest.mark.parametrize('path', ['sen_vitb_cuhk', 'sen_vitl_icfg', 'sen_tiny_synthetic'])
def test_every_value_of_a_config_is_read_back(path):
    config = load_config(ROOT / f'configs/sen/{path}.py')
    assert read_config_text(config.pretty_text) == config.to_dict()


def record(describe, metrics):
    evaluation = dict(
        dataset='cuhk',
        data_root='data/CUHK-PEDES',
        split='test',
        num_identities=4,
        num_images=7,
        num_captions=14,
        metrics=metrics,
    )
    checkpoint = describe('best_x.pth', cfg=CONFIG.pretty_text)
    return results_record('sen.py', checkpoint, [evaluation, evaluation | dict(dataset='rstp')])


def test_the_table_has_a_row_for_each_data_set_and_says_what_selected_the_checkpoint(describe):
    metrics = {'t2i/R1': 12.346, 't2i/mAP': 5.0, 'i2t/R1': 100.0}
    lines = results_table(record(describe, metrics)).splitlines()
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines if '|' in line]
    assert rows == [
        ['best_x.pth: epoch with the highest t2i/R1 on CUHKPEDES val'],
        ['tested on', 'images', 'captions', 't2i/R1', 't2i/mAP', 'i2t/R1'],
        ['cuhk test', '7', '14', '12.35', '5.00', '100.00'],
        ['rstp test', '7', '14', '12.35', '5.00', '100.00'],
    ]


def test_weights_that_were_not_trained_further_are_called_so(describe):
    changed = record(describe, {'t2i/R1': 1.0}) | dict(checkpoint=describe_pretrained('openai'))
    assert 'openai: pretrained weights, not trained further' in results_table(changed)


def test_a_record_is_written_whole_with_versions_and_date(describe, tmp_path):
    made = record(describe, {'t2i/R1': 1.0})
    write_results(tmp_path / 'new' / 'results.json', made)
    read = json.loads((tmp_path / 'new' / 'results.json').read_text())
    assert read == made
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['results.json']
    assert read['versions']['torch'] == torch.__version__.partition('+')[0]
    assert re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00', read['date'])
    assert read['git'] is None or re.match(r'[0-9a-f]{40}(-dirty)?$', read['git'])


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
    """A config, data in two layouts and a checkpoint with random weights."""
    folder = tmp_path_factory.mktemp('results')
    write_toy_data(folder / 'data')
    write_toy_data(folder / 'rstp', 'RSTPReid')
    path = write_toy_config(folder / 'results_toy.py', folder / 'data')
    config = load_config(path)
    torch.manual_seed(0)
    state = MODELS.build(config.model).state_dict()
    meta = dict(cfg=config.pretty_text, epoch=2, seed=5)
    torch.save(dict(state_dict=state, meta=meta), folder / 'best_t2i_R1_epoch_2.pth')
    return folder, path, folder / 'best_t2i_R1_epoch_2.pth'


def read_results(work_dir):
    return json.loads((work_dir / 'results.json').read_text())


@pytest.mark.slow
def test_one_command_tests_on_several_data_sets(toy, capfd):
    folder, config, checkpoint = toy
    datasets = (f'cuhk={folder / "data"}', f'rstp={folder / "rstp"}')
    run_tool('test', config, checkpoint, '--work-dir', folder / 'both', '--datasets', *datasets)
    output = ''.join(capfd.readouterr())
    assert output.count('best_t2i_R1_epoch_2.pth: epoch with the highest t2i/R1') == 1
    both = read_results(folder / 'both')
    assert [found['dataset'] for found in both['evaluations']] == list(datasets)
    assert [found['data_root'] for found in both['evaluations']] == [
        str(folder / 'data'),
        str(folder / 'rstp'),
    ]
    for name, folder_name, layout in (('one', 'data', 'CUHKPEDES'), ('two', 'rstp', 'RSTPReid')):
        options = (f'data_root={folder / folder_name}', f'dataset_type={layout}')
        alone = folder / name
        run_tool('test', config, checkpoint, '--work-dir', alone, '--cfg-options', *options)
        [single] = read_results(alone)['evaluations']
        assert single['dataset'] == layout
        together = both['evaluations'][name == 'two']
        assert {**together, 'dataset': layout} == single
        assert (single['num_identities'], single['num_images'], single['num_captions']) == (
            4,
            7,
            14,
        )
    assert both['checkpoint']['seed'] == 5


@pytest.mark.parametrize('given', ['market', 'Market=data/market', 'CUHKPEDES'])
def test_an_unknown_data_set_is_refused_with_the_choices(toy, given):
    _, config, checkpoint = toy
    with pytest.raises(
        ValueError, match=f"unknown data set '{given}', choose from cuhk, .*icfg, rstp"
    ):
        run_tool('test', config, checkpoint, '--datasets', given)


@pytest.mark.slow
def test_several_checkpoints_make_a_matrix_whatever_they_were_trained_on(toy, capfd):
    folder, config, first = toy
    second = folder / 'x.pth'
    torch.manual_seed(1)
    model = MODELS.build(load_config(config, {'num_classes': NUM_CLASSES - 5}).model)
    torch.save(dict(state_dict=model.state_dict()), second)
    more = write_toy_data(folder / 'more', 'RSTPReid', toy_records('RSTPReid', images_per_id=3))
    datasets = (f'rstp={more}', f'cuhk={folder / "data"}')
    options = ('--work-dir', folder / 'matrix', '--datasets', *datasets)
    run_tool('test', config, f'cuhk={first}', second, *options)
    output = ''.join(capfd.readouterr())
    left_out = f'heads.identity.classifier.weight is of {NUM_CLASSES - 5} identities: left out'
    assert output.count(left_out) == 2  # on each data set
    found = read_results(folder / 'matrix')
    assert list(found) == ['cuhk', str(second)]
    assert [read['checkpoint']['path'] for read in found.values()] == [str(first), str(second)]
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in output.splitlines()]
    start = rows.index(['trained on', *datasets])
    expected = [
        [name, *(f'{tested["metrics"]["t2i/R1"]:.2f}' for tested in read['evaluations'])]
        for name, read in found.items()
    ]
    assert [row for row in rows[start:] if len(row) == 3][1:] == expected
    options = ('--work-dir', folder / 'alone', '--datasets', datasets[0])
    run_tool('test', config, second, *options)
    [alone] = read_results(folder / 'alone')['evaluations']
    assert alone == found[str(second)]['evaluations'][0]
    # All differ, so that none stands in the place of another.
    metrics = [tested['metrics'] for read in found.values() for tested in read['evaluations']]
    assert all(metrics.count(one) == 1 for one in metrics)


@pytest.mark.slow
def test_other_rows_are_refused_where_retrieval_reads_them(toy):
    folder = toy[0]
    path = folder / 'rde_toy.py'
    kwargs = dict(dataset_type='CUHKPEDES', num_classes=NUM_CLASSES, val_split='val')
    base = ROOT / 'configs/rde/rde_vitb_cuhk.py'
    path.write_text(TOY_CONFIG.format(base=base, data_root=folder / 'data', **kwargs))
    state = MODELS.build(load_config(path).model).state_dict()
    key = next(name for name in state if name.startswith('heads.tse.image_neck.'))
    for name in ('backbone.text.token_embedding.weight', key):
        changed = {**state, name: torch.cat([state[name], state[name]])}
        torch.save(dict(state_dict=changed), folder / 'rde.pth')
        with pytest.raises(ValueError, match=f'does not fit the model: {re.escape(name)} has sha'):
            run_tool('test', path, folder / 'rde.pth', '--work-dir', folder / 'rde')


@pytest.mark.slow
def test_other_columns_and_keys_are_refused_where_nothing_reads_them(toy):
    folder, config, checkpoint = toy
    state = torch.load(checkpoint, weights_only=False)['state_dict']
    state['heads.identity.more'] = torch.zeros(1)
    weight = state['heads.identity.classifier.weight']
    state['heads.identity.classifier.weight'] = weight[:, 1:]
    torch.save(dict(state_dict=state), folder / 'other.pth')
    with pytest.raises(ValueError, match='unexpected heads.identity.more; .*weight has shape'):
        run_tool('test', config, folder / 'other.pth', '--work-dir', folder / 'other')


@pytest.mark.parametrize('given', [('a=x.pth', 'a=y.pth'), ('x.pth', '--datasets', 'cuhk', 'cuhk')])
def test_a_name_that_is_given_twice_is_refused(toy, given, capsys):
    with pytest.raises(SystemExit):
        run_tool('test', toy[1], *given)
    assert 'one of these is there twice' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('test_evaluator.prefix=x', 'one RetrievalMetric without prefix'),
        ('data_root=x', '--datasets says what is tested on, so data_root would change nothing'),
        ('test_dataloader.dataset.split=val', 'so test_dataloader.dataset.split would change'),
    ],
)
def test_an_option_that_would_spoil_or_change_nothing_is_refused(toy, option, message):
    with pytest.raises(ValueError, match=message):
        run_tool('test', toy[1], '--datasets', 'cuhk', '--cfg-options', option)


def test_an_equals_sign_in_a_folder_is_no_name(toy):
    with pytest.raises(FileNotFoundError, match='there is no checkpoint runs/lr=1/x.pth'):
        run_tool('test', toy[1], 'runs/lr=1/x.pth')


@pytest.mark.slow
def test_without_a_checkpoint_the_pretrained_weights_are_tested(toy):
    folder, config, checkpoint = toy
    work_dir = folder / 'start'
    options = (f'pretrained={checkpoint}',)
    run_tool('test', config, '--work-dir', work_dir, '--cfg-options', *options)
    run_tool('test', config, checkpoint, '--work-dir', folder / 'given')
    start, given = read_results(work_dir), read_results(folder / 'given')
    assert start['checkpoint']['selected'] == 'none'
    assert start['evaluations'] == given['evaluations']


def test_neither_a_checkpoint_nor_pretrained_weights_is_an_error(toy):
    with pytest.raises(ValueError, match='neither a checkpoint nor a pretrained encoder'):
        run_tool('test', toy[1])


@pytest.mark.parametrize(
    'meta',
    [
        dict(epoch=torch.ones(2), seed=[1], cfg=3),
        dict(epoch='last', seed={}, cfg='default_hooks = 1\nval_dataloader = [2]\ntrain_cfg = 3'),
        dict(cfg='train_dataloader = dict(dataset=dict(type=1))'),
    ],
)
def test_odd_values_in_a_checkpoint_are_unknown_and_can_be_written(tmp_path, meta):
    for name in ('best_x.pth', 'epoch_1.pth'):
        (tmp_path / name).write_bytes(b'')
        found = describe_checkpoint(tmp_path / name, meta)
        assert json.loads(json.dumps(found)) == found
        assert (found['epoch'], found['seed'], found['trained_on']) == (None, None, None)
        assert found['selected'] == 'unknown'
