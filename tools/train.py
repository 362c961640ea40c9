"""Trains the method that a config describes."""

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from sen_toolbox.command_line import add_cfg_options, read_first, run_main, tool_parser


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument('config', help='config file, for instance configs/sen/sen_vitb_cuhk.py')
    parser.add_argument('--work-dir', help='logs and checkpoints; default work_dirs/<config name>')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='continue from the newest readable checkpoint of the work dir, or from the one given; '
        'without any, start from the beginning',
    )
    parser.add_argument(
        '--amp',
        nargs='?',
        const='float16',
        choices=['float16', 'bfloat16'],
        help='mixed precision; float16 if no type is given',
    )
    add_cfg_options(parser)
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none')
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help='set by launchers'
    )
    return parser.parse_args(arguments)


read_first(__name__, parse_args)

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch.distributed.elastic.multiprocessing.errors import record

from sen_toolbox.allocator import keep_freed_memory
from sen_toolbox.checkpoint.finding import check_unused, find_newest_checkpoint, resumable_meta
from sen_toolbox.config import load_config
from sen_toolbox.datasets.cache import CACHE_FOLDER
from sen_toolbox.distributed import finish_launch, prepare_launch
from sen_toolbox.hooks import StopHook, StoppedBySignal
from sen_toolbox.models.wrapping import unwrapped
from sen_toolbox.registry import TASK_UTILS


def prepare(args: argparse.Namespace) -> Config:
    """The config with the command line applied."""
    config = load_config(args.config, args.cfg_options)
    config.work_dir = args.work_dir or config.work_dir or f'work_dirs/{Path(args.config).stem}'
    config.launcher = args.launcher
    if args.amp:
        config.optim_wrapper.update(type='AutocastOptimWrapper', dtype=args.amp)
    if config.get('randomness', {}).get('deterministic'):
        # cuBLAS reads it once; without it torch refuses matrix products in this mode.
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    # As a config says the same.
    resume = args.resume or (config.resume and (config.load_from or 'auto'))
    if resume == 'auto':
        found = find_newest_checkpoint(config.work_dir)
        if found is None:
            print_log(f'there is no checkpoint in {config.work_dir}: starts from the beginning')
            config.resume = False
        else:
            continue_from(config, *found)
    elif resume:
        continue_from(config, resume, resumable_meta(resume))
    else:
        check_unused(config.work_dir)
    return config


def check_tagger(dataset: dict) -> None:
    """Refuses a tagger that lacks its tables before a model is built and weights are fetched.

    Captions that were pruned before need no tagger.
    """
    kept = Path(dataset.get('data_root') or '.', CACHE_FOLDER).glob('pruned_*')
    if dataset.get('tagger') and not any(kept):
        TASK_UTILS.build(dataset['tagger']).prune('A man.')


def continue_from(config: Config, checkpoint: str | Path, meta: dict) -> None:
    """Makes the config go on with a checkpoint."""
    config.resume, config.load_from = True, str(checkpoint)
    randomness = config.get('randomness', {})
    seed, configured = meta.get('seed'), randomness.get('seed')
    if seed is None:
        return
    if configured not in (None, seed):
        print_log(
            f'goes on with seed {seed} of {checkpoint}, not the configured {configured}',
            level=logging.WARNING,
        )
    # Samplers are built before MMEngine reads the checkpoint.
    config.randomness = dict(randomness, seed=seed)


def log_traceback(logger: logging.Logger) -> None:
    """Writes where the error arose into the log file alone; the terminal gets one line."""
    text = traceback.format_exc()
    record = logger.makeRecord(logger.name, logging.ERROR, __file__, 0, text, (), None)
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


# Under torchrun the error of the process that failed first ends the output.
@record
def main() -> None:
    args = parse_args()
    config = prepare(args)
    check_tagger(config.train_dataloader.dataset)
    keep_freed_memory()
    prepare_launch(config)
    runner = Runner.from_cfg(config)
    if config.load_from is None:
        # A checkpoint brings its own; the pretrained file may be gone.
        unwrapped(runner.model).load_weights()
    status = 0
    with ExitStack() as at_end:
        runner.register_hook(StopHook(at_end))
        try:
            runner.train()
        except StoppedBySignal as stop:
            status = stop.code
        except Exception:
            log_traceback(runner.logger)
            raise
    finish_launch()
    if status:
        sys.exit(status)


if __name__ == '__main__':
    run_main(main)
