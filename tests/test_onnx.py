"""An exported model gives the embeddings of the original; a query by words needs no torch."""

import json
import re

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from test_query_imports import ANY_MODEL, imported_by_a_query
from tiny import NORMALISE

from sen_toolbox.inference.encoder import Encoder
from sen_toolbox.inference.loading import load_encoder
from sen_toolbox.inference.onnx_encoder import METADATA, OnnxEncoder
from sen_toolbox.inference.onnx_export import describe_export, export_onnx
from sen_toolbox.inference.processor import Processor
from sen_toolbox.models.text_encoders import RecurrentTextEncoder
from sen_toolbox.registry import MODELS, TEXT_ENCODERS, TOKENIZERS
from sen_toolbox.search import PersonSearch
from sen_toolbox.search.cli import main
from sen_toolbox.text.tokenizers import VocabularyTokenizer

pytestmark = pytest.mark.numeric

SENTENCES = [
    'a woman in a red coat',
    'he',
    'A man with short black hair, wearing a white T-shirt and blue jeans; he carries a bag.',
    'word ' * 40,
]


@pytest.fixture(scope='module')
def original(made):
    return load_encoder(made / 'm.safetensors')


@pytest.fixture(scope='module')
def exported(made, original):
    export_onnx(original, made / 'm.onnx')
    return made / 'm.onnx'


@pytest.fixture(scope='module')
def encoder(exported):
    return OnnxEncoder(exported)


@pytest.mark.slow
@pytest.mark.parametrize('count', [1, 2, 7])
def test_image_embeddings_agree(original, encoder, count):
    images = np.random.default_rng(count).integers(0, 256, (count, 3, 64, 48), dtype=np.uint8)
    ours = encoder.embed_prepared(images)
    np.testing.assert_allclose(ours, original.embed_prepared(images), atol=1e-4)
    assert ours.dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize('count', [1, 3, 4])
def test_text_embeddings_agree_at_any_length(original, encoder, count):
    ours = encoder.embed_text(SENTENCES[-count:])
    np.testing.assert_allclose(ours, original.embed_text(SENTENCES[-count:]), atol=1e-4)
    one_by_one = encoder.embed_text(SENTENCES[-count:], batch_size=1)
    np.testing.assert_allclose(ours, one_by_one, atol=1e-5)


@pytest.mark.slow
def test_the_padding_of_token_ids_changes_nothing(original, encoder):
    tokens = original.processor.prepare_texts(SENTENCES[:3])
    ours = encoder.embed_tokens(tokens)
    np.testing.assert_allclose(ours, original.embed_text(SENTENCES[:3]), atol=1e-4)
    np.testing.assert_allclose(ours[:2], encoder.embed_tokens(tokens[:2].cut(8)), atol=1e-5)


@pytest.mark.slow
def test_images_are_prepared_alike(original, encoder):
    image = np.random.default_rng(0).integers(0, 256, (91, 37, 3), dtype=np.uint8)
    assert np.array_equal(encoder.prepare(image), original.prepare(image))


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
def test_a_query_by_words_loads_neither_torch_nor_mmengine(made, exported, tmp_path):
    PersonSearch(exported, index=tmp_path / 'index').index(made / 'crops')
    unwanted = [*ANY_MODEL, 'torch', 'mmengine', 'mmcv', 'cv2', 'rich', 'safetensors']
    arguments = ('--index', tmp_path / 'index', '--model', exported)
    assert imported_by_a_query([*unwanted, 'onnxruntime'], *arguments) == ['onnxruntime']


@pytest.mark.slow
def test_unknown_words_are_the_same(exported, tmp_path):
    shipped = load_encoder()
    exported = described_as(shipped, exported, tmp_path)
    sentence = 'A zebra with a red coat, xylophone'
    assert exported.unknown_words(sentence) == shipped.unknown_words(sentence)
    assert 'zebra' in exported.unknown_words(sentence)


