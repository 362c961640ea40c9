"""Two and three processes against one with the same global batch, for every method."""

import os
from itertools import chain

import pytest
import torch
import torch.distributed as dist
from mmengine.dataset import DefaultSampler, sampler
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from ranks import run_ranks
from tiny_methods import (
    CONFIGS,
    build_model,
    build_optim_wrapper,
    fix_noise,
    has_batch_norm,
    pair_batch,
    step_and_gradients,
    tiny_config,
)
from torch.utils.data import Dataset
from toy_data import ROOT, start

from sen_toolbox.distributed import RetrieverDataParallel
from sen_toolbox.evaluation import RetrievalMetric

GLOBAL_BATCH, WORLD_SIZES = 12, (3, 2)
# Chunks give the gradient of one piece, so few steps show that ranks agree on it.
STEPS = {1: 3, 3: 2}
# Each method in one piece and, if it can be, in chunks, which differ in size on three processes.
CASES = [(method, 1) for method in CONFIGS]
CASES += [(method, 3) for method in CONFIGS if not has_batch_norm(method)]
NUM_IMAGES = 101


def train(method: str, chunks: int, rank: int = 0, world_size: int = 1) -> dict:
    """Some steps on this rank's part of three batches in turn."""
    config = tiny_config(method)
    model = build_model(config, chunks=chunks)
    wrapped = model
    if world_size > 1:
        wrapped = RetrieverDataParallel(model, device_ids=None, broadcast_buffers=False)
    optim_wrapper = build_optim_wrapper(config, wrapped)
    size = GLOBAL_BATCH // world_size
    part = slice(rank * size, (rank + 1) * size)
    logs, first_gradients, weights = [], None, {}
    for number in range(STEPS[chunks]):
        batch, noise = pair_batch(GLOBAL_BATCH, seed=number % 3)
        fix_noise(model, noise[part])
        share = {key: value[part] for key, value in batch.items()}
        logged, gradients = step_and_gradients(wrapped, optim_wrapper, share)
        first_gradients = first_gradients or gradients
        logs.append(logged)
        if len(logs) in STEPS.values():
            weights[len(logs)] = {name: value.clone() for name, value in model.state_dict().items()}
    return dict(logs=logs, gradients=first_gradients, weights=weights)


class People(Dataset):
    """Images with one to four captions each, as the test pipeline packs them."""

    def __init__(self) -> None:
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return NUM_IMAGES

    def __getitem__(self, index: int) -> dict:
        self.loaded.append(index)
        batch, _ = pair_batch(1 + index * 7 % 4, seed=index)
        return dict(
            images=batch['images'][0],
            tokens=batch['tokens'],
            per_image=dict(person_ids=index % 23),
            per_caption={},
        )


class CaptionCounter:
    """Counts the rows of captions that a model encodes."""

    def __init__(self, model) -> None:
        self.count = 0
        self.embed_text = model.embed_text
        model.embed_text = self

    def __call__(self, tokens):
        self.count += len(tokens)
        return self.embed_text(tokens)


def evaluate() -> dict:
    """The table of this set, with the loader and the metric of the configs."""
    config = tiny_config('sen')
    model = build_model(config).eval()
    counter = CaptionCounter(model)
    loader = Runner.build_dataloader(
        dict(config.val_dataloader, batch_size=8, num_workers=0, dataset=People())
    )
    metric = RetrievalMetric()
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = {}
    with torch.no_grad():
        for batch in loader:
            evaluator.process(data_samples=model.val_step(batch), data_batch=batch)
    return dict(
        table=evaluator.evaluate(NUM_IMAGES),
        loaded=loader.dataset.loaded,
        captions=counter.count,
    )


def work(rank: int, folder: str) -> None:
    # MMEngine collects results in the current folder.
    os.chdir(folder)
    init_default_scope('sen_toolbox')
    for world_size in WORLD_SIZES:
        if rank >= world_size:
            return
        dist.init_process_group(
            'gloo',
            init_method=f'file://{folder}/meet{world_size}',
            rank=rank,
            world_size=world_size,
        )
        results = {case: train(*case, rank, world_size) for case in CASES}
        for result in results.values() if rank > 0 else ():
            # DDP has made them those of the first.
            del result['gradients'], result['weights']
        results['evaluation'] = evaluate()
        torch.save(results, f'{folder}/{world_size}_{rank}.pt')
        dist.destroy_process_group()


