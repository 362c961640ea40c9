"""What the processes of ``test_distributed.py`` do: steps of each method and an evaluation."""

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
import torch.distributed as dist
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from tiny_methods import (
    build_model,
    build_optim_wrapper,
    fix_noise,
    pair_batch,
    step_and_gradients,
    tiny_config,
)
from torch import Tensor
from torch.utils.data import Dataset

from sen_toolbox.distributed import RetrieverDataParallel
from sen_toolbox.evaluation import RetrievalMetric

GLOBAL_BATCH, NUM_IMAGES = 12, 101
# Chunks give the gradient of one piece, so few steps show that ranks agree on it.
STEPS = {1: 3, 3: 2}


class Flat(NamedTuple):
    """Tensors one behind the other, in double precision: hundreds are slow to save and compare.

    Attributes:
        layout: Name, shape and type of each.
        values: Their numbers (N,).
    """

    layout: list[tuple[str, tuple[int, ...], torch.dtype]]
    values: Tensor

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> 'Flat':
        """A copy of named tensors."""
        layout = [(name, tuple(value.shape), value.dtype) for name, value in tensors.items()]
        return cls(
            layout, torch.cat([value.detach().flatten().double() for value in tensors.values()])
        )

    @property
    def names(self) -> list[str]:
        """Those of the tensors."""
        return [name for name, _, _ in self.layout]

    def split(self) -> dict[str, Tensor]:
        """The numbers of each tensor by its name."""
        sizes = [torch.Size(shape).numel() for _, shape, _ in self.layout]
        return dict(zip(self.names, self.values.split(sizes), strict=True))


def train(
    method: str, chunks: int, kept: Iterable[int], rank: int = 0, world_size: int = 1
) -> dict:
    """Some steps on this rank's part of three batches in turn.

    Args:
        method: Which.
        chunks: In how many pieces.
        kept: The weights after these numbers of steps are returned; if any, also the gradients of
            the first step.
        rank: Which process this is.
        world_size: Of how many.
    """
    config = tiny_config(method)
    model = build_model(config, chunks=chunks)
    wrapped = model
    if world_size > 1:
        wrapped = RetrieverDataParallel(model, device_ids=None, broadcast_buffers=False)
    optim_wrapper = build_optim_wrapper(config, wrapped)
    size = GLOBAL_BATCH // world_size
    part = slice(rank * size, (rank + 1) * size)
    result = dict(logs=[], weights={})
    for number in range(STEPS[chunks]):
        batch, noise = pair_batch(GLOBAL_BATCH, seed=number % 3)
        fix_noise(model, noise[part])
        share = {key: value[part] for key, value in batch.items()}
        if kept and number == 0:
            logged, gradients = step_and_gradients(wrapped, optim_wrapper, share)
            result['gradients'] = Flat.of(gradients)
        else:
            logged = wrapped.train_step(share, optim_wrapper)
        result['logs'].append(Flat.of(logged))
        if number + 1 in kept:
            result['weights'][number + 1] = Flat.of(model.state_dict())
    return result


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


def work(
    rank: int, folder: str, cases: Iterable[tuple[str, int]], world_sizes: Iterable[int]
) -> None:
    """Trains each method in as many chunks, and evaluates, with each number of processes.

    Args:
        rank: Which process this is.
        folder: Gets the results, ``{world_size}_{rank}.pt``.
        cases: Methods and chunks.
        world_sizes: Numbers of processes, the largest first.
    """
    # MMEngine collects results in the current folder.
    os.chdir(folder)
    init_default_scope('sen_toolbox')
    for world_size in world_sizes:
        if rank >= world_size:
            return
        dist.init_process_group(
            'gloo',
            init_method=f'file://{folder}/meet{world_size}',
            rank=rank,
            world_size=world_size,
        )
        results = {}
        for method, chunks in cases:
            # DDP has made gradients and weights those of the first.
            kept = [] if rank > 0 else [STEPS[chunks]]
            results[method, chunks] = train(method, chunks, kept, rank, world_size)
        results['evaluation'] = evaluate()
        torch.save(results, f'{folder}/{world_size}_{rank}.pt')
        dist.destroy_process_group()
