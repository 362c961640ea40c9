"""open_clip's other towers: their own numbers, other grids, weights, and what is refused."""

import pytest
import torch
from closeness import assert_same
from open_clip.model import CLIP, CustomTextCLIP
from safetensors.torch import save_file

from sen_toolbox.models.features import GLOBAL_FEATURES
from sen_toolbox.registry import BACKBONES

pytestmark = pytest.mark.numeric

TOKENS = torch.tensor([[49406, 320, 786, 49407, 0, 0], [49406, 530, 49407, 0, 0, 0]])
TEXT = dict(layers=1, width=64, heads=1, context_length=12)
# timm's and open_clip's own smallest towers of each kind.
TIMM = dict(timm_proj=None, timm_model_pretrained=False)
VIT = dict(TIMM, image_size=160, timm_model_name='test_vit', timm_pool='token')
VIT_AVERAGED = dict(TIMM, image_size=160, timm_model_name='test_vit4', timm_pool='avg')
CONVNEXT = dict(
    TIMM, image_size=160, timm_model_name='test_convnext', timm_pool='', timm_proj='linear'
)
RESNET = dict(image_size=160, layers=[1, 1, 1, 1], width=8, head_width=8)
TOWERS = {'vit': VIT, 'averaged vit': VIT_AVERAGED, 'convnext': CONVNEXT, 'resnet': RESNET}
GRID_OF = {'vit': 'visual.trunk.pos_embed', 'resnet': 'visual.attnpool.positional_embedding'}
towers = pytest.mark.parametrize('kind', TOWERS)


def arch(kind, **text):
    return dict(embed_dim=16, vision_cfg=TOWERS[kind], text_cfg={**TEXT, **text})


def build(kind, image_size=(160, 160), pretrained=None, **text):
    torch.manual_seed(1)
    config = dict(type='OpenCLIPBackbone', arch=arch(kind, **text), image_size=image_size)
    return BACKBONES.build({**config, 'pretrained': pretrained}).eval()


def square_model(kind, cls=CustomTextCLIP, **text):
    """open_clip's own model, with statistics of batch norm that are not those of a new model."""
    torch.manual_seed(0)
    model = cls(**arch(kind, **text))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
    return model.eval()


@towers
@pytest.mark.parametrize('no_causal_mask', [False, True])
def test_features_equal_those_of_open_clip(kind, no_causal_mask, tmp_path):
    clip = square_model(kind, no_causal_mask=no_causal_mask)
    torch.save(clip.state_dict(), tmp_path / 'clip.pt')
    backbone = build(kind, pretrained=str(tmp_path / 'clip.pt'), no_causal_mask=no_causal_mask)
    backbone.init_weights()
    images = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        feats = backbone(images, TOKENS, backbone.fields)
        assert_same(feats.image, clip.encode_image(images))
        assert_same(backbone.embed_image(images), clip.encode_image(images))
        padded = torch.nn.functional.pad(TOKENS, (0, 6))
        assert_same(feats.text, clip.encode_text(padded))
        assert_same(backbone.embed_text(TOKENS), feats.text)
    assert feats.text_tokens.shape == (2, 6, 16)


@towers
def test_the_grid_need_not_be_square(kind):
    backbone = build(kind, (192, 64))
    feats = backbone(torch.randn(2, 3, 192, 64), TOKENS, backbone.fields)
    assert feats.image.shape == (2, 16)
    assert backbone.spec.image_size == (192, 64)
    if kind == 'vit':
        assert (backbone.spec.grid_size, backbone.spec.patch_size) == ((12, 4), 16)
        assert feats.image_tokens.shape == (2, 1 + 48, 16)
        assert_same(feats.image_tokens[:, 0], feats.image)
    else:
        assert backbone.spec.num_patches == 0
        assert feats.image_tokens is None


@towers
def test_a_modality_that_is_not_given_is_left_out(kind):
    backbone, images = build(kind, (64, 32)), torch.randn(2, 3, 64, 32)
    alone = backbone(images, None, backbone.fields)
    assert (alone.text, alone.text_tokens) == (None, None)
    assert_same(alone.image, backbone(images, TOKENS).image)
    assert backbone(None, TOKENS, backbone.fields).image is None


@towers
def test_every_parameter_gets_a_gradient(kind):
    backbone = build(kind, (64, 32)).train()
    feats = backbone(torch.randn(4, 3, 64, 32), TOKENS.repeat(2, 1))
    weights = torch.randn(16)
    ((feats.image @ weights).square() + (feats.text @ weights)).sum().backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize('kind', GRID_OF)
