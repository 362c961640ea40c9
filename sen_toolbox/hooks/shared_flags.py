"""Small numbers that all processes learn from each other without the host waiting for them."""

import torch
import torch.distributed as dist
from mmengine.dist import get_world_size
from torch import Tensor


class SharedFlags:
    """The largest of each flag over all processes.

    On a GPU everything is queued, and the host waits only when it reads. All processes make one at
    the same point.

    Args:
        flags: Whole numbers (n,) of this process, on the device of the processes' communication.
    """

    def __init__(self, flags: Tensor) -> None:
        if get_world_size() > 1:
            dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        self._event = None
        if flags.is_cuda:
            host = torch.empty(flags.shape, dtype=flags.dtype, pin_memory=True)
            flags = host.copy_(flags, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        self._flags = flags

    def read(self) -> list[int]:
        """The numbers."""
        if self._event is not None:
            self._event.synchronize()
        return self._flags.tolist()
