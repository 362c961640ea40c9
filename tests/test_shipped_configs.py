"""Shipped configs by name, in the repository and in what a wheel is made of."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from toy_data import ROOT

import sen_toolbox
from sen_toolbox import shipped_configs
from sen_toolbox.config import load_config


@pytest.mark.parametrize('name', ['sen/sen_vitb_cuhk', 'sen_vitb_cuhk', 'sen_vitb_cuhk.py'])
def test_a_config_is_found_by_its_name_from_any_folder(name, tmp_path, monkeypatch):
    expected = load_config(ROOT / 'configs/sen/sen_vitb_cuhk.py', {'batch_size': 7})
    monkeypatch.chdir(tmp_path)
    config = sen_toolbox.get_config(name, {'batch_size': 7})
    assert dict(config) == dict(expected)


def test_every_config_has_a_name_of_its_own():
    names = shipped_configs.config_names()
    assert {'sen/sen_vitb_cuhk', 'clip/clip_tiny_synthetic'} <= set(names)
    assert not any('_base_' in name or 'official' in name for name in names)
    assert len({name.rpartition('/')[2] for name in names}) == len(names)


def test_an_unknown_name_tells_which_are_alike():
    with pytest.raises(ValueError, match="no config 'sen_vitb_cuk': did you mean .*sen_vitb_cuhk"):
        sen_toolbox.get_config('sen_vitb_cuk')
    with pytest.raises(ValueError, match='there are .*irra/irra_vitb_icfg'):
        sen_toolbox.get_config('?')


def test_an_unknown_name_of_the_package_is_an_error_as_usual():
    with pytest.raises(AttributeError, match="'sen_toolbox' has no attribute 'nothing'"):
        _ = sen_toolbox.nothing
    assert 'get_config' in dir(sen_toolbox)


def test_models_are_listed_by_a_pattern():
    assert {'sen_vitb_cuhk', 'sen_vitl_rstp'} < set(sen_toolbox.list_models('sen*'))
    assert all(name.startswith('sen_') for name in sen_toolbox.list_models('sen*'))
    clip = sen_toolbox.list_models('clip/*')
    assert 'clip_vitb_cuhk' in clip
    assert not any(name.startswith('tbps') for name in clip)
    assert len(sen_toolbox.list_models()) == len(shipped_configs.config_names())
    assert sen_toolbox.list_models('nothing*') == []


@pytest.fixture(scope='module')
def tiny_checkpoint(tmp_path_factory):
    """Weights of the tiny SEN with the identities of its config."""
    torch.manual_seed(1)
    state = sen_toolbox.get_model('sen_tiny_synthetic').state_dict()
    path = tmp_path_factory.mktemp('checkpoint') / 'epoch_1.pth'
    torch.save(dict(state_dict=state), path)
    return path, state


def test_a_model_is_built_by_its_name_with_its_checkpoint(tiny_checkpoint):
    path, state = tiny_checkpoint
    model = sen_toolbox.get_model('sen_tiny_synthetic', path)
    assert not model.training
    found = model.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)
    # Without one its weights are random ones.
    other = sen_toolbox.get_model('sen/sen_tiny_synthetic').state_dict()
    assert not torch.equal(
        other['backbone.image.conv1.weight'], state['backbone.image.conv1.weight']
    )


def test_a_model_of_another_config_is_refused(tiny_checkpoint):
    path, _ = tiny_checkpoint
    with pytest.raises(ValueError, match='does not fit the model: .*classifier'):
        sen_toolbox.get_model('sen_tiny_synthetic', path, overrides={'num_classes': 3})
    with pytest.raises(FileNotFoundError, match='no checkpoint none.pth'):
        sen_toolbox.get_model('sen_tiny_synthetic', 'none.pth')
    with pytest.raises(ValueError, match='did you mean .*sen_tiny_synthetic'):
        sen_toolbox.get_model('sen_tiny_syntetic')


def test_a_model_by_name_gives_its_weights_to_the_towers(hub):
    overrides = {'clip_arch': 'small-clip', 'context_length': 12}
    model = sen_toolbox.get_model(
        'clip_vitb_cuhk', 'open_clip:small-clip/plain', overrides=overrides
    )
    [file] = (hub / 'models--small--clip-plain').glob('snapshots/*/*')
    key = 'token_embedding.weight'
    assert torch.equal(model.state_dict()[f'backbone.text.{key}'], load_file(file)[key])


def test_the_list_of_models_needs_no_torch():
    code = (
        'import sys, sen_toolbox; assert sen_toolbox.list_models("sen*"); '
        'print({"torch", "open_clip"} & set(sys.modules))'
    )
    run = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout == 'set()\n'


@pytest.mark.slow
def test_a_built_package_holds_the_configs_with_their_bases(tmp_path):
    built = tmp_path / 'built'
    command = ['setup.py', '-q', 'build_py', '--build-lib', str(built)]
    egg = ['egg_info', '--egg-base', str(tmp_path)]
    subprocess.run([sys.executable, *command[:2], *egg, *command[2:]], cwd=ROOT, check=True)
    code = "import sen_toolbox; print(sen_toolbox.get_config('sen/sen_vitb_cuhk').filename)"
    environment = {**os.environ, 'PYTHONPATH': str(built)}
    run = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    found = built / 'sen_toolbox' / '.mim' / 'configs' / 'sen' / 'sen_vitb_cuhk.py'
    assert run.stdout.strip() == str(found), run.stderr
    assert (built / 'sen_toolbox' / '.mim' / 'model-index.yml').is_file()
