"""LapsCore's two tasks against slow versions: to colour pictures and to name colours."""

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

from projects.lapscore.colouring import ColouringHead
from projects.lapscore.naming import BilinearAttention, HiddenColourHead
from sen_toolbox.config import load_config
from sen_toolbox.models.features import (
    ImageFeatures,
    ImageSpec,
    PairFeatures,
    PairSpec,
    TextFeatures,
    TextSpec,
)
from sen_toolbox.models.heads.restoration import to_grey
from sen_toolbox.registry import TRANSFORMS
from sen_toolbox.text.tokenizers import WordPieceTokenizer
from sen_toolbox.text.tokens import Tokens

pytestmark = pytest.mark.numeric

STAGES = {'layer3': (3, 4, 2), 'layer4': (5, 2, 1)}
SPEC = PairSpec(6, ImageSpec(5, (32, 16), stages=STAGES), TextSpec(4, 12, 7))
IMAGE_OF = torch.tensor([0, 0, 1])


# Naming


@torch.no_grad()
def test_each_word_looks_at_the_regions_by_a_bilinear_form_of_low_rank():
    torch.manual_seed(0)
    neck = BilinearAttention(stage='layer4', width=8, glimpses=2, spec=SPEC).double()
    words, regions = torch.randn(2, 3, 4).double(), torch.randn(2, 6, 5).double()
    expected = words.clone()
    for glimpse in neck.glimpses:
        before = expected.clone()
        for row in range(2):
            for i, word in enumerate(before[row]):
                scores = torch.stack([
                    sum(glimpse.weight * glimpse.words(word).relu() * glimpse.regions(y).relu())
                    for y in regions[row]
                ])  # fmt: skip
                shares = scores.exp() / scores.exp().sum()
                joint = sum(
                    share * glimpse.joint_words(word).relu() * glimpse.joint_regions(y).relu()
                    for share, y in zip(shares, regions[row], strict=True)
                )
                expected[row, i] += glimpse.joined(joint)
    torch.testing.assert_close(neck(words, regions), expected)
    assert neck.depth == 2


def naming(**options):
    torch.manual_seed(0)
    neck = dict(type='BilinearAttention', width=8, glimpses=1)
    return HiddenColourHead(neck=neck, spec=SPEC, **options).double().eval()


def hidden_batch():
    """Two images, three captions, of which one hides no word; and what encodes the captions."""
    torch.manual_seed(1)
    states, maps = torch.randn(3, 7, 4).double(), torch.randn(2, 5, 2, 1).double()
    labels = torch.zeros(3, 7, dtype=torch.int64)
    labels[0, 2], labels[0, 4], labels[2, 1] = 9, 10, 9
    hidden = Tokens(labels, labels == labels, labels[:, 0])
    whole = TextFeatures(torch.randn(3, 6))
    pair = PairFeatures(ImageFeatures(torch.randn(2, 6), stages={'layer4': maps}), whole, IMAGE_OF)

    def encode_text(given, reads):
        assert given is hidden
        assert reads == {'text.tokens'}
        return TextFeatures(whole.embedding, tokens=states)

    batch = dict(second_tokens=hidden, word_labels=labels)
    backbone = torch.nn.Module()
    backbone.encode_text = encode_text
    return pair, batch, backbone, states, maps


@pytest.mark.parametrize('allowed', [None, {9, 10}])
def test_hidden_colours_are_named_from_the_caption_around_them_and_the_image(allowed):
    pair, batch, backbone, states, maps = hidden_batch()
    pieces = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'a', 'b', 'c', 'd', 'red', 'blue', 'e']
    tokenizer = WordPieceTokenizer(context_length=7, vocabulary=pieces)
    head = naming(tokenizer=tokenizer if allowed else None)
    losses = right = 0.0
    for row, place, word in ((0, 2, 9), (0, 4, 10), (2, 1, 9)):
        regions = maps[IMAGE_OF[row]].flatten(1).t()[None]
        seen = head.neck(states[row][None], regions)[0, place]
        scores = head.classifier[:4](seen)
        if allowed:
            scores[[n for n in range(12) if n not in allowed]] = -torch.inf
        losses -= scores.log_softmax(0)[word].item()
        right += scores.argmax().item() == word
    found = head(pair, batch, backbone)
    assert found['loss'].item() == pytest.approx(losses / 3, rel=1e-9)
    assert found['acc'].item() == pytest.approx(right / 3)
    with pytest.raises(KeyError, match="no 'second_tokens': .* HideColours into the training"):
        head(pair, {}, backbone)


def test_the_shipped_training_hides_colours_from_the_second_caption_alone():
    config = load_config(ROOT / 'projects/lapscore/configs/lapscore_tiny_synthetic.py')
    *_, tokenize, hide, pack = config.train_dataloader.dataset.pipeline
    assert set(pack.per_caption) == {'second_tokens', 'word_labels'}
    record = dict(captions=['A man in a red coat.'])
    for step in (tokenize, hide):
        record = TRANSFORMS.build(step)(record)
    hidden = record['tokens'].ids != record['second_tokens'].ids
    assert hidden.sum() == 1
    assert (record['word_labels'][hidden] == record['tokens'].ids[hidden]).all()


# Colouring

