"""TBPS-CLIP's losses, heads, augmentations and training step."""

import json
import math
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from closeness import assert_same
from PIL import Image
from ranks import run_ranks
from tiny import NORMALISE, as_tokens, build_optimizer, clip_arch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sen_toolbox.config import load_config
from sen_toolbox.datasets import collate_pairs
from sen_toolbox.datasets.transforms import (
    BackTranslate,
    CleanCaption,
    DeleteWords,
    MakeViews,
    PackPair,
    Tokenize,
    TorchvisionOps,
)
from sen_toolbox.registry import DATASETS, HOOKS, LOSSES, MODELS
from sen_toolbox.text.tokenizers import CLIPTokenizer

pytestmark = pytest.mark.numeric

TINY = 'configs/tbps_clip/tbps_clip_tiny_synthetic.py'
LABELS = [[3, 1, 3, 2, 1], [0] * 5, list(range(5))]
SCALE = 5.0


# Losses


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    text = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    image[4] = 2 * image[1]  # equal cosines
    return image, text


def cosine(a, b):
    return F.cosine_similarity(a, b, dim=0).item()


def rows(image, text, labels):
    """For each query of both directions: its log-probabilities, and the true distribution."""
    for queries, gallery in ((text, image), (image, text)):
        for i in range(len(labels)):
            logits = [SCALE * cosine(queries[i], g) for g in gallery]
            log_norm = math.log(sum(math.exp(x) for x in logits))
            same = [float(labels[i] == p) for p in labels]
            yield [x - log_norm for x in logits], [s / sum(same) for s in same]


def slow_nitc(image, text, labels, softness):
    total = 0.0
    for log_p, q in rows(image, text, labels):
        for x, y in zip(log_p, q, strict=True):
            total -= (softness * math.exp(x) + (1 - softness) * y) * x / len(labels) / 2
    return total


def slow_ritc(image, text, labels, epsilon):
    total = 0.0
    for log_p, q in rows(image, text, labels):
        for x, y in zip(log_p, q, strict=True):
            total += math.exp(x) * (x - math.log(y + epsilon)) / len(labels) / 2
    return total


def slow_citc(image, text, in_modal, cross_modal):
    total, number = 0.0, len(image)
    for i in range(number):
        for j in range(number):
            within = cosine(image[i], image[j]) - cosine(text[i], text[j])
            across = cosine(image[i], text[j]) - cosine(image[j], text[i])
            total += (in_modal * within**2 + cross_modal * across**2) / number**2
    return total


def slow_simclr(first, second, temperature):
    views, number = [*first, *second], len(first)
    total = 0.0
    for i, view in enumerate(views):
        others = {j: cosine(view, v) / temperature for j, v in enumerate(views) if j != i}
        partner = others[(i + number) % (2 * number)]
        total += math.log(sum(math.exp(x) for x in others.values())) - partner
    return total / (2 * number)


@pytest.mark.parametrize('labels', LABELS)
@pytest.mark.parametrize('softness', [0.0, 0.4, 1.0])
def test_nitc_is_the_cross_entropy_with_softened_targets(pairs, labels, softness):
    loss = LOSSES.build(dict(type='NITCLoss', softness=softness, scale=SCALE))
    value = loss(*pairs, torch.tensor(labels)).item()
    assert value == pytest.approx(slow_nitc(*pairs, labels, softness))


@pytest.mark.parametrize('labels', LABELS)
def test_ritc_is_the_reversed_divergence(pairs, labels):
    loss = LOSSES.build(dict(type='RITCLoss', epsilon=0.01, scale=SCALE))
    assert loss(*pairs, torch.tensor(labels)).item() == pytest.approx(
        slow_ritc(*pairs, labels, 0.01)
    )


def test_citc_compares_what_should_be_alike(pairs):
    loss = LOSSES.build(dict(type='CITCLoss', in_modal=0.3, cross_modal=0.7))
    assert loss(*pairs).item() == pytest.approx(slow_citc(*pairs, 0.3, 0.7))


@pytest.mark.parametrize('number', [1, 2, 5])
def test_simclr_finds_the_other_view_among_all_but_itself(pairs, number):
    first, second = (part[:number].requires_grad_() for part in pairs)
    loss = LOSSES.build(dict(type='SimCLRLoss', temperature=0.3))(first, second)
    assert loss.item() == pytest.approx(slow_simclr(first, second, 0.3))
    loss.backward()
    assert torch.isfinite(first.grad).all()


