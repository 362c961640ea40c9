"""What holds for every image and text encoder: its spec, reads, gradients, precision, weights."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sen_toolbox.models.features import ImageFeatures, TextFeatures
from sen_toolbox.registry import IMAGE_ENCODERS, TEXT_ENCODERS
from sen_toolbox.text.tokens import Tokens

# Odd sides, and one grid without a square number of patches.
SIZE = (50, 30)
VIT = dict(patch_size=8, embed_dim=24, depth=3, num_heads=2, mlp_ratio=2)
CLIP_RESNET = dict(layers=[1, 1, 2, 1], width=8, head_width=8, image_size=64)
# timm's own smallest towers.
TIMM = dict(image_size=160, timm_model_pretrained=False, timm_proj=None)
TIMM_VIT = dict(TIMM, timm_model_name='test_vit', timm_pool='token')
TIMM_CONVNEXT = dict(TIMM, timm_model_name='test_convnext', timm_pool='', timm_proj='linear')
BERT_SIZES = dict(
    vocab_size=40, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=20,
    max_position_embeddings=12,
)  # fmt: skip
RNN = dict(
    type='RecurrentTextEncoder',
    tokenizer=SimpleNamespace(vocab_size=40, context_length=12),
    word_dim=6,
    hidden_dim=5,
)
CLIP = dict(
    embed_dim=12,
    quick_gelu=True,
    vision_cfg=dict(layers=2, width=16, head_width=8, patch_size=8),
    text_cfg=dict(layers=2, width=16, heads=2, context_length=12, vocab_size=40),
)
IMAGE = {
    'CLIP ViT': dict(type='CLIPVisionTransformer', arch=CLIP, image_size=SIZE, stride=6),
    # At SIZE its last step would be over a map of two columns: there the bfloat16 convolution of
    # oneDNN in torch 2.14.1 is wrong, partly infinite, on processors with AMX.
    'ResNet': dict(type='ResNet', depth=10, image_size=(66, 50)),
    'ResNet at stride 1': dict(type='ResNet', depth=10, image_size=SIZE, last_stride=1),
    'CLIP ResNet': dict(
        type='CLIPResNet',
        arch=dict(embed_dim=12, vision_cfg=CLIP_RESNET),
        image_size=(98, 70),
    ),
    'ViT': dict(type='TimmViT', name=VIT, image_size=SIZE, stride=6),
    'ViT of 2 blocks': dict(
        type='TimmViT', name=VIT, image_size=SIZE, num_blocks=2, final_norm=False
    ),
    'ViT of open_clip': dict(
        type='OpenCLIPImageEncoder',
        arch=dict(embed_dim=12, vision_cfg=TIMM_VIT),
        image_size=(64, 32),
    ),
    'ConvNeXt of open_clip': dict(
        type='OpenCLIPImageEncoder',
        arch=dict(embed_dim=12, vision_cfg=TIMM_CONVNEXT),
        image_size=(64, 32),
    ),
}
TEXT = {
    'CLIP': dict(type='CLIPTextTransformer', arch=CLIP),
    'BERT': dict(type='BERT', config=BERT_SIZES, dropout=0.0),
    'BERT with its pooler': dict(type='BERT', config=BERT_SIZES, dropout=0.0, pooled='pooler'),
    'LSTM': RNN,
    'GRU': dict(RNN, kind='gru', pooling='mean', average_directions=True, bias=False),
    'LSTM in one direction': dict(RNN, bidirectional=False, pooling='last', word_init='xavier'),
}
images = pytest.mark.parametrize('config', IMAGE.values(), ids=IMAGE)
texts = pytest.mark.parametrize('config', TEXT.values(), ids=TEXT)
both = pytest.mark.parametrize('config', [*IMAGE.values(), *TEXT.values()], ids=[*IMAGE, *TEXT])


def part_of(config: dict) -> str:
    return 'image' if 'image_size' in config else 'text'


def build(config: dict, **options) -> nn.Module:
    torch.manual_seed(0)
    registry = IMAGE_ENCODERS if part_of(config) == 'image' else TEXT_ENCODERS
    encoder = registry.build({**config, **options})
    with torch.no_grad():
        for parameter in encoder.parameters():
            # Some blocks begin as the identity, so that nothing would reach their inside.
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


def batch(config: dict) -> torch.Tensor | Tokens:
    torch.manual_seed(1)
    if part_of(config) == 'image':
        return torch.randn(4, 3, *config['image_size'])
    lengths = torch.tensor([12, 3, 7, 1])
    mask = torch.arange(12) < lengths[:, None]
    # CLIP sees a caption up to its end, BERT knows all of it at the start.
    end = lengths - 1 if config['type'] == 'CLIPTextTransformer' else torch.zeros(4).long()
    return Tokens(torch.randint(1, 40, (4, 12)) * mask, mask, end)


def values(features: ImageFeatures | TextFeatures) -> dict[str, torch.Tensor]:
    """What was computed, by the names that `reads` has for it."""
    found = {name: getattr(features, name) for name in ('tokens', 'attention')}
    if isinstance(features, ImageFeatures):
        found |= {f'stages.{name}': value for name, value in features.stages.items()}
    found |= {f'extra.{name}': value for name, value in features.extra.items()}
    return {name: value for name, value in found.items() if value is not None}


@both
def test_what_is_read_is_there_and_nothing_else(config):
    encoder = build(config).eval()
    every = encoder(batch(config), encoder.provides)
    assert set(values(every)) == encoder.provides
    none = encoder(batch(config), frozenset({'embedding'}))
    assert values(none) == {}
    torch.testing.assert_close(none.embedding, every.embedding, rtol=1e-5, atol=1e-5)
    for name in encoder.provides:
        one = encoder(batch(config), frozenset({name}))
        assert set(values(one)) == {name}
        torch.testing.assert_close(values(one)[name], values(every)[name])


@images
def test_shapes_are_those_of_the_spec(config):
    encoder = build(config).eval()
    features, spec = encoder(batch(config), encoder.provides), encoder.spec
    assert spec.image_size == config['image_size']
    assert features.embedding.shape == (4, spec.width)
    assert {name: tuple(m.shape[1:]) for name, m in features.stages.items()} == spec.stages
    if 'tokens' in encoder.provides:
        assert features.tokens.shape == (4, 1 + spec.num_patches, spec.width)
    else:
        assert spec.num_patches == 0
    if 'attention' in encoder.provides:
        assert features.attention.shape == (4, spec.num_patches)


@texts
def test_shapes_of_captions_are_those_of_the_spec(config):
    encoder, tokens = build(config).eval(), batch(config)
    features, spec = encoder(tokens, encoder.provides), encoder.spec
    assert (spec.vocab_size, spec.context_length) == (40, 12)
    assert features.embedding.shape == (4, spec.width)
    assert features.tokens.shape == (4, 12, spec.width)
    assert features.mask is tokens.mask
    assert features.end is tokens.end
    if 'attention' in encoder.provides:
        assert features.attention.shape == (4, 12)


@both
def test_a_feature_that_it_does_not_have_is_refused_with_the_choices(config):
    encoder = build(config)
    with pytest.raises(ValueError, match=r"has no \['stages.layer9'\], only \["):
        encoder(batch(config), frozenset({'stages.layer9'}))


@images
def test_other_sizes_are_refused_and_so_are_some_patches_where_it_has_none(config):
    encoder = build(config)
    with pytest.raises(ValueError, match=r'expected images of \(\d+, \d+\) \(rows, columns\), got'):
        encoder(torch.zeros(1, 3, 20, 20))
    if not encoder.spec.takes_some_patches:
        with pytest.raises(ValueError, match='cannot encode some patches only'):
            encoder(batch(config), keep=torch.zeros(4, 1).long())


@texts
def test_captions_that_are_too_long_are_refused(config):
    mask = torch.ones(1, 13).bool()
    with pytest.raises(ValueError, match='captions of 13 tokens exceed the context of 12'):
        build(config)(Tokens(mask.long(), mask, torch.zeros(1).long()))


@texts
def test_padding_and_other_captions_change_nothing(config):
    encoder, tokens = build(config).eval(), batch(config)
    assert encoder.spec.cuts_padding
    together = encoder(tokens, encoder.provides)
    for row, length in enumerate(tokens.lengths.tolist()):
        alone = encoder(tokens[row : row + 1].cut(length), encoder.provides)
        torch.testing.assert_close(alone.embedding[0], together.embedding[row])
        for name, value in values(alone).items():
            expected = values(together)[name][row, :length]
            torch.testing.assert_close(value[0], expected, rtol=1e-5, atol=1e-5)


@both
def test_every_parameter_gets_a_gradient_from_the_embedding(config):
    encoder = build(config).train()
    embedding = encoder(batch(config)).embedding
    (embedding * torch.randn(embedding.shape[1])).square().sum().backward()
    without = [name for name, p in encoder.named_parameters() if p.grad is None]
    assert without == []
    assert [name for name, p in encoder.named_parameters() if not p.grad.any()] == []


@both
def test_a_step_in_bfloat16_is_near_to_one_in_float32(config):
    encoder = build(config).train()
    exact = encoder(batch(config), encoder.provides).embedding
    with torch.autocast('cpu', torch.bfloat16):
        features = encoder(batch(config), encoder.provides)
    assert all(value.isfinite().all() for value in values(features).values())
    # 8 bits of mantissa, through some layers.
    assert (features.embedding.float() - exact).norm() < 0.05 * exact.norm()
    features.embedding.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


@both
def test_a_checkpoint_of_the_toolbox_is_read_again_and_its_keys_are_strict(config, tmp_path):
    part, path = part_of(config), tmp_path / 'epoch_1.pth'
    trained = build(config)
    state = {f'backbone.{part}.{key}': value for key, value in trained.state_dict().items()}
    foreign = {'heads.identity.weight': torch.zeros(2), 'backbone.other.weight': torch.zeros(2)}
    torch.save(dict(meta={}, state_dict={**state, **foreign}), path)
    encoder = build(config, pretrained=str(path))
    nn.init.zeros_(next(encoder.parameters()))
    encoder.load_weights()
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, trained.state_dict()[key]), key
    first = next(iter(trained.state_dict()))
    foreign[f'backbone.{part}.stranger'] = torch.zeros(2)
    del state[f'backbone.{part}.{first}']
    torch.save(dict(meta={}, state_dict={**state, **foreign}), path)
    with pytest.raises(ValueError, match=f'missing {first}; unexpected stranger'):
        encoder.load_weights()


@both
def test_a_missing_file_is_named_and_without_one_nothing_is_loaded(config, tmp_path):
    build(config).load_weights()
    encoder = build(config, pretrained=str(tmp_path / 'nowhere.pth'))
    with pytest.raises(FileNotFoundError, match=r'nowhere\.pth.*set .*pretrained to '):
        encoder.load_weights()
