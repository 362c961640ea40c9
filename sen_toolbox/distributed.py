"""Starts and ends a launch on several processes; MMEngine's own set-up needs a GPU."""

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import Tensor

from sen_toolbox.models.chunking import train_step_in_chunks
from sen_toolbox.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class RetrieverDataParallel(MMDistributedDataParallel):
    """The retriever on several processes; takes the arguments of ``DistributedDataParallel``."""

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One optimiser step of all processes, in as many chunks as the model asks for."""
        if self.module.chunks == 1:
            logged = super().train_step(data, optim_wrapper)
        else:
            logged = train_step_in_chunks(self, data, optim_wrapper, self.module.chunks)
        self.module.after_step(optim_wrapper)
        return logged


def prepare_launch(config: Config) -> None:
    """Says how the processes work together, and without a GPU lets gloo join them.

    Args:
        config: Changed in place; ``launcher`` says whether there are several processes.
    """
    if config.launcher == 'none':
        return
    # MMEngine looks this one up without scope.
    config.model_wrapper_cfg = dict(
        type='sen_toolbox.RetrieverDataParallel', broadcast_buffers=False
    )
    if not torch.cuda.is_available():
        dist.init_process_group('gloo')
        config.model_wrapper_cfg.update(device_ids=None)


def finish_launch() -> None:
    """Waits for the other processes and leaves their group; to be called after success only.

    A process that exits within a group may be aborted, upon which the launcher ends the others,
    perhaps while they write the last checkpoint.
    """
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