def test_a_soft_target_is_the_networks_own_and_carries_no_gradient(pairs):
    gradients = []
    for softness in (0.0, 0.4):
        image = pairs[0].clone().requires_grad_()
        loss = LOSSES.build(dict(type='NITCLoss', softness=softness, scale=SCALE))
        loss(image, pairs[1], torch.tensor(LABELS[0])).backward()
        gradients.append(image.grad)
    torch.testing.assert_close(gradients[1], 0.6 * gradients[0])


def test_ritc_is_half_of_sdm_with_its_epsilon(pairs):
    labels = torch.tensor(LABELS[0])
    ritc = LOSSES.build(dict(type='RITCLoss', epsilon=0.01, scale=SCALE))
    sdm = LOSSES.build(dict(type='SDMLoss', epsilon=0.01, temperature=1 / SCALE))
    torch.testing.assert_close(ritc(*pairs, labels), sdm(*pairs, labels) / 2)


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(type='NITCLoss', softness=1.5), 'softness must be in 0..1, got 1.5'),
        (dict(type='NITCLoss', scale=0), 'scale must be above 0, got 0'),
        (dict(type='RITCLoss', epsilon=0), 'epsilon must be above 0, got 0'),
        (dict(type='RITCLoss', scale=-1), 'scale must be above 0, got -1'),
        (dict(type='SimCLRLoss', temperature=0), 'temperature must be above 0, got 0'),
    ],
)
def test_a_loss_refuses_a_setting_out_of_range(config, message):
    with pytest.raises(ValueError, match=message):
        LOSSES.build(config)


# Heads


def small_model(**contrast) -> nn.Module:
    """The config's model on small towers, without dropout."""
    torch.manual_seed(0)
    overrides = dict(pretrained=None, image_size=(64, 32), clip_arch=clip_arch())
    config = load_config(TINY, overrides).model
    config.backbone.text.attention_dropout = 0.0
    config.heads.contrast = {**config.heads.contrast, **contrast}
    return MODELS.build(config)


def make_batch(number=8) -> dict:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 49405, (number, 9), generator=generator)
    tokens[:, 0], tokens[:, -2], tokens[:, -1] = 49406, 49407, 0
    return dict(
        images=torch.randn(number, 3, 64, 32, generator=generator),
        views=torch.randn(number, 3, 3, 64, 32, generator=generator),
        tokens=as_tokens(tokens),
        labels=torch.tensor([0, 1, 2, 0, 1, 0, 3, 4])[:number],
    )


def objective(model, batch) -> torch.Tensor:
    return model.parse_losses(model(mode='loss', **batch))[0]


def test_the_scale_is_limited_and_still_learns_to_shrink():
    head = small_model(initial_scale=400.0).heads['contrast']
    scale = head.scale()
    scale.backward()
    assert scale.item() == pytest.approx(100, rel=1e-6)
    assert head.logit_scale.grad.item() == pytest.approx(400, rel=1e-6)


def test_a_view_is_averaged_with_the_image_for_the_losses_that_name_it():
    batch = make_batch()
    with_view, without = small_model(), small_model(views=None)
    of_image = without(mode='loss', **batch)
    of_view = without(mode='loss', **{**batch, 'images': batch['views'][:, 0]})
    both = with_view(mode='loss', **batch)
    mean = (of_image['contrast.nitc'] + of_view['contrast.nitc']) / 2
    assert_same(both['contrast.nitc'], mean)
    assert_same(both['contrast.ritc'], of_image['contrast.ritc'])
    total = mean + of_image['contrast.ritc'] + 0.1 * of_image['contrast.citc']
    assert_same(both['contrast.loss'].detach(), total)


def test_self_supervision_reads_the_views_that_it_names():
    batch, model = make_batch(), small_model()
    before = model(mode='loss', **batch)['self_supervision.loss']
    for index, changes in ((0, False), (1, True), (2, True)):
        views = batch['views'].clone()
        views[:, index] = 0
        after = model(mode='loss', **{**batch, 'views': views})['self_supervision.loss']
        assert (after.item() != before.item()) == changes


