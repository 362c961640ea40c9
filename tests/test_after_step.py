"""Heads hear of each step of the optimiser once: with chunks, accumulation and processes."""

import pytest
import torch
import torch.distributed as dist
from mmengine.registry import init_default_scope
from ranks import run_ranks
from tiny_methods import build_model, build_optim_wrapper, pair_batch, tiny_config

from sen_toolbox.distributed import RetrieverDataParallel

BATCHES = 7
# Chunks, accumulated batches, and after how many batches the optimiser has stepped; the last one
# steps it although its group is not complete.
CASES = [(1, 1, [1, 2, 3, 4, 5, 6, 7]), (3, 1, [1, 2, 3, 4, 5, 6, 7]), (1, 3, [3, 6, 7])]


def steps_that_a_head_hears_of(chunks, accumulative_counts, processes=1):
    """For each call of ``after_step``, the batches so far and the optimiser's steps so far."""
    config = tiny_config('clip')
    model = build_model(config, chunks=chunks)
    trained = model
    if processes > 1:
        trained = RetrieverDataParallel(model, device_ids=None, broadcast_buffers=False)
    wrapper = build_optim_wrapper(config, trained, accumulative_counts=accumulative_counts)
    wrapper.initialize_count_status(trained, 0, BATCHES)
    heard, steps = [], []
    wrapper.optimizer.register_step_post_hook(lambda *_: steps.append(None))
    for number in range(1, BATCHES + 1):
        for head in model.heads.values():
            head.after_step = lambda batches=number: heard.append((batches, len(steps)))
        trained.train_step(pair_batch(6, seed=number)[0], wrapper)
    return heard


@pytest.mark.parametrize(('chunks', 'accumulative_counts', 'batches'), CASES)
def test_heads_hear_of_each_step_once_and_after_it(chunks, accumulative_counts, batches):
    heard = steps_that_a_head_hears_of(chunks, accumulative_counts)
    assert heard == list(zip(batches, range(1, len(batches) + 1), strict=True))


def work(rank, folder):
    init_default_scope('sen_toolbox')
    dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    heard = [steps_that_a_head_hears_of(*case[:2], processes=2) for case in CASES]
    torch.save(heard, f'{folder}/{rank}.pt')
    dist.destroy_process_group()


@pytest.mark.slow
def test_heads_on_two_processes_hear_of_each_step_once(tmp_path):
    run_ranks(work, str(tmp_path), ranks=2)
    for rank in range(2):
        for (*_, batches), heard in zip(CASES, torch.load(tmp_path / f'{rank}.pt'), strict=True):
            assert heard == list(zip(batches, range(1, len(batches) + 1), strict=True))
