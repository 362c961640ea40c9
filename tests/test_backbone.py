"""CLIP towers: grids, kept patches, and weights from every file format."""

import hashlib

import numpy as np
import open_clip
import pytest
import torch
from closeness import assert_same
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file
from sen_toolbox.models.backbones.weights import (
    adapt_clip_state,
    read_clip_state,
    resize_position_embedding,
)
from tiny import DATA, clip_config

from sen_toolbox.models.necks.restoration import sincos_position
from sen_toolbox.registry import BACKBONES

pytestmark = pytest.mark.numeric

TOKENS = torch.tensor([[49406, 320, 786, 49407, 0, 0], [49406, 530, 49407, 0, 0, 0]])


def square_clip() -> open_clip.CLIP:
    """open_clip's own model with the towers of ``clip_config`` on a square image."""
    torch.manual_seed(0)
    arch = clip_config()['arch']
    vision = {**arch['vision_cfg'], 'image_size': 64}
    return open_clip.CLIP(**{**arch, 'vision_cfg': vision}).eval()


def test_features_equal_those_of_open_clip(tmp_path):
    clip = square_clip()
    torch.save(clip.state_dict(), tmp_path / 'clip.pt')
    config = clip_config(image_size=(64, 64), pretrained=str(tmp_path / 'clip.pt'))
    backbone = BACKBONES.build(config)
    backbone.init_weights()
    images = torch.randn(2, 3, 64, 64)
    tokens = torch.nn.functional.pad(TOKENS, (0, 77 - TOKENS.shape[1]))
    with torch.no_grad():
        feats = backbone(images, tokens)
        assert_same(feats.image, clip.encode_image(images))
        assert_same(feats.text, clip.encode_text(tokens))


def test_a_short_caption_has_the_embedding_of_the_padded_one():
    backbone = BACKBONES.build(clip_config(image_size=(32, 16))).eval()
    padded = torch.nn.functional.pad(TOKENS, (0, 71))
    assert_same(backbone.embed_text(TOKENS), backbone.embed_text(padded))


def test_training_drops_attention_in_the_text_tower_alone():
    backbone = BACKBONES.build(clip_config(image_size=(64, 32), text_dropout=0.5))
    images, tokens = torch.randn(1, 3, 64, 32), torch.tensor([[49406, 320, 786, 49407]])

    def repeats(embed, inputs):
        return torch.equal(embed(inputs), embed(inputs))

    assert repeats(backbone.embed_image, images)
    assert not repeats(backbone.embed_text, tokens)
    backbone.eval()
    assert repeats(backbone.embed_text, tokens)


@pytest.mark.parametrize('share', [-0.1, 1.5])
def test_a_share_to_drop_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match=f'text_dropout is a share in 0..1, got {share}'):
        BACKBONES.build(clip_config(image_size=(64, 32), text_dropout=share))


def test_keeping_all_patches_in_order_changes_nothing():
    backbone = BACKBONES.build(clip_config(image_size=(64, 32)))
    images = torch.randn(2, 3, 64, 32)
    keep = torch.arange(8).expand(2, -1)
    assert_same(backbone.encode_image(images, keep), backbone.encode_image(images))


def test_patches_that_are_not_kept_have_no_influence():
    backbone = BACKBONES.build(clip_config(image_size=(64, 32)))
    images = torch.randn(1, 3, 64, 32)
    changed = images.clone()
    changed[..., :16, :16] = 9  # patch 0
    keep = torch.tensor([[3, 7]])
    assert_same(backbone.encode_image(images, keep), backbone.encode_image(changed, keep))
    assert backbone.encode_image(images, keep).shape == (1, 3, 64)


@pytest.mark.parametrize(
    ('size', 'patch', 'stride', 'grid'),
    [
        ((384, 128), 16, None, (24, 8)),
        ((384, 128), 16, 12, (31, 10)),
        ((378, 126), 14, None, (27, 9)),
        ((40, 20), 16, None, (2, 1)),
    ],
)
def test_the_grid_follows_from_size_patch_and_stride(size, patch, stride, grid):
    backbone = BACKBONES.build(
        clip_config(image_size=size, patch_size=patch, stride=stride, layers=1)
    )
    assert backbone.spec.grid_size == grid
    assert backbone.encode_image(torch.zeros(1, 3, *size)).shape == (1, 1 + grid[0] * grid[1], 64)


@pytest.mark.parametrize(
    'case', ['p7_to_24x8', 'p14_to_24x8', 'p14_to_16x8', 'p7_to_12x4', 'p14_to_14x14']
)
def test_the_position_embedding_is_resized_as_the_release_does(case):
    # resize_pos_embed of SEN 3d887c1 (identical in IRRA).
    with np.load(DATA / 'position_embedding.npz') as arrays:
        before, after = (torch.from_numpy(arrays[f'{case}/{part}']) for part in ('before', 'after'))
    source, target = case.removeprefix('p').split('_to_')
    rows, columns = (int(n) for n in target.split('x'))
    resized = resize_position_embedding(before, (int(source), int(source)), (rows, columns))
    torch.testing.assert_close(resized, after, rtol=1e-5, atol=1e-6)