def test_a_batch_without_views_says_what_to_add():
    batch = make_batch()
    few = batch.pop('views')[:, :2]
    with pytest.raises(KeyError, match='MakeViews'):
        small_model()(mode='loss', **batch)
    with pytest.raises(ValueError, match='reads view 2 .* makes 2'):
        small_model()(mode='loss', **batch, views=few)
    with pytest.raises(ValueError, match=r"not normalised: put also=\['views'\]"):
        small_model()(mode='loss', **batch, views=few.byte())


@pytest.mark.parametrize(
    'change', [dict(weights=dict(nitc=1.0)), dict(views=dict(sdm=0)), dict(losses=dict())]
)
def test_losses_weights_and_views_must_fit(change):
    with pytest.raises(KeyError, match='weights must name all losses and views some'):
        small_model(**change)


@pytest.mark.parametrize('name', ['initial_scale', 'max_scale'])
def test_a_scale_of_zero_is_refused(name):
    with pytest.raises(ValueError, match=f'{name} must be above 0, got 0'):
        small_model(**{name: 0})


# Two processes


class Objective(nn.Module):
    """Gives DistributedDataParallel a forward that returns the loss."""

    def __init__(self):
        super().__init__()
        self.model = small_model().double()

    def forward(self, batch):
        return objective(self.model, batch)


def global_batch() -> dict:
    batch = make_batch()
    return {**batch, 'images': batch['images'].double(), 'views': batch['views'].double()}


def gradients(module) -> dict[str, torch.Tensor]:
    return {name.removeprefix('module.'): p.grad for name, p in module.named_parameters()}


def train_on_half(rank, folder):
    dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    half = slice(4 * rank, 4 * rank + 4)
    module = DistributedDataParallel(Objective())
    loss = module({key: value[half] for key, value in global_batch().items()})
    loss.backward()
    torch.save(dict(loss=loss.detach(), gradients=gradients(module)), f'{folder}/rank{rank}.pt')
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_loss_and_gradients_of_one_with_the_whole_batch(tmp_path):
    module = Objective()
    loss = module(global_batch())
    loss.backward()
    run_ranks(train_on_half, str(tmp_path), ranks=2)
    for rank in (0, 1):
        saved = torch.load(tmp_path / f'rank{rank}.pt')
        torch.testing.assert_close(saved['loss'], loss.detach(), rtol=0, atol=1e-9)
        for name, gradient in gradients(module).items():
            torch.testing.assert_close(saved['gradients'][name], gradient, rtol=1e-6, atol=1e-9)


# The soft share of the target


def ramp(model, epochs=2, target='heads.contrast.losses.nitc.softness'):
    hook = HOOKS.build(dict(type='RampHook', target=target, epochs=epochs))
    runner = SimpleNamespace(model=model, train_dataloader=range(5), iter=0)
    hook.before_train(runner)
    return hook, runner


@pytest.mark.parametrize('wrap', [False, True])
def test_the_softness_grows_linearly_to_the_configured_value(wrap):
    model = small_model()
    hook, runner = ramp(nn.DataParallel(model) if wrap else model)
    drawn = []
    for runner.iter in (0, 1, 5, 10, 40):
        hook.before_train_iter(runner, 0)
        drawn.append(model.heads['contrast'].losses['nitc'].softness)
    assert drawn == pytest.approx([0, 0.05, 0.25, 0.5, 0.5])


@pytest.mark.parametrize(
    'target',
    ['heads.contrast.losses.nitc.softnes', 'heads.sdm.softness', 'heads', 'heads.contrast'],
)
def test_a_ramp_of_what_is_no_number_is_refused(target):
    with pytest.raises(KeyError, match=f"no number '{target}'"):
        ramp(small_model(), target=target)


def test_a_ramp_without_length_is_refused():
    with pytest.raises(ValueError, match='epochs must be above 0, got 0'):
        ramp(small_model(), epochs=0)


# Images


@pytest.fixture
def noise():
    return np.random.RandomState(0).randint(0, 256, size=(97, 41, 3), dtype=np.uint8)


def image_steps(size=(48, 32)) -> list[dict]:
    """MakeViews and the augmentation of the image, as in the config."""
    pipeline = load_config(TINY, {'image_size': size}).train_dataloader.dataset.pipeline
    return [dict(step) for step in pipeline[1:4]]