def described_as(other, exported, tmp_path):
    """An export with the description of another model, to read the list of its words from."""
    return OnnxEncoder(rewritten(exported, tmp_path, describe_export(other, int8=False)))


def rewritten(exported, tmp_path, description):
    content = onnx.load(exported)
    onnx.helper.set_model_props(content, {METADATA: json.dumps(description)} if description else {})
    onnx.save(content, tmp_path / 'changed.onnx')
    return tmp_path / 'changed.onnx'


@pytest.mark.slow
def test_eight_bits_are_smaller_close_and_another_model(made, exported, original, caplog):
    code = main(
        ['export', str(made / 'small.onnx'), '--int8', '--model', str(made / 'm.safetensors')]
    )
    assert code == 0
    assert [record.getMessage() for record in caplog.records if record.levelname == 'WARNING'] == []
    small = OnnxEncoder(made / 'small.onnx')
    cosines = (small.embed_text(SENTENCES) * original.embed_text(SENTENCES)).sum(axis=1)
    assert cosines.min() > 0.99
    kinds = {node.op_type for node in onnx.load(made / 'small.onnx').graph.node}
    assert 'MatMulInteger' in kinds
    assert small.model_id.fingerprint != original.model_id.fingerprint
    assert str(small.model_id).startswith("'m (int8)'")


