"""How several processes share the draw of a sampler."""

from collections.abc import Sequence


def share_of_rank(
    drawn: Sequence[int], global_batch: int, rank: int, world_size: int, *, multiple: int = 1
) -> list[int]:
    """What one process takes of a draw for all: its consecutive part of every batch of all.

    Args:
        drawn: Indices.
        global_batch: Samples in a batch of all processes together.
        rank: Number of the process.
        world_size: Number of processes.
        multiple: Of the last, partial batch each takes the same number, a multiple of this; the
            last items are left out.
    """
    share: list[int] = []
    for start in range(0, len(drawn), global_batch):
        batch = drawn[start : start + global_batch]
        size = len(batch) // (world_size * multiple) * multiple
        share += batch[rank * size : (rank + 1) * size]
    return share
