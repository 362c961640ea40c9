"""Find people by a description, by a picture, or by both.

  sen-search query "a man in a black jacket, he carries a backpack" --k 5
  sen-search query --image crop.jpg
  sen-search query "but in a red coat" --image crop.jpg --json

A line of the result is rank, score and path; for a person cut out of a photo or video also time,
frame and box; and whether the file is gone. Scores are cosines; they rank images for one query and
do not compare between queries; a note says when nobody matches well, if the model knows what is
usual. While sen-search serve runs on the same index with the same model, it is asked, which saves
loading the model.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sen_toolbox.io import write_atomically
from sen_toolbox.search.commands.checks import check_index, check_model
from sen_toolbox.search.commands.common import (
    add_search_arguments,
    note,
    open_search,
    positive,
    say,
)
from sen_toolbox.search.targets import check_target

if TYPE_CHECKING:
    from sen_toolbox.search.result import Result

HELP = 'find people by a description, by a picture, or by both'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument('text', nargs='?', help='description, for instance "a woman in a red coat"')
    parser.add_argument('--image', metavar='FILE', help='picture of the person')
    parser.add_argument('--k', type=positive, default=10, help='how many (default: %(default)s)')
    parser.add_argument('--within', metavar='DIR', help='only images below this folder')
    parser.add_argument(
        '--min-score',
        type=float,
        metavar='S',
        help='leave out results below this score; what is a good one depends on the model',
    )
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
        note('sen-search query: give a description, --image FILE, or both')
        return 2
    if args.html:
        from sen_toolbox.search.results_page import PAGE_MARK, results_page

        check_target(args.html, '.html', PAGE_MARK.encode())
    check_index(args)
    check_model(args)
    # Imported here because it loads what makes keys, which a wrong command line does without.
    from sen_toolbox.search.commands.asking import ask_server

    results, remarks = ask_server(args) or _search(args)
    if not results and args.within:
        note(f'note: nothing is indexed below {args.within}: sen-search info lists the folders')
    if args.min_score is not None:
        best = results[0].score if results else 0
        results = [result for result in results if result.score >= args.min_score]
        if not results:
            note(f'note: nobody scores {args.min_score:g} or more; the best score is {best:.4f}')
    for remark in remarks:
        note(f'note: {remark}')
    if args.json:
        rows = [
            {**vars(result), 'place': dict(result.place), 'missing': result.is_missing}
            for result in results
        ]
        sys.stdout.write(json.dumps(rows, indent=2) + '\n')
    else:
        for result in results:
            say(_line(result))
    if args.html:
        title = ' + '.join(part for part in (args.text, args.image) if part)
        write_atomically(args.html, results_page(title, results))
        note(f'page: {args.html.resolve()}')
    return 0


def _search(args: argparse.Namespace) -> tuple[list['Result'], list[str]]:
    """Results, and the remarks on them."""
    search = open_search(args)
    [results] = search.search_queries(
        None if args.text is None else [args.text],
        None if args.image is None else [args.image],
        k=args.k,
        within=args.within,
        approximate=args.approximate,
        rerank=args.rerank,
    )
    if not args.text:
        return results, []
    # Imported here because it loads what makes vectors, which a wrong command line does without.
    from sen_toolbox.search.remarks import remarks_on

    alone = args.image is None and args.rerank is None
    return results, remarks_on(search.encoder, args.text, results, by_text_alone=alone)


def _line(result: 'Result') -> str:
    parts = [f'{result.rank:3d}', f'{result.score:.4f}', result.path]
    parts += [] if result.identity is None else [result.identity]
    parts += [result.where] if result.where else []
    parts += ['(the file is gone)'] if result.is_missing else []
    return '  '.join(parts)
