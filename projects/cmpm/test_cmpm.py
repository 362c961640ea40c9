"""CMPM and CMPC against slow versions, and the contracts of the toolbox with other encoders."""

import math

import pytest
import torch
from closeness import assert_same
from mmengine.runner import Runner
from torchvision.models.resnet import BasicBlock, ResNet
from toy_data import NUM_CLASSES, ROOT, write_toy_data

from projects.cmpm.backbone import ResNetLSTM
from projects.cmpm.cmpm import CMPCHead, ProjectionMatchingLoss
from sen_toolbox.config import load_config
from sen_toolbox.models.features import BackboneSpec, PairFeatures
from sen_toolbox.registry import HEADS

pytestmark = pytest.mark.numeric

TINY = ROOT / 'projects/cmpm/configs/cmpm_tiny_synthetic.py'
TOKENS = torch.tensor([[49406, 320, 786, 49407, 0, 0], [49406, 530, 49407, 0, 0, 0]])


def pairs(pids):
    torch.manual_seed(0)
    return torch.randn(len(pids), 5), torch.randn(len(pids), 5), torch.tensor(pids)


def tiny_backbone(**kwargs):
    torch.manual_seed(0)
    sizes = dict(embed_dim=8, word_dim=8, hidden_dim=8, context_length=24, image_size=(64, 32))
    return ResNetLSTM(**{'depth': 10, **sizes, **kwargs})


def slow_cmpm(sources, targets, pids):
    """The paper's equations 1 to 4 in words: for one direction."""
    total = 0.0
    for i, source in enumerate(sources):
        projections = [float(source @ target / target.norm()) for target in targets]
        norm = sum(math.exp(value) for value in projections)
        matches = sum(bool(pids[i] == pid) for pid in pids)
        for j, value in enumerate(projections):
            p = math.exp(value) / norm
            q = (1 / matches) if pids[i] == pids[j] else 0.0
            total += p * math.log(p / (q + 1e-8))
    return total / len(sources)


@pytest.mark.parametrize('pids', [[0, 1, 2], [3, 3, 7, 3, 7], [4, 4, 4], [5]])
def test_cmpm_equals_the_sum_over_all_pairs(pids):
    image, text, pids = pairs(pids)
    expected = slow_cmpm(image, text, pids) + slow_cmpm(text, image, pids)
    assert ProjectionMatchingLoss()(image, text, pids).item() == pytest.approx(
        expected, rel=1e-5, abs=1e-6
    )


def test_cmpm_is_finite_where_a_probability_vanishes():
    image, text, pids = pairs([0, 1, 2])
    image = (1000 * image).requires_grad_()
    loss = ProjectionMatchingLoss()(image, text, pids)
    loss.backward()
    assert loss.isfinite()
    assert image.grad.isfinite().all()


def test_cmpc_equals_the_classification_of_one_projection_after_another():
    image, text, pids = pairs([0, 2, 2])
    head = CMPCHead(num_classes=4, spec=BackboneSpec(5, (2, 2), 0, (0, 0), 0, 10, 10))
    expected = {'image': 0.0, 'text': 0.0}
    right = {'image': 0, 'text': 0}
    for i, label in enumerate(pids.tolist()):
        for name, x, z in (('image', image[i], text[i]), ('text', text[i], image[i])):
            projected = (x @ z) / (z @ z) * z
            logits = [float(w @ projected / w.norm()) for w in head.weight.detach()]
            expected[name] -= logits[label] - math.log(sum(math.exp(value) for value in logits))
            right[name] += logits[label] == max(logits)
    logged = head(PairFeatures(image, text), dict(pids=pids), None)
    assert logged['loss'].item() == pytest.approx(sum(expected.values()) / 3, rel=1e-5)
    assert logged['image_acc'].item() == pytest.approx(right['image'] / 3)
    assert logged['text_acc'].item() == pytest.approx(right['text'] / 3)


def test_padding_and_other_captions_do_not_change_an_embedding():
    backbone = tiny_backbone().eval()
    together = backbone.embed_text(TOKENS)
    assert_same(backbone.embed_text(TOKENS[1:, :3]), together[1:])
    assert_same(backbone.embed_text(TOKENS[:1, :4]), together[:1])


def test_both_directions_of_the_lstm_read_the_words():
    backbone = tiny_backbone().eval()
    with torch.no_grad():
        # Only the first token is kept in the maximum: what follows reaches it backwards alone.
        first = backbone.lstm(backbone.word_embedding(TOKENS))[0][:, 0]
    assert not torch.equal(first[0], first[1])
    assert_same(first[0, :8], first[1, :8])  # forward: the start token only


