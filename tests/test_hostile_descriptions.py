"""What a file from elsewhere says of a model neither runs, nor reads another file, nor hides."""

import ast
import copy
import inspect
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from commands import Command
from small_configs import small_config
from test_hostile_checkpoints import flipped
from tiny import NORMALISE, clip_config
from toy_data import ROOT, run_tool

from sen_toolbox import registry
from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.checkpoint.tensor_file import pack_tensors, read_tensors
from sen_toolbox.config import load_config
from sen_toolbox.inference.encoder import Encoder
from sen_toolbox.inference.loading import load_encoder
from sen_toolbox.inference.onnx_encoder import METADATA, OnnxEncoder
from sen_toolbox.inference.onnx_export import export_onnx
from sen_toolbox.inference.registered import (
    REGISTRIES,
    registered_parts,
    require_registered,
    without_weight_files,
)
from sen_toolbox.inference.seal import OPEN
from sen_toolbox.models.open_clip_config import open_clip_config
from sen_toolbox.models.text_encoders import BERT
from sen_toolbox.registry import MODELS
from sen_toolbox.search.cli import main
from sen_toolbox.text.tokens import Tokens
from tests.audit import listening
from tests.fuzz.small_models import graph, onnx_description, onnx_file

COMMAND = dict(type='os.system', command='touch harmed')


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, with a package in it that nobody asked for."""
    (tmp_path / 'evil').mkdir()
    (tmp_path / 'evil' / '__init__.py').write_text("open('harmed', 'w').close()")
    (tmp_path / 'evil' / 'registry.py').write_text('')
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend('')
    return tmp_path


def image(**changes):
    return lambda d: d['model']['backbone']['image'].update(changes)


def text(**changes):
    return lambda d: d['model']['backbone']['text'].update(changes)


def model(**changes):
    return lambda d: d['model'].update(changes)


def step(number, **changes):
    return lambda d: d['steps'][number].update(changes)


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


HOSTILE = {
    'a command for a preprocessor': model(data_preprocessor=COMMAND),
    'a command for a head': model(heads=dict(a=COMMAND), loss_weights=dict(a=1)),
    'a command for a step': lambda d: d['steps'].append(COMMAND),
    'a command for a tokenizer': step(2, tokenizer=COMMAND),
    'a command deep inside': text(arch=dict(a=[[dict(b=COMMAND)]])),
    'a scope': model(_scope_='evil'),
    'a scope of a step': step(0, _scope_='evil'),
    'a type of a scope': model(type='evil.TextImageRetriever'),
    'a type that is a list': model(type=['TextImageRetriever']),
    'a type that is a dict': model(type={}),
    'a type that is nothing': model(type=None),
    'no type': lambda d: d['model'].pop('type'),
    'a class of torch': lambda d: d['model']['backbone'].update(type='torch.nn.Linear'),
    'a model from a hub': image(arch='hf-hub:evil/model'),
    'a model from a folder': image(arch='local-dir:evil'),
    'a text tower from a hub': text(arch='hf-hub:evil/model'),
    'a tower from a hub': image(
        type='OpenCLIPImageEncoder',
        arch=dict(embed_dim=8, vision_cfg=dict(timm_model_name='hf-hub:evil/model')),
    ),
    'a tower from a folder': image(
        type='OpenCLIPImageEncoder',
        arch=dict(embed_dim=8, vision_cfg=dict(timm_model_name='local-dir:evil')),
    ),
    'a text model from a hub': text(
        arch=dict(embed_dim=8, text_cfg=dict(hf_model_name='evil/model'))
    ),
    'a vocabulary': step(
        2, tokenizer=dict(type='VocabularyTokenizer', context_length=9, vocab_file='evil')
    ),
    'another vocabulary': step(
        2, tokenizer=dict(type='WordPieceTokenizer', context_length=9, vocab_file='evil')
    ),
    'translations': lambda d: d['steps'].insert(0, dict(type='BackTranslate', file='evil')),
    'a pair from a hub': lambda d: d['model'].update(
        backbone=dict(type='OpenCLIPPair', arch='hf-hub:evil/model')
    ),
    'a pair with a text tower from a hub': lambda d: d['model'].update(
        backbone=dict(
            type='OpenCLIPPair',
            arch=dict(
                embed_dim=8, custom_text=True, vision_cfg={}, text_cfg=dict(hf_model_name='evil/m')
            ),
        )
    ),
    'a pair with a tower from a hub': lambda d: d['model'].update(
        backbone=dict(
            type='OpenCLIPPair',
            arch=dict(
                embed_dim=8, vision_cfg=dict(timm_model_name='hf-hub:evil/model'), text_cfg={}
            ),
        )
    ),
    'a tokenizer that is none': step(
        2, tokenizer=dict(type='LibraryTokenizer', context_length=9, pad=0, content='evil')
    ),
    'a tokenizer that is a file': step(
        2, tokenizer=dict(type='LibraryTokenizer', context_length=9, pad=0, content='/etc/passwd')
    ),
    'weights': image(pretrained='evil'),
    'weights by name': image(pretrained='open_clip:ViT-B-16/openai'),
    'weights of a hub': text(pretrained='hf-hub:evil/model'),
    'weights of a backbone': lambda d: d['model']['backbone'].update(pretrained='evil'),
    'weights in a list': image(pretrained=['evil']),
    'negative sizes': image(image_size=[-64, -48]),
    'sizes of text': image(image_size='ab'),
    'no size': image(image_size=[]),
    'a size of nothing': image(image_size=[0, 0]),
    'another size': step(1, size=[32, 32]),
    'fractions of pixels': step(1, size=[64.5, 48.5]),
    'a billion layers': lambda d: d['model']['backbone']['image']['arch']['vision_cfg'].update(
        layers=10**9
    ),
    'a billion layers of words': lambda d: d['model']['backbone']['text']['arch'][
        'text_cfg'
    ].update(layers=10**9),
    'a picture of all memory': image(image_size=[10**8, 10**8]),
    'words of all memory': lambda d: d['model']['backbone']['text']['arch']['text_cfg'].update(
        vocab_size=10**11
    ),
    'huge pictures': step(1, size=[10**6, 10**6]),
    'no context': step(2, tokenizer=dict(type='CLIPTokenizer', context_length=-1)),
    'context of text': step(2, tokenizer=dict(type='CLIPTokenizer', context_length='a')),
    'deviations of zero': lambda d: d['model']['data_preprocessor'].update(std=[0, 0, 0]),
    'two channels': lambda d: d['model']['data_preprocessor'].update(mean=[0, 0], std=[1, 1]),
    'steps that are no list': lambda d: d.update(steps=7),
    'steps that are lists': lambda d: d.update(steps=[[1]]),
    'no steps': lambda d: d.update(steps=[]),
    'a model that is a list': lambda d: d.update(model=[]),
    'a model that is nothing': lambda d: d.update(model=None),
    'a name that is a number': lambda d: d.update(name=7),
    'a name that is a dict': lambda d: d.update(name={}),
    'a format that is a list': lambda d: d.update(format=[d['format']]),
    'scores of text': lambda d: d.update(usual_scores=[[3, 'high']]),
    'scores that are no list': lambda d: d.update(usual_scores={}),
    'more than it describes': lambda d: d.update(more=1),
    'depth': image(arch=deep(900)),
    'a class of transform with a path': lambda d: d['steps'].insert(
        0, dict(type='TorchvisionOps', ops=[dict(type='evil.X')])
    ),
}


def refused(path, capsys, *arguments):
    """The line with which a search refuses a model file, having done nothing else."""
    Path('crops').mkdir(exist_ok=True)
    code = main(['index', 'crops', '--model', str(path), *arguments])
    out, err = capsys.readouterr()
    assert (code, out) == (1, '')
    assert err.startswith('sen-search: ')
    assert (err.count('\n'), path.name in err) == (1, True), err
    assert err.strip().isprintable()
    assert not Path('harmed').exists()
    return err


@pytest.mark.parametrize('kind', HOSTILE)
def test_a_hostile_model_file_is_refused_in_one_line(made, here, capsys, kind, monkeypatch):
    monkeypatch.setattr('socket.socket', None)
    state, metadata = read_tensors(made / 'm.safetensors')
    description = json.loads(metadata['sen_toolbox'])
    HOSTILE[kind](description)
    content = pack_tensors(state, {'sen_toolbox': json.dumps(description)})
    (here / 'bad.safetensors').write_bytes(content)
    refused(here / 'bad.safetensors', capsys)


@pytest.mark.slow
def test_a_flipped_bit_of_a_model_file_is_refused(made, here):
    content = (made / 'm.safetensors').read_bytes()
    places = np.random.default_rng(0).integers(0, len(content), 40)
    for damaged in flipped(content, places.tolist()):
        (here / 'bad.safetensors').write_bytes(damaged)
        with pytest.raises(ValueError, match='bad.safetensors is not a readable model file'):
            load_encoder(here / 'bad.safetensors')


@pytest.mark.slow
def test_the_name_of_a_digest_cannot_be_damaged_away(made, exported, here):
    for file in (made / 'm.safetensors', exported):
        content = bytearray(file.read_bytes().replace(b'sha256', b'Sha256', 1))
        content[-9] ^= 1
        (here / f'bad{file.suffix}').write_bytes(content)
        with pytest.raises(ValueError, match="an entry 'Sha256'|not have the SHA-256") as caught:
            load_encoder(here / f'bad{file.suffix}')
        assert f'bad{file.suffix}' in str(caught.value)


def test_rows_that_the_text_encoder_cannot_read_are_refused_with_the_name_of_the_file(made, here):
    state, metadata = read_tensors(made / 'm.safetensors')
    description = json.loads(metadata['sen_toolbox'])
    [tokenize] = (step for step in description['steps'] if 'tokenizer' in step)
    tokenize['tokenizer']['context_length'] = 1000
    content = pack_tensors(state, {'sen_toolbox': json.dumps(description)})
    (here / 'bad.safetensors').write_bytes(content)
    with pytest.raises(ValueError, match='bad.safetensors .*rows of [0-9]+ tokens'):
        load_encoder(here / 'bad.safetensors')


def test_the_shipped_model_has_a_digest():
    from safetensors import safe_open

    from sen_toolbox.inference.loading import SHIPPED_MODEL

    with safe_open(SHIPPED_MODEL, framework='pt') as file:
        assert len(file.metadata()['sha256']) == 64


@pytest.mark.parametrize('ids', [[0.0, 1.0], [[0]], [0, 10**6], [-1, 0], [], [0, 1, 2]])
def test_kept_words_that_number_no_rows_are_refused(made, here, ids):
    state, metadata = read_tensors(made / 'm.safetensors')
    key = 'backbone.text.token_embedding.weight'
    state |= {key: state[key][:2], 'known_words': torch.tensor(ids)}
    for given in (state, {**state, 'known_words': state['known_words'].int()}):
        if given['known_words'].dtype == torch.int32 and ids and isinstance(ids[0], float):
            continue  # these are 0 and 1, as they should be
        (here / 'bad.safetensors').write_bytes(pack_tensors(given, metadata))
        with pytest.raises(ValueError, match='bad.safetensors: known_words must number the rows'):
            load_encoder(here / 'bad.safetensors')


def test_values_of_a_description_are_plain():
    for value in (torch.ones(1), np.ones(1), np.float64(1), {1}, {1: 2}, b'x', int, object()):
        with pytest.raises(ValueError, match='a description has '):
            require_registered(dict(model=[dict(a=value)]))


def test_names_of_models_are_not_addresses(monkeypatch):
    monkeypatch.setattr('socket.socket', None)
    for name in ('hf-hub:a/b', 'local-dir:.', 'local-dir:/etc', 'a:b', ''):
        with pytest.raises(KeyError, match='open_clip has no model'):
            open_clip_config(name)


@pytest.mark.parametrize('key', ['_attn_implementation', 'attn_implementation', 'use_kernels'])
def test_bert_takes_sizes_and_nothing_that_fetches_code(key):
    with pytest.raises(ValueError, match=rf"config takes \[.*\], got \['{key}'\]"):
        BERT(config=dict(hidden_size=8, **{key: 'evil/kernels'}))


# Every part that a config of the toolbox has, and what its registry is.
CONFIGS = sorted(str(p.relative_to(ROOT)) for p in (ROOT / 'configs').glob('[!_]*/*.py'))
CONFIGS = [path for path in CONFIGS if not path.endswith('official.py')]


def parts_of(value):
    if isinstance(value, dict):
        yield from [value] if isinstance(value.get('type'), str) else []
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from parts_of(item)


@pytest.fixture(scope='module')
def opened():
    """The files that are being opened, as long as the test wants to know."""
    found = []

    def hear(event, arguments):
        if event == 'open':
            found.append(str(arguments[0]))

    with listening(hear):
        yield found


@pytest.mark.slow
def test_no_part_reads_a_file_that_its_class_does_not_name(drawn_people, opened, tmp_path):
    """Each argument of a part is tried with the path of a file."""
    marker = tmp_path / 'read_me.json'
    marker.write_text('{}')
    examples = {}
    for path in CONFIGS:
        config = small_config(path, drawn_people)
        for part in parts_of([config.model, config.train_dataloader, config.test_dataloader]):
            examples.setdefault(part['type'], part)
    known, tried, found = registered_parts(), 0, set()
    homes = {n: getattr(registry, r) for r in REGISTRIES for n in getattr(registry, r).module_dict}
    for name, part in examples.items():
        if name not in known:
            continue
        declared = getattr(known[name], 'reads_files', frozenset())
        for key in inspect.signature(known[name]).parameters:
            if key in declared or key == 'spec':
                continue
            arguments = dict(copy.deepcopy(dict(part)), **{key: str(marker)})
            opened.clear()
            try:
                homes[name].build(arguments)
            except Exception as error:  # a path is not a value of most arguments
                assert str(marker) not in opened, (name, key, error)
            tried += 1
            if str(marker) in opened:
                found.add((name, key))
    assert tried > 20
    assert found == set()


def test_weights_to_start_from_are_forgotten_wherever_they_are():
    config = dict(
        backbone=dict(
            pretrained='a',
            image=dict(type='TimmViT', pretrained='b', name='c'),
            text=[dict(type='RecurrentTextEncoder', word_vectors='d', kind='gru')],
        )
    )
    assert without_weight_files(config)['backbone'] == dict(
        pretrained=None,
        image=dict(type='TimmViT', pretrained=None, name='c'),
        text=[dict(type='RecurrentTextEncoder', word_vectors=None, kind='gru')],
    )
    assert config['backbone']['pretrained'] == 'a'


@pytest.fixture(scope='module')
def exported(made):
    export_onnx(load_encoder(made / 'm.safetensors'), made / 'm.onnx')
    return made / 'm.onnx'


def described(exported, target, change):
    """The exported file with another description."""
    content = onnx.load(exported)
    description = json.loads(content.metadata_props[0].value)
    description.pop('sha256')
    description = change(description) or description
    onnx.helper.set_model_props(content, {METADATA: json.dumps(description)})
    onnx.save(content, target)
    return target


HOSTILE_EXPORTS = {
    'a list': lambda d: [1],
    'a number': lambda d: 7,
    'nothing': lambda d: {'format': d['format']},
    'scores of text': lambda d: d.update(usual_scores=[[3, 'high']]),
    'scores that are no list': lambda d: d.update(usual_scores={}),
    'no format': lambda d: {'name': 'a'},
    'another format': lambda d: d.update(format=[9]),
    'a name that is a list': lambda d: d.update(name=[]),
    'a fingerprint that is a number': lambda d: d.update(fingerprint=1),
    'another length': lambda d: d.update(dim=7),
    'no length': lambda d: d.update(dim=-1),
    'length of text': lambda d: d.update(dim='8'),
    'huge pictures': lambda d: d.update(image_size=[10**9, 10**9]),
    'a size of text': lambda d: d.update(image_size='ab'),
    'three sizes': lambda d: d.update(image_size=[1, 2, 3]),
    'another size': lambda d: d.update(image_size=[32, 32]),
    'words that are not base64': lambda d: d.update(words='%'),
    'few words': lambda d: d.update(words='AA=='),
    'steps that are no list': lambda d: d.update(steps=7),
    'a command for a step': lambda d: d['steps'].append(COMMAND),
    'a command for a tokenizer': lambda d: d.update(tokenizer=COMMAND),
    'a tokenizer without a type': lambda d: d.update(tokenizer={}),
    'a type that is a list': lambda d: d.update(tokenizer=dict(type=[])),
    'no context': lambda d: d['tokenizer'].update(context_length=-1),
    'a fraction of a context': lambda d: d['tokenizer'].update(context_length=9.0),
    'a context without end': lambda d: d['tokenizer'].update(context_length=10**9),
    'a tokenizer that cannot split': lambda d: d.update(
        tokenizer=dict(type='VocabularyTokenizer', context_length=9, vocabulary=['a'], deleted=None)
    ),
    'more than a tokenizer takes': lambda d: d['tokenizer'].update(more=1),
    'a vocabulary': lambda d: d.update(
        tokenizer=dict(type='VocabularyTokenizer', context_length=9, vocab_file='evil')
    ),
    'another vocabulary': lambda d: d.update(
        tokenizer=dict(type='WordPieceTokenizer', context_length=9, vocab_file='/etc/passwd')
    ),
    'a scope': lambda d: d['steps'][0].update(_scope_='evil'),
}


@pytest.mark.slow
def test_hostile_metadata_of_an_export_are_refused_in_one_line(exported, here, capsys):
    for change in HOSTILE_EXPORTS.values():
        described(exported, 'bad.onnx', change)
        with pytest.raises(ValueError, match='bad.onnx') as caught:
            # Steps are looked at when a picture is, since they load torch.
            embed_something(OnnxEncoder('bad.onnx'))
        assert str(caught.value).isprintable()
        assert not Path('harmed').exists()
    refused(described(exported, here / 'bad.onnx', HOSTILE_EXPORTS['no format']), capsys)


@pytest.mark.slow
def test_text_of_an_export_that_is_no_text_is_refused(exported, here):
    described(exported, 'bad.onnx', lambda d: d)
    text = b'tokenizes_alone'
    content = Path('bad.onnx').read_bytes().replace(text, b'\xff' * len(text))
    Path('bad.onnx').write_bytes(content)
    with pytest.raises(ValueError, match='bad.onnx is not a readable ONNX file') as caught:
        OnnxEncoder('bad.onnx')
    assert str(caught.value).isprintable()


def test_what_onnxruntime_prints_is_not_shown_beside_the_refusal(here, capfd):
    content = onnx_file(graph(), onnx_description())
    Path('bad.onnx').write_bytes(content.replace(b'pixels\n', b'pi\xffels\n', 1))
    with pytest.raises(ValueError, match='bad.onnx is not a readable ONNX file'):
        OnnxEncoder('bad.onnx')
    assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize('kind', [onnx.TensorProto.STRING, onnx.TensorProto.DOUBLE])
def test_an_export_that_gives_something_else_than_vectors_is_refused(here, kind):
    content = graph()
    [last] = [node for node in content.graph.node if 'image_embedding' in node.output]
    last.output[0] = 'vectors'
    content.graph.node.append(
        onnx.helper.make_node('Cast', ['vectors'], ['image_embedding'], to=kind)
    )
    content.graph.output[0].type.tensor_type.elem_type = kind
    described = {key: v for key, v in onnx_description().items() if key != 'sha256'}
    Path('bad.onnx').write_bytes(onnx_file(content, described, sealed=False))
    encoder = OnnxEncoder('bad.onnx')
    with pytest.raises(ValueError, match=r'bad.onnx gives vectors of shape \(1, 16\)'):
        encoder.embed_prepared(np.zeros((1, 3, 32, 16), np.uint8))


def embed_something(encoder):
    encoder.embed_text(['a man'])
    encoder.embed_prepared(encoder.prepare(np.zeros((64, 64, 3), np.uint8))[None])


@pytest.mark.slow
def test_an_export_reads_no_other_file(exported, here):
    content = onnx.load(exported)
    [largest] = sorted(content.graph.initializer, key=lambda t: len(t.raw_data))[-1:]
    Path('weights.bin').write_bytes(largest.raw_data)
    largest.ClearField('raw_data')
    largest.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (('location', 'weights.bin'), ('offset', '0')):
        entry = largest.external_data.add()
        entry.key, entry.value = key, value
    Path('bad.onnx').write_bytes(content.SerializeToString())
    with pytest.raises(ValueError, match='bad.onnx is not a readable ONNX file') as caught:
        OnnxEncoder('bad.onnx')
    assert str(caught.value).isprintable()


@pytest.mark.slow
def test_a_flipped_bit_of_an_export_is_refused(exported, here):
    content = exported.read_bytes()
    assert OPEN.encode() not in content
    place = content.index(b'"sha256": "') + 20
    places = [place, *np.random.default_rng(0).integers(0, len(content), 40).tolist()]
    for damaged in flipped(content, places):
        (here / 'bad.onnx').write_bytes(damaged)
        with pytest.raises(ValueError, match='bad.onnx'):
            OnnxEncoder('bad.onnx')


@pytest.fixture
def dump(tmp_path):
    """What FiniteLossHook writes, of a small model."""
    config = dict(
        type='TextImageRetriever',
        backbone=clip_config(image_size=(64, 48), layers=1, image=dict(pretrained='openai')),
        heads=dict(identity=dict(type='IdentityHead', num_classes=3)),
        loss_weights=dict(identity=1.0),
        data_preprocessor=dict(type='PairPreprocessor', **NORMALISE),
    )
    torch.manual_seed(0)
    built = MODELS.build(copy.deepcopy(config))
    tokens = Tokens(torch.ones(2, 9).long(), torch.ones(2, 9).bool(), torch.tensor([8, 8]))
    batch = dict(
        images=torch.zeros(2, 3, 64, 48, dtype=torch.uint8),
        labels=torch.tensor([0, 1]),
        image_of=torch.tensor([0, 1]),
        tokens=vars(tokens),
    )
    return dict(
        losses={'identity.loss': 1.0}, epoch=1, iteration=2, batch_in_epoch=2, rank=0, world_size=1,
        seed=[0, 1, 1, 0], batch=batch, model=config, autocast=None, device='cpu',
        last_checkpoint=None, state_dict=built.state_dict(),
    )  # fmt: skip


def replay(dump, *options):
    torch.save(dump, 'dump.pth')
    run_tool('replay_step', 'dump.pth', '--device', 'cpu', *options)


def test_a_dump_is_run_again(here, dump, capsys):
    replay(dump)
    assert 'first module whose output is not finite: none' in capsys.readouterr().out


def test_weights_that_are_not_finite_are_found(here, dump, capsys):
    dump['state_dict']['backbone.image.proj'] *= float('nan')
    replay(dump)
    out = capsys.readouterr().out
    assert '1 weights, the first backbone.image.proj' in out
    assert 'first module whose output is not finite: backbone.image (' in out


def at(*keys, **changes):
    def change(dump):
        value = dump
        for key in keys:
            value = value[key]
        value.update(changes)

    return change


HOSTILE_DUMPS = {
    'a command': at('model', data_preprocessor=COMMAND),
    'a command for a model': at(model=COMMAND),
    'a scope': at('model', _scope_='evil'),
    'a type of a scope': at('model', 'backbone', type='evil.DualEncoder'),
    'a model from a hub': at('model', 'backbone', 'image', arch='hf-hub:evil/model'),
    'a billion layers': lambda d: d['model']['backbone']['image']['arch']['vision_cfg'].update(
        layers=10**9
    ),
    'an array in the model': at('model', heads=np.ones(3)),
    'a model that is a list': at(model=[]),
    'no model': lambda d: d.pop('model'),
    'no weights': lambda d: d.pop('state_dict'),
    'other weights': at(state_dict={'a': torch.ones(1)}),
    'any attribute of torch': at(autocast='load'),
    'autocast of a list': at(autocast=[]),
    'few seeds': at(seed=[1]),
    'negative seeds': at(seed=[-1, 0, 0, 0]),
    'seeds of text': at(seed=['a', 0, 0, 0]),
    'no tokens': lambda d: d['batch'].pop('tokens'),
    'tokens of text': at('batch', tokens='x'),
    'more tokens': at('batch', 'tokens', more=torch.ones(1)),
    'tokens out of range': at('batch', 'tokens', ids=torch.full((2, 9), 10**6)),
    'pictures of another size': at('batch', images=torch.zeros(2, 3, 9, 9, dtype=torch.uint8)),
    'no batch': at(batch=None),
    'an iteration of text': at(iteration='x'),
    'a vocabulary': at(
        'model',
        'backbone',
        text=dict(
            type='RecurrentTextEncoder',
            tokenizer=dict(type='VocabularyTokenizer', context_length=9, vocab_file='evil'),
        ),
    ),
}


@pytest.mark.parametrize('kind', HOSTILE_DUMPS)
def test_a_hostile_dump_is_refused_in_one_line(here, dump, kind, monkeypatch):
    monkeypatch.setattr('socket.socket', None)
    HOSTILE_DUMPS[kind](dump)
    with pytest.raises(ValueError, match='dump.pth') as caught:
        replay(dump)
    assert str(caught.value).isprintable()
    assert not Path('harmed').exists()


def test_a_file_that_the_user_names_is_read_for_a_dump(here, dump):
    words = dict(words=['a', 'man'], counting={})
    text = dict(
        type='RecurrentTextEncoder',
        hidden_dim=32,
        tokenizer=dict(type='VocabularyTokenizer', context_length=9, vocab_file='words.json'),
    )
    counting = dict(
        lower_case=True, deleted='!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~', separators='',
        least_count=1, order='appearance',
    )  # fmt: skip
    Path('words.json').write_text(json.dumps({**words, 'counting': counting}))
    dump['model']['backbone'] = {**dump['model']['backbone'], 'text': text}
    dump['model']['backbone']['embed_dim'] = 16
    config = without_weight_files(dump['model'])
    dump['state_dict'] = MODELS.build(copy.deepcopy(config)).state_dict()
    with pytest.raises(ValueError, match=r"no other file, this one 'words.json'.*--file FILE"):
        replay(dump)
    replay(dump, '--file', 'words.json')


def test_a_project_that_the_user_names_is_imported_for_a_dump(here, dump):
    Path('mine.py').write_text(
        'from sen_toolbox.models.heads import IdentityHead\n'
        'from sen_toolbox.registry import HEADS\n\n\n'
        '@HEADS.register_module()\nclass HeadOfMine(IdentityHead):\n    pass\n'
    )
    dump['model']['heads']['identity']['type'] = 'HeadOfMine'
    with pytest.raises(ValueError, match=r"unknown part 'HeadOfMine'.*--import MODULE"):
        replay(dump)
    replay(dump, '--import', 'mine')


@pytest.mark.slow
def test_the_tool_prints_one_line(here, dump):
    HOSTILE_DUMPS['a command'](dump)
    torch.save(dump, 'dump.pth')
    status, output = Command(here, ROOT / 'tools/replay_step.py', 'dump.pth').end()
    assert status == 1
    assert output.startswith("replay_step.py: dump.pth: unknown part 'os.system'")
    assert len(output.splitlines()) == 1


YAML = '!!python/object/apply:os.system ["touch harmed"]\n'
CONFIG_FILES = {
    'a.yaml': f'work_dir: {YAML}',
    'a.yml': f'work_dir: {YAML}',
    'base.yml': f'_base_: {YAML}',
    'of_json.json': '{"_base_": "a.yml"}',
    'of_jsons.json': '{"_base_": ["a.yaml"]}',
    'of_python.py': "_base_ = 'a.yml'\n",
    'list.yml': '[1]',
    'text.json': '"x"',
    'cut.json': '{',
    'empty.yml': '',
    'noise.yml': '\x00\x01',
}


@pytest.mark.parametrize('name', CONFIG_FILES)
def test_yaml_and_json_hold_plain_values_alone(here, name):
    for file, content in CONFIG_FILES.items():
        Path(file).write_text(content)
    with pytest.raises(ValueError, match=rf'{name} is not a readable config: ') as caught:
        load_config(name)
    assert str(caught.value).isprintable()
    assert not Path('harmed').exists()


def test_yaml_and_json_are_read(here):
    Path('a.yml').write_text('work_dir: here\noptim_wrapper: {type: OptimWrapper}\n')
    Path('b.json').write_text('{"_base_": "a.yml", "work_dir": "there"}')
    config = load_config('b.json')
    assert (config.work_dir, config.optim_wrapper.type) == ('there', 'OptimWrapper')


def test_nothing_reads_a_config_past_the_one_that_reads_it_safely():
    for folder in ('sen_toolbox', 'tools', 'benchmarks'):
        for path in (ROOT / folder).rglob('*.py'):
            if path == ROOT / 'sen_toolbox/config.py':
                continue
            names = {
                n.attr for n in ast.walk(ast.parse(path.read_text())) if type(n) is ast.Attribute
            }
            assert 'fromfile' not in names, path


def test_an_encoder_of_a_config_checks_its_checkpoint(made, here):
    config = load_config(made / 'config.py')
    state = load_checkpoint_file(made / 'm.pth')['state_dict']
    torch.save({key: value.bool() for key, value in state.items()}, 'bad.pth')
    with pytest.raises(ValueError, match=r'bad.pth does not fit .* holds torch.bool, expected'):
        Encoder.from_config(config, 'bad.pth')
