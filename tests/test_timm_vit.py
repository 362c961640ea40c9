"""TimmViT against timm, and against the image towers of LGUR's and SAF's releases.

tests/data/vit.npz holds three groups, all in float32 and eval mode. 'lgur': DeiT in small, and a
position embedding with a row for the distillation token, as github.com/ZhiyinShao-H/LGUR, commit
c203cc7763ab, runs and loads them. 'saf': ViT in small of github.com/reallsp/SAF, commit
f2b649a86df9. 'google': a file with Google's names, and what SAF's loader makes of it for 224 x 224.
"""

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from toy_data import ROOT

from sen_toolbox.models.image_encoders import TimmViT

SIZES = dict(patch_size=8, embed_dim=24, depth=3, num_heads=2, mlp_ratio=2)


def golden(group: str) -> dict[str, np.ndarray]:
    data = np.load(ROOT / 'tests/data/vit.npz')
    prefix = f'{group}/'
    return {k.removeprefix(prefix): data[k] for k in data.files if k.startswith(prefix)}


def timm_model(size=(48, 24), **options):
    torch.manual_seed(0)
    return VisionTransformer(**{**SIZES, **options}, img_size=size, num_classes=5).eval()


def same(model, **options):
    """Ours with the weights of timm's."""
    encoder = TimmViT(name=SIZES, image_size=(48, 24), **options)
    state = {k: v for k, v in model.state_dict().items() if not k.startswith('head.')}
    encoder.load_state_dict(state)
    return encoder.train(model.training)


@pytest.mark.parametrize('training', [False, True])
def test_it_computes_what_timm_does(training):
    model = timm_model().train(training)
    images = torch.randn(3, 3, 48, 24)
    encoder = same(model)
    tokens = encoder(images, frozenset({'tokens'})).tokens
    torch.testing.assert_close(tokens, model.forward_features(images))
    # The last block on the class token alone gives the same embedding and the same gradients.
    encoder(images).embedding.square().sum().backward()
    model.forward_features(images)[:, 0].square().sum().backward()
    for name, parameter in encoder.named_parameters():
        expected = model.get_parameter(name).grad
        assert (parameter.grad - expected).norm() <= 1e-4 * expected.norm() + 1e-6, name


def test_attention_is_the_mean_over_heads_of_the_last_block():
    model = timm_model()
    seen = []
    model.blocks[-1].attn.fused_attn = False
    model.blocks[-1].attn.attn_drop.register_forward_hook(
        lambda _, __, weights: seen.append(weights)
    )
    images = torch.randn(2, 3, 48, 24)
    model(images)
    features = same(model)(images, frozenset({'attention'}))
    torch.testing.assert_close(features.attention, seen[0].mean(1)[:, 0, 1:])
    assert not features.attention.requires_grad


