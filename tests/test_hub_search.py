"""A model of open_clip by name wherever a user names a model; an index of one from elsewhere."""

import json
import shutil

import pytest
import torch
from hub_cache import ARCHITECTURES
from mmengine.logging import MMLogger
from test_person_search import CONFIG
from tiny import NORMALISE
from toy_data import ROOT, run_tool, write_toy_data

from sen_toolbox.config import load_config
from sen_toolbox.inference.encoder import Encoder
from sen_toolbox.inference.loading import load_encoder
from sen_toolbox.registry import BACKBONES, MODELS
from sen_toolbox.search import PersonSearch
from sen_toolbox.search.cli import main

NAME, OTHER = 'open_clip:small-clip/plain', 'open_clip:small-clip/quick'
TEXT = 'a man in a red coat'
# As the toolbox's own configs have it: a rectangle, resized positions.
TOWERS = """
_base_ = '{root}/configs/clip/clip_vitb_cuhk.py'
clip_arch = 'small-clip'
image_size = (48, 16)
context_length = 12
data_root = '{data}'
num_workers = 0
"""


@pytest.fixture
def cli(hub, made, tmp_path, capsys, monkeypatch):
    """Runs a command line in a new folder; returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        # A log of its own, as a process has it, that writes to the output.
        MMLogger._instance_dict.clear()
        code = main([*map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def towers(hub, tmp_path):
    """A config of CLIP's towers on a few people."""
    data = write_toy_data(tmp_path / 'data')
    path = tmp_path / 'towers.py'
    path.write_text(TOWERS.format(root=ROOT, data=data))
    return path


def paths(out):
    return [row['path'] for row in json.loads(out)]


def test_an_index_is_searched_with_the_model_that_made_it_without_its_name(cli, made):
    assert cli('index', made / 'crops', '--model', NAME)[0] == 0
    assert f'model: {NAME!r}' in cli('info')[1]
    named = cli('query', TEXT, '--json', '--model', NAME)
    assert named[0] == 0
    assert cli('query', TEXT, '--json') == named
    assert len(paths(named[1])) == 5
    # Bringing it up to date, too.
    code, out, _ = cli('index', made / 'crops')
    assert (code, out.split(';')[0]) == (
        0,
        '0 added, 0 changed, 0 removed, 5 unchanged, 0 skipped',
    )


@pytest.mark.slow
def test_a_collection_is_searched_with_the_model_that_made_it_without_its_name(cli, made):
    pytest.importorskip('pymilvus')
    place = ('--uri', 'people.db', '--index', 'people')
    assert cli('index', made / 'crops', '--model', NAME, *place)[0] == 0
    named = cli('query', TEXT, '--json', '--model', NAME, *place)
    assert cli('query', TEXT, '--json', *place) == named
    assert len(paths(named[1])) == 5


def test_two_models_of_one_architecture_are_told_apart(cli, made):
    assert cli('index', made / 'crops', '--model', NAME)[0] == 0
    code, _, err = cli('query', TEXT, '--model', OTHER)
    assert code == 1
    assert f'was made with the model {NAME!r}' in err
    assert OTHER in err


def test_an_index_from_elsewhere_loads_no_model_that_nobody_named_here(cli, made, hub, asked):
    assert cli('index', made / 'crops', '--model', NAME)[0] == 0
    # As on another machine, which has the model in its cache.
    shutil.rmtree(hub / 'xdg')
    code, out, err = cli('query', TEXT)
    assert (code, out) == (1, '')
    assert f'was made with {NAME}, which was not used on this machine yet' in err
    assert f'--model {NAME}' in err
    assert cli('query', TEXT, '--model', NAME)[0] == 0
    assert cli('query', TEXT)[0] == 0
    assert asked == []


def test_an_index_never_starts_a_download(cli, made, hub, asked):
    assert cli('index', made / 'crops', '--model', NAME)[0] == 0
    shutil.rmtree(hub / 'models--small--clip-plain')
    code, _, err = cli('query', TEXT)
    assert code == 1
    assert asked == []
    assert f'only a name that you give yourself starts a download: --model {NAME}' in err
    # Whoever gives it starts one.
    assert cli('query', TEXT, '--model', NAME)[0] == 1
    assert ('small/clip-plain', 'open_clip_model.safetensors') in asked


def test_an_index_that_only_says_so_is_refused_by_its_fingerprint(cli, made, tmp_path):
    encoder = load_encoder(made / 'm.safetensors')
    encoder._name = NAME
    PersonSearch(encoder, index=tmp_path / 'sen_index').index(made / 'crops')
    load_encoder(NAME)
    code, _, err = cli('query', TEXT)
    assert code == 1
    assert 'was made with the model' in err


def test_a_name_of_another_form_in_an_index_is_put_into_no_command(cli, made, tmp_path):
    encoder = load_encoder(made / 'm.safetensors')
    encoder._name = 'open_clip:a/b; rm -r .'
    PersonSearch(encoder, index=tmp_path / 'sen_index').index(made / 'crops')
    code, _, err = cli('query', TEXT)
    assert code == 1
    assert '--model' not in err
    assert 'was made with the model' in err


def test_nothing_but_results_is_in_the_output_of_a_config_with_weights_by_name(cli, towers, made):
    model = ('--model', towers, '--checkpoint', NAME)
    assert cli('index', made / 'crops', *model)[1].startswith('5 added')
    assert len(paths(cli('query', TEXT, '--json', *model)[1])) == 5