def test_a_grid_of_another_shape_is_resized_though_the_number_of_patches_is_equal():
    # The release copies 14 x 14 into 28 x 7 as it is; see docs/design.md.
    state = {'visual.positional_embedding': torch.randn(197, 4)}
    resized, phrase = adapt_clip_state(state, (28, 7), square=True)
    assert phrase == 'resized from 14 x 14 to 28 x 7'
    assert not torch.equal(
        resized['visual.positional_embedding'], state['visual.positional_embedding']
    )


def test_an_embedding_of_our_own_is_never_taken_for_a_square_one():
    state = {'visual.positional_embedding': torch.randn(65, 4)}
    assert adapt_clip_state(state, (16, 4), square=False) == (state, 'as it is')
    with pytest.raises(ValueError, match='has 64 patches, the model has 8 x 4'):
        adapt_clip_state(state, (8, 4), square=False)
    with pytest.raises(ValueError, match='has 33 patches, the model has 8 x 4'):
        adapt_clip_state({'visual.positional_embedding': torch.randn(34, 4)}, (8, 4), square=True)


@pytest.mark.parametrize('case', ['64_24x8', '128_16x8', '64_12x4'])
def test_the_fixed_position_embedding_is_the_official_one(case):
    # get_2d_sincos_pos_embed of SEN 3d887c1.
    width, grid = case.split('_')
    rows, columns = (int(n) for n in grid.split('x'))
    with np.load(DATA / 'position_embedding.npz') as arrays:
        expected = arrays[f'sincos/{case}']
    ours = sincos_position(int(width), (rows, columns)).numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-6)


class _Archive(torch.nn.Module):
    """Stands for OpenAI's TorchScript archive: the tensors and its three extra scalars."""

    def __init__(self, clip):
        super().__init__()
        self.visual = torch.nn.Module()
        for name, value in clip.state_dict().items():
            module, _, leaf = name.rpartition('.')
            parent = self
            for part in module.split('.') if module else []:
                if not hasattr(parent, part):
                    parent.add_module(part, torch.nn.Module())
                parent = getattr(parent, part)
            parent.register_buffer(leaf, value.half())
        for name in ('input_resolution', 'context_length', 'vocab_size'):
            self.register_buffer(name, torch.tensor(1))

    def forward(self):
        return 0


def save_as(kind, clip, path):
    state = clip.state_dict()
    if kind == 'state dict':
        torch.save(state, path)
    elif kind == 'training checkpoint':
        torch.save({'epoch': 1, 'state_dict': {f'module.{k}': v for k, v in state.items()}}, path)
    elif kind == 'toolbox checkpoint':
        ours = {f'backbone.{k}': v for k, v in state.items() if k != 'logit_scale'}
        hub = dict(log_scalars={'train/lr': HistoryBuffer([1.0], [1])})
        state = {**ours, 'heads.a.b': torch.zeros(1)}
        torch.save({'meta': {}, 'state_dict': state, 'message_hub': hub}, path)
    elif kind == 'safetensors':
        save_file(state, path)
    else:
        torch.jit.save(torch.jit.script(_Archive(clip)), path)


@pytest.mark.parametrize(
    'kind',
    ['state dict', 'training checkpoint', 'toolbox checkpoint', 'safetensors', 'TorchScript'],
)
def test_weights_are_read_from_every_format(tmp_path, monkeypatch, kind):
    clip = square_clip()
    path = tmp_path / ('clip.safetensors' if kind == 'safetensors' else 'clip.pt')
    save_as(kind, clip, path)
    # The TorchScript archives of OpenAI are known by their hash.
    known = {hashlib.sha256(path.read_bytes()).hexdigest()}
    monkeypatch.setattr('sen_toolbox.models.backbones.weights._openai_hashes', lambda: known)
    state, is_ours = read_clip_state(path)
    assert is_ours == (kind == 'toolbox checkpoint')
    expected = {k: v for k, v in clip.state_dict().items() if k != 'logit_scale'}
    assert set(state) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(state[key], value, rtol=1e-3, atol=1e-3)


def test_weights_of_another_architecture_are_refused_by_key_and_shape(tmp_path):
    torch.save(square_clip().state_dict(), tmp_path / 'clip.pt')
    config = clip_config(image_size=(64, 64), layers=3, pretrained=str(tmp_path / 'clip.pt'))
    with pytest.raises(ValueError, match=r'missing visual\.transformer\.resblocks\.2'):
        BACKBONES.build(config).init_weights()


def test_a_file_without_towers_is_refused(tmp_path):
    torch.save({'weight': torch.zeros(1)}, tmp_path / 'other.pt')
    with pytest.raises(ValueError, match=r'other.pt holds no CLIP towers'):
        read_clip_state(tmp_path / 'other.pt')


