"""Models of open_clip by name: read as open_clip reads them, and only where a user names them."""

import argparse
import shutil
import sys

import numpy as np
import open_clip
import pytest
import torch
from hub_cache import (
    pickled,
    write_repo,
)
from huggingface_hub.errors import EntryNotFoundError
from PIL import Image
from safetensors.torch import load_file

from sen_toolbox.hub import check_architecture, find_model
from sen_toolbox.inference.loading import load_encoder
from sen_toolbox.search.commands.checks import check_model

SENTENCES = [
    'a man',
    'A woman, in a RED coat and blue jeans!',
    'a man in a red coat and a woman in blue jeans and a red coat and a man',
    'red_coats &amp; blue    jeans </s> [SEP]',
]


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    """Wide, tall, square and small pictures."""
    root, rng = tmp_path_factory.mktemp('pictures'), np.random.default_rng(0)
    for number, size in enumerate([(90, 40), (41, 120), (32, 32), (7, 9)]):
        pixels = rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f'{number}.png')
    return sorted(root.iterdir())


def of_open_clip(name, tag=None, **options):
    """Embeddings of the same pictures and sentences by open_clip's own functions."""

    def embed(pictures, sentences):
        model, _, prepare = open_clip.create_model_and_transforms(name, tag, **options)
        pixels = torch.stack([prepare(Image.open(path)) for path in pictures])
        tokens = open_clip.get_tokenizer(name)(sentences)
        with torch.inference_mode():
            found = model.eval().encode_image(pixels), model.encode_text(tokens)
        return [torch.nn.functional.normalize(rows, dim=1).numpy() for rows in found]

    return embed


THEIRS = {
    'open_clip:small-clip/quick': of_open_clip('small-clip', 'quick', force_quick_gelu=True),
    'open_clip:small-clip/plain': of_open_clip('small-clip', 'plain'),
    'open_clip:small-siglip/webli': of_open_clip('small-siglip', 'webli'),
    'open_clip:small-clipa/datacomp1b': of_open_clip('small-clipa', 'datacomp1b'),
    'open_clip:small-coca/laion': of_open_clip('small-coca', 'laion'),
    'hf-hub:small/repo': of_open_clip('hf-hub:small/repo'),
}


@pytest.mark.numeric
@pytest.mark.parametrize('name', THEIRS)
def test_a_model_by_name_embeds_as_open_clip_does(name, hub, pictures):
    encoder = load_encoder(name)
    images, texts = THEIRS[name](pictures, SENTENCES)
    assert encoder.embed_files(pictures) == pytest.approx(images, abs=2e-6)
    assert encoder.embed_text(SENTENCES) == pytest.approx(texts, abs=2e-6)
    # Neither is the same whatever goes in.
    assert np.ptp(images, axis=0).max() > 0.01
    assert np.ptp(texts, axis=0).max() > 0.01
    assert encoder.model_id.name == name


def refused(name, **options):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        load_encoder(name, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ('name', 'said'),
    [
        ('open_clip:ViT-B16/openai', r'no model .ViT-B16. .* did you mean .*ViT-B-16'),
        ('open_clip:vit-b-16/openai', r'did you mean ViT-B-16,'),
        (
            'open_clip:EVA02-B-16/openai',
            r'no weights .openai. of EVA02-B-16; there are merged2b_s8b',
        ),
        ('open_clip:ViT-B-16/laion2b_s34b', r'did you mean laion2b_s34b_b88k'),
    ],
)
def test_an_unknown_name_tells_what_is_alike(name, said, asked):
    with pytest.raises(ValueError, match=said):
        load_encoder(name)
    assert asked == []


def test_an_architecture_is_unknown_before_open_clip_is_imported_only_if_it_is_then(monkeypatch):
    with_weights = {arch for arch, _ in open_clip.list_pretrained()}
    monkeypatch.delitem(sys.modules, 'open_clip')
    for arch in with_weights:
        check_architecture(f'open_clip:{arch}/openai')
    for unknown in ('ViT-B16', 'vit-b-16'):
        with pytest.raises(ValueError, match='did you mean ViT-B-16') as caught:
            check_architecture(f'open_clip:{unknown}/openai')
        advised = str(caught.value).partition('mean ')[2].removesuffix('?').split(', ')
        assert len(advised) > 1 and with_weights.issuperset(advised)


def test_a_module_that_is_still_to_be_imported_may_add_an_architecture(monkeypatch):
    monkeypatch.delitem(sys.modules, 'open_clip')
    args = argparse.Namespace(model='open_clip:mine/own', checkpoint=None, imports=[])
    with pytest.raises(ValueError, match="open_clip has no model 'mine'"):
        check_model(args)
    args.imports.append('projects.mine')
    check_model(args)


