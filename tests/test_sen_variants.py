"""The variants of SEN that switch one thing."""

import pytest
import torch
from closeness import assert_same
from test_retriever import make_batch
from tiny import as_tokens, sen_config

from sen_toolbox.config import load_config
from sen_toolbox.registry import MODELS, NECKS
from sen_toolbox.text.tokens import Tokens
from sen_toolbox.visualization.results import illustrated_rows, illustrating_head

pytestmark = pytest.mark.numeric


def restoration_of(name: str) -> dict | None:
    return load_config(f'configs/sen/{name}.py').model.heads.get('restoration')


def test_each_variant_differs_from_sen_in_the_named_thing_alone():
    sen = restoration_of('sen_vitb_cuhk')
    assert restoration_of('sen_vitb_cuhk_mask50') == {**sen, 'mask_ratio': 0.5}
    assert restoration_of('sen_vitb_cuhk_mask90') == {**sen, 'mask_ratio': 0.9}
    assert restoration_of('sen_vitb_cuhk_l1') == {**sen, 'loss': dict(type='MaskedPixelL1Loss')}
    for name, target in (('patchmean', 'PatchMeanTarget'), ('feature', 'PatchFeatureTarget')):
        assert restoration_of(f'sen_vitb_cuhk_{name}') == {**sen, 'target': dict(type=target)}
    neck = {**sen['neck'], 'guide': 'image'}
    assert restoration_of('sen_vitb_cuhk_textfree') == {**sen, 'neck': neck}
    model = load_config('configs/sen/sen_vitb_cuhk_norestore.py').model
    assert list(model.heads) == list(model.loss_weights) == ['sdm', 'identity', 'triplet']
    # Taking a head out of the base does not reach other readers of that file.
    assert restoration_of('sen_vitb_cuhk') == sen


@pytest.mark.parametrize('name', ['nam', 'ham'])
def test_sen_from_person_towers_differs_in_the_file_alone_and_names_it_where_it_is_missing(
    name, tmp_path, monkeypatch
):
    config = load_config(f'configs/sen/sen_vitb_cuhk_{name}.py')
    file = f'weights/{name}.pth'
    same = load_config('configs/sen/sen_vitb_cuhk.py', {'pretrained': file}).to_dict()
    assert config.to_dict() == same
    monkeypatch.chdir(tmp_path)
    with torch.device('meta'):
        model = MODELS.build(config.model)
    with pytest.raises(FileNotFoundError, match=f'there are no CLIP weights at {file}; put'):
        model.load_weights()


def guided_sen(guide: str) -> dict:
    return sen_config(**{'image_size': (64, 32), 'model.heads.restoration.neck.guide': guide})


def restored(guide: str, tokens: Tokens) -> torch.Tensor:
    """Pixels that a small SEN predicts for the images of a batch and given words."""
    torch.manual_seed(0)
    model = MODELS.build(guided_sen(guide))
    images = make_batch(3, (1, 1, 1))['images']
    order = torch.arange(8).expand(3, 8)
    with torch.no_grad():
        words = model.backbone.encode_text(tokens, frozenset({'text.tokens'})).tokens
        return model.heads['restoration'].restore(images, words, order, model.backbone)


def test_only_the_guided_restoration_depends_on_the_words():
    words = make_batch(3, (1, 1, 1))['tokens']
    ids = words.ids.clone()
    ids[:, 1:3] = 320
    other = as_tokens(ids)
    assert torch.equal(restored('image', words), restored('image', other))
    assert not torch.allclose(restored('text', words), restored('text', other))


def test_every_parameter_of_the_text_free_restoration_receives_a_gradient():
    model = MODELS.build(guided_sen('image'))
    total, _ = model.parse_losses(model(mode='loss', **make_batch(4, (1, 1, 1, 1))))
    total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_an_unknown_guide_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"guide is one of \('text', 'image'\), got 'words'"):
        NECKS.build(dict(type='TextGuidedDecoder', depth=1, guide='words', spec=None))


SIZE, PATCH = (64, 32), 16
TARGETS = ['PixelTarget', 'PatchMeanTarget', 'PatchFeatureTarget']


def sen_with(target: str | None, loss: str = 'MaskedPixelLoss') -> torch.nn.Module:
    """A small SEN whose restoration has this target; None for a config that names none."""
    config = sen_config(image_size=SIZE)
    config['heads']['restoration']['loss'] = dict(type=loss)
    if target:
        config['heads']['restoration']['target'] = dict(type=target)
    torch.manual_seed(0)
    return MODELS.build(config)


