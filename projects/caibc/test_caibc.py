"""CAIBC's three branches, and each term of its loss against a slow version."""

from types import SimpleNamespace

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

from projects.caibc.branches import ColourBranchesHead
from sen_toolbox.config import load_config
from sen_toolbox.models.features import (
    ImageFeatures,
    ImageSpec,
    PairFeatures,
    PairSpec,
    TextFeatures,
    TextSpec,
)
from sen_toolbox.registry import TRANSFORMS
from sen_toolbox.text.tokens import Tokens

pytestmark = pytest.mark.numeric

SPEC = PairSpec(5, ImageSpec(5, (4, 2)), TextSpec(5, 10, 10))
IMAGE_OF = torch.tensor([0, 0, 1, 2])
LABELS = torch.tensor([2, 0, 2])
NAMES = ('rgb', 'grs', 'clr')


def head(**options):
    torch.manual_seed(0)
    loss = dict(type='HardestTripletLoss', margin=0.2)
    return ColourBranchesHead(num_classes=3, loss=loss, spec=SPEC, **options).double()


def given():
    """Three images with four captions, and a backbone that encodes what has no colours."""
    torch.manual_seed(1)
    rows = [torch.randn(n, 5).double().requires_grad_() for n in (3, 4, 3, 4)]
    image, text, grey, colourless = rows
    images = torch.randn(3, 3, 4, 2).double()
    # 6 is a colour; the second caption names none.
    ids = torch.tensor([[5, 6, 7], [5, 7, 0], [8, 6, 0], [6, 0, 0]])
    whole, hidden = (Tokens(x, ids > 0, ids[:, 0]) for x in (ids, ids.where(ids != 6, 4)))

    def encode_image(seen):
        weights = torch.tensor([0.2989, 0.5870, 0.1140]).double()
        expected = torch.einsum('c,bchw->bhw', weights, images)
        for channel in seen.unbind(1):
            torch.testing.assert_close(channel, expected)
        return ImageFeatures(grey)

    def encode_text(seen):
        assert seen is hidden
        return TextFeatures(colourless)

    backbone = torch.nn.Module()
    backbone.encode_image, backbone.encode_text = encode_image, encode_text
    pair = PairFeatures(ImageFeatures(image), TextFeatures(text), IMAGE_OF)
    batch = dict(images=images, tokens=whole, second_tokens=hidden, labels=LABELS)
    return pair, batch, backbone, rows


def slow_triplet(images, texts, labels):
    cosine = torch.nn.functional.cosine_similarity
    total = 0.0
    for first, second in ((images, texts), (texts, images)):
        for i, anchor in enumerate(first):
            others = [cosine(anchor, x, dim=0).item() for j, x in enumerate(second)
                      if labels[j] != labels[i]]  # fmt: skip
            total += max(0, max(others) - cosine(anchor, second[i], dim=0).item() + 0.2)
    return total / len(images)


def slow_mutual(logits, divergence):
    """Mean over ordered pairs of branches of the cross-entropy or the KL divergence."""
    total = 0.0
    for learner in range(3):
        for teacher in range(3):
            if learner != teacher:
                for q, p in zip(
                    logits[learner].softmax(1), logits[teacher].softmax(1), strict=True
                ):
                    for a, b in zip(q.tolist(), p.tolist(), strict=True):
                        own = torch.tensor(b).double().log().item() if divergence == 'kl' else 0.0
                        total += b * (own - torch.tensor(a).double().log().item())
    return total / 6 / len(logits[0])


@pytest.mark.parametrize('divergence', ['cross_entropy', 'kl'])
def test_every_term_is_that_of_its_branch(divergence):
    pair, batch, backbone, rows = given()
    found = head(divergence=divergence, identity_weight=0.5, mutual_weight=3.0)
    logged = {k: v.item() for k, v in found(pair, batch, backbone).items()}
    image, text, grey, colourless = (row.detach() for row in rows)
    image, grey, labels = image[IMAGE_OF], grey[IMAGE_OF], LABELS[IMAGE_OF]
    branches = dict(
        rgb=(image, text), grs=(grey, colourless), clr=(image - grey, text - colourless)
    )
    expected, logits = {}, {}
    for name, (images, texts) in branches.items():
        matched = [0, 2, 3] if name == 'clr' else range(4)
        expected[f'matching_{name}'] = slow_triplet(*(x[matched] for x in (images, texts, labels)))
        logits[name] = [found.classifiers[name](x).detach() for x in (images, texts)]
        losses = [-x.log_softmax(1)[range(4), labels].mean().item() for x in logits[name]]
        expected[f'identity_{name}'] = sum(losses)
    expected['mutual'] = sum(
        slow_mutual([logits[name][side] for name in NAMES], divergence) for side in (0, 1)
    )
    total = sum(expected[f'matching_{n}'] + 0.5 * expected[f'identity_{n}'] for n in NAMES)
    expected['loss'] = total + 3 * expected['mutual']
    assert logged == pytest.approx(expected, rel=1e-6)


