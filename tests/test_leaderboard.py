"""The leaderboard finds methods, chooses rates on validation, and runs nothing a second time."""

import json
from types import SimpleNamespace

import pytest
from toy_data import ROOT, tool

from sen_toolbox.config import load_config

SEEDS = [0, 1]


@pytest.fixture
def board(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tools')
    return tool('leaderboard')


@pytest.fixture
def models(board):
    return board.read_models()


@pytest.fixture
def begun(board, monkeypatch):
    """Trainings that cost nothing: R1 on validation is highest at the largest rate."""
    begun = []

    def train(config, folder, seed):
        begun.append((folder.parent.name, folder.name))
        return True

    def rows(folder):
        factor = float(folder.name.partition('_')[0])
        return [{'iter': 1, 'time': 0.5}, {'step': 1, 't2i/R1': 10 * factor}]

    monkeypatch.setattr(board, 'train', train)
    monkeypatch.setattr(board, 'read_scalars', rows)
    monkeypatch.setattr(board, 'last_checkpoint', lambda folder: folder / 'last.pth')
    monkeypatch.setattr(
        board,
        'load_checkpoint_file',
        lambda path: dict(state_dict=dict(w=SimpleNamespace(numel=lambda: 7))),
    )
    monkeypatch.setattr(
        board,
        'test',
        lambda config, checkpoint, folder: dict.fromkeys(board.MEASURES, 30.0 + len(begun)),
    )
    return begun


def run(board, models, record, tmp_path, name='sen_tiny_synthetic'):
    args = SimpleNamespace(work_dir=tmp_path, seeds=SEEDS)
    return board.run_method(name, board.find_methods(models)[name], record, args)


def test_every_tiny_config_of_a_method_takes_part(board, models):
    found = board.find_methods(models)
    tiny = {p.stem for p in [*ROOT.glob('configs/*/*_tiny_synthetic.py')]}
    tiny |= {p.stem for p in ROOT.glob('projects/*/configs/*_tiny_synthetic.py')}
    # What shows how to write a method is not one.
    assert tiny - found.keys() == {'template_tiny_synthetic', 'example_loss_tiny_synthetic'}


@pytest.mark.slow
def test_a_rate_is_chosen_on_validation_and_every_seed_is_tested_with_it(
    board, models, begun, tmp_path
):
    record = {}
    assert run(board, models, record, tmp_path)
    factors = [name for _, name in begun[:3]]
    assert factors == ['1.0_seed_0', '2.0_seed_0', '4.0_seed_0']
    assert [name for _, name in begun[3:]] == ['4.0_seed_0', '4.0_seed_1']
    assert record['tests'].keys() == {'0', '1'}
    rate = load_config(ROOT / 'configs/sen/sen_tiny_synthetic.py').optim_wrapper.optimizer.lr
    written = load_config(tmp_path / 'sen_tiny_synthetic' / '4.0.py')
    assert written.optim_wrapper.optimizer.lr == 4 * rate
    assert written.train_cfg.val_interval == written.train_cfg.max_epochs


@pytest.mark.slow
def test_what_has_run_does_not_run_again_unless_the_config_changes(
    board, models, begun, tmp_path, monkeypatch
):
    record = {}
    run(board, models, record, tmp_path)
    again = json.loads(json.dumps(record))
    del begun[:]
    assert run(board, models, again, tmp_path)
    assert (begun, again) == ([], record)
    monkeypatch.setattr(board, 'digest_of', lambda path: 'another')
    run(board, models, again, tmp_path)
    assert len(begun) == 5


@pytest.mark.slow
def test_a_method_pretrains_its_own_encoders_first_and_once(board, models, begun, tmp_path):
    record = {}
    assert run(board, models, record, tmp_path, 'cmpm_tiny_synthetic')
    assert begun[0] == ('work_dirs', 'cmpm_tiny_world')
    del begun[:]
    assert run(board, models, record, tmp_path, 'cmpm_tiny_synthetic')
    assert begun == []
    assert run(board, models, {}, tmp_path, 'lgur_tiny_synthetic')
    assert begun[0] == ('work_dirs', 'vit_bert_tiny_world')


def test_a_training_that_fails_leaves_what_has_run(board, models, begun, tmp_path, monkeypatch):
    record = {}
    monkeypatch.setattr(board, 'train', lambda config, folder, seed: folder.name != '2.0_seed_0')
    assert not run(board, models, record, tmp_path)
    assert record['validation'] == {'1.0': 10.0}


def test_the_page_orders_methods_and_tells_what_has_not_run(board, models):
    def record(*values):
        tests = {str(n): dict.fromkeys(board.MEASURES, value) for n, value in enumerate(values)}
        validation = {'1.0': 3.0, '2.0': 3.0, '4.0': 1.0}
        return dict(tests=tests, validation=validation, parameters=3_000_000, seconds_per_step=0.25)

    records = {
        'sen_tiny_synthetic': record(40.0, 42.0),
        'clip_tiny_synthetic': record(50.0, 52.0),
        'cmpm_tiny_synthetic': record(10.0, 10.0),
        # Tested at a factor chosen among others than today's.
        'irra_tiny_synthetic': dict(record(60.0), validation={'0.5': 1.0, '1.0': 2.0, '2.0': 3.0}),
    }
    lines = board.make_page(records, models).splitlines()
    rows = [line for line in lines if line.startswith('| [')]
    assert [row.partition(']')[0] for row in rows[:3]] == [
        '| [clip_tiny_synthetic', '| [sen_tiny_synthetic', '| [cmpm_tiny_synthetic'
    ]  # fmt: skip
    assert ' | 2 | 41.00 ± 1.41 | ' in rows[1]
    # Of equal factors the smaller; seconds; millions; the paper's.
    assert rows[1].endswith('| 1.0 | 0.25 | 3.0 | 75.00 |')
    assert all('not run' in row for row in rows[3:])
    # The spread of a seed is the root of the mean square of 1.41, 1.41 and 0.
    assert 'Best minus worst: 35.5 standard deviations of a method over its seeds.' in lines
    # By papers: sen, clip, cmpm.
    assert any(line.endswith('these 3 methods give: 0.50.') for line in lines)


def test_the_page_in_the_documents_is_that_of_the_records(board, models):
    expected = board.make_page(board.read_records(), models)
    assert board.PAGE.read_text(encoding='utf-8') == expected, 'run tools/leaderboard.py --page'


def test_other_factors_are_another_state_of_a_method(board, monkeypatch):
    before = board.digest_of('configs/sen/sen_tiny_synthetic.py')
    assert board.digest_of('configs/sen/sen_tiny_synthetic.py') == before
    monkeypatch.setattr(board, 'FACTORS', (*board.FACTORS, 8.0))
    assert board.digest_of('configs/sen/sen_tiny_synthetic.py') != before


def test_equal_values_share_their_rank(board):
    # Ranks 0.5, 0.5, 2 and 0, 1, 2.
    assert board.rank_correlation([1, 1, 2], [1, 2, 3]) == pytest.approx(3**0.5 / 2)


@pytest.mark.slow
def test_an_interrupted_board_keeps_what_has_run(board, begun, tmp_path, monkeypatch):
    monkeypatch.setattr(board, 'read_records', dict)
    kept = []
    monkeypatch.setattr(board, 'write_records', lambda records: kept.append(json.dumps(records)))
    monkeypatch.setattr(board, 'test', lambda *_: exit(130))
    monkeypatch.setattr(
        'sys.argv', ['leaderboard.py', '--only', 'sen_tiny_synthetic', '--work-dir', str(tmp_path)]
    )
    with pytest.raises(SystemExit, match='130'):
        board.main()
    assert len(json.loads(kept[-1])['sen_tiny_synthetic']['validation']) == len(board.FACTORS)
