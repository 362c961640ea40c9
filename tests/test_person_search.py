"""A model file or checkpoint searches a folder by words, pictures and both."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sen_toolbox.search.model_file import build_towers, describe_model, load_towers, save_model
from sen_toolbox.search.towers import TowerEncoder
from tiny import NORMALISE, clip_config
from toy_data import run_tool, write_toy_config, write_toy_data

from sen_toolbox.config import load_config
from sen_toolbox.registry import MODELS
from sen_toolbox.search import PairEncoder, PersonSearch

pytestmark = pytest.mark.numeric

CONFIG = """
default_scope = 'sen_toolbox'
model = dict(
    type='TextImageRetriever', heads={{}}, loss_weights={{}},
    backbone={backbone},
    data_preprocessor=dict(type='PairPreprocessor', **{normalise}))
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImage'), dict(type='ResizeImage', size=(64, 48)),
    dict(type='Tokenize', context_length=20), dict(type='PackPair')]))
"""
SENTENCES = ['a woman in a red coat', 'he wears blue jeans and a hat']


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A config, its checkpoint and its model file."""
    root = tmp_path_factory.mktemp('model')
    backbone = clip_config(image_size=(64, 48), pretrained='openai')
    (root / 'config.py').write_text(CONFIG.format(backbone=backbone, normalise=NORMALISE))
    torch.manual_seed(0)
    model = Config.fromfile(root / 'config.py', lazy_import=False).model
    state = MODELS.build(model).state_dict()
    state['heads.identity.classifier.weight'] = torch.zeros(3, 64)
    torch.save(dict(state_dict=state), root / 'epoch_1.pth')
    run_tool('publish_model', root / 'config.py', root / 'epoch_1.pth', root / 'm.safetensors')
    return root


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('crops')
    rng = np.random.default_rng(0)
    for number in range(7):
        pixels = rng.integers(0, 256, (9, 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((50 + number, 120)).save(root / f'{number}.png')
    return root


@pytest.fixture
def search(made, folder, tmp_path):
    search = PersonSearch(made / 'm.safetensors', index=tmp_path / 'index')
    search.index(folder)
    return search


def assert_same(results, others):
    assert [r.path for r in results] == [r.path for r in others]
    assert [r.score for r in results] == pytest.approx([r.score for r in others], abs=1e-5)


def test_a_model_file_is_its_config_and_checkpoint(made, folder, search, tmp_path):
    other = PersonSearch(
        made / 'config.py', checkpoint=made / 'epoch_1.pth', index=tmp_path / 'other'
    )
    assert search.encoder.model_id.fingerprint == other.encoder.model_id.fingerprint
    assert (search.encoder.model_id.name, other.encoder.model_id.name) == ('m', 'epoch_1')
    other.index(folder)
    assert_same(search.search(SENTENCES[0]), other.search(SENTENCES[0]))


def test_embeddings_are_those_of_the_evaluation(made, folder, search):
    state = torch.load(made / 'epoch_1.pth')['state_dict']
    del state['heads.identity.classifier.weight']
    torch.save(dict(state_dict=state), made / 'towers.pth')
    config = Config.fromfile(made / 'config.py', lazy_import=False)
    evaluation = PairEncoder(config, made / 'towers.pth', device='cpu')
    paths = sorted(folder.glob('*.png'))
    images = evaluation.embed_images(paths).numpy()
    text = evaluation.embed_text(SENTENCES).numpy()
    np.testing.assert_allclose(search.embed(None, paths), images, atol=1e-5)
    np.testing.assert_allclose(search.embed(SENTENCES), text, atol=1e-5)
    for sentence, row in zip(SENTENCES, text @ images.T, strict=True):
        results = search.search(sentence)
        assert [r.path for r in results] == [str(paths[i]) for i in np.argsort(-row)]
        assert [r.score for r in results] == pytest.approx(sorted(row, reverse=True), abs=1e-5)
        assert [r.rank for r in results] == list(range(1, 8))


def test_an_image_finds_itself_and_joins_a_sentence(folder, search):
    path = folder / '3.png'
    [result] = search.search(image=path, k=1)
    assert (result.path, result.rank) == (str(path), 1)
    assert result.score == pytest.approx(1, abs=1e-5)
    both = search.embed(SENTENCES[:1], [path])
    mean = search.embed(SENTENCES[:1]) + search.embed(None, [path])
    np.testing.assert_allclose(both, mean / np.linalg.norm(mean), atol=1e-5)
    pixels = np.array(Image.open(path))
    assert_same(search.search(SENTENCES[0], path), search.search(SENTENCES[0], pixels))


def test_a_list_of_queries_gives_a_list_of_results_each(folder, search):
    several = search.search(SENTENCES, k=3)
    assert [len(results) for results in several] == [3, 3]
    for sentence, results in zip(SENTENCES, several, strict=True):
        assert_same(results, search.search(sentence, k=3))
    pictures = search.search(image=[folder / '0.png', folder / '1.png'], k=1)
    assert [results[0].path for results in pictures] == [str(folder / f'{i}.png') for i in (0, 1)]


def test_identities_are_told_by_path(folder, search):
    search.index(folder, ids={folder / '2.png': 17})
    found = {r.path: r.identity for r in search.search(SENTENCES[0])}
    assert found.pop(str(folder / '2.png')) == '17'
    assert set(found.values()) == {None}


def test_a_picture_is_turned_upright_by_its_tag(folder, search, tmp_path):
    with Image.open(folder / '4.png') as image:
        turned = image.transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[274] = 6  # to be shown rotated by 90 degrees clockwise
        turned.save(tmp_path / 'turned.png', exif=exif)
    [result] = search.search(image=tmp_path / 'turned.png', k=1)
    assert (result.path, result.score) == (str(folder / '4.png'), pytest.approx(1, abs=1e-5))


@pytest.mark.parametrize(
    ('query', 'message'),
    [
        (dict(), 'nothing to search for'),
        (dict(text=''), 'the description is empty'),
        (dict(text=' \n'), 'the description is empty'),
        (dict(text='a man', k=0), 'k must be at least 1, got 0'),
        (
            dict(text=['a man', 'a boy'], image=['0.png']),
            'pairs take as many texts as images, got 2 and 1',
        ),
        (dict(image=np.zeros((4, 4), np.uint8)), r'RGB \(H, W, 3\) uint8, got \(4, 4\) uint8'),
    ],
)
def test_a_query_that_is_none_is_refused(search, folder, query, message, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(ValueError, match=message):
        search.search(**query)


@pytest.mark.parametrize('text', ['red ' * 2500, 'caf\udce9', '<b>\0</b>', '人' * 50, 'jekyll'])
def test_any_other_text_is_a_query(search, text):
    assert len(search.search(text, k=2)) == 2


def test_an_image_query_that_cannot_be_read_is_named(search, tmp_path):
    (tmp_path / 'bad.jpg').write_text('no image')
    with pytest.raises(ValueError, match='bad.jpg cannot be decoded'):
        search.search(image=tmp_path / 'bad.jpg')
    with pytest.raises(FileNotFoundError, match='there is no image nowhere.jpg'):
        search.search(image='nowhere.jpg')


def test_half_precision_changes_little(made, folder, search, tmp_path):
    run_tool(
        'publish_model',
        made / 'config.py',
        made / 'epoch_1.pth',
        tmp_path / 'h.safetensors',
        '--half',
    )
    assert (tmp_path / 'h.safetensors').stat().st_size < 0.51 * (
        made / 'm.safetensors'
    ).stat().st_size
    half = PersonSearch(tmp_path / 'h.safetensors', index=tmp_path / 'half')
    np.testing.assert_allclose(half.embed(SENTENCES), search.embed(SENTENCES), atol=2e-3)
    with pytest.raises(ValueError, match="was made with the model 'm' .*, not with 'h'"):
        PersonSearch(tmp_path / 'h.safetensors', index=search.gallery.folder).search('a man')


def test_computing_in_half_precision_changes_little(made, folder, search):
    half = TowerEncoder(made / 'm.safetensors', half=True)
    assert next(half.model.parameters()).dtype == torch.float16
    text = half.embed_text(SENTENCES)
    np.testing.assert_allclose(text, search.embed(SENTENCES), atol=5e-3)
    picture = half.prepare(np.array(Image.open(folder / '0.png')))
    image = half.embed_prepared(picture[None])
    np.testing.assert_allclose(image, search.embed(None, [folder / '0.png']), atol=5e-3)
    assert text.dtype == image.dtype == np.float32
    assert search.encoder.model_id == half.model_id


def test_kept_words_are_exact_and_others_are_zeros(made, tmp_path):
    words = torch.tensor([0, 320, 736, 49406, 49407])  # 'a', 'red' by what Tokenize gives below
    save_model(made / 'config.py', made / 'epoch_1.pth', tmp_path / 'few.safetensors', words=words)
    few, full = load_towers(tmp_path / 'few.safetensors')[1], load_towers(made / 'm.safetensors')[1]
    kept = torch.tensor([[49406, 320, 736, 49407, 0, 0]])
    assert torch.equal(few.embed_text(kept), full.embed_text(kept))
    rows = few.backbone.token_embedding.weight
    assert rows.any(dim=1).nonzero().flatten().tolist() == words.tolist()
    assert (tmp_path / 'few.safetensors').stat().st_size < (
        made / 'm.safetensors'
    ).stat().st_size / 3


@pytest.mark.slow
def test_words_of_the_training_captions_are_kept(tmp_path):
    config = write_toy_config(tmp_path / 'toy.py', write_toy_data(tmp_path / 'data'))
    torch.manual_seed(0)
    model = MODELS.build(load_config(config).model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'toy.pth')
    out = tmp_path / 'toy.safetensors'
    run_tool('publish_model', config, tmp_path / 'toy.pth', out, '--trained-words', '--name', 'Toy')
    description, towers = load_towers(out)
    assert description['name'] == 'Toy'
    full = load_towers(config, tmp_path / 'toy.pth')[1]
    search = PersonSearch(out, index=tmp_path / 'index')
    tokens = search.encoder._tokenize.transform(
        dict(captions=['A person with a green shirt and blue trousers, view 1.', 'a zebra'])
    )['tokens']
    known, unknown = torch.from_numpy(tokens).split(1)
    assert torch.equal(towers.embed_text(known), full.embed_text(known))
    assert not torch.equal(towers.embed_text(unknown), full.embed_text(unknown))
    assert search.encoder.unknown_words('A zebra with a green Shirt, zebra') == ['zebra']


def rewritten(made, tmp_path, change):
    """The model file with another description."""
    with safe_open(made / 'm.safetensors', framework='pt') as file:
        description = json.loads(file.metadata()['sen_toolbox'])
    change(description)
    path = tmp_path / 'changed.safetensors'
    state = load_file(made / 'm.safetensors')
    save_file(state, path, {'sen_toolbox': json.dumps(description)})
    return path


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda d: d['backbone'].update(type='os.system'), "unknown backbone 'os.system'"),
        (lambda d: d.update(format=2), 'this one is of format 2'),
        (lambda d: d.pop('mean'), 'describes'),
        (lambda d: d['backbone'].update(image_size=[128, 48]), 'does not fit the model: '),
    ],
)
def test_a_model_file_with_another_description_is_refused(made, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        PersonSearch(rewritten(made, tmp_path, change))


def test_files_that_are_no_models_are_refused(made, tmp_path):
    content = (made / 'm.safetensors').read_bytes()
    (tmp_path / 'half.safetensors').write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match='half.safetensors is no readable model file'):
        PersonSearch(tmp_path / 'half.safetensors')
    save_file({'weight': torch.zeros(1)}, tmp_path / 'plain.safetensors')
    with pytest.raises(ValueError, match='plain.safetensors holds weights only'):
        PersonSearch(tmp_path / 'plain.safetensors')
    with pytest.raises(FileNotFoundError, match='there is no model file nowhere.safetensors'):
        PersonSearch('nowhere.safetensors')
    with pytest.raises(ValueError, match='a config needs a checkpoint'):
        PersonSearch(made / 'config.py')
    with pytest.raises(ValueError, match='holds weights already'):
        PersonSearch(made / 'm.safetensors', checkpoint=made / 'epoch_1.pth')
    torch.save(dict(state_dict={'weight': torch.zeros(1)}), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='other.pth does not fit the model: it has no tensor'):
        PersonSearch(made / 'config.py', checkpoint=tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'a model file is called \*.safetensors'):
        save_model(made / 'config.py', made / 'epoch_1.pth', tmp_path / 'm.pth')


def test_a_config_with_another_pipeline_is_refused(made):
    config = Config.fromfile(made / 'config.py', lazy_import=False)
    config.test_dataloader.dataset.pipeline.insert(1, dict(type='RandomFlip'))
    with pytest.raises(ValueError, match="the test pipeline must be .* got .*'RandomFlip'"):
        describe_model(config, 'm')


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_gpu_that_is_not_there_is_an_error(made):
    with pytest.raises(ValueError, match="device 'cuda': torch finds no GPU here"):
        PersonSearch(made / 'm.safetensors', device='cuda')


def test_towers_have_no_heads_and_fetch_no_weights(made):
    description, towers = load_towers(made / 'm.safetensors')
    assert 'pretrained' not in description['backbone']
    assert build_towers(description).backbone.pretrained is None
    assert not towers.training
    assert not towers.heads


def test_the_shipped_model_searches(folder, tmp_path):
    search = PersonSearch(index=tmp_path / 'index')
    assert search.index(folder).added == 7
    assert len(search.search('A woman in a red coat and blue jeans.', k=5)) == 5
