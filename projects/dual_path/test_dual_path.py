"""Dual Path against the numbers of the release, and its sampler and transforms by their rules.

``data/dual_path_*.npz``: github.com/layumi/Image-Text-Embedding, commit eefe0f21c85a, MatConvNet
run by Octave in double precision, with small widths and dropout switched off; features of the
ResNet are given. Maps are (1, places, channels, batch) there. Losses are sums there and means here,
so gradients there are as many times larger as the batch has rows.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from closeness import assert_same
from parity import LOSS, relative_error
from tiny import build_optimizer

from projects.dual_path import official
from projects.dual_path.heads import GivenNegativeLoss, unit_behind_relu
from projects.dual_path.norm import DeviationBatchNorm
from projects.dual_path.samplers import ImageOnceSampler
from projects.dual_path.transforms import DrawCaption, ShiftWords, shifted
from sen_toolbox.config import load_config
from sen_toolbox.models.features import ImageFeatures, PairFeatures, TextFeatures
from sen_toolbox.registry import MODELS
from sen_toolbox.text.tokens import Tokens

pytestmark = pytest.mark.numeric

CONFIGS, DATA = Path(__file__).parent / 'configs', Path(__file__).parent / 'data'
PLACES, ROWS = 56, 8
UNITS = [
    *((8, 16, 1), (6, 16, 1), (6, 16, 1)),
    *((20, 20, 2), *[(8, 20, 1)] * 3),
    *((24, 24, 2), *[(16, 24, 1)] * 5),
    (32, 32, 1),
]
# Unit behind which the release was looked at.
STAGES = {'fc2_1sumx': 0, 'fc3_1sumx': 3, 'fc4_1sumx': 7, 'fc5_1sumx': 13}
# As the release has it: pairs first, then the negative of each.
BESIDE = torch.arange(ROWS).view(2, -1).t().flatten()


def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(DATA / f'dual_path_{name}.npz') as found:
        return dict(found)


INPUT, EXPECTED = arrays('input'), arrays('expected')


def group(prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(f'{prefix}/'): v for k, v in INPUT.items() if k.startswith(f'{prefix}/')}


def shipped(name='dual_path_r50_cuhk.py', **overrides):
    """A config of the project in the widths of the numbers."""
    sizes = {
        'tokenizer.vocab_file': None,
        'tokenizer.vocabulary': [f'w{number}' for number in range(40)],
        'num_classes': 7,
        'embed_dim': 32,
        'model.backbone.image.pretrained': None,
        'model.backbone.text.word_vectors': None,
        # A ResNet of 32 numbers, which gives none of its own.
        'model.backbone.image.depth': dict(
            block='basic', blocks=[1, 1, 1, 1], widths=[4, 4, 4, 32], stem=4
        ),
        'model.backbone.text.word_dim': 12,
        'model.backbone.text.units': UNITS,
        'model.heads.instance.dropout': 0.0,
    }
    return load_config(CONFIGS / name, {**sizes, **overrides})


def load_official(model) -> None:
    state = {k: torch.from_numpy(v) for k, v in group('state').items()}
    missing, unexpected = model.load_state_dict(official.from_official(state), strict=False)
    assert unexpected == []
    assert {name.split('.trunk.')[0] for name in missing} == {'backbone.image'}


@pytest.fixture
def release():
    """The model with the release's weights, in double precision, and its batch."""
    config = shipped()
    model = MODELS.build(config.model)
    load_official(model)
    given = {k: torch.from_numpy(v) for k, v in group('batch').items()}
    starts = given['start'].numpy() - 1
    mask = torch.arange(PLACES) < given['length'][:, None]
    plain = Tokens(given['words'], mask, given['length'] - 1)
    moved = shifted(plain.map(torch.Tensor.numpy), starts).map(torch.from_numpy)
    batch = dict(
        features=given['image_features'].double(),
        plain=plain,
        tokens=moved,
        image_labels=given['label_img'] - 1,
        text_labels=given['label_txt'] - 1,
    )
    return config, model.double(), batch


