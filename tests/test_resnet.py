"""ResNet against torchvision's, and against the stage maps of TIPCB's release.

tests/data/resnet.npz: a narrow ResNet with the last stage at stride 1 as models/model.py of
github.com/OrangeYHChen/TIPCB, commit 93aa7c53bf6f, runs it (float32, eval mode).
"""

import numpy as np
import pytest
import torch
import torchvision
from toy_data import ROOT

from sen_toolbox.models.image_encoders.resnet import ResNet

NARROW = dict(block='bottleneck', blocks=[1, 1, 2, 1], widths=[4, 8, 16, 32])
STAGES = ('layer1', 'layer2', 'layer3', 'layer4')


def torchvision_file(depth, path, **changes):
    """A random ResNet of torchvision with other statistics than a new one, and a file of it."""
    torch.manual_seed(0)
    model = getattr(torchvision.models, f'resnet{depth}')()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            torch.nn.init.uniform_(module.weight, 0.5, 1)
    # As in older files of torchvision.
    state = {k: v for k, v in model.state_dict().items() if not k.endswith('num_batches_tracked')}
    torch.save({**state, **changes}, path)
    return model


@pytest.mark.slow
@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('depth', [18, 50])
def test_it_computes_what_torchvision_does_with_its_weights(depth, training, tmp_path):
    reference = torchvision_file(depth, tmp_path / 'resnet.pth').train(training)
    reference.fc = torch.nn.Identity()
    maps = {}
    for name in STAGES:
        reference.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: maps.update({name: output})
        )
    encoder = ResNet(depth=depth, image_size=(66, 35), pretrained=str(tmp_path / 'resnet.pth'))
    encoder.load_weights()
    images = torch.randn(4, 3, 66, 35)
    features = encoder.train(training)(images, encoder.provides)
    expected = reference(images)
    torch.testing.assert_close(features.embedding, expected)
    for name in STAGES:
        torch.testing.assert_close(features.stages[name], maps[name])
    assert not [m for m in encoder.modules() if type(m) is torch.nn.BatchNorm2d]
    for name in ('bn1', 'layer4.0.bn1'):
        ours, theirs = encoder.get_submodule(name), reference.get_submodule(name)
        torch.testing.assert_close(ours.running_var, theirs.running_var)
    if training:
        features.embedding.square().sum().backward()
        expected.square().sum().backward()
        ours, theirs = encoder.conv1.weight.grad, reference.conv1.weight.grad
        assert (ours - theirs).norm() < 1e-4 * theirs.norm()


@pytest.mark.parametrize('depth', [18, 34, 50, 101, 152])
def test_its_parameters_are_those_of_torchvision_but_for_the_classifier(depth):
    with torch.device('meta'):
        encoder = ResNet(depth=depth, image_size=(384, 128))
        reference = getattr(torchvision.models, f'resnet{depth}')()
    del reference.fc
    shapes = {key: value.shape for key, value in encoder.state_dict().items()}
    assert shapes == {key: value.shape for key, value in reference.state_dict().items()}
    assert encoder.spec.stages['layer4'] == (encoder.spec.width, 12, 4)


@pytest.mark.parametrize('last_stride', [1, 2])
@pytest.mark.parametrize('size', [(64, 32), (33, 97), (50, 30), (1, 1), (65, 7)])
def test_the_shapes_of_maps_are_exact_for_any_size(size, last_stride):
    encoder = ResNet(depth=10, image_size=size, last_stride=last_stride).eval()
    stages = encoder(torch.randn(1, 3, *size), encoder.provides).stages
    assert {name: tuple(value.shape[1:]) for name, value in stages.items()} == encoder.spec.stages


def test_maps_equal_those_of_tipcb():
    data = np.load(ROOT / 'tests/data/resnet.npz')
    # base1 is conv1, bn1 and layer1; each other base is one stage.
    names = {'base1.0.': 'conv1.', 'base1.1.': 'bn1.', 'base1.4.': 'layer1.'}
    names |= {f'base{number}.0.': f'layer{number}.' for number in (2, 3, 4)}
    encoder = ResNet(depth=NARROW, image_size=(384, 32), last_stride=1).eval()
    state = {key: v for key, v in encoder.state_dict().items() if key.endswith('tracked')}
    for key in data.files:
        if key.startswith('state/'):
            key = key.removeprefix('state/')
            old = next(old for old in names if key.startswith(old))
            state[names[old] + key.removeprefix(old)] = torch.from_numpy(data[f'state/{key}'])
    encoder.load_state_dict(state)
    images = torch.from_numpy(data['images']).float() / 64 - 2
    with torch.no_grad():
        stages = encoder(images, encoder.provides).stages
    for name in ('layer3', 'layer4'):
        # The file holds the first 16 channels.
        np.testing.assert_allclose(stages[name][:, :16], data[name], rtol=1e-5, atol=1e-5)


def test_weights_that_do_not_fit_are_refused_by_key(tmp_path):
    path = tmp_path / 'resnet.pth'
    torchvision_file(18, path, stranger=torch.zeros(1), **{'conv1.weight': torch.zeros(1)})
    encoder = ResNet(depth=18, image_size=(64, 32), pretrained=str(path))
    with pytest.raises(ValueError, match=r'unexpected stranger; conv1\.weight has shape \(1,\)'):
        encoder.load_weights()
    encoder = ResNet(depth=50, image_size=(64, 32), pretrained=str(path))
    with pytest.raises(ValueError, match=r'missing layer1\.0\.conv3\.weight'):
        encoder.load_weights()


@pytest.mark.parametrize('stripes', [1, 4, 5])
def test_the_embedding_by_stripes_is_the_maxima_of_rows(stripes):
    """Five rows; two of four stripes share one with a neighbour."""
    encoder = ResNet(depth=NARROW, image_size=(70, 35), last_stride=1, stripes=stripes).eval()
    images = torch.randn(3, 3, 70, 35)
    features = encoder(images, frozenset({'stages.layer4'}))
    rows = features.stages['layer4'].amax(dim=3)
    bounds = {1: [(0, 5)], 4: [(0, 2), (1, 3), (2, 4), (3, 5)], 5: [(k, k + 1) for k in range(5)]}
    expected = [rows[:, :, top:end].amax(dim=2) for top, end in bounds[stripes]]
    assert torch.equal(features.embedding, torch.cat(expected, dim=1))
    assert encoder.spec.width == features.embedding.shape[1] == stripes * 128


def test_what_there_is_not_is_refused():
    for stripes in (0, 6):
        with pytest.raises(
            ValueError, match=f'stripes are 1 to the 5 rows of the map, got {stripes}'
        ):
            ResNet(depth=NARROW, image_size=(70, 35), last_stride=1, stripes=stripes)
    with pytest.raises(ValueError, match=r'depth 20, choose from \[10, 18, 34, 50, 101, 152\]'):
        ResNet(depth=20, image_size=(64, 32))
    with pytest.raises(ValueError, match='last_stride is 1 or 2, got 4'):
        ResNet(depth=10, image_size=(64, 32), last_stride=4)
    with pytest.raises(ValueError, match=r"block is one of \['basic', 'bottleneck'\], got 'wide'"):
        ResNet(depth={**NARROW, 'block': 'wide'}, image_size=(64, 32))
