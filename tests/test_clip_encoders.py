"""CLIP's transformers: grids, kept patches, and weights from every file format."""

import hashlib
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from closeness import assert_same
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file
from tiny import DATA, as_tokens, clip_arch, clip_config
from torch import nn

from sen_toolbox.models.blocks import LayerNorm
from sen_toolbox.models.necks.restoration import sincos_position
from sen_toolbox.models.open_clip_config import open_clip_config
from sen_toolbox.models.weights import fit_grid, read_tower, resize_position_embedding
from sen_toolbox.registry import BACKBONES, IMAGE_ENCODERS, TEXT_ENCODERS
from sen_toolbox.text.tokens import Tokens

pytestmark = pytest.mark.numeric

TOKENS = as_tokens(torch.tensor([[49406, 320, 786, 49407, 0, 0], [49406, 530, 49407, 0, 0, 0]]))


def padded() -> Tokens:
    """The same captions in rows of 77."""
    return as_tokens(torch.nn.functional.pad(TOKENS.ids, (0, 71)))


def vision_transformer(image_size=(64, 32), layers=2, patch_size=16, **settings) -> nn.Module:
    torch.manual_seed(0)
    return IMAGE_ENCODERS.build(
        {**clip_config(image_size, layers, patch_size)['image'], **settings}
    )


def text_transformer(**settings) -> nn.Module:
    torch.manual_seed(0)
    return TEXT_ENCODERS.build({**clip_config()['text'], **settings})


def pretrained_clip(file, image_size=(64, 64), **kwargs) -> nn.Module:
    """Both encoders with the weights of a file."""
    start = dict(pretrained=str(file))
    backbone = BACKBONES.build(clip_config(image_size, image=start, text=start, **kwargs))
    backbone.load_weights()
    return backbone.eval()


def square_clip() -> open_clip.CLIP:
    """open_clip's own model with the towers of ``clip_arch`` on a square image."""
    torch.manual_seed(0)
    arch = clip_arch()
    vision = {**arch['vision_cfg'], 'image_size': 64}
    return open_clip.CLIP(**{**arch, 'vision_cfg': vision}).eval()


def test_features_equal_those_of_open_clip(tmp_path):
    clip = square_clip()
    torch.save(clip.state_dict(), tmp_path / 'clip.pt')
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        pair = pretrained_clip(tmp_path / 'clip.pt')(images, padded())
        assert_same(pair.image.embedding, clip.encode_image(images))
        assert_same(pair.text.embedding, clip.encode_text(padded().ids))


def test_a_short_caption_has_the_embedding_of_the_padded_one():
    encoder = text_transformer().eval()
    assert encoder.spec.cuts_padding
    assert_same(encoder(TOKENS).embedding, encoder(padded()).embedding)


def test_training_drops_attention_in_the_text_tower_alone():
    encoder = text_transformer(attention_dropout=0.5)

    def repeats(encoder, inputs):
        return torch.equal(encoder(inputs).embedding, encoder(inputs).embedding)

    assert repeats(vision_transformer(), torch.randn(1, 3, 64, 32))
    assert not repeats(encoder, TOKENS)
    assert repeats(encoder.eval(), TOKENS)


@pytest.mark.parametrize('share', [-0.1, 1.5])
def test_a_share_to_drop_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match=f'attention_dropout must be in 0..1, got {share}'):
        text_transformer(attention_dropout=share)


def test_keeping_all_patches_in_order_changes_nothing():
    encoder, images = vision_transformer(), torch.randn(2, 3, 64, 32)
    keep = torch.arange(8).expand(2, -1)
    assert_same(encoder(images, keep=keep).tokens, encoder(images).tokens)