@pytest.mark.slow
def test_an_exported_model_is_not_exported_again(exported, tmp_path, capsys):
    assert main(['export', str(tmp_path / 'twice.onnx'), '--model', str(exported)]) == 1
    assert f'{exported} is an exported model: give the one' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_files_that_are_no_exported_models_are_refused(exported, tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no model file nowhere.onnx'):
        PersonSearch('nowhere.onnx')
    (tmp_path / 'cut.onnx').write_bytes(exported.read_bytes()[:20000])
    with pytest.raises(ValueError, match='cut.onnx is not a readable ONNX file'):
        PersonSearch(tmp_path / 'cut.onnx')
    with pytest.raises(ValueError, match='was not made by sen-search export'):
        PersonSearch(rewritten(exported, tmp_path, None))
    with pytest.raises(ValueError, match='has format 1, this version reads 3'):
        PersonSearch(rewritten(exported, tmp_path, dict(format=1)))
    with pytest.raises(ValueError, match='holds weights already'):
        PersonSearch(exported, checkpoint='best.pth')
    with pytest.raises(ValueError, match="device 'cuda': onnxruntime finds no such one here"):
        PersonSearch(exported, device='cuda')


def test_a_file_of_another_kind_is_not_written(original, tmp_path):
    with pytest.raises(ValueError, match=r'an exported model is called \*.onnx'):
        export_onnx(original, tmp_path / 'model.pt')
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_image_query_is_read_as_by_the_original(original, exported, tmp_path):
    Image.new('L', (30, 70), 90).save(tmp_path / 'grey.png')
    search = PersonSearch(exported, index=tmp_path / 'index')
    vector = search.embed(None, [tmp_path / 'grey.png'])
    np.testing.assert_allclose(vector, original.embed_files([tmp_path / 'grey.png']), atol=1e-4)


@pytest.mark.slow
def test_a_file_builds_nothing_but_registered_parts(original, exported, tmp_path):
    description = describe_export(original, int8=False)
    path = rewritten(exported, tmp_path, {**description, 'tokenizer': dict(type='os.getcwd')})
    with pytest.raises(ValueError, match="unknown part 'os.getcwd'"):
        OnnxEncoder(path)
    path = rewritten(exported, tmp_path, {**description, 'steps': [dict(type='os.getcwd')]})
    with pytest.raises(ValueError, match="unknown part 'os.getcwd'"):
        OnnxEncoder(path).prepare(np.zeros((4, 4, 3), np.uint8))


@pytest.mark.slow
def test_sizes_are_free_and_inputs_that_nothing_reads_are_left_out(exported):
    graph = onnx.load(exported).graph
    free = {
        given.name: [bool(size.dim_param) for size in given.type.tensor_type.shape.dim]
        for given in graph.input
    }
    assert free == dict(images=[True, False, False, False], ids=[True, True], end=[True])


ARCH = dict(
    embed_dim=16,
    quick_gelu=True,
    vision_cfg=dict(layers=1, width=32, head_width=16, patch_size=16),
    text_cfg=dict(layers=1, width=16, heads=1, context_length=12, vocab_size=40),
)
SIZE = (32, 16)


class Syllables(VocabularyTokenizer):
    """Stands for the tokenizer of a project: cuts words into pieces of two letters."""

    def __init__(self, *, pieces):
        super().__init__(context_length=12, vocabulary=pieces)

    def encode(self, text):
        return super().encode(' '.join(re.findall('..?', text.lower())))

    def describe(self):
        return dict(type='Syllables', pieces=list(self._ids))


def with_text(text, tokenizer, **heads):
    """An encoder with a small CLIP for images and another encoder of texts."""
    torch.manual_seed(0)
    model = dict(
        type='TextImageRetriever',
        backbone=dict(
            type='DualEncoder',
            image=dict(type='CLIPVisionTransformer', arch=ARCH, image_size=SIZE),
            text=text,
        ),
        heads=heads,
        loss_weights=dict.fromkeys(heads, 1.0),
        data_preprocessor=dict(type='PairPreprocessor', **NORMALISE),
    )
    steps = [
        dict(type='LoadImage'),
        dict(type='ResizeImage', size=SIZE),
        dict(type='Tokenize', tokenizer=tokenizer),
    ]
    return Encoder(MODELS.build(model), Processor(steps), name='small')


@pytest.mark.slow
def test_the_tokenizer_of_a_project_goes_into_the_file(tmp_path, monkeypatch):
    monkeypatch.setitem(TOKENIZERS.module_dict, 'Syllables', Syllables)
    tokenizer = dict(type='Syllables', pieces=['a', 'ma', 'n', 're', 'd', 'co', 'at'])
    original = with_text(dict(type='CLIPTextTransformer', arch=ARCH), tokenizer)
    export_onnx(original, tmp_path / 'm.onnx')
    encoder = OnnxEncoder(tmp_path / 'm.onnx')
    sentences = ['a man', 'a man in a red coat', 'n']
    np.testing.assert_allclose(
        encoder.embed_text(sentences), original.embed_text(sentences), atol=1e-4
    )
    assert encoder.unknown_words('A man, "she"') == ['she']
    monkeypatch.delitem(TOKENIZERS.module_dict, 'Syllables')
    with pytest.raises(ValueError, match="'Syllables'.*parts of a project must be imported before"):
        OnnxEncoder(tmp_path / 'm.onnx')


@pytest.mark.slow
def test_a_part_that_cannot_be_exported_is_named_and_nothing_written(tmp_path):
    @TEXT_ENCODERS.register_module()
    class StopsAtTheLongest(RecurrentTextEncoder):
        """Its program depends on a number in the captions."""

        def states(self, words, lengths):
            width, longest = words.shape[1], int(lengths.max())
            states = super().states(words[:, :longest], lengths)
            return torch.nn.functional.pad(states, (0, 0, 0, width - longest))

    words = dict(type='VocabularyTokenizer', context_length=12, vocabulary=['a', 'man'])
    text = dict(type='StopsAtTheLongest', tokenizer=words, word_dim=4, hidden_dim=8)
    try:
        with pytest.raises(ValueError, match="'small' cannot be .* of its text encoder StopsAt"):
            export_onnx(with_text(text, words), tmp_path / 'm.onnx')
    finally:
        del TEXT_ENCODERS.module_dict['StopsAtTheLongest']
    assert not list(tmp_path.iterdir())
