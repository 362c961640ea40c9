"""The list of models to search with says what is shipped, cached and known, and nothing else."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from hub_cache import write_repo
from open_clip.pretrained import get_pretrained_cfg
from toy_data import ROOT

from sen_toolbox.hub import OPEN_CLIP
from sen_toolbox.known_models import KNOWN, MIDDLE, WHOLE, cached_models
from sen_toolbox.models.backbones import OpenCLIPPair
from sen_toolbox.search.cli import main

every = pytest.mark.parametrize('model', KNOWN, ids=[model.name for model in KNOWN])


@every
def test_a_known_model_is_where_open_clip_has_it_and_sees_what_it_says(model):
    arch, tag = model.name.removeprefix(OPEN_CLIP).split('/')
    entry = get_pretrained_cfg(arch, tag)
    assert entry['hf_hub'] == f'{model.repo}/'
    assert model.view == {'shortest': MIDDLE, 'squash': WHOLE}[entry['resize_mode']]


@every
def test_a_known_model_has_the_parameters_that_are_told(model):
    with torch.device('meta'):
        built = OpenCLIPPair(arch=model.name.removeprefix(OPEN_CLIP).split('/')[0])
    count = sum(parameter.numel() for parameter in built.parameters())
    assert round(count / 1e6) == model.parameters


def test_models_in_the_cache_have_the_names_that_read_them(hub):
    shutil.rmtree(hub / 'models--small--repo')
    known = KNOWN[0]
    write_repo(hub, known.repo, {'open_clip_model.safetensors': b'12345'})
    write_repo(
        hub, 'my/model', {'open_clip_pytorch_model.bin': b'123', 'open_clip_config.json': b''}
    )
    # Neither is one of open_clip.
    write_repo(hub, 'other/bert', {'model.safetensors': b'1'})
    write_repo(hub, 'other/config', {'open_clip_config.json': b''})
    found = cached_models()
    assert found[known.name] == 5
    assert found['hf-hub:my/model'] == 3
    small = {name for name in found if 'small' in name}
    assert small == {
        f'open_clip:small-{name}'
        for name in ('clip/quick', 'clip/plain', 'siglip/webli', 'coca/laion')
    }
    assert len(found) == 2 + len(small)


def test_the_command_lists_them(hub, capsys):
    assert main(['models']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'shipped, used without --model:'
    assert lines[1].startswith('  tiny  6.3 MB')
    assert f'in the cache {hub}:' in lines
    assert any(line.startswith('  open_clip:small-clip/plain ') for line in lines)
    for model in KNOWN:
        [line] = [line for line in lines if line.split()[0] == model.name]
        assert line.split()[1] == str(model.parameters)


def test_the_list_needs_neither_torch_nor_open_clip(tmp_path):
    write_repo(tmp_path, KNOWN[0].repo, {'open_clip_model.safetensors': b'12345'})
    code = (
        'import sys; from sen_toolbox.search.cli import main; main(["models"]); '
        'print({"torch", "open_clip", "mmengine", "faiss"} & set(sys.modules))'
    )
    run = subprocess.run(
        [sys.executable, '-c', code],
        cwd=ROOT,
        env={**os.environ, 'HF_HUB_CACHE': str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert KNOWN[0].name in run.stdout.split('known to fit')[0]
    assert run.stdout.endswith('set()\n')
