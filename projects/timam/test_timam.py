"""TIMAM's losses against slow ones, its two optimisers against torch's, and who fools whom."""

import math
from copy import deepcopy

import pytest
import torch
from open_choices import alternatives, step_with
from tiny_methods import (
    build_model,
    build_optim_wrapper,
    pair_batch,
    step_and_gradients,
    tiny_config,
)
from toy_data import ROOT

from projects.timam.modality import ModalityHead
from projects.timam.optimizer import SGDAndAdam
from sen_toolbox.config import load_config
from sen_toolbox.models.features import ImageFeatures, PairFeatures, PairSpec, TextFeatures
from sen_toolbox.models.heads import UnitClassifierHead
from sen_toolbox.registry import PARAM_SCHEDULERS

pytestmark = pytest.mark.numeric

CONFIGS = ROOT / 'projects/timam/configs'
SPEC = PairSpec(5, None, None)
IMAGE_OF = torch.tensor([0, 0, 1, 2])


def pair():
    """Three images and four captions."""
    torch.manual_seed(0)
    image, text = (torch.randn(n, 5).double().requires_grad_() for n in (3, 4))
    return PairFeatures(ImageFeatures(image), TextFeatures(text), IMAGE_OF)


def head(**options):
    torch.manual_seed(1)
    return ModalityHead(hidden_dim=7, spec=SPEC, **options).double()


@torch.no_grad()
def chance(head, embedding):
    """That an embedding is an image's, by the two layers in words."""
    first, _, last = head.discriminator
    hidden = [float(row @ embedding + b) for row, b in zip(first.weight, first.bias, strict=True)]
    hidden = [max(value, 0.2 * value) for value in hidden]
    score = (
        sum(float(w) * h for w, h in zip(last.weight[0], hidden, strict=True)) + last.bias.item()
    )
    return 1 / (1 + math.exp(-score))


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_the_discriminators_loss_is_the_papers(smoothing):
    given, found = pair(), head(smoothing=smoothing)
    logged = found(given, {}, None)
    images = [chance(found, given.image.embedding[row]) for row in IMAGE_OF.tolist()]
    texts = [chance(found, text) for text in given.text.embedding]
    expected = (
        -sum((1 - smoothing) * math.log(p) + smoothing * math.log(1 - p) for p in images) / 4
        - sum(math.log(1 - p) for p in texts) / 4
    )
    assert logged['loss'].item() == pytest.approx(expected, rel=1e-9)
    right = sum(p > 0.5 for p in images) / 8 + sum(p < 0.5 for p in texts) / 8
    assert logged['acc'].item() == pytest.approx(right)


def gradients(found):
    given = pair()
    found.zero_grad()
    found(given, {}, None)['loss'].backward()
    return (
        given.image.embedding.grad,
        given.text.embedding.grad,
        [p.grad for p in found.parameters()],
    )


def plain_gradients(found):
    """Those of the loss without any reversal."""
    given = pair()
    found.zero_grad()
    image = found.discriminator(given.image.embedding[IMAGE_OF])
    text = found.discriminator(given.text.embedding)
    (-image.sigmoid().log().mean() - (1 - text.sigmoid()).log().mean()).backward()
    return (
        given.image.embedding.grad,
        given.text.embedding.grad,
        [p.grad for p in found.parameters()],
    )


def test_the_encoders_learn_the_opposite_of_what_the_discriminator_learns():
    found = head(strength=0.5)
    image, text, own = plain_gradients(found)
    own = [gradient.clone() for gradient in own]
    reversed_image, reversed_text, unchanged = gradients(found)
    torch.testing.assert_close(reversed_image, -0.5 * image)
    torch.testing.assert_close(reversed_text, -0.5 * text)
    for gradient, expected in zip(unchanged, own, strict=True):
        torch.testing.assert_close(gradient, expected)


def test_in_turns_one_side_has_no_gradient_and_a_checkpoint_knows_whose_turn_it_is():
    found = head(alternates=True)
    expected_image, _, expected = plain_gradients(found)
    expected = [gradient.clone() for gradient in expected]
    for step in range(4):
        image, text, own = gradients(found)
        if step % 2:
            torch.testing.assert_close(image, -expected_image)
            assert text.any() and not any(gradient.any() for gradient in own)
        else:
            assert not image.any() and not text.any()
            for gradient, wanted in zip(own, expected, strict=True):
                torch.testing.assert_close(gradient, wanted)
        found.after_step()
        other = head(alternates=True)
        other.load_state_dict(found.state_dict())
        assert other.factors() == found.factors()


@pytest.mark.parametrize('modality', ['image', 'text'])
def test_each_modality_has_a_classifier_of_unit_weights_and_a_bias(modality):
    given, labels = pair(), torch.tensor([2, 0, 2])
    classifier = UnitClassifierHead(
        num_classes=3, smoothing=0.0, bias=True, modalities=[modality], spec=SPEC
    ).double()
    torch.nn.init.normal_(classifier.bias)
    with torch.no_grad():
        logged = classifier(given, dict(labels=labels), None)
    total = right = 0.0
    for caption, row in enumerate(IMAGE_OF.tolist()):
        x = given.image.embedding[row] if modality == 'image' else given.text.embedding[caption]
        logits = [
            (weight @ x / weight.norm() + bias).item()
            for weight, bias in zip(classifier.weight, classifier.bias, strict=True)
        ]
        label = labels[row].item()
        total -= logits[label] - math.log(sum(math.exp(value) for value in logits))
        right += logits[label] == max(logits)
    assert logged['loss'].item() == pytest.approx(total / 4, rel=1e-9)
    assert logged[f'{modality}_acc'].item() == pytest.approx(right / 4)
    assert set(logged) == {'loss', f'{modality}_acc'}


