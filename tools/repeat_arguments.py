"""The options of all tools that repeat trainings."""

import argparse
from pathlib import Path

from sen_toolbox.command_line import add_cfg_options


def add_arguments(parser: argparse.ArgumentParser, work_dir: Path | None) -> None:
    """Adds them; ``work_dir`` is the default folder."""
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--work-dir', type=Path, default=work_dir, help='runs and summary.json')
    add_cfg_options(parser)