@pytest.mark.parametrize('size', [(64, 32), (50, 30), (33, 97)])
def test_images_of_any_shape_are_embedded(size):
    assert tiny_backbone(image_size=size).embed_image(torch.randn(2, 3, *size)).shape == (2, 8)


def test_a_modality_that_is_not_given_is_left_out():
    backbone, images = tiny_backbone().eval(), torch.randn(2, 3, 64, 32)
    assert backbone(images, None).text is None
    assert backbone(None, TOKENS).image is None
    assert_same(backbone(None, TOKENS).text, backbone(images, TOKENS).text)


def test_what_the_encoders_do_not_give_is_refused():
    backbone = tiny_backbone()
    with pytest.raises(ValueError, match=r"has no \['image_tokens'\]"):
        backbone(torch.zeros(2, 3, 64, 32), TOKENS, reads=frozenset({'image', 'image_tokens'}))
    restoration = dict(
        type='RestorationHead',
        neck=dict(type='TextGuidedDecoder', depth=1),
        loss=dict(type='MaskedPixelLoss'),
        mask_ratio=0.7,
        spec=backbone.spec,
    )
    with pytest.raises(ValueError, match='on 0 patches'):
        HEADS.build(restoration)
    with pytest.raises(ValueError, match=r'depth 34, choose from \[10, 50\]'):
        tiny_backbone(depth=34)


def test_imagenet_weights_are_loaded_but_for_the_classifier(tmp_path):
    torch.manual_seed(1)
    imagenet = ResNet(BasicBlock, [1, 1, 1, 1])
    state = imagenet.state_dict()
    # As in older files of torchvision.
    state = {k: v for k, v in state.items() if not k.endswith('num_batches_tracked')}
    torch.save(state, tmp_path / 'resnet.pth')
    backbone = tiny_backbone(pretrained=str(tmp_path / 'resnet.pth'))
    backbone.init_weights()
    imagenet.fc = torch.nn.Identity()
    images = torch.randn(2, 3, 64, 32)
    assert_same(backbone.eval().trunk(images), imagenet.eval()(images))
    del state['layer3.0.conv1.weight']
    torch.save(state, tmp_path / 'resnet.pth')
    with pytest.raises(ValueError, match=r'missing layer3\.0\.conv1\.weight'):
        backbone.init_weights()
    with pytest.raises(FileNotFoundError, match='no weights at nowhere.pth'):
        tiny_backbone(pretrained='nowhere.pth').init_weights()


def test_both_encoders_of_an_earlier_training_are_loaded(tmp_path):
    torch.manual_seed(1)
    trained = tiny_backbone()
    trained.word_embedding.weight.data.add_(1)
    state = {f'backbone.{key}': value for key, value in trained.state_dict().items()}
    content = dict(state_dict={**state, 'heads.cmpc.weight': torch.zeros(2, 8)}, meta={})
    torch.save(content, tmp_path / 'epoch_1.pth')
    backbone = tiny_backbone(pretrained=str(tmp_path / 'epoch_1.pth'))
    backbone.init_weights()
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, trained.state_dict()[key]), key
    del content['state_dict']['backbone.lstm.bias_hh_l0']
    torch.save(content, tmp_path / 'epoch_1.pth')
    with pytest.raises(ValueError, match=r'missing lstm\.bias_hh_l0'):
        backbone.init_weights()


@pytest.fixture
def runner(tmp_path):
    write_toy_data(tmp_path / 'data')
    options = dict(dataset_type='CUHKPEDES', data_root=str(tmp_path / 'data'), batch_size=8)
    sizes = dict(num_classes=NUM_CLASSES, num_workers=0, max_epochs=2, image_size=(64, 32))
    config = load_config(TINY, {**options, **sizes, 'model.backbone.pretrained': None})
    config.work_dir = str(tmp_path / 'work')
    config.experiment_name = f'cmpm_{tmp_path.name}'
    return Runner.from_cfg(config)


@pytest.mark.slow
def test_every_parameter_gets_a_gradient(runner):
    model = runner.model
    batch = model.data_preprocessor(next(iter(runner.train_dataloader)), training=True)
    losses = model(**batch, mode='loss')
    assert {'cmpm.loss', 'cmpc.loss', 'cmpc.image_acc', 'cmpc.text_acc'} == set(losses)
    (losses['cmpm.loss'] + losses['cmpc.loss']).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.slow
def test_it_trains_and_is_evaluated(runner):
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    runner.train()
    after = runner.model.state_dict()
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert still == []
    metrics = runner.test()
    assert 0 <= metrics['t2i/R1'] <= 100
    assert metrics['t2i/R10'] >= metrics['t2i/R1']