def augment(noise, seed):
    views, resize, ops = image_steps()
    assert [views['type'], resize['type'], ops['type']] == [
        'MakeViews', 'ResizeImage', 'TorchvisionOps'
    ]  # fmt: skip
    torch.manual_seed(seed)
    results = {'img': noise.copy()}
    MakeViews(views=views['views']).transform(results)
    np.testing.assert_array_equal(results['img'], noise)
    return TorchvisionOps(ops=ops['ops'])(results)


def test_views_have_the_size_of_the_model_and_the_image_keeps_its_own(noise):
    results = augment(noise, 0)
    assert results['views'].shape == (3, 3, 48, 32)
    assert results['views'].dtype == results['img'].dtype == np.uint8
    assert len({view.tobytes() for view in results['views']}) == 3


def test_a_seed_decides_image_and_views(noise):
    first, again, other = (augment(noise, seed) for seed in (1, 1, 2))
    for key in ('img', 'views'):
        np.testing.assert_array_equal(first[key], again[key])
    assert (first['views'] != other['views']).any()


@pytest.mark.parametrize('interpolation', ['bicubic', 'bilinear'])
@pytest.mark.parametrize('size', [(224, 224), (48, 17), (97, 41)])
def test_an_interpolation_is_pillows_by_its_name(noise, interpolation, size):
    op = dict(type='Resize', size=size, interpolation=interpolation)
    ours = TorchvisionOps(ops=[op])({'img': noise})['img']
    filters = dict(bicubic=Image.Resampling.BICUBIC, bilinear=Image.Resampling.BILINEAR)
    pillow = np.array(Image.fromarray(noise).resize(size[::-1], filters[interpolation]))
    assert ours.shape == (*size, 3)
    # Both are rounded, in another place.
    assert np.abs(ours.astype(int) - pillow).max() <= 2


def test_an_unknown_operation_is_refused_with_the_known_ones():
    with pytest.raises(KeyError, match="no operation 'ColourJitter'; it has .*'ColorJitter'"):
        TorchvisionOps(ops=[dict(type='ColourJitter')])
    with pytest.raises(KeyError, match="no operation 'functional'"):
        TorchvisionOps(ops=[dict(type='RandomApply', transforms=[dict(type='functional')])])


def test_views_of_two_sizes_or_none_are_refused(noise):
    resize = [[dict(type='ResizeImage', size=size)] for size in ((8, 4), (4, 8))]
    with pytest.raises(ValueError, match=r'one size, got .*\(8, 4\), \(4, 8\)'):
        MakeViews(views=resize)({'img': noise})
    with pytest.raises(ValueError, match='views is empty'):
        MakeViews(views=[])


def test_views_reach_the_batch_and_are_normalised_as_images_are(noise):
    record = {'img': noise, 'captions': ['a man'], 'person_id': 3}
    Tokenize(CLIPTokenizer())(record)
    record['views'] = np.stack([noise.transpose(2, 0, 1), 255 - noise.transpose(2, 0, 1)])
    sample = PackPair(per_image=['views'])(record)
    preprocessor = MODELS.build(
        dict(type='PairPreprocessor', erasing_prob=1.0, also=['views'], **NORMALISE)
    )
    batch = preprocessor(collate_pairs([sample, sample]), training=True)
    assert batch['views'].shape == (2, 2, 3, 97, 41)
    whole = preprocessor(collate_pairs([sample, sample]))['images']
    torch.testing.assert_close(batch['views'][:, 0], whole)
    assert (batch['images'] != whole).any()
    # Pixels of a picture and of its negative add up to white.
    white = preprocessor.to_pixels(batch['views']).sum(dim=1)
    torch.testing.assert_close(white, torch.full_like(white, 255), rtol=0, atol=1e-3)


# Captions


@pytest.mark.parametrize('prob', [0.0, 0.05, 1.0])
@pytest.mark.parametrize('caption', ['', 'man', 'jekyll'])
def test_captions_of_one_word_or_none_survive(caption, prob):
    results = {'captions': [caption]}
    for step in (BackTranslate(), CleanCaption(), DeleteWords(prob=prob)):
        results = step(results)
    assert results['captions'] == [caption]


