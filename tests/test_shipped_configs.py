"""Shipped configs by name, in the repository and in what a wheel is made of."""

import os
import subprocess
import sys

import pytest
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