def test_the_branch_that_is_followed_has_a_gradient_only_where_asked():
    torch.manual_seed(2)
    logits = [torch.randn(4, 3).double().requires_grad_() for _ in NAMES]
    constants = [x.detach().softmax(1) for x in logits]
    head().disagreement(logits).backward()
    for number, learner in enumerate(logits):
        # Of a cross-entropy: its own distribution less the other, of both others.
        others = [p for other, p in enumerate(constants) if other != number]
        expected = sum(constants[number] - p for p in others) / 6 / 4
        torch.testing.assert_close(learner.grad, expected)
        learner.grad = None
    head(detach=False, divergence='kl').disagreement(logits).backward()
    moved = [learner.grad.clone() for learner in logits]
    assert all((m - (c - constants[0]) / 24).abs().max() > 1e-3 for m, c in
               zip(moved, constants, strict=True))  # fmt: skip


def test_branches_that_agree_are_at_no_divergence_and_at_their_entropy():
    same = [torch.tensor([[1.0, 2.0, 0.5]]).double()] * 3
    assert head(divergence='kl').disagreement(same).item() == pytest.approx(0, abs=1e-12)
    p = same[0].softmax(1)
    entropy = -(p * p.log()).sum().item()
    assert head().disagreement(same).item() == pytest.approx(entropy)


def test_a_batch_without_any_colour_matches_none():
    pair, batch, backbone, _ = given()
    batch['tokens'].ids.copy_(batch['second_tokens'].ids)
    logged = head()(pair, batch, backbone)
    assert logged['matching_clr'] == 0
    assert logged['matching_rgb'] > 0
    assert logged['loss'].isfinite()


def test_there_is_no_other_divergence_and_a_batch_needs_captions_without_colours():
    with pytest.raises(ValueError, match=r"is one of \['cross_entropy', 'kl'\], got 'js'"):
        head(divergence='js')
    pair, batch, backbone, _ = given()
    del batch['second_tokens']
    with pytest.raises(KeyError, match="no 'second_tokens': .* HideColours into the training"):
        head()(pair, batch, backbone)


def step(**overrides):
    config = tiny_config('caibc', {f'model.heads.branches.{k}': v for k, v in overrides.items()})
    model = build_model(config)
    batch, _ = pair_batch(8, seed=0)
    return model, batch, build_optim_wrapper(config, model)


@pytest.mark.parametrize('own_trunk', [False, True])
def test_every_parameter_gets_a_gradient_and_what_has_no_colour_leaves_statistics_alone(own_trunk):
    model, batch, wrapper = step(own_trunk=own_trunk)
    alone, _, _ = step()
    logged, found = step_and_gradients(model, wrapper, batch)
    assert [name for name, gradient in found.items() if not gradient.any()] == []
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    assert set(found) == names
    assert any('.trunk.image.' in name for name in names) == own_trunk
    # The statistics of images and captions with their colours alone.
    alone.backbone(alone.data_preprocessor(batch, True)['images'], batch['tokens'])
    expected = {k: v for k, v in alone.backbone.state_dict().items() if 'running' in k}
    state = model.backbone.state_dict()
    assert any('text_projection' in key for key in expected)
    assert all(torch.equal(state[key], value) for key, value in expected.items())
    images = model.eval().embed_images(batch['images'].double())
    assert images.shape == model.embed_text(batch['tokens']).shape == (8, 16)
    assert logged['branches.mutual'] > 0


def test_an_image_encoder_for_grey_images_starts_as_the_other_with_its_weights():
    model, _, _ = step(own_trunk=True)
    trunk, backbone = model.heads['branches'].trunk, model.backbone
    backbone.load_weights = lambda: backbone.image.conv1.weight.data.fill_(3.0)
    model.load_weights()
    assert (trunk.image.conv1.weight == 3).all()
    assert trunk.image.conv1.weight is not backbone.image.conv1.weight
    own = SimpleNamespace(image=backbone.image, projection=backbone.image_projection)
    for name in ('image', 'projection'):
        for key, value in getattr(own, name).state_dict().items():
            assert torch.equal(trunk[name].state_dict()[key], value), key


@pytest.mark.parametrize('removes', [False, True])
def test_the_second_caption_of_the_shipped_training_names_no_colour(removes):
    key = 'train_dataloader.dataset.pipeline.4.removes'
    config = load_config(ROOT / 'projects/caibc/configs/caibc_tiny_synthetic.py', {key: removes})
    *_, tokenize, hide, pack = config.train_dataloader.dataset.pipeline
    assert pack.per_caption == ['second_tokens']
    tokenizer = TRANSFORMS.build(tokenize).tokenizer
    found = TRANSFORMS.build(hide)(dict(captions=['A man in a red coat.']))['second_tokens']
    if removes:
        assert (found.ids == tokenizer(['A man in a coat.']).ids).all()
    else:
        different = found.ids != tokenizer(['A man in a red coat.']).ids
        assert found.ids[different].tolist() == [tokenizer.special.mask]


@pytest.mark.slow
def test_every_choice_of_the_model_can_be_made_otherwise():
    groups = alternatives('caibc')
    assert sum(map(len, groups)) >= 9
    for overrides in groups:
        assert step_with('caibc', overrides)['loss'].isfinite(), overrides
