"""Put the images of a folder into the index, or bring it up to date.

New and changed images are added, deleted ones removed, all others left. Damaged images are listed
and skipped. An interrupted run continues where it stopped. Several folders can share one index.

  sen-search index crops/                              each image shows one person
  sen-search index photos/ videos/ --detect            cut the people out of photos and videos
  sen-search index camera.mp4 --detect ssdlite.pth --every 0.5
  sen-search index crops/ --uri http://host:19530 --shard 1/4      and 2/4 to 4/4 on other machines

A file stays indexed in the way it was, as a whole or by --detect; another way is refused, unless
--reindex asks for it. The folder of the index is never indexed.

--detect stands after the folders. Its built-in detector, hog, needs no file and finds people who
stand or walk and are seen whole; weights of torchvision's detectors, from a local file, find more.
The crops are kept in the folder of the index, and a result names file, time, frame and box.
"""

import argparse
import json
import os
import warnings
from pathlib import Path

from sen_toolbox.messages import printable
from sen_toolbox.search.commands.checks import check_model, check_sources
from sen_toolbox.search.commands.common import (
    add_search_arguments,
    note,
    open_search,
    positive,
    say,
)

HOG = 'hog'
HELP = 'put the images of a folder into the index, or bring it up to date'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    # Any number, so that a folder behind --detect is told and not the lack of others.
    parser.add_argument('sources', nargs='*', metavar='DIR', help='folder of images, or an image')
    parser.add_argument(
        '--detect',
        nargs='?',
        const=HOG,
        metavar='hog|FILE',
        help='cut people out of photos and videos: with OpenCV (default: hog) or with weights of '
        'torchvision.models.detection',
    )
    parser.add_argument(
        '--every',
        type=seconds,
        metavar='SECONDS',
        help='with --detect: from one frame of a video to the next that is looked at (default: 1)',
    )
    parser.add_argument(
        '--reindex',
        action='store_true',
        help='replace entries of files that were indexed in another way: with or without --detect, '
        'by another detector or --every',
    )
    add_search_arguments(parser)
    parser.add_argument(
        '--ids',
        type=Path,
        metavar='FILE',
        help='JSON object: who is in an image, by its path (relative to the JSON file)',
    )
    parser.add_argument(
        '--shard',
        type=shard,
        metavar='I/N',
        help='index part I of N alone; N machines with 1/N to N/N fill one collection (--uri)',
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
        '--approximate-kind',
        choices=['ivf', 'hnsw'],
        help='with --approximate: groups of vectors, or (with --uri) a graph, which is searched '
        'faster and takes longer to make (default: ivf)',
    )
    parser.add_argument(
        '--batch-size', type=positive, default=64, help='images at once (default: %(default)s)'
    )


def run(args: argparse.Namespace) -> int:
    """Indexes; returns the exit code."""
    if args.every and not args.detect:
        note('sen-search index: --every takes --detect')
        return 2
    if args.approximate_kind and not args.approximate:
        note('sen-search index: --approximate-kind takes --approximate')
        return 2
    if args.approximate_kind == 'hnsw' and not args.uri:
        note('sen-search index: --approximate-kind hnsw takes --uri: a folder has ivf alone')
        return 2
    check_sources(args.sources, args.detect)
    if not args.sources:
        note('sen-search index: give folders of images, or images')
        return 2
    check_model(args)
    ids = None if args.ids is None else read_ids(args.ids)
    search = open_search(args, half_index=args.half)
    sources = args.sources[0] if len(args.sources) == 1 else args.sources

    from rich.console import Console
    from rich.markup import escape
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task('embedding', total=None)
        video = bar.add_task('', total=None, visible=False)

        def on_video(path: str, share: float) -> None:
            name = escape(printable(os.path.basename(path)))
            percent = round(100 * share)
            bar.update(video, description=name, completed=percent, total=100, visible=True)

        with warnings.catch_warnings(record=True) as remarks:
            report = search.index(
                sources,
                ids=ids,
                batch_size=args.batch_size,
                detect=args.detect,
                every=args.every or 1.0,
                reindex=args.reindex,
                shard=args.shard,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
                video_progress=on_video,
            )
        if args.approximate:
            bar.update(task, description='grouping', total=None)
            with search.gallery.writing():
                search.gallery.build_approximate(args.approximate_kind or 'ivf')
    for remark in remarks:
        note(f'note: {remark.message}')
    # Of a part nobody knows which images the others will have.
    if ids and not args.shard and (unknown := sorted(ids.keys() - search.gallery.files().keys())):
        note(
            f'note: {args.ids} names {len(unknown)} images that the index does not hold, e.g. '
            f'{unknown[0]}: paths are relative to the JSON file'
        )
    for path, problem in report.skipped.items():
        note(f'skipped: {path}: {problem}')
    say(
        f'{report.added} added, {report.changed} changed, {report.removed} removed, '
        f'{report.unchanged} unchanged, {len(report.skipped)} skipped; '
        f'{args.index} holds {len(search)} persons'
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
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is not a JSON file: {error}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{path} must hold an object of paths and identities')
    return {os.path.abspath(path.parent / name): str(who) for name, who in content.items()}


def shard(text: str) -> str:
    """A part of a gallery, for argparse."""
    # Imported here because help needs none of it.
    from sen_toolbox.search.shard import Shard

    try:
        Shard.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def seconds(text: str) -> float:
    """A number above 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'{text!r} is not a number of seconds above 0')
    return value