def test_patches_that_are_not_kept_have_no_influence():
    encoder, images = vision_transformer(), torch.randn(1, 3, 64, 32)
    changed = images.clone()
    changed[..., :16, :16] = 9  # patch 0
    keep = torch.tensor([[3, 7]])
    found = encoder(images, keep=keep).tokens
    assert_same(found, encoder(changed, keep=keep).tokens)
    assert found.shape == (1, 3, 64)


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
    encoder = vision_transformer(size, layers=1, patch_size=patch, stride=stride)
    spec = encoder.spec
    assert (spec.grid, spec.patch_size, spec.patch_stride) == (grid, patch, stride or patch)
    tokens = encoder(torch.zeros(1, 3, *size)).tokens
    assert tokens.shape == (1, 1 + grid[0] * grid[1], 64) == (1, 1 + spec.num_patches, 64)


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
    position = torch.randn(197, 4)
    resized, phrase = fit_grid(position, (28, 7), square=True)
    assert phrase == 'resized from 14 x 14 to 28 x 7'
    assert not torch.equal(resized, position)


def test_an_embedding_of_our_own_is_never_taken_for_a_square_one():
    position = torch.randn(65, 4)
    assert fit_grid(position, (16, 4), square=False) == (position, 'as it is')
    with pytest.raises(ValueError, match='has 64 patches, the model has 8 x 4'):
        fit_grid(position, (8, 4), square=False)
    with pytest.raises(ValueError, match='has 33 patches, the model has 8 x 4'):
        fit_grid(torch.randn(34, 4), (8, 4), square=True)


@pytest.mark.parametrize('case', ['64_24x8', '128_16x8', '64_12x4'])
def test_the_fixed_position_embedding_is_the_official_one(case):
    # get_2d_sincos_pos_embed of SEN 3d887c1.
    width, grid = case.split('_')
    rows, columns = (int(n) for n in grid.split('x'))
    with np.load(DATA / 'position_embedding.npz') as arrays:
        expected = arrays[f'sincos/{case}']
    ours = sincos_position(int(width), (rows, columns)).numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-6)


class _Archive(nn.Module):
    """Stands for OpenAI's TorchScript archive: the tensors and its three extra scalars."""

    def __init__(self, clip):
        super().__init__()
        self.visual = nn.Module()
        for name, value in clip.state_dict().items():
            module, _, leaf = name.rpartition('.')
            parent = self
            for part in module.split('.') if module else []:
                if not hasattr(parent, part):
                    parent.add_module(part, nn.Module())
                parent = getattr(parent, part)
            parent.register_buffer(leaf, value.half())
        for name in ('input_resolution', 'context_length', 'vocab_size'):
            self.register_buffer(name, torch.tensor(1))

    def forward(self):
        return 0


def towers_of(clip) -> dict[str, torch.Tensor]:
    """The weights under this toolbox's names of the two encoders."""
    state = {k: v for k, v in clip.state_dict().items() if k != 'logit_scale'}
    return {
        f'image.{k.removeprefix("visual.")}' if k.startswith('visual.') else f'text.{k}': v
        for k, v in state.items()
    }


def save_as(kind, clip, path):
    state = clip.state_dict()
    if kind == 'state dict':
        torch.save(state, path)
    elif kind == 'training checkpoint':
        torch.save({'epoch': 1, 'state_dict': {f'module.{k}': v for k, v in state.items()}}, path)
    elif kind == 'toolbox checkpoint':
        ours = {f'backbone.{k}': v for k, v in towers_of(clip).items()}
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
    monkeypatch.setattr('sen_toolbox.models.openai_weights.openai_hashes', lambda: known)
    state = {}
    for part in ('image', 'text'):
        tower, is_ours = read_tower(path, part)
        assert is_ours == (kind == 'toolbox checkpoint')
        state |= {f'{part}.{key}': value for key, value in tower.items()}
    expected = towers_of(clip)
    assert set(state) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(state[key], value, rtol=1e-3, atol=1e-3)


def test_weights_of_another_architecture_are_refused_by_key_and_shape(tmp_path):
    torch.save(square_clip().state_dict(), tmp_path / 'clip.pt')
    with pytest.raises(ValueError, match=r'clip.pt .*missing transformer\.resblocks\.2'):
        pretrained_clip(tmp_path / 'clip.pt', layers=3)