def test_punctuation_alone_is_an_empty_caption():
    assert CleanCaption()({'captions': ['...', ' (!)']})['captions'] == ['', '']


def test_one_word_of_the_caption_remains_when_all_are_deleted():
    random.seed(0)
    captions = DeleteWords(prob=1.0)({'captions': ['a tall man'] * 200})['captions']
    assert set(captions) == {'a', 'tall', 'man'}


def test_words_are_deleted_with_the_given_probability_and_stay_in_order():
    random.seed(0)
    words = [f'w{i:02}' for i in range(50)]
    captions = DeleteWords(prob=0.2)({'captions': [' '.join(words)] * 100})['captions']
    kept = [caption.split() for caption in captions]
    assert all(row == sorted(row) for row in kept)
    # Five standard deviations of a binomial with 5000 trials.
    assert abs(sum(map(len, kept)) - 4000) < 5 * (5000 * 0.2 * 0.8) ** 0.5


@pytest.fixture
def translations(tmp_path):
    path = tmp_path / 'back.json'
    path.write_text(json.dumps({'a man': 'one man', 'a bag': ['one bag', 'a purse']}))
    return path


@pytest.mark.parametrize(
    ('prob', 'expected'),
    [
        (0.0, {('a man', 'a bag')}),
        (1.0, {('one man', 'one bag'), ('one man', 'a purse')}),
    ],
)
def test_captions_are_replaced_by_one_of_their_back_translations(translations, prob, expected):
    random.seed(0)
    step = BackTranslate(file=translations, prob=prob)
    drawn = {tuple(step({'captions': ['a man', 'a bag']})['captions']) for _ in range(30)}
    assert drawn == expected


def test_a_caption_that_the_file_lacks_is_named_even_if_it_would_not_be_replaced(translations):
    with pytest.raises(KeyError, match="back.json has no back-translation of 'a hat'"):
        BackTranslate(file=translations, prob=0.0)({'captions': ['a hat']})


def test_an_absent_or_damaged_file_of_back_translations_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='gone.json of back-translated captions'):
        BackTranslate(file=tmp_path / 'gone.json')
    path = tmp_path / 'back.json'
    for text, message in (
        ('{"a": ', 'back.json is not valid JSON'),
        ('["a"]', 'back.json holds a list, expected an object'),
        ('{"a": []}', r"of 'a' is \[\], expected text"),
        ('{"a": 3}', "of 'a' is 3, expected text"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            BackTranslate(file=path)


@pytest.mark.parametrize('build', [DeleteWords, lambda prob: BackTranslate(prob=prob)])
def test_what_is_no_probability_is_refused(build):
    with pytest.raises(ValueError, match='must be in 0..1, got 1.5'):
        build(1.5)


def test_a_file_of_back_translations_is_set_on_the_command_line(translations):
    key = 'train_dataloader.dataset.pipeline.4.file'
    step = load_config(TINY, {key: str(translations)}).train_dataloader.dataset.pipeline[4]
    assert step == dict(type='BackTranslate', file=str(translations), prob=0.1)


# Training


@pytest.mark.slow
def test_a_training_step_on_drawn_people_reaches_every_parameter_but_moves_no_frozen_one(tmp_path):
    config = load_config(TINY, {'data_root': str(tmp_path), 'image_size': (64, 32)})
    few = dict(num_ids=dict(train=3, val=1, test=1), images_per_id=2, image_size=(64, 32))
    dataset = DATASETS.build({**config.train_dataloader.dataset, **few})
    random.seed(0)
    torch.manual_seed(0)
    batch = collate_pairs([dataset[index] for index in range(6)])
    assert batch['views'].shape == (6, 3, 3, 64, 32)
    model = MODELS.build(config.model).train()
    optimizer = build_optimizer(config.optim_wrapper, model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    loss = objective(model, model.data_preprocessor(batch, training=True))
    loss.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    optimizer.step()
    after = dict(model.named_parameters())
    still = [name for name, value in before.items() if torch.equal(value, after[name])]
    assert still == ['backbone.image.conv1.weight']
    records = model.eval()(
        mode='predict', **model.data_preprocessor(collate_pairs([dataset[0], dataset[1]]))
    )
    assert [tuple(record['image_embedding'].shape) for record in records] == [(128,), (128,)]
