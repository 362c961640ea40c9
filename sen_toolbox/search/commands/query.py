"""Find people by a description, by a picture, or by both.

  sen-search query "a man in a black jacket, he carries a backpack" --k 5
  sen-search query --image crop.jpg
  sen-search query "but in a red coat" --image crop.jpg --json

A line of the result is rank, score and path; for a person cut out of a photo or video also time,
frame and box. Scores are cosines; they rank images for one query and do not compare between
queries.
"""

import argparse
import json
import sys
from pathlib import Path

from sen_toolbox.search.commands.common import add_search_arguments, open_search, positive

HELP = 'find people by a description, by a picture, or by both'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument('text', nargs='?', help='description, for instance "a woman in a red coat"')
    parser.add_argument('--image', metavar='FILE', help='picture of the person')
    parser.add_argument('--k', type=positive, default=10, help='how many (default: %(default)s)')
    parser.add_argument('--within', metavar='DIR', help='only images below this folder')
    parser.add_argument(
        '--approximate', action='store_true', help='faster; see sen-search index --approximate'
    )
    parser.add_argument(
        '--rerank',
        choices=['k_reciprocal', 'query_expansion'],
        help='order the hundred best by how alike they are among themselves too',
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument('--json', action='store_true', help='print JSON instead of lines')
    output.add_argument(
        '--html', type=Path, metavar='FILE', help='also write a page with the images in it'
    )
    add_search_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Searches; returns the exit code."""
    if args.text is None and args.image is None:
        sys.stderr.write('sen-search query: give a description, --image FILE, or both\n')
        return 2
    search = open_search(args)
    results = search.search(
        args.text,
        args.image,
        k=args.k,
        within=args.within,
        approximate=args.approximate,
        rerank=args.rerank,
    )
    if args.text and (unknown := search.encoder.unknown_words(args.text)):
        sys.stderr.write(f'note: this model does not know: {", ".join(unknown)}\n')
    if args.json:
        rows = [{**vars(result), 'place': dict(result.place)} for result in results]
        sys.stdout.write(json.dumps(rows, indent=2) + '\n')
    else:
        for result in results:
            who = f'  {result.identity}' if result.identity is not None else ''
            where = f'  {result.where}' if result.where else ''
            sys.stdout.write(f'{result.rank:3d}  {result.score:.4f}  {result.path}{who}{where}\n')
    if args.html:
        from sen_toolbox.search.results_page import results_page

        title = ' + '.join(part for part in (args.text, args.image) if part)
        args.html.write_text(results_page(title, results), 'utf-8', 'backslashreplace')
        sys.stderr.write(f'page: {args.html.resolve()}\n')
    return 0