def features_of(model, batch) -> PairFeatures:
    image = model.backbone.image.embed(batch['features'])
    text = model.backbone.text.embed(batch['tokens'].ids, batch['tokens'].mask)
    return PairFeatures(ImageFeatures(image), TextFeatures(text))


def in_rows(theirs: np.ndarray) -> torch.Tensor:
    """(B, C) of (1, 1, C, B)."""
    return torch.from_numpy(theirs[0, 0].T)


def check(found: torch.Tensor, theirs: torch.Tensor | np.ndarray, name='', bound=1e-5) -> None:
    """Features by the distance over the length, as they reach a thousand."""
    assert found.shape == theirs.shape, name
    found, theirs = found.detach().double(), np.asarray(theirs)
    if np.linalg.norm(theirs) > 1e-6:
        assert relative_error(found, theirs) < bound, name
    else:
        # No hinge is active, or a norm follows a bias: nothing but rounding.
        assert found.abs().max() < 1e-6, name


@torch.no_grad()
def test_both_paths_and_their_stages_in_evaluation(release):
    _, model, batch = release
    model.eval()
    pair = features_of(model, batch)
    check(pair.image.embedding, in_rows(EXPECTED['eval/fc1_1bn']))
    check(pair.text.embedding, in_rows(EXPECTED['eval/fc5_2bn']))
    places = model.backbone.text.embed_words(batch['tokens'].ids, batch['tokens'].mask)
    stages = {}
    for number, unit in enumerate(model.backbone.text.units):
        places = stages[number] = unit(places)
    for name, number in STAGES.items():
        check(stages[number].permute(2, 1, 0), EXPECTED[f'eval/{name}'][0], name)


@torch.no_grad()
def test_a_caption_is_searched_by_the_mean_over_all_places(release):
    _, model, batch = release
    found = model.eval().embed_tokens(batch['plain'])
    check(found, EXPECTED['eval/text'])


def losses(model, pair, batch):
    """The three terms as means over rows, each by itself."""
    head = model.heads['instance']
    image, _ = head.classify(pair.image.embedding, batch['image_labels'])
    text, _ = head.classify(pair.text.embedding, batch['text_labels'])
    beside = PairFeatures(
        ImageFeatures(pair.image.embedding[BESIDE]), TextFeatures(pair.text.embedding[BESIDE])
    )
    return dict(image=image, text=text, rank=model.heads['ranking'](beside, {}, None)['loss'])


