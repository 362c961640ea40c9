"""open_clip's towers from timm: their own numbers, other grids, weights, and what is refused."""

import pytest
import torch
from open_clip.model import CustomTextCLIP
from safetensors.torch import save_file

from sen_toolbox.models.image_encoders import OpenCLIPImageEncoder

# timm's and open_clip's own smallest towers of each kind.
TIMM = dict(image_size=160, timm_proj=None, timm_model_pretrained=False)
TOWERS = {
    'vit': dict(TIMM, timm_model_name='test_vit', timm_pool='token'),
    'averaged vit': dict(TIMM, timm_model_name='test_vit4', timm_pool='avg'),
    'convnext': dict(TIMM, timm_model_name='test_convnext', timm_pool='', timm_proj='linear'),
}
POSITION = 'trunk.pos_embed'
towers = pytest.mark.parametrize('kind', TOWERS)


def arch(kind):
    return dict(embed_dim=16, vision_cfg=TOWERS[kind])


def build(kind, image_size=(160, 160), pretrained=None):
    torch.manual_seed(1)
    return OpenCLIPImageEncoder(
        arch=arch(kind), image_size=image_size, pretrained=pretrained
    ).eval()


def square_model(kind, path):
    """open_clip's own model with a small text tower, and a file of it."""
    torch.manual_seed(0)
    text = dict(layers=1, width=64, heads=1, context_length=12)
    model = CustomTextCLIP(**arch(kind), text_cfg=text).eval()
    if path.suffix == '.safetensors':
        save_file(model.state_dict(), path)
    else:
        torch.save(model.state_dict(), path)
    return model


@towers
def test_features_equal_those_of_open_clip(kind, tmp_path):
    clip = square_model(kind, tmp_path / 'clip.pt')
    encoder = build(kind, pretrained=str(tmp_path / 'clip.pt'))
    encoder.load_weights()
    images = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        expected = clip.encode_image(images)
        torch.testing.assert_close(encoder(images).embedding, expected)
        features = encoder(images, encoder.provides)
    torch.testing.assert_close(features.embedding, expected)


@towers
def test_the_grid_need_not_be_square(kind):
    encoder = build(kind, (192, 64))
    features = encoder(torch.randn(2, 3, 192, 64), encoder.provides)
    assert features.embedding.shape == (2, 16)
    if kind == 'vit':
        assert (encoder.spec.grid, encoder.spec.patch_size) == ((12, 4), 16)
        assert features.tokens.shape == (2, 1 + 48, 16)
        torch.testing.assert_close(features.tokens[:, 0], features.embedding)
    else:
        assert (encoder.spec.grid, encoder.spec.patch_size) == (None, None)


def test_a_square_position_embedding_is_resized_to_the_grid_and_ours_is_kept(tmp_path):
    clip = square_model('vit', tmp_path / 'clip.safetensors')
    # As many cells as the square, so that only the shape tells them apart.
    size = (16 * 20, 16 * 5)
    encoder = build('vit', size, pretrained=str(tmp_path / 'clip.safetensors'))
    encoder.load_weights()
    before = clip.visual.get_parameter(POSITION).detach()
    after = encoder.get_parameter(POSITION).detach()
    assert before.shape == after.shape == (1, 1 + 100, before.shape[2])
    torch.testing.assert_close(after[:, 0], before[:, 0])
    assert not torch.allclose(after, before)
    # A checkpoint of the toolbox has the model's own grid.
    state = {f'backbone.image.{k}': v for k, v in encoder.state_dict().items()}
    torch.save({'meta': {}, 'state_dict': state}, tmp_path / 'ours.pth')
    again = build('vit', size, pretrained=str(tmp_path / 'ours.pth'))
    again.load_weights()
    assert torch.equal(again.get_parameter(POSITION), after)


def test_an_embedding_without_a_class_row_is_resized_too(tmp_path):
    clip = square_model('averaged vit', tmp_path / 'clip.pt')
    clip.visual.trunk.pos_embed.data.fill_(3.0)
    torch.save(clip.state_dict(), tmp_path / 'clip.pt')
    encoder = build('averaged vit', (192, 64), pretrained=str(tmp_path / 'clip.pt'))
    encoder.load_weights()
    position = encoder.trunk.pos_embed
    assert position.shape[1] - 48 == clip.visual.trunk.pos_embed.shape[1] - 100
    assert (position == 3.0).all()


def test_weights_of_another_model_are_refused_by_key(tmp_path):
    square_model('vit', tmp_path / 'clip.pt')
    with pytest.raises(ValueError, match=r'missing trunk\.stem'):
        build('convnext', pretrained=str(tmp_path / 'clip.pt')).load_weights()


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('ViT-B-16', 'use CLIPVisionTransformer for a plain ViT'),
        ('RN50', "'RN50' has none: use .* CLIPResNet for a ResNet of CLIP"),
    ],
)
def test_towers_that_have_an_encoder_of_their_own_are_refused(name, reason):
    with pytest.raises(ValueError, match=reason):
        OpenCLIPImageEncoder(arch=name, image_size=(384, 128))


def test_names_and_sizes_that_do_not_fit_are_refused():
    with pytest.raises(KeyError, match="no model 'EVA03'"):
        OpenCLIPImageEncoder(arch='EVA03', image_size=(32, 32))
    with pytest.raises(ValueError, match=r'\(150, 64\) is not a multiple of 16'):
        build('vit', (150, 64))
    elsewhere = dict(embed_dim=8, vision_cfg={**TOWERS['vit'], 'timm_model_name': 'hf-hub:a/b'})
    with pytest.raises(ValueError, match="names 'hf-hub:a/b', which timm reads from elsewhere"):
        OpenCLIPImageEncoder(arch=elsewhere, image_size=(64, 64))


@pytest.mark.parametrize(
    ('name', 'grid'),
    [
        ('EVA02-B-16', (24, 8)),
        ('MobileCLIP-B', (24, 8)),
        ('MobileCLIP-S1', None),
        ('PE-Core-T-16-384', None),
        ('ViTamin-S', None),
        ('convnext_base', None),
    ],
)
def test_published_models_fit_by_name(name, grid):
    with torch.device('meta'):
        assert OpenCLIPImageEncoder(arch=name, image_size=(384, 128)).spec.grid == grid
