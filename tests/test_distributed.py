"""Two and three processes against one with the same global batch, for every method."""

from itertools import chain

import pytest
import torch
from mmengine.dataset import DefaultSampler, sampler
from mmengine.registry import init_default_scope
from rank_training import NUM_IMAGES, STEPS, Flat, evaluate, train, work
from ranks import run_ranks
from tiny_methods import CONFIGS, build_model, has_batch_norm, tiny_config
from toy_data import ROOT, start

WORLD_SIZES = (3, 2)
# Each method in one piece and, if it can be, in chunks, which differ in size on three processes.
CASES = [(method, chunks) for chunks in (1, 3) for method in CONFIGS]


def can_be(method: str, chunks: int) -> bool:
    """Whether the method computes in so many chunks."""
    return chunks == 1 or not has_batch_norm(method)


@pytest.fixture(scope='module')
def ranks(tmp_path_factory) -> dict[int, list[dict]]:
    """Results of each rank by the number of processes."""
    folder = tmp_path_factory.mktemp('ranks')
    cases = [case for case in CASES if can_be(*case)]
    run_ranks(work, str(folder), cases, WORLD_SIZES, ranks=max(WORLD_SIZES))
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
    results = {method: train(method, 1, kept=STEPS.values()) for method in CONFIGS}
    return results | {'evaluation': evaluate()}


def assert_near(found: Flat, expected: Flat, **tolerance: float) -> None:
    """Fails if tensors have other names or numbers than expected."""
    assert found.names == expected.names

    def name_them(message: str) -> str:
        pairs = zip(found.split().items(), expected.split().values(), strict=True)
        differ = [name for (name, a), b in pairs if not torch.allclose(a, b, **tolerance)]
        return f'{differ}: {message}'

    torch.testing.assert_close(found.values, expected.values, **tolerance, msg=name_them)


@pytest.mark.slow
@pytest.mark.parametrize(('method', 'chunks'), CASES)
def test_ranks_compute_what_one_process_computes(ranks, alone, method, chunks):
    if not can_be(method, chunks):
        with pytest.raises(ValueError, match='chunks must be 1'):
            build_model(tiny_config(method), chunks=chunks)
        return
    steps = STEPS[chunks]
    expected = alone[method]
    moved = sum((a != b).any() for a, b in zip(
        expected['weights'][steps].split().values(),
        Flat.of(build_model(tiny_config(method)).state_dict()).split().values(),
        strict=True,
    ))  # fmt: skip
    assert moved > 10
    for results in ranks.values():
        for rank, result in enumerate(results):
            found = result[method, chunks]
            assert len(found['logs']) == steps
            for logged, expected_log in zip(found['logs'], expected['logs'], strict=False):
                # Accuracies are in single precision, and joined by the losses only over processes.
                assert_near(logged, expected_log, rtol=1e-6, atol=1e-9)
            if rank == 0:
                for tensors, wanted in (
                    (found['gradients'], expected['gradients']),
                    (found['weights'][steps], expected['weights'][steps]),
                ):
                    assert tensors.layout == wanted.layout
                    assert_near(tensors, wanted, rtol=1e-5, atol=1e-8)


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