def test_embeddings_and_each_loss_in_training(release):
    _, model, batch = release
    pair = features_of(model.train(), batch)
    check(pair.image.embedding, in_rows(EXPECTED['train/fc1_1bn']))
    check(pair.text.embedding, in_rows(EXPECTED['train/fc5_2bn']))
    check(unit_behind_relu(pair.image.embedding), in_rows(EXPECTED['train/fc1bn_n']))
    check(unit_behind_relu(pair.text.embedding), in_rows(EXPECTED['train/fc2bn_n']))
    classify = model.heads['instance'].classifier
    for modality, embedding, name in (
        ('image', pair.image.embedding, 'img'),
        ('text', pair.text.embedding, 'txt'),
    ):
        check(classify(embedding.relu()), in_rows(EXPECTED[f'train/prediction_{name}']), modality)
        head, labels = model.heads['instance'], batch[f'{modality}_labels']
        wrong = ROWS * (1 - head.classify(embedding, labels)[1])
        assert wrong == pytest.approx(EXPECTED[f'loss/top1err_{name}'].item())
    found = losses(model, pair, batch)
    for name, theirs, rows in (
        ('image', 'objective_img', ROWS),
        ('text', 'objective_txt', ROWS),
        ('rank', 'objective_f', ROWS // 2),
    ):
        expected = EXPECTED[f'loss/{theirs}'].item() / rows
        assert found[name].item() == pytest.approx(expected, **LOSS), name


def test_the_head_weighs_the_terms_of_both_modalities(release):
    _, model, batch = release
    pair = features_of(model.train(), batch)
    head, labels = model.heads['instance'], batch['image_labels']
    terms = [head.classify(part.embedding, labels)[0] for part in (pair.image, pair.text)]
    logged = head(pair, dict(labels=labels), None)
    assert logged['loss'].item() == pytest.approx((terms[0] + 0.5 * terms[1]).item())


@pytest.mark.parametrize('stage', [1, 2])
def test_gradients_and_moments_of_both_stages(release, stage):
    config, model, batch = release
    norms = [part for part in model.modules() if isinstance(part, DeviationBatchNorm)]
    for norm in norms:
        norm.momentum = 1.0  # so that the moments of the batch are what is kept
    found = losses(model, features_of(model.train(), batch), batch)
    weights = {1: dict(image=1, text=1, rank=0)}
    # The release's 2, 1 and 0.5, as the config has them.
    heads = config.model.heads
    weights[2] = dict(
        image=heads.instance.get('image_weight', 1.0),
        text=heads.instance.text_weight,
        rank=config.model.loss_weights.ranking,
    )
    sum(weight * found[name] for name, weight in weights[stage].items()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if '.trunk.' not in name}
    theirs = {
        key.removeprefix(f'grad{stage}/'): value
        for key, value in arrays('gradients').items()
        if key.startswith(f'grad{stage}/')
    }
    ours = official.to_official({**model.state_dict(), **gradients}, model)
    assert theirs.keys() == ours.keys()
    for name, value in theirs.items():
        check(ROWS * ours[name], value, name, bound=1e-4)


def test_a_norm_of_one_row_is_refused_in_training():
    norm = DeviationBatchNorm(3)
    with pytest.raises(ValueError, match=r'more than one value of each channel.*got \(1, 3\)'):
        norm(torch.zeros(1, 3))
    assert norm.eval()(torch.zeros(1, 3)).shape == (1, 3)


def test_two_steps_of_stage_one(release):
    config, model, batch = release
    first = shipped('dual_path_r50_cuhk_stage1.py').optim_wrapper
    # In the numbers words have the factors that the release sets first, and later replaces.
    first.paramwise_cfg.rules = [
        dict(rule, lr_mult=0.1) if 'word_' in rule.pattern else rule
        for rule in first.paramwise_cfg.rules
    ] + [dict(pattern=r'word_bias$', lr_mult=2.0)]
    optimizer = build_optimizer(first, model.train())
    check_rates(optimizer, model)
    for step in (1, 2):
        found = losses(model, features_of(model, batch), batch)
        if step == 2:
            for name, theirs in (('image', 'objective_img'), ('text', 'objective_txt')):
                expected = EXPECTED[f'step1/{theirs}'].item() / ROWS
                assert found[name].item() == pytest.approx(expected, **LOSS)
        optimizer.zero_grad()
        (found['image'] + found['text']).backward()
        optimizer.step()
        ours = official.to_official(model.state_dict(), model)
        moved = {k for k in EXPECTED if k.startswith(f'step{step}/') and 'objective' not in k}
        assert len(moved) == 10
        for key in moved:
            check(ours[key.removeprefix(f'step{step}/')], EXPECTED[key], key)


def check_rates(optimizer, model):
    """The factor of every parameter."""
    rates = {id(p): group['lr'] / 0.1 for group in optimizer.param_groups for p in group['params']}
    factors = {
        name: torch.full_like(p, rates[id(p)])
        for name, p in model.named_parameters()
        if '.trunk.' not in name
    }
    theirs = dict(zip(INPUT['rates/names'], INPUT['rates/values'], strict=True))
    ours = official.to_official(factors, model)
    assert ours.keys() == {name for name in theirs if not name.endswith('_m')}
    for name, factor in ours.items():
        assert factor.flatten()[0].item() == pytest.approx(theirs[name]), name


def test_the_second_stage_moves_the_resnet_by_the_parity_of_a_parameters_number():
    model = MODELS.build(shipped().model)
    optimizer = build_optimizer(shipped().optim_wrapper, model)
    rates = {id(p): group['lr'] for group in optimizer.param_groups for p in group['params']}
    names = {name.partition('.trunk.')[2]: p for name, p in model.named_parameters()}
    for name, factor in (
        ('conv1.weight', 0.0001),
        ('bn1.weight', 0.001),
        ('bn1.bias', 0.02),
        ('layer2.0.conv2.weight', 0.02),
        ('layer2.0.bn2.weight', 0.001),
        ('layer2.0.downsample.0.weight', 0.02),
        ('layer2.0.downsample.1.weight', 0.001),
        ('layer2.0.downsample.1.bias', 0.02),
    ):
        assert rates[id(names[name])] == pytest.approx(0.1 * factor), name


def test_the_first_stage_leaves_the_resnet_as_it_is_and_normalises_by_the_batch():
    model = MODELS.build(shipped('dual_path_r50_cuhk_stage1.py', image_size=(64, 32)).model)
    trunk = model.backbone.image.trunk
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    images = torch.randn(4, 3, 64, 32)
    embedding = model.train().backbone.encode_image(images).embedding
    embedding.sum().backward()
    assert all(p.grad is None for p in trunk.parameters())
    after = trunk.state_dict()
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert {name.rpartition('.')[2] for name in moved} == {'num_batches_tracked'}
    assert not torch.allclose(trunk(images).embedding, trunk.eval()(images).embedding)


@torch.no_grad()
def test_an_image_is_searched_as_its_mirror_image_is():
    model = MODELS.build(shipped(image_size=(64, 32)).model).eval()
    images = torch.randn(2, 3, 64, 32)
    found = model.backbone.encode_image(images).embedding
    assert_same(model.backbone.encode_image(images.flip(3)).embedding, found)
    path = model.backbone.image
    alone = [path.embed(path.trunk(side).embedding) for side in (images, images.flip(3))]
    assert_same(found, (alone[0] + alone[1]) / 2)


def test_the_losses_of_free_inputs():
    given = {k: torch.from_numpy(v).double() for k, v in group('batch').items() if '/' in k}
    for normalise, name in ((False, 'rank'), (True, 'rank_normalised')):
        x, y = (in_rows(given[f'fn/{side}'].numpy()).requires_grad_() for side in 'XY')
        image, text = (unit_of(x), unit_of(y)) if normalise else (x, y)
        half = ROWS // 2
        loss = GivenNegativeLoss(margin=1.0)(image[:half], text[:half], image[half:], text[half:])
        expected = EXPECTED[f'fn/{name}'].item() / half
        assert loss.item() == pytest.approx(expected, **LOSS)
        (half * loss).backward()
        check(x.grad, in_rows(EXPECTED[f'fn/{name}_dX']), bound=1e-4)
        check(y.grad, in_rows(EXPECTED[f'fn/{name}_dY']), bound=1e-4)
        if normalise:
            check(image, in_rows(EXPECTED['fn/Xn']))
    logits = in_rows(given['fn/logits'].numpy()).requires_grad_()
    labels = given['fn/labels'].flatten().long() - 1
    loss = torch.nn.functional.cross_entropy(logits, labels, ignore_index=-1, reduction='sum')
    assert loss.item() == pytest.approx(EXPECTED['fn/softmaxlog'].item(), **LOSS)
    loss.backward()
    check(logits.grad, in_rows(EXPECTED['fn/softmaxlog_grad']), bound=1e-4)


def unit_of(rows):
    """The release's normalisation alone, without the ReLU before it."""
    return rows / (rows.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()


def test_weights_go_there_and_back():
    state = {k: torch.from_numpy(v).float() for k, v in group('state').items()}
    back = official.to_official(official.from_official(state), None)
    assert back.keys() == state.keys()
    for key, value in state.items():
        if key.endswith('_m'):  # deviations are squared
            torch.testing.assert_close(back[key], value, rtol=1e-6, atol=1e-6)
        else:
            assert torch.equal(back[key], value), key
    with pytest.raises(ValueError, match=r"\['conv1_filter'\].*The ResNet cannot be brought over"):
        official.from_official({**state, 'conv1_filter': torch.zeros(1)})


def test_words_start_at_the_vectors_of_a_file_and_are_trained(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(41, 12)).astype(np.float32)
    np.save(tmp_path / 'words.npy', vectors)
    file = {'model.backbone.text.word_vectors': str(tmp_path / 'words.npy')}
    backbone = MODELS.build(shipped(**file).model).backbone
    backbone.load_weights()
    assert torch.equal(backbone.word_embedding.weight, torch.from_numpy(vectors))
    assert backbone.word_embedding.weight.requires_grad


class People:
    """Images of persons, two captions each."""

    def __init__(self, persons):
        self.persons = persons

    def __len__(self):
        return 2 * len(self.persons)

    def get_data_info(self, index):
        return dict(person_id=self.persons[index // 2], img_path=f'{index // 2}.jpg')


def test_an_epoch_has_each_image_once_with_one_of_its_captions():
    sampler = ImageOnceSampler(People(range(9)), batch_size=4, seed=3)
    epochs = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        drawn = list(sampler)
        assert sorted(index // 2 for index in drawn) == list(range(9))
        assert len(drawn) == len(sampler)
        epochs.append(drawn)
    assert epochs[0] != epochs[1]
    assert {index % 2 for drawn in epochs for index in drawn} == {0, 1}


def test_the_second_of_a_couple_is_another_person():
    persons = [0, 0, 0, 0, 0, 0, 1, 2, 2]
    sampler = ImageOnceSampler(People(persons), batch_size=4, negatives=True, seed=0)
    for epoch in range(20):
        sampler.set_epoch(epoch)
        drawn = [persons[index // 2] for index in sampler]
        assert len(drawn) == len(sampler) == 8
        assert all(a != b for a, b in zip(drawn[::2], drawn[1::2], strict=True))


@pytest.mark.parametrize('negatives', [False, True])
@pytest.mark.parametrize('size', [12, 13, 15])
def test_processes_share_the_batches_of_one(monkeypatch, negatives, size):
    def batches(rank, world, batch_size):
        monkeypatch.setattr('projects.dual_path.samplers.get_dist_info', lambda: (rank, world))
        sampler = ImageOnceSampler(
            People(range(size)), batch_size=batch_size, negatives=negatives, seed=1
        )
        drawn = list(sampler)
        assert len(drawn) == len(sampler)
        return [drawn[first : first + batch_size] for first in range(0, len(drawn), batch_size)]

    whole, left, right = batches(0, 1, 8), batches(0, 2, 4), batches(1, 2, 4)
    assert whole[0] == left[0] + right[0]
    assert len(left[1]) == len(right[1]) >= 2
    assert (left[1] + right[1]) == whole[1][: 2 * len(left[1])]


def test_couples_need_an_even_batch_and_two_persons():
    with pytest.raises(ValueError, match='must be even for couples, got 5'):
        ImageOnceSampler(People(range(9)), batch_size=5, negatives=True, seed=0)
    with pytest.raises(ValueError, match='one identity alone has no negatives'):
        ImageOnceSampler(People([4, 4]), batch_size=2, negatives=True, seed=0)


def test_a_caption_is_one_of_the_persons_whatever_the_image():
    step = DrawCaption()
    with pytest.raises(KeyError, match='pipeline of a training split'):
        step(dict(person_id=1, captions=['a']))
    pairs = [dict(person_id=n // 3, captions=[f'caption {n}']) for n in range(6)]
    step.see_pairs(pairs)
    drawn = {step(dict(pairs[0]))['captions'][0] for _ in range(60)}
    assert drawn == {'caption 0', 'caption 1', 'caption 2'}


def test_words_begin_anywhere_in_their_row():
    ids = np.array([[7, 8, 9, 0, 0]])
    tokens = Tokens(ids, ids > 0, np.array([2]))
    step, starts = ShiftWords(), Counter()
    for _ in range(100):
        moved = step(dict(tokens=tokens))['tokens']
        first = int(moved.mask[0].argmax())
        starts[first] += 1
        assert moved.ids[0].tolist() == [0] * first + [7, 8, 9] + [0] * (2 - first)
        assert moved.mask[0].tolist() == (moved.ids[0] > 0).tolist()
        assert moved.ids[0, moved.end[0]] == 9
    assert set(starts) == {0, 1, 2}
    step.draw_start = lambda room: room
    assert step(dict(tokens=tokens))['tokens'].ids[0].tolist() == [0, 0, 7, 8, 9]
