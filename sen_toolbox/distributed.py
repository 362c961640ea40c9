"""Starts and ends a launch on several processes; MMEngine's own set-up needs a GPU."""

import torch
import torch.distributed as dist
from mmengine.config import Config


def prepare_launch(config: Config) -> None:
    """Without a GPU, joins the processes by gloo and wraps the model without device ids.

    Args:
        config: Changed in place; ``launcher`` says whether there are several processes.
    """
    if config.launcher == 'none' or torch.cuda.is_available():
        return
    dist.init_process_group('gloo')
    config.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False
    )


def finish_launch() -> None:
    """Waits for the other processes and leaves their group; to be called after success only.

    A process that exits within a group may be aborted, upon which the launcher ends the others,
    perhaps while they write the last checkpoint.
    """
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