ENCODER = dict(
    type='ResNet', image_size=(32, 16),
    depth=dict(block='basic', blocks=(1, 1, 1, 1), widths=(4, 4, 6, 6), stem=4))  # fmt: skip


def colouring(spec=SPEC, **options):
    torch.manual_seed(0)
    options = dict(encoder=ENCODER, width=4) | options
    return ColouringHead(loss=dict(type='MaskedPixelLoss'), spec=spec, **options).double()


def pictures():
    torch.manual_seed(1)
    images, text = torch.randn(2, 3, 32, 16).double(), torch.randn(3, 6).double()
    pair = PairFeatures(None, TextFeatures(text.requires_grad_()), IMAGE_OF)
    return images, pair


def mean_colours(images, size=4):
    """Mean colours of squares, one after another."""
    _, _, rows, columns = images.shape
    means = images.new_zeros(*images.shape[:2], rows // size, columns // size)
    for row in range(rows // size):
        for column in range(columns // size):
            square = images[
                :, :, row * size : (row + 1) * size, column * size : (column + 1) * size
            ]
            means[:, :, row, column] = square.mean(dim=(2, 3))
    return means


@pytest.mark.parametrize('target', ['colours', 'chroma'])
@pytest.mark.parametrize('full_size', [False, True])
def test_the_loss_is_that_of_each_caption_colouring_its_grey_image(target, full_size):
    head = colouring(target=target, full_size=full_size).eval()
    images, pair = pictures()
    wanted = images
    if target == 'chroma':
        red, green, blue = images.unbind(1)
        grey = 0.2989 * red + 0.5870 * green + 0.1140 * blue
        wanted = torch.stack([red - grey, blue - grey], dim=1)
    wanted = wanted if full_size else mean_colours(wanted)
    expected = 0.0
    for caption, row in enumerate(IMAGE_OF.tolist()):
        alone = PairFeatures(None, TextFeatures(pair.text.embedding[caption : caption + 1]))
        predicted = head.colour(images[row : row + 1], alone, None)
        expected += (predicted - wanted[row]).square().mean().item() / 3
    found = head(pair, dict(images=images), None)['loss']
    assert found.item() == pytest.approx(expected, rel=1e-9)
    found.backward()
    assert pair.text.embedding.grad.any(dim=1).all()


@torch.no_grad()
def test_it_sees_no_colours_and_two_captions_colour_a_picture_differently():
    head = colouring().eval()
    images, pair = pictures()
    painted = head.colour(images, pair, None)
    assert painted.shape == (3, 3, 8, 4)
    torch.testing.assert_close(head.colour(to_grey(images) / 0.9999, pair, None), painted)
    assert not torch.allclose(painted[0], painted[1])
    untold = colouring(levels=[]).eval().colour(images, pair, None)
    torch.testing.assert_close(untold[0], untold[1])


def test_the_image_encoder_of_the_retrieval_may_colour_and_both_tasks_keep_its_statistics():
    config = tiny_config('lapscore', {'model.heads.colouring.encoder': None})
    model = build_model(config)
    batch, _ = pair_batch(4, seed=0)
    images = batch['images'].double()
    pair = model.backbone(images, batch['tokens'], model.reads)
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    model.zero_grad()
    given = {**batch, 'images': images}
    for name in ('colouring', 'naming'):
        model.heads[name](pair, given, model.backbone)['loss'].backward(retain_graph=True)
    assert model.backbone.image.conv1.weight.grad.any()
    after = model.backbone.state_dict()
    kept = [key for key in after if 'running' in key]
    assert any('text_projection' in key for key in kept)
    assert all(torch.equal(after[key], before[key]) for key in kept)


def test_what_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"target is one of \['colours', 'chroma'\], got 'hue'"):
        colouring(target='hue')
    with pytest.raises(ValueError, match=r"of the stages \['layer1', .*\], got \['layer9'\]"):
        colouring(levels=['layer9'])
    without = PairSpec(6, ImageSpec(5, (32, 16)), SPEC.text)
    with pytest.raises(ValueError, match=r'levels are some of the stages \[\], got None'):
        colouring(without, encoder=None)


# The whole


def test_every_parameter_gets_a_gradient_and_embeddings_have_one_width():
    config = tiny_config('lapscore')
    model = build_model(config)
    batch, _ = pair_batch(8, seed=0)
    logged, found = step_and_gradients(model, build_optim_wrapper(config, model), batch)
    assert [name for name, gradient in found.items() if not gradient.any()] == []
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert set(found) | frozen == {name for name, _ in model.named_parameters()}
    assert all(name.startswith('backbone.text.bert.') for name in frozen)
    total = sum(logged[f'{name}.loss'] for name in ('cmpm', 'cmpc', 'colouring', 'naming'))
    torch.testing.assert_close(logged['loss'], total)
    images = model.eval().embed_images(batch['images'].double())
    assert images.shape == model.embed_text(batch['tokens']).shape == (8, 16)


@pytest.mark.slow
def test_every_choice_of_the_model_can_be_made_otherwise():
    groups = alternatives('lapscore')
    assert sum(map(len, groups)) >= 17
    for overrides in groups:
        # The words that this batch hides are no colours.
        overrides.pop('model.heads.naming.tokenizer', None)
        assert step_with('lapscore', overrides)['loss'].isfinite(), overrides