def test_a_square_position_embedding_is_resized_to_the_grid_and_ours_is_kept(kind, tmp_path):
    key = GRID_OF[kind]
    clip = square_model(kind)
    save_file(clip.state_dict(), tmp_path / 'clip.safetensors')
    # As many cells as the square, so that only the shape tells them apart.
    side = {'vit': 10, 'resnet': 5}[kind]
    size = {'vit': (16 * 20, 16 * 5), 'resnet': (32 * 25, 32 * 1)}[kind]
    backbone = build(kind, size, pretrained=str(tmp_path / 'clip.safetensors'))
    backbone.init_weights()
    before, after = (m.get_parameter(key).detach().flatten(0, -2) for m in (clip, backbone))
    assert before.shape == after.shape == (1 + side * side, before.shape[1])
    assert_same(after[0], before[0])
    assert not torch.allclose(after, before)
    # A checkpoint of the toolbox has the model's own grid.
    state = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    torch.save({'meta': {}, 'state_dict': state}, tmp_path / 'ours.pth')
    again = build(kind, size, pretrained=str(tmp_path / 'ours.pth'))
    again.init_weights()
    assert torch.equal(again.get_parameter(key), backbone.get_parameter(key))


def test_an_embedding_without_a_class_row_is_resized_too(tmp_path):
    clip = square_model('averaged vit')
    clip.visual.trunk.pos_embed.data.fill_(3.0)
    torch.save(clip.state_dict(), tmp_path / 'clip.pt')
    backbone = build('averaged vit', (192, 64), pretrained=str(tmp_path / 'clip.pt'))
    backbone.init_weights()
    position = backbone.visual.trunk.pos_embed
    assert position.shape[1] - 48 == clip.visual.trunk.pos_embed.shape[1] - 100
    assert (position == 3.0).all()


def test_weights_with_the_text_beside_the_image_tower_are_read(tmp_path):
    clip = square_model('resnet', CLIP)
    assert 'positional_embedding' in clip.state_dict()
    torch.save(clip.state_dict(), tmp_path / 'clip.pt')
    backbone = build('resnet', pretrained=str(tmp_path / 'clip.pt'))
    backbone.init_weights()
    assert_same(backbone.text.positional_embedding, clip.positional_embedding)


def test_weights_of_another_model_are_refused_by_key(tmp_path):
    torch.save(square_model('vit').state_dict(), tmp_path / 'clip.pt')
    with pytest.raises(ValueError, match=r'missing visual\.trunk\.stem'):
        build('convnext', pretrained=str(tmp_path / 'clip.pt')).init_weights()


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('ViT-B-16', 'is a plain ViT, which CLIPBackbone takes'),
        ('ViT-B-16-SigLIP', 'has a vocabulary of 32000, and Tokenize writes the 49408 of CLIP'),
        ('roberta-ViT-B-32', 'takes the text tower roberta-base and its tokenizer from a download'),
        ('coca_ViT-B-32', 'is a captioner'),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(name, reason):
    with pytest.raises(ValueError, match=f"does not take '{name}': it {reason}"):
        BACKBONES.build(dict(type='OpenCLIPBackbone', arch=name, image_size=(384, 128)))


def test_other_poolings_of_the_text_sizes_and_requests_are_refused():
    with pytest.raises(ValueError, match="pools its text by 'last'"):
        build('vit', pool_type='last')
    with pytest.raises(ValueError, match=r'\(150, 64\) is no multiple of 16'):
        build('vit', (150, 64))
    with pytest.raises(KeyError, match="no model 'EVA03'"):
        BACKBONES.build(dict(type='OpenCLIPBackbone', arch='EVA03', image_size=(32, 32)))
    backbone = build('convnext', (64, 32))
    images = torch.zeros(2, 3, 64, 32)
    with pytest.raises(ValueError, match=r"has no \['image_tokens'\], only"):
        backbone(images, TOKENS, GLOBAL_FEATURES | {'image_tokens'})
    with pytest.raises(ValueError, match='gives no image tokens'):
        backbone.encode_image(images)
    with pytest.raises(ValueError, match='cannot encode some patches only'):
        build('vit', (64, 32)).encode_image(images, keep=torch.zeros(2, 1).long())
    with pytest.raises(ValueError, match=r'expected images of \(64, 32\)'):
        backbone.embed_image(torch.zeros(2, 3, 32, 64))
    with pytest.raises(ValueError, match='captions of 13 tokens exceed the context of 12'):
        backbone.embed_text(torch.zeros(1, 13).long())


@pytest.mark.parametrize(
    ('name', 'grid', 'context'),
    [
        ('EVA02-B-16', (24, 8), 77),
        ('MobileCLIP-B', (24, 8), 77),
        ('MobileCLIP-S1', (0, 0), 77),
        ('PE-Core-T-16-384', (0, 0), 32),
        ('ViTamin-S', (0, 0), 77),
        ('RN50', (0, 0), 77),
    ],
)
def test_published_models_fit_by_name(name, grid, context):
    with torch.device('meta'):
        config = dict(type='OpenCLIPBackbone', arch=name, image_size=(384, 128))
        spec = BACKBONES.build(config).spec
    assert (spec.grid_size, spec.context_length, spec.vocab_size) == (grid, context, 49408)