def test_a_truncated_file_is_refused_by_name(tmp_path):
    torch.save(square_clip().state_dict(), tmp_path / 'clip.pt')
    half = (tmp_path / 'clip.pt').read_bytes()[:5000]
    (tmp_path / 'clip.pt').write_bytes(half)
    with pytest.raises(ValueError, match=r'clip.pt is no readable checkpoint'):
        read_clip_state(tmp_path / 'clip.pt')


class _Harm:
    def __reduce__(self):
        return (exec, ("open('harmed', 'w')",))


def test_code_in_a_file_is_never_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({'state_dict': _Harm()}, 'bad.pt')
    with pytest.raises(ValueError, match='bad.pt is no readable checkpoint'):
        read_clip_state('bad.pt')
    assert not (tmp_path / 'harmed').exists()


@pytest.mark.slow
def test_missing_openai_weights_name_the_file_and_its_place(tmp_path, monkeypatch):
    def no_network(config):
        raise OSError('no network')

    monkeypatch.setattr('sen_toolbox.models.backbones.weights.download_pretrained', no_network)
    monkeypatch.setenv('HOME', str(tmp_path))
    config = clip_config(pretrained='openai')
    backbone = BACKBONES.build({**config, 'arch': 'ViT-B-16-quickgelu', 'image_size': (384, 128)})
    with pytest.raises(FileNotFoundError, match=r'Put ViT-B-16.pt .* at .*/clip/ViT-B-16.pt'):
        backbone.init_weights()


def test_an_absent_weight_file_is_named():
    with pytest.raises(FileNotFoundError, match='no CLIP weights at nowhere.pt'):
        BACKBONES.build(clip_config(pretrained='nowhere.pt')).init_weights()


def test_an_unknown_architecture_lists_what_open_clip_has():
    with pytest.raises(KeyError, match="no model 'ViT-B-17'"):
        BACKBONES.build(dict(type='CLIPBackbone', arch='ViT-B-17', image_size=(32, 32)))


@pytest.mark.parametrize('arch', ['RN50', 'ViT-B-16-SigLIP'])
def test_towers_of_another_kind_are_refused(arch):
    with pytest.raises(ValueError, match='plain ViT'):
        BACKBONES.build(dict(type='CLIPBackbone', arch=arch, image_size=(32, 32)))


def test_images_of_another_size_are_refused():
    backbone = BACKBONES.build(clip_config(image_size=(64, 32)))
    with pytest.raises(ValueError, match=r'\(64, 32\).*got \(32, 64\)'):
        backbone.encode_image(torch.zeros(1, 3, 32, 64))


def test_captions_longer_than_the_context_are_refused():
    backbone = BACKBONES.build(clip_config(image_size=(64, 32)))
    with pytest.raises(ValueError, match='captions of 78 tokens exceed the context of 77'):
        backbone.encode_text(torch.zeros(1, 78).long())


@torch.no_grad()
@pytest.mark.parametrize('field', ['image_tokens', 'text_tokens', 'image_attention'])
def test_what_nothing_reads_is_left_out_and_changes_no_embedding(field):
    backbone = BACKBONES.build(clip_config(image_size=(64, 32))).eval()
    images = torch.randn(2, 3, 64, 32)
    everything = backbone(images, TOKENS)
    some = backbone(images, TOKENS, frozenset({field}))
    nothing = backbone(images, TOKENS, frozenset())
    assert getattr(nothing, field) is None
    assert_same(getattr(some, field), getattr(everything, field))
    for feats in (some, nothing):
        assert_same(feats.image, everything.image)
        assert_same(feats.text, everything.text)


def slow_attention(block, x, mask):
    """Softmax of the scaled products, head by head, of a whole block."""
    attention = block.attn
    heads, width = attention.num_heads, x.shape[2]
    projected = block.ln_1(x) @ attention.in_proj_weight.t() + attention.in_proj_bias
    query, key, _ = projected.split(width, dim=2)
    total = torch.zeros(len(x), x.shape[1], x.shape[1])
    for head in range(heads):
        part = slice(head * width // heads, (head + 1) * width // heads)
        scores = query[..., part] @ key[..., part].transpose(1, 2) / (width // heads) ** 0.5
        total += (scores + mask).softmax(dim=2) / heads
    return total


@torch.no_grad()
def test_attention_is_that_of_the_pooled_token_in_the_last_block():
    backbone = BACKBONES.build(clip_config(image_size=(64, 32))).eval()
    images = torch.randn(2, 3, 64, 32)
    feats = backbone(images, TOKENS)
    x = backbone._before_last_image_block(images)
    slow = slow_attention(backbone.visual.transformer.resblocks[-1], x, torch.zeros(()))
    assert_same(feats.image_attention, slow[:, 0, 1:])
    x = backbone._before_last_text_block(TOKENS)
    mask = torch.full((TOKENS.shape[1],) * 2, -torch.inf).triu(1)
    slow = slow_attention(backbone.transformer.resblocks[-1], x, mask)
    rows = torch.arange(len(TOKENS))
    assert_same(feats.text_attention, slow[rows, TOKENS.argmax(dim=1)])
    assert (feats.text_attention[:, -1] == 0).all()
