"""Images with several captions: every head against pairs that are taken one after another."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from closeness import assert_same
from test_losses import slow_sdm
from test_masked_word import small_irra
from test_rde import slow_hinge
from test_retriever import small_sen
from tiny import all_features, as_tokens
from tiny_methods import (
    CONFIGS,
    PER_CAPTION,
    build_model,
    build_optim_wrapper,
    fix_noise,
    pair_batch,
    step_and_gradients,
    tiny_config,
    with_several_captions,
)
from tiny_rde import golden_batch, rde_config

from sen_toolbox.config import load_config
from sen_toolbox.models.features import ImageFeatures, PairFeatures, PairSpec, TextFeatures
from sen_toolbox.models.heads import SelfSupervisionHead
from sen_toolbox.registry import HEADS, MODELS

pytestmark = pytest.mark.numeric

# Six captions of four images, of which one has none and two show one person.
IMAGE_OF = torch.tensor([0, 0, 1, 3, 3, 3])
LABELS = torch.tensor([2, 1, 0, 2])
ROWS = IMAGE_OF.tolist()


def several(batch: dict) -> dict:
    """The first four images and six captions of a batch of pairs, in double precision."""
    images = batch['images'][:4].double()
    return dict(images=images, tokens=batch['tokens'][:6], labels=LABELS, image_of=IMAGE_OF)


def pair_of(model, batch: dict, caption: int) -> PairFeatures:
    """Features of one caption and its image, by themselves."""
    row = ROWS[caption]
    images = batch['images'][row : row + 1]
    alone = dict(images=images, tokens=batch['tokens'][caption : caption + 1])
    return all_features(model, alone)


def random_pair() -> PairFeatures:
    torch.manual_seed(0)
    image, text = torch.randn(4, 8).double(), torch.randn(6, 8).double()
    return PairFeatures(ImageFeatures(image), TextFeatures(text), IMAGE_OF)


def sen_head(name: str, **settings):
    config = load_config('configs/sen/sen_vitb_cuhk.py', settings).model.heads[name]
    return HEADS.build({**config, 'spec': PairSpec(8, None, None)}).double()


def test_sdm_compares_each_caption_with_the_images_of_all_captions():
    pair = random_pair()
    image = torch.stack([pair.image.embedding[row] for row in ROWS])
    labels = torch.stack([LABELS[row] for row in ROWS])
    expected = slow_sdm(image, pair.text.embedding, labels, 0.02, 1e-8)
    found = sen_head('sdm')(pair, dict(labels=LABELS), None)['loss']
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_identities_are_asked_of_each_caption_and_of_its_image():
    pair, head = random_pair(), sen_head('identity', num_classes=3)
    torch.nn.init.normal_(head.classifier.weight)
    image_loss = text_loss = image_right = text_right = 0.0
    for caption, row in enumerate(ROWS):
        label = LABELS[row].item()
        of_image = head.classifier(pair.image.embedding[row])
        of_text = head.classifier(pair.text.embedding[caption])
        image_loss -= of_image.log_softmax(0)[label].item() / 6
        text_loss -= of_text.log_softmax(0)[label].item() / 6
        image_right += (of_image.argmax() == label).item() / 6
        text_right += (of_text.argmax() == label).item() / 6
    found = head(pair, dict(labels=LABELS), None)
    assert found['loss'].item() == pytest.approx((image_loss + text_loss) / 2, rel=1e-9)
    assert found['image_acc'].item() == pytest.approx(image_right)
    assert found['text_acc'].item() == pytest.approx(text_right)


def test_masked_words_are_predicted_from_the_image_of_their_caption():
    model = small_irra()
    torch.manual_seed(0)
    ids = torch.randint(1, 97, (6, 9))
    ids[:, 0], ids[:, -2], ids[:, -1] = 98, 99, 0
    images = torch.randn(4, 3, 64, 32)
    batch = several(dict(images=images, tokens=as_tokens(ids)))
    batch['word_labels'] = ids * (torch.rand(6, 9) < 0.3) * (ids < 97)
    head, losses = model.heads['mlm'], []
    for caption in range(6):
        pair = pair_of(model, batch, caption)
        scores = head.classifier(head.neck(pair.text.tokens, pair.image.tokens))[0]
        for position, word in enumerate(batch['word_labels'][caption].tolist()):
            if word:
                losses.append(-scores[position].log_softmax(0)[word])
    assert len(losses) > 6
    found = model(**batch, mode='loss')['mlm.loss']
    assert_same(found.detach(), torch.stack(losses).mean().detach())


def test_each_caption_restores_its_image_by_a_mask_of_its_own():
    model = small_sen().double()
    torch.manual_seed(0)
    ids = torch.randint(1, 400, (6, 9))
    ids[:, 0], ids[:, -1] = 49406, 49407
    batch = several(dict(images=torch.randn(4, 3, 64, 32), tokens=as_tokens(ids)))
    head, noise = model.heads['restoration'], torch.rand(6, 8)
    head.draw_noise = lambda count, device: noise
    errors = []
    for caption, row in enumerate(ROWS):
        words = pair_of(model, batch, caption).text.tokens
        image, order = batch['images'][row : row + 1], noise[caption].argsort()[None]
        predicted = head.restore(image, words, order, model.backbone)[0]
        target = head.to_patches(image)[0]
        for patch in order[0, head.num_kept :].tolist():
            errors.append((predicted[patch] - target[patch]).square().mean())
    expected = model.loss_weights['restoration'] * torch.stack(errors).mean()
    assert_same(model(**batch, mode='loss')['restoration.loss'].detach(), expected.detach())


@torch.no_grad()
@pytest.mark.parametrize('name', ['bge', 'tse'])
def test_rde_weights_each_pair_by_its_image(name):
    torch.manual_seed(0)
    # In evaluation mode batch norm, too, sees one pair at a time.
    model = MODELS.build(rde_config()).double().eval()
    batch = several(golden_batch())
    batch['pair_weights'] = torch.tensor([1.0, 0.0, 1.0, 1.0]).double()
    head, images, texts = model.heads[name], [], []
    head.loss.margin = 1.0  # above which no pair of random weights is
    for caption in range(6):
        pair = pair_of(model, batch, caption)
        if name == 'bge':
            images.append(pair.image.embedding[0])
            texts.append(pair.text.embedding[0])
        else:
            images.append(head.embed_image(pair)[0])
            texts.append(head.embed_text(pair)[0])
    cosine = F.normalize(torch.stack(texts)) @ F.normalize(torch.stack(images)).t()
    same = np.array([[LABELS[a] == LABELS[b] for a in ROWS] for b in ROWS])
    temperature = head.loss.temperature
    losses = slow_hinge(cosine.numpy(), same, 1.0, temperature)
    losses = losses + slow_hinge(cosine.t().numpy(), same, 1.0, temperature)
    assert (losses > 0).all()
    weights = [batch['pair_weights'][row].item() for row in ROWS]
    expected = sum(loss * weight for loss, weight in zip(losses, weights, strict=True))
    found = model(**batch, mode='loss')[f'{name}.loss']
    assert found.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('method', CONFIGS)
def test_two_captions_of_each_image_are_two_pairs_in_losses_and_gradients(method):
    given, noise = pair_batch(8, seed=1)
    two_each = with_several_captions(given, [2, 2, 2, 2])
    image_of = two_each['image_of']
    per_image = set(two_each) - {'image_of', *PER_CAPTION}
    pairs = {k: v[image_of] if k in per_image else v for k, v in two_each.items()}
    del pairs['image_of']
    found = []
    for batch in (two_each, pairs):
        config = tiny_config(method)
        model = build_model(config)
        for name, head in model.heads.items():
            if isinstance(head, SelfSupervisionHead):  # compares images with each other alone
                model.loss_weights[name] = 0.0
        fix_noise(model, noise)
        found.append(step_and_gradients(model, build_optim_wrapper(config, model), batch))
    (logged, gradients), (expected_logged, expected_gradients) = found
    torch.testing.assert_close(logged, expected_logged, rtol=1e-9, atol=1e-9)
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-7, atol=1e-9, msg=name)
