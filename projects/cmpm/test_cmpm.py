"""CMPM and CMPC against slow versions, and the contracts of the toolbox with other encoders."""

import math

import pytest
import torch
from mmengine.runner import Runner
from toy_data import NUM_CLASSES, ROOT, write_toy_data

from sen_toolbox.config import load_config
from sen_toolbox.models.features import (
    ImageFeatures,
    ImageSpec,
    PairFeatures,
    PairSpec,
    TextFeatures,
    TextSpec,
)
from sen_toolbox.models.heads import CMPCHead
from sen_toolbox.models.losses import ProjectionMatchingLoss
from sen_toolbox.registry import BACKBONES, HEADS
from sen_toolbox.text.tokenizers import CLIPTokenizer

pytestmark = pytest.mark.numeric

TINY = ROOT / 'projects/cmpm/configs/cmpm_tiny_synthetic.py'
SPEC = PairSpec(5, ImageSpec(5, (2, 2)), TextSpec(5, 10, 10))


def pairs(labels):
    torch.manual_seed(0)
    return torch.randn(len(labels), 5), torch.randn(len(labels), 5), torch.tensor(labels)


def slow_cmpm(sources, targets, labels):
    """The paper's equations 1 to 4 in words: for one direction."""
    total = 0.0
    for i, source in enumerate(sources):
        projections = [float(source @ target / target.norm()) for target in targets]
        norm = sum(math.exp(value) for value in projections)
        matches = sum(bool(labels[i] == label) for label in labels)
        for j, value in enumerate(projections):
            p = math.exp(value) / norm
            q = (1 / matches) if labels[i] == labels[j] else 0.0
            total += p * math.log(p / (q + 1e-8))
    return total / len(sources)


@pytest.mark.parametrize('labels', [[0, 1, 2], [3, 3, 7, 3, 7], [4, 4, 4], [5]])
def test_cmpm_equals_the_sum_over_all_pairs(labels):
    image, text, labels = pairs(labels)
    expected = slow_cmpm(image, text, labels) + slow_cmpm(text, image, labels)
    assert ProjectionMatchingLoss()(image, text, labels).item() == pytest.approx(
        expected, rel=1e-5, abs=1e-6
    )


def test_cmpm_is_finite_where_a_probability_vanishes():
    image, text, labels = pairs([0, 1, 2])
    image = (1000 * image).requires_grad_()
    loss = ProjectionMatchingLoss()(image, text, labels)
    loss.backward()
    assert loss.isfinite()
    assert image.grad.isfinite().all()


def test_cmpc_equals_the_classification_of_one_projection_after_another():
    image, text, labels = pairs([0, 2, 2])
    head = CMPCHead(num_classes=4, spec=SPEC)
    expected = {'image': 0.0, 'text': 0.0}
    right = {'image': 0, 'text': 0}
    for i, label in enumerate(labels.tolist()):
        for name, x, z in (('image', image[i], text[i]), ('text', text[i], image[i])):
            projected = (x @ z) / (z @ z) * z
            logits = [float(w @ projected / w.norm()) for w in head.weight.detach()]
            expected[name] -= logits[label] - math.log(sum(math.exp(value) for value in logits))
            right[name] += logits[label] == max(logits)
    pair = PairFeatures(ImageFeatures(image), TextFeatures(text))
    logged = head(pair, dict(labels=labels), None)
    assert logged['loss'].item() == pytest.approx(sum(expected.values()) / 3, rel=1e-5)
    assert logged['image_acc'].item() == pytest.approx(right['image'] / 3)
    assert logged['text_acc'].item() == pytest.approx(right['text'] / 3)


def tiny_backbone(**settings):
    """The encoders of the tiny config, and smaller."""
    torch.manual_seed(0)
    sizes = {'image_size': (64, 32), 'context_length': 24, 'model.backbone.embed_dim': 8}
    sizes |= {f'model.backbone.text.{name}': 8 for name in ('word_dim', 'hidden_dim')}
    starts = {f'model.backbone.{part}pretrained': None for part in ('', 'image.', 'text.')}
    return BACKBONES.build(load_config(TINY, {**sizes, **starts, **settings}).model.backbone)


def test_it_has_the_encoders_of_the_paper_and_gives_global_embeddings():
    backbone = tiny_backbone().eval()
    tokens = CLIPTokenizer(24)(['a man', 'a woman in a red coat']).map(torch.from_numpy)
    pair = backbone(torch.randn(2, 3, 64, 32), tokens)
    assert pair.image.embedding.shape == pair.text.embedding.shape == (2, 8)
    kinds = type(backbone.image).__name__, type(backbone.text).__name__
    assert kinds == ('ResNet', 'TwoLSTMs')
    assert not backbone.text.both_forwards


def test_a_head_that_restores_patches_is_refused():
    restoration = dict(
        type='RestorationHead',
        neck=dict(type='TextGuidedDecoder', depth=1),
        loss=dict(type='MaskedPixelLoss'),
        mask_ratio=0.7,
        spec=tiny_backbone().spec,
    )
    with pytest.raises(ValueError, match='needs an image encoder that encodes some patches alone'):
        HEADS.build(restoration)


def test_encoders_and_projections_of_an_earlier_training_are_loaded(tmp_path):
    torch.manual_seed(1)
    trained = tiny_backbone()
    for parameter in trained.parameters():
        parameter.data.add_(1)
    state = {f'backbone.{key}': value for key, value in trained.state_dict().items()}
    content = dict(state_dict={**state, 'heads.cmpc.weight': torch.zeros(2, 8)}, meta={})
    path = tmp_path / 'epoch_1.pth'
    torch.save(content, path)
    parts = ('', 'image.', 'text.')
    backbone = tiny_backbone(**{f'model.backbone.{part}pretrained': str(path) for part in parts})
    backbone.load_weights()
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, trained.state_dict()[key]), key
    del content['state_dict']['backbone.text_projection.norm.bias']
    torch.save(content, path)
    with pytest.raises(ValueError, match='does not fit the model: missing norm.bias'):
        backbone.load_weights()


@pytest.fixture
def runner(tmp_path):
    write_toy_data(tmp_path / 'data')
    options = dict(dataset_type='CUHKPEDES', data_root=str(tmp_path / 'data'), batch_size=8)
    sizes = dict(num_classes=NUM_CLASSES, num_workers=0, max_epochs=2, image_size=(64, 32))
    starts = {f'model.backbone.{part}pretrained': None for part in ('', 'image.', 'text.')}
    config = load_config(TINY, {**options, **sizes, **starts})
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