def test_an_index_of_a_file_or_none_is_searched_with_the_shipped_model(cli, made):
    assert cli('index', made / 'crops')[0] == 0
    assert cli('query', TEXT)[0] == 0
    assert cli('query', TEXT, '--index', 'none')[0] == 1


def test_where_nothing_can_be_remembered_the_model_still_works(cli, made, hub, monkeypatch):
    (hub / 'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(hub / 'file'))
    assert cli('index', made / 'crops', '--model', NAME)[0] == 0
    assert cli('query', TEXT, '--model', NAME)[0] == 0
    assert cli('query', TEXT)[0] == 1


def test_a_name_of_another_form_is_told_before_anything_is_loaded(cli, made):
    code, _, err = cli('index', made / 'crops', '--model', 'open_clip:ViT-B-16')
    assert code == 1
    assert "'open_clip:ViT-B-16' is not the name of a model: write open_clip:NAME/TAG" in err


def test_a_model_by_name_has_its_weights_already(hub):
    with pytest.raises(ValueError, match='leave out the checkpoint'):
        load_encoder(NAME, 'm.pth')


def towers_state(name):
    """The towers of a config that start from a name."""
    image = dict(type='CLIPVisionTransformer', arch='small-clip', image_size=(32, 32))
    text = dict(type='CLIPTextTransformer', arch='small-clip')
    weights = dict(pretrained=name)
    backbone = dict(type='DualEncoder', image=image | weights, text=text | weights)
    model = BACKBONES.build(backbone)
    model.load_weights()
    return model.state_dict()


def test_towers_of_a_config_start_from_a_name(hub):
    whole = BACKBONES.build(dict(type='OpenCLIPPair', arch='small-clip', pretrained=NAME))
    whole.load_weights()
    theirs = whole.model.state_dict()
    ours = towers_state(NAME)
    for part, prefix in (('image', 'visual.'), ('text', '')):
        own = {k.removeprefix(f'{part}.'): v for k, v in ours.items() if k.startswith(part)}
        assert own
        for key, value in own.items():
            assert torch.equal(value, theirs[prefix + key]), key


def test_towers_with_another_activation_are_refused(hub):
    with pytest.raises(
        ValueError, match='was trained with QuickGELU and .small-clip. is the other'
    ):
        towers_state(OTHER)


@pytest.mark.slow
def test_a_config_is_evaluated_with_weights_by_name(towers, tmp_path):
    def results(*arguments):
        run_tool('test', towers, *arguments, '--work-dir', tmp_path / 'work')
        return json.loads((tmp_path / 'work' / 'results.json').read_text())

    named = results(NAME)
    as_option = results('--cfg-options', f'pretrained={NAME}')
    file = next((tmp_path / 'hub' / 'models--small--clip-plain').glob('snapshots/*/*'))
    as_file = results('--cfg-options', f'pretrained={file}')
    metrics = [found['evaluations'][0]['metrics'] for found in (named, as_option, as_file)]
    assert metrics[0] == metrics[1] == metrics[2]
    assert named['checkpoint'] == as_option['checkpoint']
    assert named['checkpoint']['path'] == NAME


def test_a_config_with_a_name_for_a_checkpoint_is_searched_published_and_encodes(
    towers, made, tmp_path
):
    crops = sorted((made / 'crops').iterdir())
    encoder = Encoder.from_config(load_config(towers), NAME)
    assert encoder.model_id.name == NAME
    expected = encoder.embed_files(crops)
    config = load_config(towers)
    config.model.backbone.image.pretrained = config.model.backbone.text.pretrained = NAME
    model = MODELS.build(config.model)
    model.load_weights()
    plain = Encoder(model, encoder.processor, name='plain')
    assert plain.embed_files(crops) == pytest.approx(expected, abs=1e-6)
    run_tool('publish_model', towers, NAME, tmp_path / 'm.safetensors')
    for given in ((towers, NAME), (tmp_path / 'm.safetensors',)):
        assert load_encoder(*given).embed_files(crops) == pytest.approx(expected, abs=1e-6)


def test_a_config_whose_heads_would_stay_random_is_refused(hub, tmp_path):
    config = load_config(ROOT / 'configs/rde/rde_vitb_cuhk.py', {'clip_arch': 'small-clip'})
    with pytest.raises(ValueError, match='has no weights for the heads'):
        Encoder.from_config(config, NAME)


def test_a_config_without_towers_of_open_clip_is_refused(hub, tmp_path):
    backbone = dict(type='DualEncoder', image=dict(type='ResNet'), text=dict(type='TwoLSTMs'))
    path = tmp_path / 'config.py'
    path.write_text(CONFIG.format(backbone=backbone, normalise=NORMALISE))
    with pytest.raises(ValueError, match='the config has no tower of it'):
        Encoder.from_config(load_config(path), NAME)


def test_rows_and_pictures_of_another_size_are_refused(hub):
    encoder = load_encoder(NAME)
    backbone = encoder.model.backbone
    with pytest.raises(ValueError, match=r'whole images of \(32, 32\)'):
        backbone.encode_image(torch.zeros(1, 3, 48, 16))
    tokens = encoder.tokens([TEXT])
    with pytest.raises(ValueError, match='rows of 12 tokens, got 5'):
        backbone.encode_text(tokens.cut(5))
    assert ARCHITECTURES['small-clip']['text_cfg']['context_length'] == 12