@pytest.fixture(scope='module')
def ranks(tmp_path_factory) -> dict[int, list[dict]]:
    """Results of each rank by the number of processes."""
    folder = tmp_path_factory.mktemp('ranks')
    run_ranks(work, str(folder), ranks=max(WORLD_SIZES))
    results = {}
    for size in WORLD_SIZES:
        files = [folder / f'{size}_{rank}.pt' for rank in range(size)]
        results[size] = [torch.load(file, weights_only=False) for file in files]
        for file in files:
            file.unlink()
    return results


@pytest.fixture(scope='module')
def alone() -> dict:
    init_default_scope('sen_toolbox')
    return {method: train(method, chunks=1) for method in CONFIGS} | {'evaluation': evaluate()}


@pytest.mark.slow
@pytest.mark.parametrize(('method', 'chunks'), CASES)
def test_ranks_compute_what_one_process_computes(ranks, alone, method, chunks):
    steps = STEPS[chunks]
    expected = {**alone[method], 'weights': alone[method]['weights'][steps]}
    moved = sum((a != b).any() for a, b in zip(
        expected['weights'].values(), build_model(tiny_config(method)).state_dict().values(),
        strict=True,
    ))  # fmt: skip
    assert moved > 10
    for results in chain.from_iterable(ranks.values()):
        found = dict(results[method, chunks])
        if 'weights' in found:
            found['weights'] = found['weights'][steps]
        assert len(found['logs']) == steps
        for logged, expected_log in zip(found['logs'], expected['logs'], strict=False):
            # Accuracies are in single precision, and joined by the losses only over processes.
            torch.testing.assert_close(
                logged, expected_log, rtol=1e-6, atol=1e-9, check_dtype=False
            )
        for kind in sorted({'gradients', 'weights'} & found.keys()):
            assert found[kind].keys() == expected[kind].keys()
            for name, value in expected[kind].items():
                torch.testing.assert_close(
                    found[kind][name], value, rtol=1e-5, atol=1e-8, msg=f'{kind} {name}'
                )


@pytest.mark.slow
def test_the_evaluation_of_ranks_is_that_of_one_process(ranks, alone):
    expected = alone['evaluation']
    assert expected['loaded'] == list(range(NUM_IMAGES))
    assert 0 < expected['table']['t2i/R1'] < 100
    for results in ranks.values():
        evaluations = [result['evaluation'] for result in results]
        assert all(evaluation['table'] == expected['table'] for evaluation in evaluations)
        # Each image and caption was encoded once, on one of them.
        loaded = list(chain.from_iterable(evaluation['loaded'] for evaluation in evaluations))
        assert sorted(loaded) == list(range(NUM_IMAGES))
        assert sum(evaluation['captions'] for evaluation in evaluations) == expected['captions']


@pytest.mark.parametrize('world_size', [2, 3])
@pytest.mark.parametrize('length', [96, 101])
def test_the_batches_of_shuffled_ranks_are_those_of_one_process(monkeypatch, world_size, length):
    def batches(rank, number, size):
        monkeypatch.setattr(sampler, 'get_dist_info', lambda: (rank, number))
        drawn = DefaultSampler(range(length), shuffle=True, seed=3)
        drawn.set_epoch(2)
        indices = list(drawn)
        assert len(indices) == len(drawn)
        return [indices[first : first + size] for first in range(0, len(indices), size)]

    expected = batches(0, 1, 24)
    shares = [batches(rank, world_size, 24 // world_size) for rank in range(world_size)]
    together = [sorted(chain.from_iterable(parts)) for parts in zip(*shares, strict=True)]
    assert len(together) == len(expected)
    assert together[:-1] == [sorted(batch) for batch in expected[:-1]]
    # All hold as many items; what lacks for that is taken from the beginning of the epoch.
    padding = -length % world_size
    assert together[-1] == sorted(expected[-1] + expected[0][:padding])
    assert len({len(parts[-1]) for parts in shares}) == 1


@pytest.mark.slow
def test_the_error_of_a_rank_ends_the_launch_and_is_shown(tmp_path):
    script = tmp_path / 'fails.py'
    script.write_text(
        'import torch.distributed as dist\n'
        "dist.init_process_group('gloo')\n"
        'if dist.get_rank() == 1:\n'
        "    raise ValueError('this rank has a bad image')\n"
        'dist.barrier()\n'
    )
    launch = f'source {ROOT}/tools/launch.sh; launch 2 {script}'
    run = start('bash', '-c', launch, cwd=tmp_path)
    assert run.returncode != 0
    assert 'ValueError: this rank has a bad image' in run.stdout
