"""Draws what a checkpoint finds and restores on the test split, as one picture."""

import argparse
from pathlib import Path

import torch
from mmengine.config import DictAction

from sen_toolbox.config import load_config
from sen_toolbox.registry import DATASETS
from sen_toolbox.search.encoder import PairEncoder
from sen_toolbox.visualization import draw_restoration_board, draw_retrieval_board, stack_boards
from sen_toolbox.visualization.results import ranked_queries, restored_images


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the model')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('--out', type=Path, default=Path('results.png'), help='picture to write')
    parser.add_argument('--queries', type=int, default=8, help='captions to search for')
    parser.add_argument('--top-k', type=int, default=10, help='images a caption')
    parser.add_argument('--restored', type=int, default=4, help='images to restore')
    parser.add_argument('--seed', type=int, default=0, help='which captions, images and masks')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override existing config values, for instance data_root=FOLDER',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    config = load_config(args.config, args.cfg_options)
    encoder = PairEncoder(config, args.checkpoint)
    dataset = DATASETS.build({**config.test_dataloader.dataset, 'pipeline': []})
    records = [dataset.get_data_info(index) for index in range(len(dataset))]
    torch.manual_seed(args.seed)
    drawn = torch.randperm(len(records)).tolist()

    queries = [records[index] for index in drawn[: args.queries]]
    captions = [record['captions'][0] for record in queries]
    images = encoder.embed_images([record['img_path'] for record in records])
    scores = encoder.embed_text(captions) @ images.T
    pids = [record['pid'] for record in queries]
    boards = [
        draw_retrieval_board(
            ranked_queries(captions, pids, scores, records, topk=args.top_k), topk=args.top_k
        )
    ]
    if 'restoration' in encoder.model.heads:
        shown = [records[index] for index in drawn[-args.restored :]]
        captions = [record['captions'][0] for record in shown]
        batch = encoder.preprocess([record['img_path'] for record in shown], captions)
        boards.append(draw_restoration_board(restored_images(encoder.model, batch, captions)))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    stack_boards(boards).save(args.out)
    print(f'picture: {args.out.resolve()}')


if __name__ == '__main__':
    main()
