"""One optimiser step on a batch that does not fit into memory in one piece."""

import random
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sen_toolbox.models.gather import GatheredChunks
from sen_toolbox.models.wrapping import unwrapped

if TYPE_CHECKING:
    from mmengine.optim import OptimWrapper


def require_chunkable(model: nn.Module) -> None:
    """Refuses a model whose pairs depend on each other before they are compared.

    Raises:
        ValueError: If it normalises over the batch, or a part says that it ``depends_on_batch``.
    """
    for name, module in model.named_modules():
        is_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        if is_norm or getattr(module, 'depends_on_batch', False):
            raise ValueError(
                f'chunks must be 1: {name} is a {type(module).__name__}, which makes of a row what '
                'depends on the whole batch; use more processes or checkpoint_activations instead'
            )


def train_step_in_chunks(
    model: nn.Module, data: dict, optim_wrapper: 'OptimWrapper', num_chunks: int
) -> dict[str, Tensor]:
    """A training step with the gradient of the whole batch, in the memory of a chunk of it.

    GradCache, arXiv:2101.06983. The first pass computes without gradient what losses compare
    (:func:`~sen_toolbox.models.gather.gather`), the second repeats each chunk, with the same random
    numbers, among the results of the others. The price is a second forward pass.

    Args:
        model: The retriever, or its wrapper for several processes.
        data: Collated batch; every entry has one row per image or one per caption.
        optim_wrapper: Takes the step after the last chunk.
        num_chunks: Number of chunks; of a batch with fewer images, one per image. A chunk has the
            captions of its images.

    Returns:
        What the heads log, for the whole batch.

    Raises:
        ValueError: If the wrapper accumulates batches, or an entry has other rows.
    """
    if getattr(optim_wrapper, '_accumulative_counts', 1) != 1:
        raise ValueError('model.chunks and accumulative_counts exclude each other: set one to 1')
    retriever = unwrapped(model)
    with optim_wrapper.optim_context(model):
        chunks = _split(retriever.data_preprocessor(data, True), num_chunks)
    num_pairs = sum(len(chunk['tokens']) for chunk in chunks)
    gathered, states = GatheredChunks(), []
    # Passes have an autocast context each: one that has cast the weights without gradient would
    # reuse those.
    with torch.no_grad(), optim_wrapper.optim_context(model):
        for chunk in chunks:
            states.append(_random_state(chunk['images'].device))
            with gathered.record():
                retriever.loss(chunk)
    logged: dict[str, Tensor] = {}
    for index, (chunk, state) in enumerate(zip(chunks, states, strict=True)):
        last = index == len(chunks) - 1
        share = len(chunk['tokens']) / num_pairs
        _set_random_state(chunk['images'].device, state)
        with nullcontext() if last or model is retriever else model.no_sync():
            with optim_wrapper.optim_context(model), gathered.replay(index, share):
                losses = model(**chunk, mode='loss')
            loss, values = retriever.parse_losses(losses)
            for name, value in values.items():
                logged[name] = logged.get(name, 0) + share * value.detach()
            if last:
                optim_wrapper.update_params(share * loss)
            else:
                optim_wrapper.backward(share * loss)
    return logged


def _split(batch: dict, num_chunks: int) -> list[dict]:
    """Parts of a batch with some of its images each, and their captions."""
    size = len(batch['images'])
    captions = len(batch['image_of']) if 'image_of' in batch else size
    odd = {key: len(value) for key, value in batch.items() if len(value) not in (size, captions)}
    if odd:
        raise ValueError(
            f'a batch in chunks has one row per image or per caption; of {size} images and '
            f'{captions} captions there are {odd} (without image_of every image has one caption)'
        )
    bounds = torch.arange(size).tensor_split(min(num_chunks, size))
    return [_part(batch, int(rows[0]), int(rows[-1]) + 1) for rows in bounds]


def _part(batch: dict, start: int, end: int) -> dict:
    if 'image_of' not in batch:
        return {key: value[start:end] for key, value in batch.items()}
    # Every image has a caption, and not each of them one: so there are more captions than images.
    size = len(batch['images'])
    rows = ((batch['image_of'] >= start) & (batch['image_of'] < end)).nonzero().squeeze(1)
    part = {k: v[start:end] if len(v) == size else v[rows] for k, v in batch.items()}
    return {**part, 'image_of': part['image_of'] - start}


def _random_state(device: torch.device) -> tuple:
    """The state of Python's generator, of torch's on the CPU, and of that of another device."""
    states = random.getstate(), torch.get_rng_state()
    if device.type == 'cpu':
        return states
    return (*states, torch.get_device_module(device).get_rng_state(device))


def _set_random_state(device: torch.device, states: tuple) -> None:
    random.setstate(states[0])
    torch.set_rng_state(states[1])
    if device.type != 'cpu':
        torch.get_device_module(device).set_rng_state(states[2], device)