def test_a_file_without_towers_is_refused(tmp_path):
    torch.save({'weight': torch.zeros(1)}, tmp_path / 'other.pt')
    with pytest.raises(ValueError, match=r"other.pt holds no image tower .* with 'visual.'"):
        read_tower(tmp_path / 'other.pt', 'image')


def test_a_truncated_file_is_refused_by_name(tmp_path):
    torch.save(square_clip().state_dict(), tmp_path / 'clip.pt')
    half = (tmp_path / 'clip.pt').read_bytes()[:5000]
    (tmp_path / 'clip.pt').write_bytes(half)
    with pytest.raises(ValueError, match=r'clip.pt is not a readable checkpoint'):
        read_tower(tmp_path / 'clip.pt', 'image')


class _Harm:
    def __reduce__(self):
        return (exec, ("open('harmed', 'w')",))


def test_code_in_a_file_is_never_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({'state_dict': _Harm()}, 'bad.pt')
    with pytest.raises(ValueError, match='bad.pt is not a readable checkpoint'):
        read_tower('bad.pt', 'text')
    assert not (tmp_path / 'harmed').exists()


@pytest.mark.slow
def test_missing_openai_weights_name_the_file_and_its_place(tmp_path, monkeypatch):
    def no_network(config):
        raise OSError('no network')

    monkeypatch.setattr('open_clip.pretrained.download_pretrained', no_network)
    monkeypatch.setenv('HOME', str(tmp_path))
    with torch.device('meta'):
        encoder = text_transformer(arch='ViT-B-16-quickgelu', pretrained='openai')
    with pytest.raises(FileNotFoundError, match=r'Put ViT-B-16.pt .* at .*/clip/ViT-B-16.pt'):
        encoder.load_weights()


def test_an_absent_weight_file_is_named():
    with pytest.raises(FileNotFoundError, match='no CLIP weights at nowhere.pt'):
        vision_transformer(pretrained='nowhere.pt').load_weights()


def test_an_unknown_architecture_lists_what_open_clip_has():
    with pytest.raises(KeyError, match="no model 'ViT-B-17'"):
        vision_transformer(arch='ViT-B-17')
    with pytest.raises(KeyError, match="no model 'ViT-B-17'"):
        text_transformer(arch='ViT-B-17')


@pytest.mark.parametrize('arch', ['RN50', 'ViT-B-16-SigLIP'])
def test_towers_of_another_kind_are_refused(arch):
    with pytest.raises(ValueError, match='takes a plain ViT'):
        vision_transformer(arch=arch)


def test_a_text_tower_of_another_kind_is_refused_by_what_differs():
    with pytest.raises(ValueError, match=r"takes CLIP's text transformer; .* differs in hf_model"):
        text_transformer(arch='roberta-ViT-B-32')


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r'\(64, 32\).*got \(32, 64\)'):
        vision_transformer()(torch.zeros(1, 3, 32, 64))


def test_an_image_smaller_than_a_patch_is_refused():
    with pytest.raises(ValueError, match=r'image_size \(64, 12\) is smaller than a patch of 16'):
        vision_transformer((64, 12))


def test_captions_longer_than_the_context_are_refused():
    with pytest.raises(ValueError, match='captions of 78 tokens exceed the context of 77'):
        text_transformer()(as_tokens(torch.zeros(1, 78).long()))


@torch.no_grad()
@pytest.mark.parametrize('field', ['tokens', 'attention'])
@pytest.mark.parametrize('modality', ['image', 'text'])
def test_what_nothing_reads_is_left_out_and_changes_no_embedding(modality, field):
    is_image = modality == 'image'
    encoder = (vision_transformer() if is_image else text_transformer()).eval()
    inputs = torch.randn(2, 3, 64, 32) if is_image else TOKENS
    every, some, none = (
        encoder(inputs, reads) for reads in (encoder.provides, frozenset({field}), frozenset())
    )
    assert getattr(none, field) is None
    assert_same(getattr(some, field), getattr(every, field))
    for features in (some, none):
        assert_same(features.embedding, every.embedding)


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


def last_block_and_its_input(encoder, inputs):
    block, seen = encoder.transformer.resblocks[-1], []
    handle = block.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    encoder(inputs)
    handle.remove()
    return block, seen[0]


