"""CLIP's ResNet against open_clip's, and against the image tower of CM-MoCo's release.

tests/data/clip_resnet.npz: a narrow ModifiedResNet with the last stage at stride 1 on a 4 x 2 grid,
and a position embedding resized for it, as lib/models of github.com/BrandonHanx/TextReID, commit
0d00d8e0844f, computes them (float32, eval mode).
"""

import numpy as np
import pytest
import torch
from open_clip.modified_resnet import ModifiedResNet
from toy_data import ROOT

from sen_toolbox.models.image_encoders.clip_resnet import POSITION_KEY, CLIPResNet

SIZES = dict(layers=[1, 1, 2, 1], width=8, head_width=8, image_size=64)
ARCH = dict(embed_dim=12, vision_cfg=SIZES)


def square_tower():
    """open_clip's own, on a grid of 2 x 2, with other statistics than a new one."""
    torch.manual_seed(0)
    tower = ModifiedResNet(SIZES['layers'], output_dim=12, heads=32, image_size=64, width=8)
    for module in tower.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            torch.nn.init.uniform_(module.weight, 0.5, 1)
    return tower


@pytest.mark.parametrize('training', [False, True])
def test_it_computes_what_open_clip_does_with_its_weights(training, tmp_path):
    tower = square_tower().train(training)
    path = tmp_path / 'clip.pt'
    torch.save({f'visual.{key}': value for key, value in tower.state_dict().items()}, path)
    encoder = CLIPResNet(arch=ARCH, image_size=(64, 64), pretrained=str(path)).train(training)
    encoder.load_weights()
    images = torch.randn(4, 3, 64, 64)
    expected = tower.forward_intermediates(images)
    features = encoder(images, encoder.provides)
    torch.testing.assert_close(features.embedding, expected['image_features'])
    for number in range(4):
        ours = features.stages[f'layer{number + 1}']
        torch.testing.assert_close(ours, expected['image_intermediates'][number + 1])
    assert not [m for m in encoder.modules() if type(m) is torch.nn.BatchNorm2d]
    for name in ('bn1', 'layer3.1.bn2', 'layer4.0.downsample.1'):
        ours, theirs = encoder.get_submodule(name), tower.get_submodule(name)
        torch.testing.assert_close(ours.running_var, theirs.running_var)


@pytest.mark.parametrize('last_stride', [1, 2])
@pytest.mark.parametrize('size', [(64, 32), (63, 97), (130, 70)])
def test_the_shapes_of_maps_are_exact_for_any_size(size, last_stride):
    encoder = CLIPResNet(arch=ARCH, image_size=size, last_stride=last_stride).eval()
    stages = encoder(torch.randn(1, 3, *size), encoder.provides).stages
    assert {name: tuple(value.shape[1:]) for name, value in stages.items()} == encoder.spec.stages


def test_the_position_embedding_is_resized_to_the_last_map(tmp_path):
    tower, path = square_tower(), tmp_path / 'clip.pt'
    torch.save({f'visual.{key}': value for key, value in tower.state_dict().items()}, path)
    encoder = CLIPResNet(arch=ARCH, image_size=(192, 64), pretrained=str(path))
    encoder.load_weights()
    before, after = tower.attnpool.positional_embedding, encoder.attnpool.positional_embedding
    assert torch.equal(after[0], before[0])
    cells = before[1:].T.reshape(1, -1, 2, 2)
    expected = torch.nn.functional.interpolate(cells, (6, 2), mode='bilinear')
    torch.testing.assert_close(after[1:], expected[0].flatten(1).T)


def test_the_embedding_equals_that_of_cm_moco_at_stride_1():
    data = np.load(ROOT / 'tests/data/clip_resnet.npz')
    sizes = dict(layers=[1, 1, 1, 1], width=4, head_width=32, image_size=64)
    arch = dict(embed_dim=20, vision_cfg=sizes)
    encoder = CLIPResNet(arch=arch, image_size=(64, 32), last_stride=1).eval()
    state = {key: v for key, v in encoder.state_dict().items() if key.endswith('tracked')}
    for key in data.files:
        if key.startswith('state/'):
            state[key.removeprefix('state/')] = torch.from_numpy(data[key])
    encoder.load_state_dict(state)
    with torch.no_grad():
        embedding = encoder(torch.from_numpy(data['images']).float()).embedding
    np.testing.assert_allclose(embedding, data['embedding'], rtol=1e-5, atol=1e-5)
    # Its loader resizes CLIP's 7 x 7 cells to this grid.
    fitted = {POSITION_KEY: torch.from_numpy(data['position']).float()}
    encoder._fit(fitted, False)
    np.testing.assert_allclose(fitted[POSITION_KEY], data['resized'], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(('name', 'width'), [('RN50', 1024), ('RN101', 512)])
def test_published_models_fit_by_name(name, width):
    with torch.device('meta'):
        spec = CLIPResNet(arch=name, image_size=(384, 128), last_stride=1).spec
    assert spec.width == width
    assert spec.stages['layer4'] == (2048, 24, 8)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="'ViT-B-16' has another image tower: use CLIPVision"):
        CLIPResNet(arch='ViT-B-16', image_size=(384, 128))
    with pytest.raises(ValueError, match="'EVA02-B-16' has another image tower"):
        CLIPResNet(arch='EVA02-B-16', image_size=(384, 128))
    with pytest.raises(KeyError, match="no model 'RN49'"):
        CLIPResNet(arch='RN49', image_size=(384, 128))
    with pytest.raises(ValueError, match='last_stride is 1 or 2, got 3'):
        CLIPResNet(arch=ARCH, image_size=(64, 32), last_stride=3)
    with pytest.raises(ValueError, match=r'\(64, 20\) is too small: layer4 is \(2, 0\)'):
        CLIPResNet(arch=ARCH, image_size=(64, 20))
