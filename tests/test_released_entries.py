"""Files with weights in several entries, as releases save them, become ours and go back.

Each is written here as the training of the release writes it: github.com/reallsp/SAF, commit
f2b649a86df9; ZhiyinShao-H/LGUR, c203cc7763ab; shuanglinyan/CFine, ab330e3f; zifyloo/SSAN,
567836932aaf; labyrinth7x/Deep-Cross-Modal-Projection-Learning-for-Image-Text-Matching, 4651c1b53ef3
(CMPM); TencentYoutuResearch/PersonReID-NAFS, efaf47779ec5; xmu-xiaoma666/Beat, 7e158a43.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from parity import under
from toy_data import ROOT, run_tool, tool

from sen_toolbox.checkpoint.entries import split_entries
from sen_toolbox.checkpoint.layouts import official_layout
from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.config import load_config
from sen_toolbox.registry import MODELS

State = dict[str, torch.Tensor]


def adam() -> dict:
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def parallel(state: State) -> State:
    return {f'module.{key}': value for key, value in state.items()}


def with_matrix(network: State, matrix: torch.Tensor) -> dict[str, Any]:
    """What all with one classifier save: the parameter, and the network with its wrapper."""
    entries = dict(network=parallel(network), optimizer=adam())
    return entries | dict(W=torch.nn.Parameter(matrix), epoch=5)


def saf(state: State) -> dict[str, Any]:
    matrix = state.pop('W')
    return with_matrix(state | {'fc.bias': torch.ones(3)}, matrix)


def cfine(state: State) -> dict[str, Any]:
    pooler = {'language_model.textExtractor.pooler.dense.bias': torch.ones(3)}
    return with_matrix(under('network.', state) | pooler, state['W'])


def lgur(state: State) -> dict[str, Any]:
    unused = dict.fromkeys(('pos_embed_image', f'{LAST_BLOCK}norm1.bias'), torch.ones(3))
    network = under('network.', state) | unused
    entries = dict(test_best=np.float64(0.6), network=network, optimizer=adam())
    return entries | dict(W=under('W.', state), epoch=3)


def ssan(state: State) -> dict[str, Any]:
    entries = dict(network=under('network.', state), test_best=np.float64(0.6), epoch=4)
    return entries | dict(WN=under('WN.', state), WL=under('WL.', state))


def beat(state: State) -> dict[str, Any]:
    content = ssan(state)
    content['network'][f'{BEATS_BERT}pooler.dense.bias'] = torch.ones(3)
    return content


def cmpm(state: State) -> dict[str, Any]:
    matrix = state.pop('W')
    averages = parallel({'conv_text.bias': torch.ones(3)})
    content = with_matrix(state | {'image_model.fc.bias': torch.ones(3)}, matrix)
    return content | dict(network_ema=averages)


def nafs(state: State) -> dict[str, Any]:
    """With biases before the norms, which are not 0 in a file of the release."""
    matrix = state.pop('W')
    pooler = {'language_model.textExtractor.pooler.dense.bias': torch.ones(3)}
    return with_matrix(state | {key: state[key] + 1 for key in FOLDED} | pooler, matrix)


WRITERS = dict(saf=saf, lgur=lgur, cfine=cfine, ssan=ssan, beat=beat, cmpm=cmpm, nafs=nafs)
WEIGHTS = dict.fromkeys(WRITERS, ('network', 'W'))
WEIGHTS |= dict.fromkeys(('ssan', 'beat'), ('network', 'WL', 'WN'))
# What the release has trained and forgets to save, and where it stands in ours.
FORGOTTEN = dict(ssan='WG', beat='WG')
FORGOTTEN_HERE = 'heads.parts.classifiers.whole.'
# Of NAFS: a bias becomes part of the mean of the norm behind it.
FOLDED = (
    'conv_images.bias',
    'conv_text.bias',
    'bottleneck_image.running_mean',
    'bottleneck_text.running_mean',
)
BEATS_BERT = 'TextExtract.language_model.textExtractor.'
LAST_BLOCK = 'ImageExtract.model.blocks.3.'
UNUSED = (
    'fc.',
    'image_model.fc.',
    'language_model.textExtractor.pooler.',
    f'{BEATS_BERT}pooler.',
    'pos_embed_image',
    LAST_BLOCK,
)
# The tiny config of CMPM is that of another code.
SMALL_PORT = """
_base_ = {base!r}
official = {official!r}
num_classes = 7
tokenizer = dict(vocab_file=None, vocabulary=['a', 'man'])
_depth = dict(_delete_=True, block='bottleneck', blocks=(1, 1, 1, 1), widths=(2, 3, 4, 5))
model = dict(backbone=dict(
    embed_dim=6, image=dict(depth=_depth, pretrained=None), text=dict(word_dim=5, hidden_dim=4)))