def test_overlapping_patches_are_those_that_are_cut_out_one_by_one():
    encoder = TimmViT(name=SIZES, image_size=(31, 22), stride=6)
    assert encoder.spec.grid == (4, 3)
    assert (encoder.spec.patch_size, encoder.spec.patch_stride) == (8, 6)
    images = torch.randn(2, 3, 31, 22)
    kernel, bias = encoder.patch_embed.proj.weight.flatten(1), encoder.patch_embed.proj.bias
    expected = []
    for number in range(12):
        row, column = 6 * (number // 3), 6 * (number % 3)
        patch = images[:, :, row : row + 8, column : column + 8].flatten(1)
        expected.append(patch @ kernel.T + bias + encoder.pos_embed[0, number + 1])
    expected = torch.stack(expected, dim=1)
    torch.testing.assert_close(encoder._embed(images, None)[:, 1:], expected)
    keep = torch.tensor([[11, 4], [4, 7]])
    kept = torch.stack([expected[0, keep[0]], expected[1, keep[1]]])
    torch.testing.assert_close(encoder._embed(images, keep)[:, 1:], kept)


def test_some_patches_are_encoded_as_if_there_were_no_others():
    model = timm_model()
    encoder = same(model)
    images, keep = torch.randn(2, 3, 48, 24), torch.tensor([[5, 0, 17], [3, 4, 9]])
    x = model._pos_embed(model.patch_embed(images))
    rows = torch.arange(2)[:, None]
    x = torch.cat([x[:, :1], x[rows, keep + 1]], dim=1)
    expected = model.norm(model.blocks(x))
    features = encoder(images, frozenset({'tokens', 'attention'}), keep)
    torch.testing.assert_close(features.tokens, expected)
    assert features.attention.shape == (2, 3)
    torch.testing.assert_close(encoder(images, keep=keep).embedding, expected[:, 0])


def test_the_first_blocks_run_and_the_final_norm_as_asked():
    model = timm_model()
    images = torch.randn(2, 3, 48, 24)
    encoder = TimmViT(name=SIZES, image_size=(48, 24), num_blocks=2, final_norm=False).eval()
    state = model.state_dict()
    encoder.load_state_dict({k: state[k] for k in encoder.state_dict()})
    x = model.blocks[1](model.blocks[0](model._pos_embed(model.patch_embed(images))))
    torch.testing.assert_close(encoder(images, frozenset({'tokens'})).tokens, x)


def test_dropouts_are_where_they_are_said_to_be():
    encoder = TimmViT(
        name={**SIZES, 'depth': 12}, image_size=(48, 24), num_blocks=11, dropout=0.2,
        attention_dropout=0.3, drop_path=0.1,
    )  # fmt: skip
    rates = [getattr(block.drop_path1, 'drop_prob', 0.0) for block in encoder.blocks]
    # As in LGUR: over the blocks constructed, of which the last does not run.
    np.testing.assert_allclose(rates, np.linspace(0, 0.1, 12)[:11], atol=1e-7)
    for block in encoder.blocks:
        assert (block.mlp.drop1.p, block.mlp.drop2.p, block.attn.attn_drop.p) == (0.2, 0.2, 0.3)
        assert block.attn.proj_drop.p == 0
    images = torch.randn(2, 3, 48, 24)
    assert not torch.equal(encoder(images).embedding, encoder(images).embedding)
    encoder.eval()
    assert torch.equal(encoder(images).embedding, encoder(images).embedding)


def deit_file(path, **changes):
    """A file as DeiT publishes it: with a distillation token and two classifiers."""
    state = timm_model((24, 24)).state_dict()
    state['pos_embed'] = torch.cat(
        [state['pos_embed'][:, :1], torch.ones(1, 1, 24), state['pos_embed'][:, 1:]], 1
    )
    state |= {'dist_token': torch.ones(1, 1, 24), 'head_dist.weight': torch.ones(5, 24), **changes}
    torch.save({'model': state}, path)
    return state


def test_a_file_of_deit_is_read_without_its_further_token_classifiers_and_blocks(tmp_path):
    path = tmp_path / 'deit.pth'
    state = deit_file(path)
    options = dict(name=SIZES, num_blocks=2, final_norm=False, pretrained=str(path))
    encoder = TimmViT(image_size=(24, 24), **options)
    encoder.load_weights()
    for key, value in encoder.state_dict().items():
        if key != 'pos_embed':
            assert torch.equal(value, state[key]), key
    assert torch.equal(encoder.pos_embed[0, 0], state['pos_embed'][0, 0])
    assert torch.equal(encoder.pos_embed[:, 1:], state['pos_embed'][:, 2:])
    deit_file(path, stranger=torch.ones(1))
    with pytest.raises(ValueError, match='unexpected stranger'):
        encoder.load_weights()
    # A grid that is not square is taken as it is.
    state = {k: v for k, v in state.items() if k != 'dist_token'}
    state['pos_embed'] = torch.randn(1, 1 + 6 * 3, 24)
    torch.save(state, path)
    other = TimmViT(image_size=(48, 24), **options)
    other.load_weights()
    assert torch.equal(other.pos_embed, state['pos_embed'])
    with pytest.raises(
        ValueError, match=r'pos_embed has shape \(1, 19, 24\), expected \(1, 10, 24'
    ):
        encoder.load_weights()


def test_a_checkpoint_of_all_blocks_begins_an_encoder_of_some(tmp_path):
    whole = TimmViT(name=SIZES, image_size=(48, 24))
    state = {f'backbone.image.{name}': value for name, value in whole.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'epoch_1.pth')
    options = dict(num_blocks=2, final_norm=False, pretrained=str(tmp_path / 'epoch_1.pth'))
    some = TimmViT(name=SIZES, image_size=(48, 24), **options)
    some.load_weights()
    for name, value in some.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name


def test_tokens_equal_those_of_lgur_and_its_position_embedding_is_resized_alike(tmp_path):
    data = golden('lgur')
    sizes = dict(patch_size=16, embed_dim=48, depth=3, num_heads=3)
    state = {
        k.removeprefix('state/'): torch.from_numpy(v).float()
        for k, v in data.items()
        if k.startswith('state/')
    }
    path = tmp_path / 'deit.pth'
    torch.save({'model': state}, path)
    encoder = TimmViT(
        name=sizes, image_size=(64, 32), num_blocks=2, final_norm=False, pretrained=str(path)
    ).eval()
    encoder.load_weights()
    with torch.no_grad():
        tokens = encoder(torch.from_numpy(data['images']).float(), frozenset({'tokens'})).tokens
    # The release drops the class token.
    np.testing.assert_allclose(tokens[:, 1:], data['tokens'], rtol=1e-5, atol=1e-5)
    state |= {
        'pos_embed': torch.from_numpy(data['deit_pos_embed']).float(),
        'cls_token': torch.from_numpy(data['deit_cls_token']).float(),
        'dist_token': torch.zeros(1, 1, 48),
    }
    torch.save({'model': state}, path)
    encoder.load_weights()
    ours = encoder.state_dict()
    np.testing.assert_allclose(ours['pos_embed'], data['resized'], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours['cls_token'], data['cls_token'], rtol=1e-5, atol=1e-5)


def from_saf(data: dict[str, np.ndarray], prefix: str) -> dict[str, torch.Tensor]:
    """SAF's names, which have query, key and value apart, to timm's."""
    state = {
        k.removeprefix(prefix): torch.from_numpy(v).float()
        for k, v in data.items()
        if k.startswith(prefix)
    }
    names = {
        'embeddings.position_embeddings': 'pos_embed',
        'embeddings.cls_token': 'cls_token',
        'embeddings.patch_embeddings.': 'patch_embed.proj.',
        'encoder.encoder_norm.': 'norm.',
        'attention_norm.': 'norm1.',
        'ffn_norm.': 'norm2.',
        'ffn.': 'mlp.',
        'attn.out.': 'attn.proj.',
        'encoder.layer.': 'blocks.',
    }
    found = {}
    for key, value in state.items():
        if '.attn.query.' in key:
            parts = [state[key.replace('query', name)] for name in ('query', 'key', 'value')]
            key, value = key.replace('query', 'qkv'), torch.cat(parts)
        elif '.attn.key.' in key or '.attn.value.' in key:
            continue
        for old, new in names.items():
            key = key.replace(old, new)
        found[key] = value
    return found


def test_tokens_equal_those_of_saf():
    data = golden('saf')
    sizes = dict(patch_size=16, embed_dim=48, depth=2, num_heads=3, mlp_ratio=1.5)
    encoder = TimmViT(name=sizes, image_size=(96, 48)).eval()
    encoder.load_state_dict(from_saf(data, 'state/'))
    images = torch.from_numpy(data['images']).float() / 64 - 2
    with torch.no_grad():
        tokens = encoder(images, frozenset({'tokens'})).tokens
    np.testing.assert_allclose(tokens, data['tokens'], rtol=1e-5, atol=1e-5)


def google_file(path, without=(), **more):
    data = golden('google')
    arrays = {k.removeprefix('input/'): v for k, v in data.items() if k.startswith('input/')}
    arrays |= more
    np.savez(path, **{key: value for key, value in arrays.items() if key not in without})
    return data


def google_vit(path):
    sizes = dict(patch_size=16, embed_dim=8, depth=1, num_heads=2, mlp_ratio=1.5)
    return TimmViT(name=sizes, image_size=(224, 224), align_corners=True, pretrained=str(path))


def test_a_file_of_google_is_read_as_saf_reads_it(tmp_path):
    path = tmp_path / 'ViT-B_16.npz'
    data = google_file(path, **{'head/kernel': np.zeros((8, 5)), 'head/bias': np.zeros(5)})
    encoder = google_vit(path)
    encoder.load_weights()
    expected = from_saf(data, 'expected/transformer.')
    assert set(expected) == set(encoder.state_dict())
    for key, value in encoder.state_dict().items():
        np.testing.assert_allclose(value, expected[key], rtol=1e-5, atol=1e-5, err_msg=key)


def test_a_file_of_google_is_read_strictly_and_without_running_code(tmp_path):
    path = tmp_path / 'ViT-B_16.npz'
    google_file(path, **{'Transformer/gate': np.zeros(3)})
    with pytest.raises(ValueError, match='not a ViT of Google: it holds Transformer/gate'):
        google_vit(path).load_weights()
    prefix = 'Transformer/encoderblock_0/MultiHeadDotProductAttention_1'
    google_file(path, without=[f'{prefix}/key/bias'])
    with pytest.raises(ValueError, match=r'missing blocks\.0\.attn\.qkv\.bias'):
        google_vit(path).load_weights()
    google_file(path, cls=np.array([{'a': 1}], dtype=object))
    with pytest.raises(ValueError, match=r'not a readable \.npz file: Object arrays'):
        google_vit(path).load_weights()
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r'not a readable \.npz file'):
        google_vit(path).load_weights()


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('hf-hub:timm/vit_tiny', "is an architecture of timm, got 'hf-hub:timm/vit_tiny'"),
        ('local-dir:/tmp/vit', "'local-dir:' would read a model from elsewhere"),
        ('vit_base_patch16_223', "no model 'vit_base_patch16_223'; it has .*vit_base_patch16_224"),
        ('deit_tiny_distilled_patch16_224', 'is a VisionTransformerDistilled'),
        ('vit_base_patch16_siglip_224', 'does not have the class token alone'),
        ('vit_small_patch14_reg4_dinov2', 'does not have the class token alone'),
        ('resnet50', 'is a ResNet'),
    ],
)
def test_other_names_are_refused_with_the_reason(name, reason):
    with pytest.raises(ValueError, match=reason), torch.device('meta'):
        TimmViT(name=name, image_size=(224, 224))


def test_names_are_architectures_and_nothing_is_downloaded(monkeypatch):
    import socket

    monkeypatch.setattr(socket, 'socket', None)
    with torch.device('meta'):
        for name in ('deit_small_patch16_224', 'vit_base_patch16_224.augreg_in21k'):
            spec = TimmViT(name=name, image_size=(384, 128), num_blocks=11).spec
            assert spec.grid == (24, 8)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r'\(7, 30\) is smaller than a patch of 8 pixels'):
        TimmViT(name=SIZES, image_size=(7, 30))
    with pytest.raises(ValueError, match=r'num_blocks is in 1\.\.3 for .*, got 4'):
        TimmViT(name=SIZES, image_size=(48, 24), num_blocks=4)
