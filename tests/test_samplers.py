"""The identity sampler: its draws, lengths and shares."""

import json
import random
from collections import Counter
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from sen_toolbox.datasets.samplers import IdentityGroupSampler, identity_groups
from sen_toolbox.registry import DATA_SAMPLERS

# Draws of the samplers of the SEN and IRRA releases (datasets/sampler.py) for 185 toy captions.
DRAWS = json.loads((Path(__file__).parent / 'data' / 'sampler_draws.json').read_text())


class Captions:
    """Records that have nothing but a person."""

    def __init__(self, person_ids):
        self.person_ids = person_ids

    def __len__(self):
        return len(self.person_ids)

    def __getitem__(self, index):
        return index

    def get_data_info(self, index):
        return {'person_id': self.person_ids[index]}


def build(person_ids=None, **kwargs):
    kwargs = {'batch_size': 16, 'seed': 0, **kwargs}
    captions = Captions(DRAWS['pids'] if person_ids is None else person_ids)
    return IdentityGroupSampler(captions, **kwargs)


def batches(indices, size):
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def on_rank(monkeypatch, rank, world_size):
    monkeypatch.setattr(identity_groups, 'get_dist_info', lambda: (rank, world_size))


@pytest.mark.parametrize('case', DRAWS['cases'], ids=lambda c: f'{c["sampler"]}-{c["seed"]}')
def test_a_seed_gives_the_draw_of_the_release(case):
    sampler = build(
        batch_size=case['batch_size'],
        num_instances=case['num_instances'],
        vary_group_size=case['sampler'] == 'RandomIdnumSampler',
    )
    rng, padding_rng = random.Random(case['seed']), np.random.RandomState(case['seed'])
    assert sampler.draw(rng, padding_rng) == case['indices']


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('num_instances', [1, 2, 4])
def test_a_batch_of_fixed_groups_has_exactly_that_many_persons_and_items(seed, num_instances):
    person_ids = np.array(DRAWS['pids'])
    sampler = build(num_instances=num_instances, vary_group_size=False, seed=seed)
    drawn = batches(list(sampler), 16)
    assert drawn
    for batch in drawn:
        groups = person_ids[batch].reshape(-1, num_instances)
        assert (groups == groups[:, :1]).all()
        assert len(set(groups[:, 0])) == 16 // num_instances


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('vary', [False, True])
@pytest.mark.parametrize('num_instances', [1, 2, 4])
def test_an_item_repeats_only_if_its_person_has_too_few(seed, vary, num_instances):
    sampler = build(num_instances=num_instances, vary_group_size=vary, seed=seed)
    available = Counter(DRAWS['pids'])
    for index, times in Counter(sampler).items():
        assert times == 1 or available[DRAWS['pids'][index]] < num_instances


def test_all_groups_of_a_person_in_an_epoch_have_the_size_drawn_for_it():
    sizes = [4, 1, 2, 3, 3, 2, 1, 4]

    class Sizes(random.Random):
        left = list(sizes)

        def randint(self, low, high):
            assert (low, high) == (1, 4)
            return self.left.pop(0)

    person_ids = [person for person in range(8) for _ in range(12)]
    # Every round takes all eight persons, so it ends after 12 / 4 rounds.
    sampler = build(person_ids, batch_size=32, num_instances=4)
    drawn = sampler.draw(Sizes(0), np.random.RandomState(0))
    rounds = batches([person_ids[index] for index in drawn], sum(sizes))
    assert len(rounds) == 3
    for persons in rounds:
        runs = [(person, len(list(run))) for person, run in groupby(persons)]
        assert sorted(runs) == list(enumerate(sizes))
    assert len(set(drawn)) == len(drawn)


def test_a_person_with_one_caption_takes_part_by_repetition():
    sampler = build([5, 6], batch_size=4, num_instances=2, vary_group_size=False)
    assert sorted(sampler) == [0, 0, 1, 1]


