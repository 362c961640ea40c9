"""An exported model gives the embeddings of the original, without torch."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from PIL import Image
from sen_toolbox.search.bpe import encode, tokenize
from sen_toolbox.search.onnx_encoder import METADATA, OnnxEncoder
from sen_toolbox.search.onnx_export import describe_export, export_onnx
from sen_toolbox.search.towers import TowerEncoder

from sen_toolbox.datasets.transforms import Tokenize
from sen_toolbox.search import PersonSearch
from sen_toolbox.search.cli import main
from sen_toolbox.search.person_search import SHIPPED_MODEL

pytestmark = pytest.mark.numeric

SENTENCES = [
    'a woman in a red coat',
    'he',
    'A man with short black hair, wearing a white T-shirt and blue jeans; he carries a bag.',
    'word ' * 40,
]


@pytest.fixture(scope='module')
def towers(made):
    return TowerEncoder(made / 'm.safetensors')


@pytest.fixture(scope='module')
def exported(made, towers):
    export_onnx(towers, made / 'm.onnx')
    return made / 'm.onnx'


@pytest.fixture(scope='module')
def encoder(exported):
    return OnnxEncoder(exported)


@pytest.mark.slow
@pytest.mark.parametrize('count', [1, 2, 7])
def test_image_embeddings_agree(towers, encoder, count):
    images = np.random.default_rng(count).integers(0, 256, (count, 3, 64, 48), dtype=np.uint8)
    ours = encoder.embed_prepared(images)
    np.testing.assert_allclose(ours, towers.embed_prepared(images), atol=1e-4)
    assert ours.dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize('count', [1, 3, 4])
def test_text_embeddings_agree_at_any_length(towers, encoder, count):
    ours = encoder.embed_text(SENTENCES[-count:])
    np.testing.assert_allclose(ours, towers.embed_text(SENTENCES[-count:]), atol=1e-4)
    one_by_one = encoder.embed_text(SENTENCES[-count:], batch_size=1)
    np.testing.assert_allclose(ours, one_by_one, atol=1e-5)


@pytest.mark.slow
def test_the_padding_of_token_ids_changes_nothing(towers, encoder):
    tokens = tokenize(SENTENCES[:3], towers.context_length)
    ours = encoder.embed_tokens(tokens)
    np.testing.assert_allclose(ours, towers.embed_text(SENTENCES[:3]), atol=1e-4)
    np.testing.assert_allclose(ours[:2], encoder.embed_tokens(tokens[:2, :8]), atol=1e-5)


@pytest.mark.slow
def test_images_are_prepared_alike(towers, encoder):
    image = np.random.default_rng(0).integers(0, 256, (91, 37, 3), dtype=np.uint8)
    assert np.array_equal(encoder.prepare(image), towers.prepare(image))


@pytest.mark.slow
def test_an_index_serves_a_model_and_its_export(made, exported, tmp_path):
    search = PersonSearch(made / 'm.safetensors', index=tmp_path / 'index')
    search.index(made / 'crops')
    other = PersonSearch(exported, index=tmp_path / 'index')
    for query in (dict(text=SENTENCES[2]), dict(image=made / 'crops' / '1.png')):
        ours, theirs = other.search(**query), search.search(**query)
        assert [r.path for r in ours] == [r.path for r in theirs]
        assert [r.score for r in ours] == pytest.approx([r.score for r in theirs], abs=1e-4)
    assert other.index(made / 'crops').unchanged == 5


@pytest.mark.slow
def test_the_exported_model_runs_without_torch(made, exported, tmp_path):
    code = (
        'import sys\n'
        'from sen_toolbox.search.cli import main\n'
        'crops, index, model = sys.argv[1:]\n'
        "more = ['--index', index, '--model', model]\n"
        "assert main(['index', crops, *more]) == 0\n"
        "assert main(['query', 'a man in red', *more]) == 0\n"
        "assert not {'torch', 'open_clip', 'mmengine'} & set(sys.modules)\n"
    )
    command = [sys.executable, '-c', code, made / 'crops', tmp_path / 'index', exported]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 6


@pytest.mark.parametrize(
    'text',
    [
        *SENTENCES,
        '',
        ' ',
        "it's the man's, they'll've I'D",
        'jekyll Jekyll & hyde',
        '<start_of_text> <end_of_text> <|mask|>',
        '&lt;b&gt; &amp;amp; caf\u00e9 na\u00efve \u4eba\u4eba \U0001f9e5\U0001f9e5 1234 -- ...!?',
        'x\u00a0y\u200bz\x00',
        'a' * 300,
    ],
)
def test_tokens_are_those_of_training(text):
    theirs = Tokenize(77).transform(dict(captions=[text]))['tokens']
    assert np.array_equal(tokenize([text], 77), theirs)


def test_tokens_of_random_text_are_those_of_training():
    rng = np.random.default_rng(0)
    letters = list("aeiorstnl dgmABC'.,-19\u00e9\u4eba\u0416\u00df<&;")
    texts = [''.join(rng.choice(letters, size=60)) for _ in range(300)]
    theirs = Tokenize(40).transform(dict(captions=texts))['tokens']
    assert np.array_equal(tokenize(texts, 40), theirs)
    assert encode('red') == encode('  RED ')


@pytest.mark.slow
def test_unknown_words_are_the_same(exported, tmp_path):
    shipped = TowerEncoder(SHIPPED_MODEL)
    exported = described_as(shipped, exported, tmp_path)
    sentence = 'A zebra with a red coat, xylophone'
    assert exported.unknown_words(sentence) == shipped.unknown_words(sentence)
    assert 'zebra' in exported.unknown_words(sentence)


def described_as(towers, exported, tmp_path):
    """An export with the description of other towers, to read the list of their words from."""
    return OnnxEncoder(rewritten(exported, tmp_path, describe_export(towers, int8=False)))


def rewritten(exported, tmp_path, description):
    content = onnx.load(exported)
    onnx.helper.set_model_props(content, {METADATA: json.dumps(description)} if description else {})
    onnx.save(content, tmp_path / 'changed.onnx')
    return tmp_path / 'changed.onnx'


@pytest.mark.slow
def test_eight_bits_are_smaller_close_and_another_model(made, exported, towers):
    code = main(
        ['export', str(made / 'small.onnx'), '--int8', '--model', str(made / 'm.safetensors')]
    )
    assert code == 0
    small = OnnxEncoder(made / 'small.onnx')
    cosines = (small.embed_text(SENTENCES) * towers.embed_text(SENTENCES)).sum(axis=1)
    assert cosines.min() > 0.99
    kinds = {node.op_type for node in onnx.load(made / 'small.onnx').graph.node}
    assert 'MatMulInteger' in kinds
    assert small.model_id.fingerprint != towers.model_id.fingerprint
    assert str(small.model_id).startswith("'m (int8)'")


@pytest.mark.slow
def test_files_that_are_no_exported_models_are_refused(exported, tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no model file nowhere.onnx'):
        PersonSearch('nowhere.onnx')
    (tmp_path / 'cut.onnx').write_bytes(exported.read_bytes()[:20000])
    with pytest.raises(ValueError, match='cut.onnx is no readable ONNX file'):
        PersonSearch(tmp_path / 'cut.onnx')
    with pytest.raises(ValueError, match='was not made by sen-search export'):
        PersonSearch(rewritten(exported, tmp_path, None))
    with pytest.raises(ValueError, match='has format 2, this version reads 1'):
        PersonSearch(rewritten(exported, tmp_path, dict(format=2)))
    with pytest.raises(ValueError, match='holds weights already'):
        PersonSearch(exported, checkpoint='best.pth')
    with pytest.raises(ValueError, match="device 'cuda': onnxruntime finds no such one here"):
        PersonSearch(exported, device='cuda')


def test_a_file_of_another_kind_is_not_written(towers, tmp_path):
    with pytest.raises(ValueError, match=r'an exported model is called \*.onnx'):
        export_onnx(towers, tmp_path / 'model.pt')
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_image_query_is_read_without_torch_too(exported, tmp_path):
    Image.new('L', (30, 70), 90).save(tmp_path / 'grey.png')
    search = PersonSearch(exported, index=tmp_path / 'index')
    vector = search.embed(None, [tmp_path / 'grey.png'])
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
