"""A query, and a config, import what they need: every other library takes as long as a search.

That of an exported model is in test_onnx.py.
"""

import os
import subprocess
import sys

import pytest
from toy_data import ROOT

from sen_toolbox.search import PersonSearch

# What only training, other encoders, other galleries or pictures need.
ANY_MODEL = (
    'mmengine.runner mmengine.model mmengine.optim mmengine.hooks mmengine.visualization '
    'open_clip torchvision timm transformers torch._dynamo torch._inductor torch.distributed.fsdp '
    'torch.onnx sympy triton matplotlib pandas pymilvus ftfy nltk prettytable tensorboard '
    'onnx onnxscript sen_toolbox.config sen_toolbox.search.web sen_toolbox.search.detection '
    'sen_toolbox.datasets.pedes sen_toolbox.visualization'
).split()
# Prints what a query has imported, among its results.
CODE = """
import sys
from sen_toolbox.search.cli import main
unwanted, arguments = sys.argv[1].split(), sys.argv[2:]
assert main(['query', 'a man in red', *arguments]) == 0
print('imported', *(name for name in unwanted if name in sys.modules))
"""


def imported_by_a_query(unwanted, *arguments):
    """Which of these modules a query with five results imports."""
    command = [sys.executable, '-c', CODE, ' '.join(unwanted), *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert run.returncode == 0, run.stderr
    *results, last = run.stdout.splitlines()
    assert len(results) == 5
    return last.split()[1:]


@pytest.fixture(scope='module')
def index(made):
    PersonSearch(index=made / 'index').index(made / 'crops')
    return made / 'index'


@pytest.mark.slow
def test_a_query_with_the_shipped_model_imports_torch_and_little_else(index):
    assert imported_by_a_query([*ANY_MODEL, 'torch', 'faiss'], '--index', index) == [
        'torch',
        'faiss',
    ]


# Asks for a model that open_clip does not have; prints what that has imported.
UNKNOWN = """
import sys
from sen_toolbox.{module} import {name}
try:
    {name}({given})
except ValueError as error:
    print(error, file=sys.stderr)
libraries = {{'torch', 'open_clip', 'mmengine', 'numpy', 'huggingface_hub'}}
print('imported', *libraries & set(sys.modules))
"""


@pytest.mark.parametrize(
    ('module', 'name', 'given'),
    [
        ('search.cli', 'main', ['index', 'crops', '--model', 'open_clip:ViT-B16/openai']),
        ('inference.loading', 'load_encoder', 'open_clip:ViT-B16/openai'),
    ],
)
def test_an_unknown_architecture_is_told_without_any_library(tmp_path, module, name, given):
    (tmp_path / 'crops').mkdir()
    code = UNKNOWN.format(module=module, name=name, given=repr(given))
    run = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        timeout=60,
    )
    assert "no model 'ViT-B16'; did you mean ViT-B-16, " in run.stderr
    assert run.stdout.split() == ['imported']


def test_a_config_is_loaded_without_the_libraries_of_parts_that_it_lacks():
    # torch 2.8 imports its compiler for MMEngine.
    code = (
        'import sys, mmengine.runner; others = set(sys.modules); '
        "from sen_toolbox.config import load_config; load_config('configs/sen/sen_vitb_cuhk.py'); "
        "unwanted = {'open_clip', 'timm', 'torchvision', 'torch._dynamo'}; "
        'print(*(unwanted & sys.modules.keys() - others))'
    )
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    assert (run.returncode, run.stdout.split()) == (0, []), run.stderr
