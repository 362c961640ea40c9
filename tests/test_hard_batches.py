"""Batches of persons whom the model finds alike: their groups, their order, and resumption."""

import json
from collections import Counter
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
import torch.distributed as dist
from mmengine.logging import MessageHub
from ranks import run_ranks
from toy_data import NUM_CLASSES, run_tool, toy_records, write_toy_config, write_toy_data

from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.datasets.samplers import HardBatchSampler, hard_batches
from sen_toolbox.datasets.samplers.hard_batches import groups_alike
from sen_toolbox.hooks import HardBatchHook
from sen_toolbox.hooks.hard_batches import EPOCH_ORDERED, ORDER
from sen_toolbox.text.tokenizers import CLIPTokenizer

# Seven persons with one to four items; they are alike by number: 0 and 1, 2 and 3, ...
PERSONS = [0, 0, 1, 2, 2, 2, 3, 3, 4, 5, 5, 5, 5, 6, 6, 3]


class Captions:
    """Records that have nothing but a person."""

    def __len__(self):
        return len(PERSONS)

    def get_data_info(self, index):
        return {'person_id': PERSONS[index]}


def build(**options):
    return HardBatchSampler(Captions(), **{'batch_size': 4, 'group_size': 2, **options})


def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize('count', [1, 2, 7, 8, 9, 40, 41])
@pytest.mark.parametrize('size', [1, 2, 3, 8])
def test_groups_hold_everyone_once_and_only_the_last_is_smaller(count, size):
    groups = groups_alike(rng().standard_normal((count, 5)), size, rng())
    assert sorted(np.concatenate(groups)) == list(range(count))
    whole, rest = divmod(count, size)
    assert [len(group) for group in groups] == [size] * whole + [rest] * bool(rest)


def test_on_a_line_groups_are_neighbours():
    """A direction has two ends there, so that the tree sorts."""
    line = rng().permutation(24)
    groups = groups_alike(line[:, None].astype(float), 4, rng())
    assert sorted(sorted(line[group]) for group in groups) == np.arange(24).reshape(6, 4).tolist()


def test_members_of_a_group_are_nearer_than_others_and_groups_differ_from_draw_to_draw():
    vectors = rng().standard_normal((512, 4))
    draws = [groups_alike(vectors, 8, np.random.default_rng(seed)) for seed in range(2)]
    spread = np.square(vectors - vectors.mean(0)).sum()
    within = sum(np.square(vectors[g] - vectors[g].mean(0)).sum() for g in draws[0])
    assert within < spread / 3
    assert {frozenset(g.tolist()) for g in draws[0]} != {frozenset(g.tolist()) for g in draws[1]}


def test_equal_vectors_are_divided_too():
    assert sorted(np.concatenate(groups_alike(np.ones((9, 3)), 2, rng()))) == list(range(9))


def test_a_round_has_each_person_who_has_items_left_once_and_puts_alike_ones_together():
    line = np.array([0.0, 0.1, 5.0, 5.1, 9.0, 9.1, 20.0])[:, None]
    persons = [PERSONS[item] for item in build().draw(line, rng())]
    counts = Counter(PERSONS)
    rounds = []
    for number in range(4):
        size = sum(count > number for count in counts.values())
        rounds.append(persons[:size])
        persons = persons[size:]
    assert persons == []
    assert [sorted(r) for r in rounds] == [[*range(7)], [0, 2, 3, 5, 6], [2, 3, 5], [5]]
    pairs = {0: 1, 2: 3, 4: 5}
    for person, other in pairs.items():
        places = rounds[0].index(person), rounds[0].index(other)
        assert abs(places[0] - places[1]) == 1


def test_every_item_comes_once():
    assert sorted(build().draw(rng().standard_normal((7, 3)), rng())) == [*range(len(PERSONS))]


