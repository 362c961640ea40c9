"""The notebooks of docs/notebooks, and the Python of the README, run in an empty folder."""

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
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


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / 'sen_toolbox/inference/models/tiny.safetensors', 'sen.safetensors')
    Path('crops').mkdir()
    Image.new('RGB', (48, 96), 'red').save('crops/red.png')
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    blocks = re.findall(r'^```python\n(.*?)^```$', text, re.DOTALL | re.MULTILINE)
    names = {}
    for block in blocks:
        exec(block, names)
    assert re.match(r'1 0\.\d+ .*red\.png', capsys.readouterr().out)
    assert names['config'].batch_size == 64