def test_the_published_statistics_hold_at_the_size_of_cuhk_pedes():
    """Reference: the SEN release's sampler, run at this size, in 3 seeds.

    0.999 of the captions drawn, 95.8 identities in a batch of 128, 1.506 positives for a caption.
    """
    sizes = np.random.RandomState(0).choice([4, 6, 8, 10], size=11003, p=[0.3, 0.45, 0.2, 0.05])
    person_ids = np.repeat(np.arange(11003), sizes)
    sampler = build(person_ids.tolist(), batch_size=128)
    drawn = np.array(list(sampler))
    assert len(drawn) / len(person_ids) == pytest.approx(0.999, rel=0.01)
    full = person_ids[drawn[: len(drawn) // 128 * 128]].reshape(-1, 128)
    distinct = np.mean([len(set(batch)) for batch in full.tolist()])
    positives = np.mean([(batch[:, None] == batch).sum() / 128 for batch in full])
    assert distinct == pytest.approx(95.8, rel=0.01)
    assert positives == pytest.approx(1.506, rel=0.01)


def test_the_length_is_exact_in_every_epoch():
    sampler = build()
    lengths = set()
    for epoch in range(8):
        sampler.set_epoch(epoch)
        length = len(sampler)
        assert length == len(list(sampler))
        lengths.add(length)
    assert len(lengths) > 1


def test_the_loader_has_the_length_it_yields():
    sampler = build()
    loader = DataLoader(Captions(DRAWS['pids']), batch_size=16, sampler=sampler)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        assert len(loader) == sum(1 for _ in loader)


def test_epochs_and_seeds_differ_and_repeat():
    def draw(seed, epoch):
        sampler = build(seed=seed)
        sampler.set_epoch(epoch)
        return tuple(sampler)

    assert draw(3, 1) == draw(3, 1)
    assert len({draw(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9


def test_iterating_leaves_the_global_generators_alone():
    random.seed(0)
    np.random.seed(0)
    list(build())
    assert random.random() == random.Random(0).random()
    assert np.random.random() == np.random.RandomState(0).random()


@pytest.mark.parametrize('vary', [False, True])
@pytest.mark.parametrize(('world_size', 'batch_size'), [(2, 12), (3, 8)])
def test_ranks_together_draw_what_one_process_draws(monkeypatch, world_size, batch_size, vary):
    for epoch in range(4):
        on_rank(monkeypatch, 0, 1)
        alone = build(batch_size=24, vary_group_size=vary)
        alone.set_epoch(epoch)
        shares = []
        for rank in range(world_size):
            on_rank(monkeypatch, rank, world_size)
            sampler = build(batch_size=batch_size, vary_group_size=vary)
            sampler.set_epoch(epoch)
            shares.append(batches(list(sampler), batch_size))
        assert len({len(sum(share, [])) for share in shares}) == 1, 'the same number for each'
        together = [sum(parts, []) for parts in zip(*shares, strict=True)]
        for joined, batch in zip(together, batches(list(alone), 24), strict=False):
            assert joined == batch[: len(batch) // world_size * world_size]
        assert 0 <= len(alone) - sum(len(batch) for batch in together) < world_size


def test_a_batch_that_does_not_hold_whole_groups_is_refused():
    with pytest.raises(ValueError, match=r'batch of 15 .*num_instances=2'):
        build(batch_size=15)


def test_too_few_identities_are_an_error_that_says_what_would_do():
    with pytest.raises(ValueError, match='3 identities are too few .* at most 6'):
        build([0, 0, 1, 1, 2], batch_size=16)


def test_the_runner_can_build_it():
    sampler = DATA_SAMPLERS.build(
        dict(type='IdentityGroupSampler', batch_size=16, num_instances=2),
        default_args=dict(dataset=Captions(DRAWS['pids']), seed=None),
    )
    assert len(sampler) == len(list(sampler))
