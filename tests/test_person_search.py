"""A model file or checkpoint searches a folder by words, pictures and both."""

import json

import closeness
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import NORMALISE, clip_config
from toy_data import run_tool, write_toy_config, write_toy_data

from sen_toolbox.config import load_config
from sen_toolbox.inference.encoder import Encoder
from sen_toolbox.inference.loading import load_encoder
from sen_toolbox.inference.model_file import describe_model, load_model, save_model
from sen_toolbox.registry import HEADS, MODELS
from sen_toolbox.search import PersonSearch

pytestmark = pytest.mark.numeric

CONFIG = """
default_scope = 'sen_toolbox'
model = dict(
    type='TextImageRetriever', heads={{}}, loss_weights={{}},
    backbone={backbone},
    data_preprocessor=dict(type='PairPreprocessor', **{normalise}))
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImage'), dict(type='ResizeImage', size=(64, 48)),
    dict(type='Tokenize', tokenizer=dict(type='CLIPTokenizer', context_length=20)),
    dict(type='PackPair')]))
"""
SENTENCES = ['a woman in a red coat', 'he wears blue jeans and a hat']


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A config, its checkpoint and its model file."""
    root = tmp_path_factory.mktemp('model')
    backbone = clip_config(
        image_size=(64, 48), image=dict(pretrained='openai'), text=dict(pretrained='openai')
    )
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
    evaluation = Encoder.from_config(config, made / 'towers.pth', device='cpu')
    paths = sorted(folder.glob('*.png'))
    images, text = evaluation.embed_files(paths), evaluation.embed_text(SENTENCES)
    np.testing.assert_allclose(search.embed(None, paths), images, atol=1e-5)
    np.testing.assert_allclose(search.embed(SENTENCES), text, atol=1e-5)
    for sentence, row in zip(SENTENCES, text @ images.T, strict=True):
        results = search.search(sentence)
        assert [r.path for r in results] == [str(paths[i]) for i in np.argsort(-row)]
        assert [r.score for r in results] == pytest.approx(sorted(row, reverse=True), abs=1e-5)
        assert [r.rank for r in results] == list(range(1, 8))


def test_a_built_encoder_searches_too(search):
    built = PersonSearch(search.encoder, index=search.gallery.folder)
    assert_same(built.search(SENTENCES[0]), search.search(SENTENCES[0]))


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
        (
            dict(text=['a man', 'a boy'], image='0.png'),
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


def test_a_model_file_of_others_is_not_written_over(made, tmp_path):
    (tmp_path / 'm.safetensors').write_bytes(b'weights of others')
    with pytest.raises(ValueError, match=r'm\.safetensors exists and was not written by this'):
        run_tool(
            'publish_model', made / 'config.py', made / 'epoch_1.pth', tmp_path / 'm.safetensors'
        )
    assert (tmp_path / 'm.safetensors').read_bytes() == b'weights of others'


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
    name, model, processor, _ = load_model(made / 'm.safetensors')
    half = Encoder(model, processor, name=name, half=True)
    assert next(half.model.parameters()).dtype == torch.float16
    text = half.embed_text(SENTENCES)
    np.testing.assert_allclose(text, search.embed(SENTENCES), atol=5e-3)
    picture = half.prepare(np.array(Image.open(folder / '0.png')))
    image = half.embed_prepared(picture[None])
    np.testing.assert_allclose(image, search.embed(None, [folder / '0.png']), atol=5e-3)
    assert text.dtype == image.dtype == np.float32
    assert search.encoder.model_id == half.model_id


def test_kept_words_are_exact_and_others_are_zeros(made, tmp_path):
    words = torch.tensor([0, 320, 736, 49406, 49407])  # 'a', 'red'
    save_model(made / 'config.py', made / 'epoch_1.pth', tmp_path / 'few.safetensors', words=words)
    few, full = load_encoder(tmp_path / 'few.safetensors'), load_encoder(made / 'm.safetensors')
    np.testing.assert_array_equal(few.embed_text(['a red']), full.embed_text(['a red']))
    assert few.known_tokens.nonzero()[0].tolist() == words.tolist()
    assert (tmp_path / 'few.safetensors').stat().st_size < (
        made / 'm.safetensors'
    ).stat().st_size / 3


@pytest.mark.slow
def test_words_of_the_training_captions_are_kept(tmp_path, monkeypatch):
    # The validation split of the toy has fourteen captions.
    monkeypatch.setattr('sen_toolbox.inference.usual_scores.LEAST', 14)
    config = write_toy_config(tmp_path / 'toy.py', write_toy_data(tmp_path / 'data'))
    torch.manual_seed(0)
    model = MODELS.build(load_config(config).model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'toy.pth')
    out = tmp_path / 'toy.safetensors'
    options = ('--trained-words', '--usual-scores', '--name', 'Toy')
    run_tool('publish_model', config, tmp_path / 'toy.pth', out, *options)
    search = PersonSearch(out, index=tmp_path / 'index')
    assert search.encoder.model_id.name == 'Toy'
    assert [words for words, _ in search.encoder.usual_scores] == [3, 5, 8]
    full = load_encoder(config, tmp_path / 'toy.pth')
    known = ['A person with a green shirt and blue trousers, view 1.']
    # A product of fewer words may be added in another order.
    closeness.assert_same(
        *(torch.from_numpy(found.embed_text(known)) for found in (search.encoder, full))
    )
    assert not np.array_equal(search.embed(['a zebra']), full.embed_text(['a zebra']))
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
        (lambda d: d['model']['backbone'].update(type='os.system'), "unknown part 'os.system'"),
        (lambda d: d['steps'][0].update(type='os.system'), "unknown part 'os.system'"),
        (lambda d: d['steps'][2]['tokenizer'].update(type='os.system'), "unknown part 'os.system'"),
        (lambda d: d['model'].update(_scope_='mmengine'), "names no scope, .* 'mmengine'"),
        (
            lambda d: d['model']['backbone']['text'].update(pretrained='/etc/passwd'),
            "reads no other file, this one '/etc/passwd'",
        ),
        (lambda d: d.update(format=9), 'this one is of format 9'),
        (lambda d: d.pop('steps'), 'describes'),
        (
            lambda d: d['model']['backbone']['image'].update(image_size=[128, 48]),
            'does not fit the model: ',
        ),
        (
            lambda d: d['model']['backbone'].update(colour='red'),
            "describes a model that cannot be built or run: .*'colour'",
        ),
    ],
)
def test_a_model_file_with_another_description_is_refused(made, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        PersonSearch(rewritten(made, tmp_path, change))


def test_files_that_are_no_models_are_refused(made, tmp_path):
    content = (made / 'm.safetensors').read_bytes()
    (tmp_path / 'half.safetensors').write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match='half.safetensors is not a readable model file'):
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


def test_a_config_with_a_step_that_a_query_cannot_take_is_refused(made):
    config = Config.fromfile(made / 'config.py', lazy_import=False)
    steps = config.test_dataloader.dataset.pipeline
    steps.insert(1, dict(type='MaskWords', tokenizer=steps[2].tokenizer))
    with pytest.raises(ValueError, match=r"MaskWords .* \['tokens', 'word_labels'\]"):
        describe_model(config, 'm')


def test_a_head_that_scores_candidates_is_left_out_and_an_unknown_one_is_named(made, monkeypatch):
    class Pairwise:
        def score(self, texts, images):
            raise NotImplementedError

    monkeypatch.setitem(HEADS.module_dict, 'Pairwise', Pairwise)
    config = Config.fromfile(made / 'config.py', lazy_import=False)
    config.model.heads.pairs = dict(type='Pairwise')
    assert 'pairs' not in describe_model(config, 'm')['model']['heads']
    config.model.heads.pairs = dict(type='Pairwize')
    with pytest.raises(ValueError, match=r"registered the types of the heads \['pairs'\]"):
        describe_model(config, 'm')


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_gpu_that_is_not_there_is_an_error(made):
    with pytest.raises(ValueError, match="device 'cuda': torch finds no GPU here"):
        PersonSearch(made / 'm.safetensors', device='cuda')


def test_a_model_file_has_no_heads_of_training_and_fetches_no_weights(made):
    name, model, *_ = load_model(made / 'm.safetensors')
    assert name == 'm'
    assert (model.backbone.image.pretrained, model.backbone.text.pretrained) == (None, None)
    assert not model.training
    assert not model.heads


def test_the_shipped_model_searches(folder, tmp_path):
    search = PersonSearch(index=tmp_path / 'index')
    assert search.index(folder).added == 7
    assert len(search.search('A woman in a red coat and blue jeans.', k=5)) == 5


def test_the_shipped_model_embeds_as_it_always_did():
    """The first numbers as they were when the file was made."""
    encoder = load_encoder()
    [text] = encoder.embed_text(['a woman in a red coat, with a bag'])
    pixels = np.random.default_rng(0).integers(0, 256, (3, 90, 41, 3), dtype=np.uint8)[0]
    [image] = encoder.embed_prepared(encoder.prepare(pixels)[None])
    np.testing.assert_allclose(text[:4], [-0.0459684, -0.0158484, 0.0127769, -0.0011689], atol=1e-5)
    np.testing.assert_allclose(
        image[:4], [-0.0250603, -0.0225575, 0.2255917, -0.0171781], atol=1e-5
    )
    assert encoder.unknown_words('a zebra with a red xylophone coat') == ['zebra', 'xylophone']