"""


@dataclass
class Release:
    """A tiny model of a method, and the file that its release would have saved of it."""

    name: str
    config: Path
    layout: ModuleType
    model: torch.nn.Module
    content: dict[str, Any]

    def part(self) -> dict[str, Any]:
        """The content with two weights of the network: enough of what is refused before."""
        few = dict(list(self.content['network'].items())[:2])
        return self.content | dict(network=few)

    def refusal(self, content: Any, file: str = 'bad.pth') -> str:
        """The one line with which the converter refuses a file of this content."""
        torch.save(content, file)
        with pytest.raises(ValueError, match=re.escape(file)) as caught:
            tool('convert_checkpoint').convert_from_official(self.layout, self.model, Path(file))
        assert str(caught.value).isprintable()
        assert not os.path.exists('harmed')
        return str(caught.value)


def release_of(name: str, folder: Path) -> Release:
    project = ROOT / 'projects' / name
    path = project / 'configs' / f'{name}_tiny_synthetic.py'
    if name == 'cmpm':
        base, official = project / 'configs' / 'cmpm_port_r50_cuhk.py', project / 'official.py'
        path = folder / 'small.py'
        path.write_text(SMALL_PORT.format(base=str(base), official=str(official)))
    config = load_config(path)
    torch.manual_seed(0)
    layout, model = official_layout(config), MODELS.build(config.model)
    content = WRITERS[name](layout.to_official(model.state_dict(), model))
    return Release(name, path, layout, model, content)


@pytest.fixture(scope='module', params=list(WRITERS))
def release(request, tmp_path_factory) -> Release:
    return release_of(request.param, tmp_path_factory.mktemp('config'))


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_every_weight_of_every_entry_becomes_ours_and_goes_back_bit_by_bit(release):
    torch.save(release.content, 'best.pth.tar')
    run_tool('convert_checkpoint', release.config, 'best.pth.tar', 'ours.pth')
    ours = load_checkpoint_file('ours.pth')['state_dict']
    expected = release.model.state_dict()
    assert set(ours) == set(expected)
    for key, value in expected.items():
        forgotten = release.name in FORGOTTEN and key.startswith(FORGOTTEN_HERE)
        assert torch.equal(ours[key], torch.zeros_like(value) if forgotten else value), key
        assert not ours[key].requires_grad

    run_tool('convert_checkpoint', release.config, 'ours.pth', 'back.pth', '--to-official')
    back = torch.load('back.pth', weights_only=True)
    forgotten = {FORGOTTEN[release.name]} if release.name in FORGOTTEN else set()
    assert set(back) - {'meta'} == {*WEIGHTS[release.name]} | forgotten
    for name in WEIGHTS[release.name]:
        there, here = release.content[name], back[name]
        if isinstance(there, torch.Tensor):
            there, here = dict(W=there), dict(W=here)
        plain = {key.removeprefix('module.'): value for key, value in there.items()}
        used = {key for key in plain if not key.startswith(UNUSED)}
        assert used == {key for key in here if not key.startswith(LAST_BLOCK)}, name
        changed = FOLDED if release.name == 'nafs' else ()
        assert all(torch.equal(here[key], plain[key]) for key in used.difference(changed)), name

    run_tool('convert_checkpoint', release.config, 'back.pth', 'again.pth')
    again = load_checkpoint_file('again.pth')['state_dict']
    assert list(again) == list(ours)
    assert all(torch.equal(again[key], value) for key, value in ours.items())


def test_each_entry_of_weights_must_be_there(release):
    may_lack = getattr(release.layout, 'MAY_LACK', ())
    for name in WEIGHTS[release.name]:
        content = {key: value for key, value in release.content.items() if key != name}
        # What need not be there as an entry may be in another; its weights must be there.
        reason = 'missing' if name in may_lack else f'lacks the entries {[name]}'
        assert reason in release.refusal(content)
    reason = 'missing' if 'network' in may_lack else 'lacks the entries'
    assert reason in release.refusal({})
    assert reason in release.refusal(dict(model=release.part()['network']))


def test_an_entry_that_the_release_does_not_save_is_refused_by_name(release):
    message = release.refusal(release.part() | {'W\n2': torch.ones(2)})
    assert r"unknown entries ['W\n2'], known are ['network', " in message
    message = release.refusal(release.part() | {3: torch.ones(2)})
    assert 'has keys that are not names' in message


def test_two_weights_of_one_name_are_refused(release):
    content = release.part()
    key = next(iter(content['network'])).removeprefix('module.')
    twice = {key: torch.ones(2), f'module.{key}': torch.ones(2)}
    assert f"{key}': one would be lost" in release.refusal(content | dict(network=twice))
    if release.layout.ENTRIES['network'] == '':
        for key in ('W', 'module.W'):
            both = content['network'] | {key: torch.ones(2)}
            message = release.refusal(content | dict(network=both))
            assert "two weights are to be 'W': one would be lost" in message


def test_a_weight_more_or_less_in_any_entry_is_refused_by_name(release):
    for name in WEIGHTS[release.name]:
        state = release.content[name]
        if isinstance(state, torch.Tensor):
            message = release.refusal(release.content | {name: state[:, 1:]})
            assert re.search(r'heads\.\w+(\.classifier)?\.weight has shape', message)
            nan = release.refusal(release.content | {name: state * float('nan')})
            assert 'not finite' in nan
            continue
        more = release.content | {name: state | {'more.weight': torch.ones(2)}}
        assert 'more.weight' in release.refusal(more)
        key = next(key for key in state if not key.removeprefix('module.').startswith(UNUSED))
        less = release.content | {name: {k: v for k, v in state.items() if k != key}}
        assert re.search('missing|has the parts|does not fit', release.refusal(less))


NO_WEIGHTS = [
    None,
    {},
    [1],
    'weights',
    7,
    {1: torch.ones(2)},
    {'a\x1b[2J': 'x'},
    {'a': {'b': torch.ones(2)}},
    {'a': torch.ones(2).to_sparse()},
    {'a': torch.ones(2, device='meta')},
    {'a': torch.zeros(1).expand(10**9, 10**6)},
    torch.ones(2, 2).to_sparse(),
    torch.zeros(1).expand(10**9, 10**6),
]


def test_what_is_no_weights_is_refused_in_any_entry(release):
    for name in WEIGHTS[release.name]:
        for value in NO_WEIGHTS:
            message = release.refusal(release.part() | {name: value})
            assert name in message or "{'a" in message or 'not a dense' in message, value
        # One tensor where several are expected, and the reverse.
        other = isinstance(release.content[name], dict)
        release.refusal(release.part() | {name: torch.ones(2) if other else {'a': torch.ones(2)}})


class Harm:
    def __reduce__(self):
        return exec, ("open('harmed', 'w').close()",)


def test_what_is_left_out_is_not_executed_either(release):
    left_out = [name for name, start in release.layout.ENTRIES.items() if start is None]
    assert left_out
    for name in (*left_out, *WEIGHTS[release.name]):
        assert 'exec was not' in release.refusal(release.part() | {name: Harm()})


def test_what_is_written_is_read_again(release):
    expected = release.model.state_dict()
    official = release.layout.to_official(expected, release.model)
    torch.save(split_entries(official, release.layout.ENTRIES), 'back.pth')
    convert = tool('convert_checkpoint').convert_from_official
    found = convert(release.layout, release.model, Path('back.pth'))
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_nafs_is_also_read_as_its_rewrite_saves_it(tmp_path):
    # TencentYoutuResearch/PersonReID-YouReID, commit 4c6a75d5f7c7.
    release = release_of('nafs', tmp_path)
    convert = tool('convert_checkpoint').convert_from_official
    torch.save(release.content, 'release.pth')
    expected = convert(release.layout, release.model, Path('release.pth'))
    network = release.content['network'] | {'module.W': release.content['W']}
    rewrite = dict(model=network, optimizer=adam(), epoch=5)
    torch.save(rewrite, 'rewrite.pth')
    found = convert(release.layout, release.model, Path('rewrite.pth'))
    assert set(found) == set(expected)
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert 'one would be lost' in release.refusal(release.content | rewrite)
    # The bias that is to be taken off it is there.
    network.pop('module.bottleneck_text.running_mean')
    assert 'missing backbone.text_projection.norm.running_mean' in release.refusal(rewrite)


@pytest.mark.slow
def test_what_goes_back_stands_where_the_release_has_it():
    config = ROOT / 'projects/ctlg/configs/ctlg_tiny_synthetic.py'
    state = MODELS.build(load_config(config).model).state_dict()
    torch.save(dict(state_dict=state), 'ours.pth')
    run_tool('convert_checkpoint', config, 'ours.pth', 'back.pth', '--to-official')
    assert 'state_dict' in torch.load('back.pth', weights_only=True)
    run_tool('convert_checkpoint', config, 'back.pth', 'again.pth')
    again = load_checkpoint_file('again.pth')['state_dict']
    assert all(torch.equal(again[key], value) for key, value in state.items())
