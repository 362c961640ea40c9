"""Each loss against a slow, obvious version."""

import math

import pytest
import torch
import torch.nn.functional as F

from sen_toolbox.registry import LOSSES

pytestmark = pytest.mark.numeric

LABELS = torch.tensor([3, 1, 3, 2, 1])


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    text = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    return image, text


def cosine(a, b):
    return F.cosine_similarity(a, b, dim=0).item()


def slow_sdm(image, text, labels, temperature, epsilon):
    total = 0.0
    for queries, gallery in ((text, image), (image, text)):
        for i in range(len(labels)):
            logits = [cosine(queries[i], g) / temperature for g in gallery]
            log_norm = math.log(sum(math.exp(x) for x in logits))
            same = [float(labels[i] == p) for p in labels]
            for x, y in zip(logits, same, strict=True):
                log_true = math.log(y / sum(same) + epsilon)
                total += math.exp(x - log_norm) * (x - log_norm - log_true) / len(labels)
    return total


def slow_triplet(image, text, labels, margin):
    total = 0.0
    for queries, gallery in ((text, image), (image, text)):
        for i in range(len(labels)):
            negatives = [
                cosine(queries[i], gallery[j]) for j in range(len(labels)) if labels[j] != labels[i]
            ]
            if negatives:
                positive = cosine(queries[i], gallery[i])
                total += max(0.0, max(negatives) - positive + margin) / len(labels)
    return total


def slow_info_nce(image, text, labels, temperature):
    total = 0.0
    for queries, gallery in ((text, image), (image, text)):
        for i in range(len(labels)):
            logits = [cosine(queries[i], g) / temperature for g in gallery]
            log_norm = math.log(sum(math.exp(x) for x in logits))
            same = [j for j in range(len(labels)) if labels[j] == labels[i]]
            total -= sum(logits[j] - log_norm for j in same) / len(same) / len(labels) / 2
    return total


def slow_cmpm(image, text, labels, epsilon):
    total = 0.0
    for anchors, others in ((text, image), (image, text)):
        for i in range(len(labels)):
            # Length of the projection of one embedding on the direction of the other.
            logits = [(anchors[i] @ other / other.norm()).item() for other in others]
            log_norm = math.log(sum(math.exp(x) for x in logits))
            same = [float(labels[i] == p) for p in labels]
            for x, y in zip(logits, same, strict=True):
                log_true = math.log(y / math.sqrt(sum(same)) + epsilon)
                total += math.exp(x - log_norm) * (x - log_norm - log_true) / len(labels)
    return total


@pytest.mark.parametrize('labels', [LABELS, torch.zeros(5).long(), torch.arange(5)])
def test_sdm_is_the_divergence_of_both_directions(pairs, labels):
    loss = LOSSES.build(dict(type='SDMLoss', temperature=0.1))
    assert loss(*pairs, labels).item() == pytest.approx(slow_sdm(*pairs, labels, 0.1, 1e-8))


@pytest.mark.parametrize('labels', [LABELS, torch.arange(5)])
def test_the_triplet_takes_the_hardest_negative_of_another_identity(pairs, labels):
    loss = LOSSES.build(dict(type='HardestTripletLoss', margin=0.3))
    assert loss(*pairs, labels).item() == pytest.approx(slow_triplet(*pairs, labels, 0.3))


def test_the_triplet_of_a_batch_with_one_identity_is_zero_with_a_finite_gradient(pairs):
    image = pairs[0].requires_grad_()
    loss = LOSSES.build(dict(type='HardestTripletLoss'))(image, pairs[1], torch.zeros(5).long())
    loss.backward()
    assert loss.item() == 0
    assert image.grad.abs().sum() == 0


@pytest.mark.parametrize('labels', [LABELS, torch.arange(5)])
def test_info_nce_spreads_its_target_over_an_identity(pairs, labels):
    loss = LOSSES.build(dict(type='InfoNCELoss', temperature=0.2))
    assert loss(*pairs, labels).item() == pytest.approx(slow_info_nce(*pairs, labels, 0.2))


def test_info_nce_by_pairs_is_that_of_distinct_identities(pairs):
    by_pair = LOSSES.build(dict(type='InfoNCELoss', temperature=0.2, positives='pair'))
    expected = pytest.approx(slow_info_nce(*pairs, torch.arange(5), 0.2))
    for labels in (LABELS, torch.zeros(5).long(), torch.arange(5)):
        assert by_pair(*pairs, labels).item() == expected


def test_unknown_positives_are_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"positives is one of \('identity', 'pair'\), got 'all'"):
        LOSSES.build(dict(type='InfoNCELoss', temperature=0.2, positives='all'))


@pytest.mark.parametrize('labels', [LABELS, torch.zeros(5).long(), torch.arange(5)])
def test_cmpm_is_the_divergence_from_the_released_target(pairs, labels):
    loss = LOSSES.build(dict(type='CMPMLoss'))
    assert loss(*pairs, labels).item() == pytest.approx(slow_cmpm(*pairs, labels, 1e-8))


@pytest.mark.parametrize('name', ['CMPMLoss', 'SDMLoss'])
def test_pairs_that_cannot_be_told_apart_cost_what_the_epsilon_says(name):
    # All similarities tie, so the prediction is 1/5 everywhere and the target 1 on the diagonal.
    same = torch.ones(5, 7, dtype=torch.float64)
    expected = 2 * (math.log(1 / 5) - math.log(1 + 1e-8) / 5 - 4 * math.log(1e-8) / 5)
    loss = LOSSES.build(dict(type=name))(same, same, torch.arange(5))
    assert loss.item() == pytest.approx(expected)


def test_the_pixel_loss_is_the_mean_square_over_all_patches():
    predicted, target = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 3.0], [2.0, 2.0]]])
    # Mean squares 5 and 4 of the two patches.
    assert LOSSES.build(dict(type='MaskedPixelLoss'))(predicted, target).item() == 4.5


@pytest.mark.parametrize('name', ['SDMLoss', 'InfoNCELoss'])
def test_a_temperature_of_zero_is_refused(name):
    with pytest.raises(ValueError, match='temperature must be above 0, got 0'):
        LOSSES.build(dict(type=name, temperature=0))


def test_a_head_in_the_place_of_a_loss_is_refused():
    with pytest.raises(KeyError, match='IdentityHead is not in the'):
        LOSSES.build(dict(type='IdentityHead', num_classes=2))