def slow_target(kind: str, image: torch.Tensor, tokens: torch.Tensor) -> list[list[float]]:
    """What is to be predicted of each patch of an image (3, H, W), value by value."""
    rows = []
    for number in range(len(tokens) - 1):
        top, left = PATCH * (number // (SIZE[1] // PATCH)), PATCH * (number % (SIZE[1] // PATCH))
        pixels = [image[:, top + y, left + x].tolist() for y in range(PATCH) for x in range(PATCH)]
        rows.append(
            dict(
                PixelTarget=[value for pixel in pixels for value in pixel],
                PatchMeanTarget=[sum(channel) / PATCH**2 for channel in zip(*pixels, strict=True)],
                PatchFeatureTarget=tokens[1 + number].tolist(),
            )[kind]
        )
    return rows


@pytest.mark.parametrize('loss', ['MaskedPixelLoss', 'MaskedPixelL1Loss'])
@pytest.mark.parametrize('target', TARGETS)
def test_the_loss_is_the_mean_error_of_what_each_hidden_patch_should_give(target, loss):
    model, batch = sen_with(target, loss).double(), make_batch(3, (1, 1, 1))
    batch['images'] = batch['images'].double()
    head, noise = model.heads['restoration'], torch.rand(3, 8)
    head.draw_noise = lambda count, device: noise
    with torch.no_grad():
        reads = frozenset({'image.tokens', 'text.tokens'})
        pair = model.backbone(batch['images'], batch['tokens'], reads)
        order = noise.argsort(dim=1)
        predicted = head.restore(batch['images'], pair.text.tokens, order, model.backbone)
        found = model(**batch, mode='loss')['restoration.loss']
    errors = []
    for row in range(3):
        expected = slow_target(target, batch['images'][row], pair.image.tokens[row])
        for patch in order[row, head.num_kept :].tolist():
            pairs = zip(predicted[row, patch].tolist(), expected[patch], strict=True)
            power = 2 if loss == 'MaskedPixelLoss' else 1
            errors += [abs(ours - right) ** power for ours, right in pairs]
    expected = model.loss_weights['restoration'] * sum(errors) / len(errors)
    assert_same(found, torch.tensor(expected, dtype=torch.float64))


def test_a_restoration_that_names_no_target_is_that_of_pixels_to_the_bit():
    shipped, named = sen_with(None), sen_with('PixelTarget')
    assert named.state_dict().keys() == shipped.state_dict().keys()
    for name, value in shipped.state_dict().items():
        assert torch.equal(named.state_dict()[name], value), name
    losses = []
    for model in (shipped, named):
        torch.manual_seed(1)
        losses.append(model(**make_batch(3, (1, 1, 1)), mode='loss')['restoration.loss'])
    assert torch.equal(*losses)


@pytest.mark.parametrize('target', TARGETS)
def test_every_parameter_receives_a_gradient_whatever_the_target(target):
    model = sen_with(target)
    total, _ = model.parse_losses(model(mode='loss', **make_batch(4, (1, 1, 1, 1))))
    total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_no_gradient_reaches_the_image_encoder_through_the_features_to_be_predicted():
    model, batch = sen_with('PatchFeatureTarget'), make_batch(2, (1, 1))
    pair = model.backbone(batch['images'], batch['tokens'], model.reads)
    assert pair.image.tokens.requires_grad
    assert not model.heads['restoration'].target(pair, batch['images']).requires_grad


def test_a_restored_patch_of_one_colour_is_shown_in_it():
    model, batch = sen_with('PatchMeanTarget'), make_batch(2, (1, 1))
    head = model.heads['restoration']
    model.eval()
    [first, _] = illustrated_rows(model, batch, ['a', 'b'])
    restored = torch.from_numpy(first['columns']['restored']).permute(2, 0, 1)[None]
    colours = head.to_patches(restored).unflatten(2, (-1, 3))[0]
    is_flat = (colours == colours[:, :1]).all(dim=2).all(dim=1)
    assert is_flat.sum() == 8 - (head.num_kept - 1)


def test_there_is_no_board_of_features():
    assert illustrating_head(sen_with('PixelTarget')) is not None
    model = sen_with('PatchFeatureTarget')
    assert illustrating_head(model) is None
    with pytest.raises(KeyError, match='no head of the model draws a board'):
        illustrated_rows(model, {}, [])


def test_words_are_shown_on_patches_whatever_the_target():
    batch = make_batch(2, (1, 1))
    maps = []
    for target in TARGETS:
        model = sen_with(target)
        head = model.heads['restoration']
        maps.append(head.word_attention(batch['images'], batch['tokens'], model.backbone))
    assert torch.equal(maps[0], maps[1])
    assert torch.equal(maps[0], maps[2])
