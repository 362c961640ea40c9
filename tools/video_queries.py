"""Searches a video for people by a list of descriptions and draws the best crops of each.

Queries and the people that are right are in a JSON file; the one beside this tool belongs to
OpenCV's sample video vtest.avi. For another video it needs only "queries", each with a "text"; how
many queries find a right person first is told where the people in "frames" are labelled. A file may
have further lists of queries: by the "new_queries" of vtest.avi nothing of the shipped model was
chosen.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from sen_toolbox.command_line import read_first, run_main, tool_parser


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument('model', help='model file; "shipped" for the one that is shipped')
    parser.add_argument('video', type=Path)
    parser.add_argument('--out', type=Path, required=True, help='picture to write, *.png')
    parser.add_argument('--queries', type=Path, default=Path(__file__).with_suffix('.json'))
    parser.add_argument('--list', default='queries', help='list of queries in the file')
    parser.add_argument('--detect', default='hog', help='hog or weights of torchvision')
    parser.add_argument('--index', type=Path, help='index to keep; otherwise a temporary one')
    parser.add_argument('--topk', type=int, default=10)
    return parser.parse_args(arguments)


read_first(__name__, parse_args)

from PIL import Image

from sen_toolbox.io import file_sha256
from sen_toolbox.search import PersonSearch
from sen_toolbox.search.detection.boxes import iou
from sen_toolbox.visualization import draw_retrieval_board

# A crop is of the person whose labelled box it overlaps most, from this on.
SAME = 0.5


def person_in(place: Mapping, frames: Mapping[str, list]) -> str | None:
    """Who is in a crop, by the labels of its frame."""
    labels = frames.get(str(place['frame']), [])
    boxes = {name: iou(place['box'], box) for name, *box in labels}
    best = max(boxes, key=boxes.get, default=None)
    return best if best is not None and boxes[best] >= SAME else None


def list_of_queries(content: Mapping, name: str) -> list[dict]:
    """A list of queries of the file; what else the file holds is not one.

    Raises:
        ValueError: If there is no such list; tells the choices.
    """
    names = [key for key in content if key.endswith('queries')]
    if name not in names:
        raise ValueError(f'there is no list {name!r}; the file has {", ".join(names)}')
    return content[name]


def main() -> None:
    args = parse_args()
    content = json.loads(args.queries.read_text(encoding='utf-8'))
    frames = content.get('frames')
    queries = list_of_queries(content, args.list)
    digest = file_sha256(args.video)
    if frames and content['sha256'] != digest:
        raise ValueError(f'the labels in {args.queries} are of another video than {args.video}')
    with tempfile.TemporaryDirectory() as temporary:
        model = None if args.model == 'shipped' else args.model
        search = PersonSearch(model, index=args.index or temporary)
        started = time.perf_counter()
        report = search.index([args.video], detect=args.detect)
        for path, problem in report.skipped.items():
            raise ValueError(f'{path} {problem}')
        print(f'{len(search)} crops in {time.perf_counter() - started:.0f} s')
        rows, first = [], 0
        for query in queries:
            results = search.search(query['text'], k=args.topk)
            row = dict(
                caption=query['text'],
                image_paths=[result.picture for result in results],
                scores=[result.score for result in results],
            )
            note = ''
            if frames:
                people = [person_in(result.place, frames) for result in results]
                row['correct'] = [person in query['right'] for person in people]
                first += row['correct'][0]
                note = f'{"right" if row["correct"][0] else "WRONG"} {people[0]}: '
            rows.append(row)
            print(f'{note}{query["text"]}')
        title = f'{args.video.name}: people found by their description'
        if frames:
            title = f'{args.video.name}: the right person first in {first} of {len(rows)}'
            print(f'right person first: {first} of {len(rows)}')
        board = draw_retrieval_board(rows, topk=args.topk, title=title)
    # 256 colours are enough for thumbnails, and a third of the size.
    board.quantize(256, dither=Image.Dither.NONE).save(args.out, optimize=True)
    print(f'picture: {args.out.resolve()}')


if __name__ == '__main__':
    run_main(main)
