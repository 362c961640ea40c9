"""The model that joins backbone and heads, its preprocessor, and training on two processes."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
from closeness import assert_same
from PIL import Image
from ranks import run_ranks
from tiny import NORMALISE, as_tokens, sen_config
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.transforms import Compose, Normalize, ToTensor

from sen_toolbox.registry import MODELS

pytestmark = pytest.mark.numeric


def small_sen(**kwargs) -> nn.Module:
    torch.manual_seed(0)
    return MODELS.build({**sen_config(image_size=(64, 32)), **kwargs})


def make_batch(num_images=3, num_captions=(2, 1, 3)) -> dict:
    generator = torch.Generator().manual_seed(1)
    total = sum(num_captions)
    tokens = torch.randint(1, 49405, (total, 9), generator=generator)
    tokens[:, 0], tokens[:, -2], tokens[:, -1] = 49406, 49407, 0
    people = torch.arange(num_images) // 2
    batch = dict(
        images=torch.randn(num_images, 3, 64, 32, generator=generator),
        tokens=as_tokens(tokens),
        labels=people,
        person_ids=people,
    )
    if set(num_captions) != {1}:
        counts = torch.tensor(num_captions)
        batch['image_of'] = torch.arange(num_images).repeat_interleave(counts)
    return batch


@torch.no_grad()
def test_predict_gives_one_record_per_image_with_all_its_captions():
    model, batch = small_sen().eval(), make_batch()
    records = model(mode='predict', **batch)
    assert [record['person_id'] for record in records] == [0, 0, 1]
    found = [tuple(record['text_embeddings'].shape) for record in records]
    assert found == [(2, 64), (1, 64), (3, 64)]
    pair = model(mode='tensor', images=batch['images'][[0, 0, 1, 2, 2, 2]], tokens=batch['tokens'])
    images = torch.stack([record['image_embedding'] for record in records])
    texts = torch.cat([record['text_embeddings'] for record in records])
    image, text = pair.image.embedding, pair.text.embedding
    assert_same(images, (image / image.norm(dim=1, keepdim=True))[[0, 2, 3]])
    assert_same(texts, text / text.norm(dim=1, keepdim=True))
    assert_same(texts.norm(dim=1), torch.ones(6))


@torch.no_grad()
def test_features_of_a_half_precision_model_are_normalised_in_float32():
    model = small_sen().eval().to(torch.bfloat16)
    batch = make_batch()
    [first, *_] = model(mode='predict', **{**batch, 'images': batch['images'].bfloat16()})
    assert first['image_embedding'].dtype == first['text_embeddings'].dtype == torch.float32
    assert first['image_embedding'].norm().item() == pytest.approx(1, abs=1e-6)


def test_each_loss_is_weighted_and_named_by_its_head():
    weights = dict(sdm=1.0, identity=1.0, triplet=1.0, restoration=1.0)
    batch = make_batch(4, (1, 1, 1, 1))
    plain, weighted = (
        small_sen(loss_weights=w) for w in (weights, {**weights, 'sdm': 3.0, 'triplet': 0.0})
    )
    for model in (plain, weighted):
        model.heads['restoration'].draw_noise = lambda n, device: torch.arange(n * 8.0).view(n, 8)
    before, after = (model(mode='loss', **batch) for model in (plain, weighted))
    assert {key for key in before if 'loss' in key} == {
        'sdm.loss', 'identity.loss', 'triplet.loss', 'restoration.loss'
    }  # fmt: skip
    assert_same(after['sdm.loss'], 3 * before['sdm.loss'])
    assert after['triplet.loss'] == 0 < before['triplet.loss']
    assert_same(after['restoration.loss'], before['restoration.loss'])
    assert not before['identity.image_acc'].requires_grad
    assert before['identity.loss'].requires_grad


def test_every_parameter_receives_a_gradient():
    model = small_sen()
    losses = model(mode='loss', **make_batch(4, (1, 1, 1, 1)))
    sum(value for key, value in losses.items() if key.endswith('.loss')).backward()
    without = [
        name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()
    ]
    assert without == []


@pytest.mark.parametrize('weights', [dict(sdm=1.0), dict(sdm=1.0, identity=1.0, itc=1.0)])
def test_heads_and_weights_must_name_the_same(weights):
    heads = sen_config()['heads']
    heads = dict(sdm=heads['sdm'], identity=heads['identity'])
    with pytest.raises(KeyError, match=r"got heads \['identity', 'sdm'\] and loss_weights \["):
        small_sen(heads=heads, loss_weights=weights)


def test_a_statistic_may_not_be_named_loss():
    class Statistic(nn.Module):
        def forward(self, pair, batch, backbone):
            total = pair.image.embedding.sum()
            return dict(loss=total, pixel_loss=total)

    model = small_sen()
    model.heads['sdm'] = Statistic()
    with pytest.raises(KeyError, match=r"head 'sdm' .*'loss' in it: \['pixel_loss'\]"):
        model(mode='loss', **make_batch(4, (1, 1, 1, 1)))


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="'loss', 'predict', 'tensor', got 'train'"):
        small_sen()(mode='train', **make_batch())


def pixels(rows=7, columns=5, count=2):
    return np.random.default_rng(0).integers(0, 256, (count, rows, columns, 3), dtype=np.uint8)


def as_batch(images):
    return dict(images=torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))


@pytest.mark.parametrize('training', [False, True])
def test_pixels_are_normalised_as_torchvision_does(training):
    images = pixels()
    preprocessor = MODELS.build(dict(type='PairPreprocessor', **NORMALISE))
    ours = preprocessor(as_batch(images), training=training)['images']
    transform = Compose([ToTensor(), Normalize(**NORMALISE)])
    expected = torch.stack([transform(Image.fromarray(image)) for image in images])
    assert_same(ours, expected)


def test_a_rectangle_is_erased_in_training_only_and_filled_with_the_mean():
    images = pixels(64, 32)
    preprocessor = MODELS.build(dict(type='PairPreprocessor', erasing_prob=1.0, **NORMALISE))
    batch = as_batch(images)
    whole = preprocessor(batch)['images']
    torch.testing.assert_close(preprocessor.to_pixels(whole).round().byte(), batch['images'])
    torch.manual_seed(0)
    erased = preprocessor(batch, training=True)['images']
    mean = torch.tensor(NORMALISE['mean']).view(3, 1, 1)
    for before, after in zip(whole, erased, strict=True):
        changed = (before != after).any(dim=0)
        rows, columns = changed.any(dim=1).nonzero(), changed.any(dim=0).nonzero()
        top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
        rectangle = torch.zeros(64, 32, dtype=torch.bool)
        rectangle[top:bottom, left:right] = True
        assert torch.equal(changed, rectangle)
        # A rounded side may add or take half a row.
        assert 0.015 < rectangle.float().mean() < 0.42
        assert torch.equal(after[:, rectangle], mean.view(3, 1).expand(-1, rectangle.sum()))


def test_a_probability_above_one_is_refused():
    with pytest.raises(ValueError, match='erasing_prob must be in 0..1, got 1.5'):
        MODELS.build(dict(type='PairPreprocessor', erasing_prob=1.5, **NORMALISE))


class Objective(nn.Module):
    """SEN in double precision with given masks; its forward pass is the sum of the losses."""

    def __init__(self, noise):
        super().__init__()
        self.model = small_sen().double()
        self.model.heads['restoration'].draw_noise = lambda n, device: noise

    def forward(self, batch):
        losses = self.model(mode='loss', **batch)
        return {key: value for key, value in losses.items() if key.endswith('.loss')}


def global_batch() -> tuple[dict, torch.Tensor]:
    batch = make_batch(8, (1,) * 8)
    batch['images'] = batch['images'].double()
    batch['labels'] = torch.tensor([0, 1, 2, 0, 1, 0, 3, 4])
    return batch, torch.rand(8, 8, generator=torch.Generator().manual_seed(2))


def gradients(module) -> dict[str, torch.Tensor]:
    return {name.removeprefix('module.'): p.grad for name, p in module.named_parameters()}


def train_on_half(rank, folder):
    dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    batch, noise = global_batch()
    half = slice(4 * rank, 4 * rank + 4)
    module = DistributedDataParallel(Objective(noise[half]))
    losses = module({key: value[half] for key, value in batch.items()})
    sum(losses.values()).backward()
    values = {key: value.detach() for key, value in losses.items()}
    torch.save(dict(losses=values, gradients=gradients(module)), f'{folder}/rank{rank}.pt')
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_losses_and_gradients_of_one_with_the_whole_batch(tmp_path):
    batch, noise = global_batch()
    module = Objective(noise)
    losses = module(batch)
    sum(losses.values()).backward()

    run_ranks(train_on_half, str(tmp_path), ranks=2)
    first, second = (torch.load(tmp_path / f'rank{rank}.pt') for rank in (0, 1))
    for key in ('sdm.loss', 'triplet.loss'):  # of the whole batch on each process
        torch.testing.assert_close(first['losses'][key], losses[key].detach(), rtol=0, atol=1e-9)
        torch.testing.assert_close(second['losses'][key], losses[key].detach(), rtol=0, atol=1e-9)
    for key in ('identity.loss', 'restoration.loss'):  # of the process's half
        mean = (first['losses'][key] + second['losses'][key]) / 2
        torch.testing.assert_close(mean, losses[key].detach(), rtol=0, atol=1e-9)
    for name, gradient in gradients(module).items():
        for rank in (first, second):
            torch.testing.assert_close(rank['gradients'][name], gradient, rtol=1e-6, atol=1e-9)
