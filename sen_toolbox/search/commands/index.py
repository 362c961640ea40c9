"""Put the images of a folder into the index, or bring it up to date.

New and changed images are added, deleted ones removed, all others left. Damaged images are listed
and skipped. An interrupted run continues where it stopped. Several folders can share one index.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from sen_toolbox.search.commands.common import add_search_arguments, open_search, positive

HELP = 'put the images of a folder into the index, or bring it up to date'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument('sources', nargs='+', metavar='DIR', help='folder of images, or an image')
    add_search_arguments(parser)
    parser.add_argument(
        '--ids',
        type=Path,
        metavar='FILE',
        help='JSON object: who is in an image, by its path (relative to the JSON file)',
    )
    parser.add_argument(
        '--half', action='store_true', help='let a new index store float16: half the disk and time'
    )
    parser.add_argument(
        '--approximate',
        action='store_true',
        help='then prepare approximate search, for a million images and more',
    )
    parser.add_argument(
        '--batch-size', type=positive, default=64, help='images at once (default: %(default)s)'
    )


def run(args: argparse.Namespace) -> int:
    """Indexes; returns the exit code."""
    ids = None if args.ids is None else read_ids(args.ids)
    search = open_search(args, half_index=args.half)
    sources = args.sources[0] if len(args.sources) == 1 else args.sources

    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task('embedding', total=None)
        report = search.index(
            sources,
            ids=ids,
            batch_size=args.batch_size,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
        if args.approximate:
            bar.update(task, description='grouping', total=None)
            with search.gallery.writing():
                search.gallery.build_approximate()
    for path, problem in report.skipped.items():
        sys.stderr.write(f'skipped: {path}: {problem}\n')
    sys.stdout.write(
        f'{report.added} added, {report.changed} changed, {report.removed} removed, '
        f'{report.unchanged} unchanged, {len(report.skipped)} skipped; '
        f'{args.index} holds {len(search)} persons\n'
    )
    return 1 if report.skipped else 0


def read_ids(path: Path) -> dict[str, str]:
    """Identities by absolute path, from a JSON object.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds anything else.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{path} is no JSON file: {error}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{path} must hold an object of paths and identities')
    return {os.path.abspath(path.parent / name): str(who) for name, who in content.items()}
