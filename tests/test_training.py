"""Training and testing through the tools, on a small data set and the CPU."""

import json
import re
import shutil

import pytest
import torch
from commands import run
from toy_data import NUM_CLASSES, ROOT, run_tool, start, write_toy_config, write_toy_data

from sen_toolbox.checkpoint.loading import load_checkpoint_file

pytestmark = pytest.mark.slow

METRICS = [f'{way}/{name}' for way in ('t2i', 'i2t') for name in ('R1', 'R5', 'R10', 'mAP', 'mINP')]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('training')
    write_toy_data(path / 'data')
    return path


@pytest.fixture
def toy(folder, request):
    """A config of its own for each test, as MMEngine keeps loggers by the config's name."""
    name = re.sub(r'\W+', '_', request.node.name)
    return write_toy_config(folder / f'{name}.py', folder / 'data')


@pytest.fixture(scope='module')
def trained(folder):
    """Two epochs as a user starts them."""
    config = write_toy_config(folder / 'toy.py', folder / 'data')
    output = run(folder, ROOT / 'tools/train.py', config)
    return folder / 'work_dirs' / 'toy', output


def state_of(path):
    return load_checkpoint_file(str(path))['state_dict']


def scalars(work_dir):
    """What the run logged as numbers, one dict a line."""
    [path] = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in path.read_text().splitlines()]


def losses(work_dir):
    return [row['loss'] for row in scalars(work_dir) if 'loss' in row]


def test_training_writes_the_last_the_best_and_where_the_last_is(trained):
    work_dir, _ = trained
    assert {path.name for path in work_dir.glob('epoch_*.pth')} == {'epoch_1.pth', 'epoch_2.pth'}
    [best] = work_dir.glob('best_t2i_R1_epoch_*.pth')
    assert (work_dir / 'last_checkpoint').read_text().strip().endswith('toy/epoch_2.pth')
    saved = load_checkpoint_file(str(best))
    rows = [row for row in scalars(work_dir) if 't2i/R1' in row]
    assert max(row['t2i/R1'] for row in rows) == rows[saved['meta']['epoch'] - 1]['t2i/R1']


def test_training_starts_with_a_table_of_the_data(trained):
    _, output = trained
    # 12 persons with 2 images of 2 captions but for one image; 4 persons for validation.
    assert re.search(r'\| train +\| +12 \| +23 \| +46 \| +2.00 \|', output)
    assert re.search(r'\| val +\| +4 \| +7 \| +14 \| +2.00 \|', output)
    assert output.index('| train ') < output.index('Epoch(train)')


def test_training_logs_each_head_and_each_metric_as_numbers_and_for_tensorboard(trained):
    work_dir, output = trained
    rows = scalars(work_dir)
    heads = {'sdm.loss', 'identity.loss', 'identity.text_acc', 'triplet.loss', 'restoration.loss'}
    assert heads <= set(rows[0])
    assert set(METRICS) <= set(rows[-1])
    parts = sum(value for key, value in rows[0].items() if key.endswith('.loss'))
    assert parts == pytest.approx(rows[0]['loss'], rel=1e-5)
    [events] = work_dir.glob('*/vis_data/events.out.tfevents.*')
    assert events.stat().st_size > 0
    [log] = work_dir.glob('*/*.log')
    assert 'Epoch(train) [2]' in log.read_text()
    assert 'Failed to search registry' not in output


def test_the_test_tool_prints_the_table_of_both_directions(trained, toy, folder, capfd):
    work_dir, _ = trained
    run_tool('test', toy, work_dir / 'epoch_2.pth', '--work-dir', folder / 'tested')
    output = ''.join(capfd.readouterr())
    assert '7 images, 14 captions' in output
    assert re.search(r'\| +direction +\| +R1 +\| +R5 +\| +R10 +\| +mAP +\| +mINP', output)
    for direction in ('text-to-image', 'image-to-text'):
        assert len(re.findall(rf'\| {direction} \|( +\d+\.\d\d \|){{5}}', output)) == 1


