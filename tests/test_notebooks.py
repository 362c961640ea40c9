"""The notebooks of docs/notebooks run from their first cell to the last, in an empty folder."""

import json

import pytest
from toy_data import ROOT

from sen_toolbox.registry import LOSSES

NOTEBOOKS = sorted((ROOT / 'docs' / 'notebooks').glob('*.ipynb'))


def cells(path, kind):
    found = json.loads(path.read_text(encoding='utf-8'))['cells']
    return [''.join(cell['source']) for cell in found if cell['cell_type'] == kind]


def test_there_are_notebooks_with_text_and_no_stored_output():
    assert len(NOTEBOOKS) == 2
    for path in NOTEBOOKS:
        assert len(cells(path, 'markdown')) > 3
        assert '"outputs": []' in path.read_text(encoding='utf-8')


@pytest.mark.slow
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {'__name__': 'notebook'}
    try:
        for number, source in enumerate(cells(path, 'code')):
            exec(compile(source, f'{path.name}, code cell {number}', 'exec'), names)
    finally:
        for name, cls in list(LOSSES.module_dict.items()):
            if cls.__module__ == 'notebook':
                del LOSSES.module_dict[name]
