"""The page of benchmarks shows what its scripts wrote, and what did not run."""

import json
import sys

import pytest
from toy_data import ROOT


@pytest.fixture
def run_all(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / 'benchmarks'))
    import run_all

    monkeypatch.setattr(run_all, 'PAGE', tmp_path / 'page.md')
    yield run_all
    for name in ('run_all', 'common'):
        sys.modules.pop(name, None)


def write(folder, name, rows, **more):
    (folder / f'{name}.json').write_text(json.dumps(dict(title=f'of {name}', rows=rows, **more)))


def test_there_is_a_script_for_every_row(run_all):
    assert [
        name for name in run_all.BENCHMARKS if not (ROOT / f'benchmarks/{name}.py').exists()
    ] == []


def test_the_page_holds_rows_of_any_columns_and_says_what_failed(run_all, tmp_path):
    from common import Report

    report = Report('of query')
    report.add('one', 2.0, 7.0, 'ms', goal='3x')
    report.add('two', 1234.5, None, 'MB')
    report.check('same', 0.5, 0.1)
    with pytest.raises(SystemExit, match='1'):
        report.finish(tmp_path / 'query.json')
    write(tmp_path, 'precision', [dict(what='int8', R1='78.92')])
    assert not run_all.write_page(tmp_path)
    page = run_all.PAGE.read_text()
    assert '|  | unit | ours | reference | ratio | goal |' in page
    assert '| one | ms | 2 | 7 | 3.5 | 3x |\n| two | MB | 1234 | - | - |  |\n' in page
    assert 'Checks: FAILED: same. `benchmarks/query.py`' in page
    assert '## of precision\n\n|  | R1 |\n|---|---|\n| int8 | 78.92 |\n' in page
    assert '## train_step\n\nnot run' in page


def test_only_equal_results_of_all_scripts_are_a_success(run_all, tmp_path):
    for name in run_all.BENCHMARKS:
        write(tmp_path, name, [dict(what='one', unit='s')], failed=[])
    assert run_all.write_page(tmp_path)
    write(tmp_path, 'startup', [dict(what='one', unit='s')], failed=['loads torch'])
    assert not run_all.write_page(tmp_path)
    (tmp_path / 'startup.json').unlink()
    assert not run_all.write_page(tmp_path)
