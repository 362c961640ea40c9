"""Checkpoints of others: damaged, lying or hostile, each is one line that names the file."""

import io
import itertools
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from commands import Command
from mmengine.runner.checkpoint import save_checkpoint
from safetensors.torch import save_file
from torch import nn
from toy_data import ROOT, run_tool

from sen_toolbox.checkpoint import check_keys
from sen_toolbox.checkpoint.keys import check_fit
from sen_toolbox.checkpoint.loading import TorchScriptError, load_checkpoint_file
from sen_toolbox.checkpoint.tensor_file import pack_tensors, read_tensors
from sen_toolbox.inference.loading import load_encoder
from sen_toolbox.models.pretrained import load_weights, read_weights
from sen_toolbox.models.weights import read_tower


class Harm:
    """Pickles as a call of os.system, which is what most malicious pickles hold."""

    def __reduce__(self):
        return os.system, ('touch harmed',)


class Evaluates:
    def __reduce__(self):
        return eval, ("open('harmed', 'w')",)


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


STATE = model().state_dict()
FIRST = '0.weight'


def each(change):
    return dict(state_dict={key: change(value) for key, value in STATE.items()})


def one(value):
    return dict(state_dict={**STATE, FIRST: value})


NO_CHECKPOINTS = {
    'a list': [1, 2],
    'nothing': None,
    'a number': 7,
    'a text': 'weights',
    'a tensor': torch.ones(3),
    'numbered tensors': {1: torch.ones(2)},
    'numbered weights': dict(state_dict={1: torch.ones(2)}),
    'one numbered weight': dict(state_dict={**STATE, 5: torch.ones(2)}),
    'a list of weights': dict(state_dict=[1]),
    'no weights': dict(state_dict=None),
    'a text for weights': dict(state_dict='x'),
    'dicts of weights': dict(state_dict=dict(a=dict(b=torch.ones(2)))),
    'a list for meta': dict(state_dict=STATE, meta=[1]),
    'nothing for meta': dict(state_dict=STATE, meta=None),
    'arrays of NumPy': each(lambda v: v.numpy()),
    'texts': each(lambda v: 'x'),
    'numbers': each(lambda v: 1.0),
    'sparse tensors': each(lambda v: v.to_sparse()),
    'tensors without values': each(lambda v: v.to('meta')),
    'one sparse tensor': one(STATE[FIRST].to_sparse()),
    'one quantised tensor': one(torch.quantize_per_tensor(STATE[FIRST], 0.1, 0, torch.qint8)),
    'one nested tensor': one(torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])),
    'a shape without end': one(torch.zeros(1).half().expand(10**9, 10**6)),
    'averaged texts': dict(state_dict=STATE, ema_state_dict={'a': 'x'}),
    'a command': dict(state_dict=Harm()),
    'an expression': dict(state_dict=STATE, more=Evaluates()),
}
OTHER_VALUES = {
    'bool': each(lambda v: v.bool()),
    'int8': each(lambda v: v.to(torch.int8)),
    'complex': each(lambda v: v.to(torch.complex64)),
    'float8': each(lambda v: v.to(torch.float8_e4m3fn) if v.is_floating_point() else v),
    'floats for a counter': each(lambda v: v.float()),
    'not a number': one(STATE[FIRST] * float('nan')),
    'infinite': one(STATE[FIRST] / 0),
    'a scalar': one(torch.tensor(1.0)),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(read, file='bad.pth'):
    """The one line with which a file is refused, harmless to a terminal and to its reader."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011, callers compare the text
        read(file)
    message = str(caught.value)
    assert file in message
    assert message.isprintable()
    assert 'weights_only' not in message
    assert 'add_safe_globals' not in message
    assert not os.path.exists('harmed')
    return message


@pytest.mark.parametrize('kind', NO_CHECKPOINTS)
def test_what_is_not_a_checkpoint_is_refused_when_it_is_read(here, kind):
    torch.save(NO_CHECKPOINTS[kind], 'bad.pth')
    refusal(load_checkpoint_file)


@pytest.mark.parametrize('kind', OTHER_VALUES)
def test_values_of_another_kind_do_not_fit_a_model(here, kind):
    torch.save(OTHER_VALUES[kind], 'bad.pth')
    state = load_checkpoint_file('bad.pth')['state_dict']
    refusal(lambda file: check_keys(model(), state, file))


def test_half_precision_and_other_whole_numbers_fit(here):
    torch.save(each(lambda v: v.half() if v.is_floating_point() else v.int()), 'good.pth')
    check_keys(model(), load_checkpoint_file('good.pth')['state_dict'], 'good.pth')


def test_a_step_that_is_run_again_may_have_weights_that_are_not_finite():
    check_fit(model(), one(STATE[FIRST] * float('nan'))['state_dict'], 'dump.pth')


@pytest.mark.parametrize('kind', [*NO_CHECKPOINTS, *OTHER_VALUES])
def test_weights_to_start_from_are_refused_alike(here, kind):
    content = {**NO_CHECKPOINTS, **OTHER_VALUES}[kind]
    under = content if not isinstance(content, dict) else content.get('state_dict', content)
    for saved in (content, dict(model=under)) if under is not STATE else (content,):
        torch.save(saved, 'bad.pth')
        refusal(lambda file: load_weights(model(), read_weights(file, 'image')[0], file))


def test_bools_for_a_tower_do_not_become_numbers(here):
    torch.save(dict(visual={}, **{'visual.proj': torch.ones(2, 2, dtype=torch.bool)}), 'bool.pth')
    state, _ = read_tower('bool.pth', 'image')
    assert state['proj'].dtype == torch.bool


@pytest.mark.parametrize('kind', ['a shape without end', 'one sparse tensor'])
def test_a_tower_is_looked_at_before_it_is_made_float32(here, kind):
    content = {f'visual.{key}': v for key, v in NO_CHECKPOINTS[kind]['state_dict'].items()}
    for saved in (dict(state_dict=content), dict(model=content), content):
        torch.save(saved, 'bad.pth')
        refusal(lambda file: read_tower(file, 'image'))


def test_a_lying_archive_is_one_line(here):
    buffer = io.BytesIO()
    torch.save(dict(state_dict=STATE), buffer)

    def packed(change):
        target = io.BytesIO()
        with zipfile.ZipFile(buffer) as given, zipfile.ZipFile(target, 'w') as file:
            for name in given.namelist():
                if (content := change(name, given.read(name))) is not None:
                    file.writestr(name, content)
        return target.getvalue()

    for content in (
        packed(lambda name, data: None if '/data/0' in name else data),
        packed(lambda name, data: data[:4] if '/data/' in name else data),
        packed(lambda name, data: None if name.endswith('data.pkl') else data),
        packed(lambda name, data: b'\x80\x02}.' if name.endswith('version') else data[:-1]),
        b'PK\x05\x06' + bytes(18),
        b'\x80\x02' + b'(' * 10**5 + b't' * 10**5 + b'.',
        pickle.dumps(Harm()),
        b'',
        b'<html>',
        bytes(500),
    ):
        (here / 'bad.pth').write_bytes(content)
        refusal(load_checkpoint_file)


def test_a_lying_header_of_safetensors_is_one_line(here):
    def tensor(**changes):
        return dict(dtype='F32', shape=[1], data_offsets=[0, 4]) | changes

    headers = [
        dict(a=tensor(shape=[10**6], data_offsets=[0, 4 * 10**6])),
        dict(a=tensor(shape=[2**63 - 1, 9])),
        dict(a=tensor(shape=[-1])),
        dict(a=tensor(dtype='Q9')),
        dict(__metadata__=dict(a=1), a=tensor()),
        dict(__metadata__=dict(sha256='0' * 64), a=tensor()),
    ]
    contents = [repr(header).replace("'", '"').encode() for header in headers]
    files = [struct.pack('<Q', len(text)) + text + bytes(4) for text in contents]
    for content in (*files, struct.pack('<Q', 2**60) + b'{}', b'', b'text'):
        (here / 'bad.safetensors').write_bytes(content)
        refusal(load_checkpoint_file, 'bad.safetensors')


def test_a_torchscript_archive_is_refused_before_torch_looks_at_it(here):
    with zipfile.ZipFile('script.pt', 'w') as file:
        file.writestr('archive/constants.pkl', b'\x80\x02).')
        file.writestr('archive/data.pkl', b'\x80\x02}.')
    with pytest.raises(TorchScriptError):
        load_checkpoint_file('script.pt')
    assert 'save the state_dict of its model' in refusal(load_checkpoint_file, 'script.pt')


def test_names_in_a_file_do_not_reach_the_terminal(here):
    torch.save(dict(state_dict={'a\x1b[2J\nb': 'x', **STATE}), 'bad.pth')
    assert r'a\x1b[2J b is a str' in refusal(load_checkpoint_file)
    state = {**STATE, 'a\x1b[2J\nb': torch.ones(1)}
    assert r'unexpected a\x1b[2J b' in refusal(lambda file: check_keys(model(), state, file))


def test_python_in_the_meta_of_a_checkpoint_is_left_out(here):
    # MMEngine runs it when a training resumes.
    meta = dict(epoch=1, iter=2, config="open('harmed', 'w').close()")
    torch.save(dict(state_dict=STATE, meta=meta), 'bad.pth')
    assert load_checkpoint_file('bad.pth')['meta'] == dict(epoch=1, iter=2)


def flipped(content, places):
    """The content with one bit changed at each of some places."""
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        yield bytes(changed)


def values_of(file):
    return load_checkpoint_file(file)['state_dict']


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_a_flipped_bit_is_refused_or_changes_no_value(here, suffix):
    path = here / f'flipped.{suffix}'
    if suffix == 'pth':
        save_checkpoint(dict(state_dict=STATE, meta=dict(epoch=3)), str(path))
    else:
        path.write_bytes(pack_tensors(STATE, dict(name='a')))
    content = path.read_bytes()
    refused = 0
    for damaged in flipped(content, range(0, len(content), 29)):
        path.write_bytes(damaged)
        try:
            found = values_of(path)
        except ValueError as error:
            assert path.name in str(error)
            refused += 1
        else:
            assert found.keys() == STATE.keys()
            assert all(torch.equal(found[key], STATE[key]) for key in STATE)
    assert refused > 10


def test_a_record_that_is_called_a_folder_is_refused(here):
    """torch would fill the tensor with whatever is in the memory."""
    torch.save(dict(state_dict=STATE), 'bad.pth')
    content = bytearray((here / 'bad.pth').read_bytes())
    # In the directory at the end a name follows 46 bytes, of which four are the attributes.
    entry = content.rindex(b'bad/data/1PK') - 46
    assert content[entry : entry + 4] == b'PK\x01\x02'
    content[entry + 38] |= 0x10
    (here / 'bad.pth').write_bytes(content)
    assert 'its record bad/data/1 is called a folder' in refusal(load_checkpoint_file)


def test_two_records_of_one_name_are_refused(here):
    torch.save(dict(state_dict=STATE), 'bad.pth')
    with zipfile.ZipFile('bad.pth', 'a') as file, pytest.warns(UserWarning, match='Duplicate'):
        file.writestr('bad/data/1', bytes(16))
    assert 'two records of one name' in refusal(load_checkpoint_file)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.int64, torch.bool])
@pytest.mark.parametrize('shape', [(), (0, 3), (2, 3)])
def test_tensors_with_a_digest_come_back(here, dtype, shape):
    state = dict(b=torch.ones(shape).to(dtype), a=torch.arange(6).view(2, 3).T)
    (here / 'x.safetensors').write_bytes(pack_tensors(state, dict(kind='a', more='b')))
    found, metadata = read_tensors('x.safetensors')
    assert metadata == dict(kind='a', more='b')
    assert {key: value.dtype for key, value in found.items()} == dict(a=torch.int64, b=dtype)
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_other_tensors_or_texts_under_the_same_digest_are_refused(here):
    first = pack_tensors(dict(a=torch.zeros(2)), dict(kind='a'))
    damages = [
        (b'"kind":"a"', b'"kind":"b"'),
        (b'"F32"', b'"I32"'),
        (b'"a":{', b'"b":{'),
        (b'"sha256"', b'"sha25v"'),
    ]
    for old, new in damages:
        assert first.count(old) == 1
        (here / 'x.safetensors').write_bytes(first.replace(old, new))
        message = refusal(load_checkpoint_file, 'x.safetensors')
        assert 'does not have the SHA-256 with which it was written' in message


def test_safetensors_of_others_need_no_digest(here):
    save_file(dict(weight=torch.arange(3.0)), 'x.safetensors', dict(format='pt'))
    assert load_checkpoint_file('x.safetensors')['meta'] == dict(format='pt')


@pytest.fixture
def good(made):
    return torch.load(made / 'm.pth')['state_dict']


def hostile(good):
    """Checkpoints of the right keys and shapes with other values, and of none."""
    key = next(iter(good))
    yield from itertools.islice(NO_CHECKPOINTS.values(), 10)
    yield dict(state_dict={k: v.numpy() for k, v in good.items()})
    yield dict(state_dict={k: v.bool() for k, v in good.items()})
    yield dict(state_dict={k: v.to('meta') for k, v in good.items()})
    yield dict(state_dict={**good, key: good[key].to_sparse()})
    yield dict(state_dict={**good, key: good[key] * float('nan')})
    yield dict(state_dict={**good, key: 'x'})
    yield dict(state_dict={**good, key: np.float64(1)})


@pytest.mark.slow
def test_publish_export_and_search_refuse_each_in_one_line(made, here, good):
    config = made / 'config.py'
    for content in hostile(good):
        torch.save(content, 'bad.pth')
        refusal(lambda file: load_encoder(config, file))
        refusal(lambda file: run_tool('publish_model', config, file, 'out.safetensors'))
        refusal(lambda file: run_tool('export_towers', config, file, 'out.pt'))
    assert not [name for name in os.listdir() if name.startswith('out')]


@pytest.mark.slow
@pytest.mark.parametrize('tool', ['publish_model', 'export_towers', 'convert_checkpoint'])
def test_a_tool_ends_in_one_line(made, here, tool):
    torch.save(dict(state_dict=Harm()), 'bad.pth')
    given = [] if tool == 'convert_checkpoint' else [made / 'config.py']
    if tool == 'convert_checkpoint':
        given = [ROOT / 'configs/clip/clip_tiny_synthetic.py']
    suffix = 'safetensors' if tool == 'publish_model' else 'pt'
    program = ROOT / f'tools/{tool}.py'
    status, output = Command(here, program, *given, 'bad.pth', f'out.{suffix}').end()
    assert status == 1
    assert len(output.splitlines()) == 1, output
    assert output.startswith(f'{tool}.py: ')