def test_a_classifier_of_neither_modality_is_refused():
    for modalities in ([], ['sound']):
        with pytest.raises(ValueError, match=r"modalities are some of \['image', 'text'\], got"):
            UnitClassifierHead(num_classes=3, modalities=modalities, spec=SPEC)


def steps_of(optimizer, parameters, count=3, start=0):
    for step in range(start, start + count):
        for parameter in parameters:
            parameter.grad = torch.sin(parameter.detach() * (step + 1)) + 0.1
        optimizer.step()


def two_groups():
    torch.manual_seed(2)
    parameters = [torch.nn.Parameter(torch.randn(3, 2).double()) for _ in range(4)]
    groups = [dict(params=parameters[:2], adaptive=True), dict(params=parameters[2:], lr=0.02)]
    return parameters, SGDAndAdam(groups, 0.01, adaptive='', weight_decay=0.3)


def test_its_steps_are_those_of_torchs_adam_and_sgd():
    parameters, optimizer = two_groups()
    copies = [torch.nn.Parameter(p.detach().clone()) for p in parameters]
    steps_of(optimizer, parameters)
    steps_of(torch.optim.Adam(copies[:2], 0.01, weight_decay=0.3), copies[:2])
    steps_of(torch.optim.SGD(copies[2:], 0.02, momentum=0.9, weight_decay=0.3), copies[2:])
    torch.testing.assert_close(parameters, copies, rtol=1e-12, atol=1e-12)


def test_it_goes_on_from_a_saved_state():
    parameters, optimizer = two_groups()
    steps_of(optimizer, parameters)
    resumed, other = two_groups()
    other.load_state_dict(deepcopy(optimizer.state_dict()))
    for mine, theirs in zip(resumed, parameters, strict=True):
        mine.data.copy_(theirs)
    steps_of(optimizer, parameters, 2, start=3)
    steps_of(other, resumed, 2, start=3)
    assert all(torch.equal(a, b) for a, b in zip(parameters, resumed, strict=True))


def test_text_is_trained_by_adam_and_the_rest_by_sgd():
    shipped = load_config(CONFIGS / 'timam_r101_cuhk.py').optim_wrapper.optimizer
    config = tiny_config('timam', {'optim_wrapper.optimizer.adaptive': shipped.adaptive})
    model = build_model(config)
    groups = build_optim_wrapper(config, model).optimizer.param_groups
    adaptive = {id(p): group['adaptive'] for group in groups for p in group['params']}
    by_adam = {name for name, p in model.named_parameters() if adaptive[id(p)]}
    starts = ('backbone.text.', 'backbone.text_projection.', 'heads.text_identity.')
    assert by_adam == {name for name, _ in model.named_parameters() if name.startswith(starts)}
    assert len(adaptive) == len(list(model.parameters())) > len(by_adam) > 10
    for pattern in ('nobody', ''):
        config.optim_wrapper.optimizer.adaptive = pattern
        with pytest.raises(ValueError, match=f'adaptive={pattern!r} is to be found in the names'):
            build_optim_wrapper(config, model)


def test_every_parameter_gets_a_gradient_and_embeddings_have_one_width():
    config = tiny_config('timam')
    model = build_model(config)
    batch, _ = pair_batch(8, seed=0)
    logged, found = step_and_gradients(model, build_optim_wrapper(config, model), batch)
    assert [name for name, gradient in found.items() if not gradient.any()] == []
    assert set(found) == {name for name, _ in model.named_parameters()}
    weighted = ('cmpm', 'image_identity', 'text_identity', 'modality')
    total = sum(logged[f'{name}.loss'] for name in weighted)
    torch.testing.assert_close(logged['loss'], total)
    images = model.eval().embed_images(batch['images'].double())
    assert images.shape == model.embed_text(batch['tokens']).shape == (8, 16)


def test_bert_stays_as_it_is_before_it_is_trained():
    first, second = (load_config(CONFIGS / f'timam_r101_cuhk{name}.py') for name in ('_frozen', ''))
    assert first.model.backbone.text.bert.frozen and not second.model.backbone.text.bert.frozen
    assert second.load_from == f'work_dirs/timam_r101_cuhk_frozen/epoch_{first.max_epochs}.pth'
    assert first.model.loss_weights == dict.fromkeys(first.model.heads, 1.0)


def test_the_rate_falls_tenfold_where_validation_stands_still_down_to_a_floor():
    config = load_config(CONFIGS / 'timam_r101_cuhk.py')
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-4)
    [schedule] = config.param_scheduler
    scheduler = PARAM_SCHEDULERS.build(schedule, default_args=dict(optimizer=optimizer))
    rates = []
    for r1 in (10.0, 20.0, *[20.0] * 12):
        rates.append(optimizer.param_groups[0]['lr'])
        scheduler.step({'t2i/R1': r1})
    patience = schedule.patience
    falls = [2e-4] * (2 + patience + 1) + [2e-5] * (patience + 1) + [2e-6] * 12
    assert rates == pytest.approx(falls[: len(rates)])


@pytest.mark.slow
def test_every_choice_of_the_model_can_be_made_otherwise():
    groups = alternatives('timam')
    assert sum(map(len, groups)) >= 9
    for overrides in groups:
        assert step_with('timam', overrides)['loss'].isfinite(), overrides