@pytest.mark.parametrize(
    'name', ['open_clip:ViT-B-16', 'hf-hub:model', 'hf-hub:../../etc/passwd', 'open_clip:a/b/c']
)
def test_what_is_no_name_is_told_with_the_form_of_one(name, asked):
    assert 'write open_clip:NAME/TAG' in refused(name)
    assert asked == []


def test_a_model_in_the_cache_does_not_ask_the_network(hub, asked):
    for name in THEIRS:
        load_encoder(name)
    assert asked == []


def test_a_tag_is_written_as_open_clip_lets_it(hub):
    assert find_model('open_clip:small-clipa/DATACOMP1B').name == 'open_clip:small-clipa/datacomp1b'


def test_a_missing_file_is_downloaded_once(hub, monkeypatch):
    repo, file = 'small/clip', 'open_clip_model.safetensors'
    folder = hub / 'models--small--clip'
    content = next(folder.glob('snapshots/*/*')).read_bytes()
    shutil.rmtree(folder)
    calls = []

    def download(repo, file, **_):
        calls.append((repo, file))
        return str(write_repo(hub, repo, {file: content}) / file)

    monkeypatch.setattr('huggingface_hub.hf_hub_download', download)
    load_encoder('open_clip:small-clip/quick')
    load_encoder('open_clip:small-clip/quick')
    assert calls == [(repo, file)]


def test_a_repository_without_the_safe_file_gives_the_other(hub, monkeypatch):
    (path,) = (hub / 'models--small--clip').glob('snapshots/*/*')
    state = load_file(path)
    path.unlink()
    calls = []

    def download(repo, file, **_):
        calls.append(file)
        if file.endswith('.safetensors'):
            raise EntryNotFoundError('404')
        return str(write_repo(hub, repo, {file: pickled(state)}) / file)

    monkeypatch.setattr('huggingface_hub.hf_hub_download', download)
    found = load_encoder('open_clip:small-clip/quick').model.backbone.model.state_dict()
    assert all(torch.equal(found[key], state[key]) for key in found)
    assert calls == ['open_clip_model.safetensors', 'open_clip_pytorch_model.bin']


def test_without_network_the_missing_file_is_told_and_how_to_get_it(hub, asked):
    shutil.rmtree(hub / 'models--small--clip')
    said = refused('open_clip:small-clip/quick')
    assert 'open_clip_model.safetensors' in said
    assert str(hub) in said
    assert 'no network' in said
    assert '"hf download small/clip open_clip_model.safetensors"' in said
    assert 'models--small--clip' in said
    # It is not asked again for the other file.
    assert asked == [('small/clip', 'open_clip_model.safetensors')]


def test_a_tokenizer_is_downloaded_once_and_read_without_what_its_repository_lacks(
    hub, monkeypatch
):
    expected = load_encoder('open_clip:small-siglip/webli').embed_text(SENTENCES)
    folder = hub / 'models--small--words'
    content = {path.name: path.read_bytes() for path in folder.glob('snapshots/*/*')}
    # As those of SigLIP, which transformers asks for all the same.
    del content['config.json']
    shutil.rmtree(folder)
    calls = []

    def download(repo, file, **_):
        calls.append(file)
        if file not in content:
            raise EntryNotFoundError('404')
        return str(write_repo(hub, repo, {file: content[file]}) / file)

    monkeypatch.setattr('huggingface_hub.hf_hub_download', download)
    for _ in range(2):
        found = load_encoder('open_clip:small-siglip/webli').embed_text(SENTENCES)
        np.testing.assert_array_equal(found, expected)
    lacks = ['config.json', 'special_tokens_map.json']
    assert calls == ['tokenizer.json', *lacks, 'tokenizer_config.json']


def test_a_missing_tokenizer_is_told_and_how_to_get_it(hub, asked):
    (tokenizer,) = hub.glob('models--small--words/snapshots/*/tokenizer.json')
    tokenizer.unlink()
    said = refused('open_clip:small-siglip/webli')
    assert 'open_clip:small-siglip/webli: tokenizer.json of small/words is not in the cache' in said
    assert '"hf download small/words tokenizer.json"' in said
    asked.clear()
    assert 'starts a download' in refused('open_clip:small-siglip/webli', download=False)
    assert asked == []


def test_what_may_not_download_says_so(hub, asked):
    shutil.rmtree(hub / 'models--small--clip')
    said = refused('open_clip:small-clip/quick', download=False)
    assert '--model open_clip:small-clip/quick' in said
    assert asked == []