def test_a_seed_gives_the_same_weights_again_and_another_seed_others(trained, toy, folder):
    work_dir, _ = trained
    first = state_of(work_dir / 'epoch_2.pth')
    run_tool('train', toy, '--work-dir', folder / 'again')
    again = state_of(folder / 'again' / 'epoch_2.pth')
    assert [key for key in first if not torch.equal(first[key], again[key])] == []
    other = toy.with_name('other_seed.py')
    other.write_text(toy.read_text())
    options = ('--cfg-options', 'randomness.seed=7', 'max_epochs=1')
    run_tool('train', other, '--work-dir', folder / 'other', *options)
    differ = state_of(folder / 'other' / 'epoch_1.pth')
    key = 'backbone.image.conv1.weight'
    assert not torch.equal(differ[key], state_of(work_dir / 'epoch_1.pth')[key])


def test_resume_goes_on_after_the_last_epoch(trained, toy, folder, capfd):
    work_dir = folder / 'resumed'
    shutil.copytree(trained[0], work_dir)
    # The copied file names the other folder.
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_2.pth'))
    capfd.readouterr()
    run_tool('train', toy, '--work-dir', work_dir, '--resume', '--cfg-options', 'max_epochs=3')
    output = ''.join(capfd.readouterr())
    assert 'resumed epoch: 2' in output
    assert 'Epoch(train) [3]' in output
    assert 'Epoch(train) [2]' not in output
    assert load_checkpoint_file(str(work_dir / 'epoch_3.pth'))['meta']['epoch'] == 3


def test_resume_without_a_checkpoint_starts_from_the_beginning(toy, folder, capfd):
    options = ('--cfg-options', 'max_epochs=1')
    run_tool('train', toy, '--work-dir', folder / 'fresh', '--resume', *options)
    assert 'Epoch(train) [1]' in ''.join(capfd.readouterr())


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_mixed_precision_trains_on_the_cpu_with_float32_weights(trained, toy, folder, dtype):
    work_dir = folder / dtype
    amp = ('--amp',) if dtype == 'float16' else ('--amp', dtype)
    run_tool('train', toy, '--work-dir', work_dir, *amp, '--cfg-options', 'max_epochs=1')
    saved = load_checkpoint_file(str(work_dir / 'epoch_1.pth'))
    assert {value.dtype for value in saved['state_dict'].values()} == {torch.float32}
    assert bool(saved['optimizer']['loss_scaler']) == (dtype == 'float16')
    [loss], [plain, _] = losses(work_dir), losses(trained[0])
    assert loss == pytest.approx(plain, rel=0.02)
    assert loss != plain


def test_every_published_layout_trains(folder, request):
    for layout in ('ICFGPEDES', 'RSTPReid'):
        root = write_toy_data(folder / layout, layout)
        config = write_toy_config(folder / f'toy_{layout}.py', root, layout)
        options = ('--cfg-options', 'max_epochs=1')
        run_tool('train', config, '--work-dir', folder / f'work_{layout}', *options)
        assert set(METRICS) <= set(scalars(folder / f'work_{layout}')[-1])


def test_two_processes_train_and_evaluate_as_one(toy, folder):
    work_dir = folder / 'two'
    launched = start(
        *('bash', ROOT / 'tools/dist_train.sh', toy, 2, '--work-dir', work_dir),
        *('--cfg-options', 'max_epochs=1'),
        cwd=folder,
    )
    assert launched.returncode == 0, launched.stdout[-3000:]
    trained_loss, together = scalars(work_dir)
    assert 0 < trained_loss['loss'] < 1000
    assert trained_loss['identity.loss'] < 1.5 * torch.tensor(float(NUM_CLASSES)).log().item()
    # 7 images do not divide evenly.
    alone = folder / 'two_alone'
    options = ('--cfg-options', 'test_dataloader.dataset.split=val')
    run_tool('test', toy, work_dir / 'epoch_1.pth', '--work-dir', alone, *options)
    [path] = alone.glob('*/*.json')
    numbers = json.loads(path.read_text().splitlines()[-1])
    assert {key: numbers[key] for key in METRICS} == {key: together[key] for key in METRICS}
