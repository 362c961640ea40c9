"""Write a page (HTML, one file) of samples as the model sees them: augmented, masked, decoded."""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

from sen_toolbox.command_line import add_cfg_options, read_first, run_main, tool_parser


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument('config', help='config with the data set')
    parser.add_argument('--split', default='train', choices=('train', 'val', 'test'))
    parser.add_argument('--num', type=int, default=12, help='samples to show')
    parser.add_argument('--seed', type=int, default=0, help='which samples and augmentations')
    parser.add_argument('--out', type=Path, default=Path('samples.html'), help='page to write')
    add_cfg_options(parser)
    return parser.parse_args(arguments)


read_first(__name__, parse_args)

import numpy as np
import torch
from PIL import Image

from sen_toolbox.config import load_config
from sen_toolbox.registry import DATASETS, MODELS
from sen_toolbox.text.decoding import seen_pieces
from sen_toolbox.visualization.sample_page import sample_page


def main() -> None:
    args = parse_args()
    config = load_config(args.config, args.cfg_options)
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    dataset = DATASETS.build(config[f'{args.split}_dataloader'].dataset)
    preprocessor = MODELS.build(config.model.data_preprocessor)
    samples = [
        seen_sample(dataset, index, preprocessor, training=args.split == 'train')
        for index in torch.randperm(len(dataset))[: args.num].tolist()
    ]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    title = f'{Path(args.config).stem}: {len(samples)} of {len(dataset)} samples, {args.split}'
    args.out.write_text(sample_page(title, samples), encoding='utf-8')
    print(f'page: {args.out.resolve()}')


def seen_sample(dataset, index: int, preprocessor, *, training: bool) -> dict:
    record = dataset.get_data_info(index)
    originals = list(record['captions'])
    steps = dataset.pipeline.transforms
    tokenizer = next(step.tokenizer for step in steps if hasattr(step, 'tokenizer'))
    for step in steps:
        # What changes nothing packs, and drops what is shown here.
        if getattr(step, 'changes', None) != frozenset():
            record = step(record)
    pixels = torch.from_numpy(np.ascontiguousarray(record['img'].transpose(2, 0, 1)))[None]
    # Erasing happens after normalisation, so the preprocessor takes part.
    images = preprocessor({'images': pixels}, training=training)['images']
    seen = preprocessor.to_pixels(images)[0].round().clamp(0, 255).to(torch.uint8)
    labels = record.get('word_labels', [None] * len(originals))
    return {
        'image': Image.fromarray(seen.permute(1, 2, 0).numpy()),
        'name': record['img_path'],
        'person_id': record['person_id'],
        'captions': [
            (original, seen_pieces(tokenizer, ids, chosen))
            for original, ids, chosen in zip(originals, record['tokens'].ids, labels, strict=True)
        ],
    }


if __name__ == '__main__':
    run_main(main)