@pytest.mark.parametrize('world_size', [1, 2, 3])
def test_processes_share_each_batch(monkeypatch, world_size):
    order = build().draw(rng().standard_normal((7, 3)), rng())
    shares = []
    for rank in range(world_size):
        monkeypatch.setattr(hard_batches, 'get_dist_info', lambda rank=rank: (rank, world_size))
        sampler = build()
        sampler.set_order(torch.tensor(order))
        shares.append(list(sampler))
        assert len(sampler) == len(shares[-1])
    size = 4 * world_size
    for start in range(0, len(order) // size * size, size):
        parts = [share[start // world_size :][:4] for share in shares]
        assert sum(parts, []) == order[start : start + size]
    assert len({len(share) for share in shares}) == 1


def test_what_is_wrong_with_an_order_is_said():
    with pytest.raises(ValueError, match='has no order: give the config a HardBatchHook'):
        iter(build())
    with pytest.raises(ValueError, match=r'has 2 items, which are not the 16 of the data set'):
        build().set_order(torch.tensor([0, 1]))
    with pytest.raises(ValueError, match='has 0 items, which are not the 16 of the data set'):
        build().set_order('all')
    with pytest.raises(ValueError, match=r'has 16 items, which are not the 16 of the data set'):
        build().set_order(torch.zeros(16, dtype=torch.int64))
    with pytest.raises(ValueError, match='group_size'):
        build(group_size=0)


class WordCounts(torch.nn.Module):
    """Embeds captions as a retriever does, without learning anything."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(49408, 4)

    def embed_text(self, tokens):
        return (self.table(tokens.ids) * tokens.mask[..., None]).sum(1)


class Records(Captions):
    pipeline = SimpleNamespace(
        transforms=[SimpleNamespace(tokenizer=CLIPTokenizer(context_length=8))]
    )

    def get_data_info(self, index):
        return {'person_id': PERSONS[index], 'captions': [f'number {index}']}


def ordered(rank, folder, world_size):
    """What the hook makes of one epoch on each of some processes, three captions at a time."""
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/{world_size}', rank=rank, world_size=world_size
    )
    sampler = HardBatchSampler(Records(), batch_size=4, group_size=2)
    runner = SimpleNamespace(
        train_dataloader=SimpleNamespace(dataset=Records(), sampler=sampler),
        model=WordCounts(),
        message_hub=MessageHub(f'{world_size}'),
        seed=5,
        epoch=1,
    )
    with mock.patch('sen_toolbox.hooks.hard_batches.BATCH_SIZE', 3):
        HardBatchHook().before_train_epoch(runner)
    (folder / f'{world_size}_{rank}.json').write_text(json.dumps(list(sampler)))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_order_of_one(tmp_path):
    for world_size in (1, 2):
        run_ranks(ordered, tmp_path, world_size, ranks=world_size)
    [whole], parts = (
        [json.loads((tmp_path / f'{n}_{rank}.json').read_text()) for rank in range(n)]
        for n in (1, 2)
    )
    # Two batches of eight, which are two of four each time.
    halves = [part[:4] for part in parts] + [part[4:] for part in parts]
    assert sum(halves, []) == whole


SETTINGS = """
train_dataloader = dict(
    sampler=dict(
        _delete_=True, type='{sampler}', batch_size='$batch_size', {options}),
    dataset=dict(tagger=dict(type='RuleTagger')))
default_hooks = dict(hard_batches=dict(type='HardBatchHook'), checkpoint=dict(every_iters=4))
"""


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    return write_toy_data(tmp_path_factory.mktemp('hard') / 'data')


def config_with(path, data_root, sampler, options):
    write_toy_config(path, data_root)
    with path.open('a') as file:
        file.write(SETTINGS.format(sampler=sampler, options=options))
    return path


class Killed(BaseException):
    """Ends a run as a signal does."""


@pytest.mark.slow
def test_a_run_killed_within_an_epoch_ends_as_a_whole_one_whose_epochs_differ_in_order(
    tmp_path, data_root
):
    whole, killed = (
        config_with(tmp_path / f'{name}.py', data_root, 'HardBatchSampler', 'group_size=4')
        for name in ('whole', 'killed')
    )
    run_tool('train', whole, '--work-dir', tmp_path / 'whole')
    draw, draws = HardBatchSampler.draw, []

    def counted(*args):
        draws.append(draw(*args))
        return draws[-1]

    def kill(hook, runner, batch_idx, data_batch=None):
        # The checkpoint of step 8 lies within epoch 2, which has 6 batches.
        if runner.iter == 9:
            raise Killed

    with (
        mock.patch.object(HardBatchSampler, 'draw', counted),
        mock.patch.object(HardBatchHook, 'before_train_iter', kill),
        pytest.raises(Killed),
    ):
        run_tool('train', killed, '--work-dir', tmp_path / 'killed')
    assert len(draws) == 2
    assert draws[0] != draws[1]
    with mock.patch.object(HardBatchSampler, 'draw', counted):
        run_tool('train', killed, '--work-dir', tmp_path / 'killed', '--resume')
    assert len(draws) == 2
    ends = [load_checkpoint_file(tmp_path / n / 'epoch_2.pth') for n in ('whole', 'killed')]
    for key, value in ends[0]['state_dict'].items():
        assert torch.equal(value, ends[1]['state_dict'][key]), key
    for end in ends:
        told = end['message_hub']['runtime_info']
        assert told[EPOCH_ORDERED] == 1
        assert told[ORDER].tolist() == draws[1]
    assert len(draws[1]) == 2 * len(toy_records()[: NUM_CLASSES * 2 - 1])


@pytest.mark.slow
def test_the_hook_refuses_another_sampler(tmp_path, data_root):
    path = config_with(tmp_path / 'other.py', data_root, 'IdentityGroupSampler', '')
    with pytest.raises(ValueError, match=r'needs .*HardBatchSampler, got IdentityGroupSampler'):
        run_tool('train', path, '--work-dir', tmp_path / 'other')