@torch.no_grad()
def test_attention_is_that_of_the_pooled_token_in_the_last_block():
    encoder, images = vision_transformer().eval(), torch.randn(2, 3, 64, 32)
    block, x = last_block_and_its_input(encoder, images)
    slow = slow_attention(block, x, torch.zeros(()))
    assert_same(encoder(images).attention, slow[:, 0, 1:])
    encoder = text_transformer().eval()
    block, x = last_block_and_its_input(encoder, TOKENS)
    slow = slow_attention(block, x, torch.full((6, 6), -torch.inf).triu(1))
    attention = encoder(TOKENS).attention
    # The end tokens stand at 3 and 2.
    assert_same(attention, torch.stack([slow[0, 3], slow[1, 2]]))
    assert (attention[:, -1] == 0).all()


@pytest.mark.parametrize('settings', [{}, dict(ls_init_value=0.1), dict(mlp_ratio=2.0)])
@pytest.mark.parametrize('quick_gelu', [True, False])
def test_a_seed_draws_the_weights_of_open_clip_in_its_order(settings, quick_gelu):
    arch = {**clip_arch(), 'quick_gelu': quick_gelu}
    arch = {k: {**v, **settings} if isinstance(v, dict) else v for k, v in arch.items()}
    vision = {**arch['vision_cfg'], 'image_size': 64}
    torch.manual_seed(0)
    theirs = open_clip.CustomTextCLIP(**{**arch, 'vision_cfg': vision})
    torch.manual_seed(0)
    image = IMAGE_ENCODERS.build(dict(type='CLIPVisionTransformer', arch=arch, image_size=(64, 64)))
    text = TEXT_ENCODERS.build(dict(type='CLIPTextTransformer', arch=arch))
    for ours, tower in ((image, theirs.visual), (text, theirs.text)):
        expected = dict(tower.named_parameters())
        assert [name for name, _ in ours.named_parameters()] == list(expected)
        assert all(torch.equal(value, expected[name]) for name, value in ours.named_parameters())


def test_norms_and_activations_have_the_settings_of_the_architecture():
    arch = clip_arch()
    arch['vision_cfg'] = {**arch['vision_cfg'], 'norm_kwargs': dict(eps=0.5)}
    arch['text_cfg'] = {**arch['text_cfg'], 'act_kwargs': dict(approximate='tanh')}
    arch['quick_gelu'] = False
    encoder = IMAGE_ENCODERS.build(
        dict(type='CLIPVisionTransformer', arch=arch, image_size=(64, 64))
    )
    norms = [part for part in encoder.modules() if isinstance(part, nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {0.5}
    text = TEXT_ENCODERS.build(dict(type='CLIPTextTransformer', arch=arch))
    assert text.transformer.resblocks[0].mlp.gelu.approximate == 'tanh'


def test_the_norm_keeps_the_type_of_its_input_under_autocast():
    theirs, ours = open_clip.transformer.LayerNorm(8), LayerNorm(8)
    x = torch.randn(2, 8, dtype=torch.bfloat16)
    with torch.autocast('cpu', torch.bfloat16):
        assert ours(x).dtype == theirs(x).dtype == torch.bfloat16
        assert torch.equal(ours(x), theirs(x))


def test_a_setting_that_no_tower_has_is_named():
    arch = clip_arch()
    arch['vision_cfg'] = {**arch['vision_cfg'], 'widht': 64}
    with pytest.raises(ValueError, match=r"no settings \['widht'\] of a tower; it has \["):
        IMAGE_ENCODERS.build(dict(type='CLIPVisionTransformer', arch=arch, image_size=(64, 64)))


def test_descriptions_are_those_that_open_clip_has():
    # Other tests add descriptions.
    shipped = Path(open_clip.__file__).with_name('model_configs').glob('*.json')
    names = {path.stem for path in shipped} & set(open_clip.list_models())
    assert len(names) > 100
    for name in names:
        assert open_clip_config(name) == open_clip.get_model_config(name), name
