"""Writes the model of a config and its checkpoint as one file for searching.

Heads that embed nothing are left out. --half stores float16. --trained-words keeps the embeddings
only of words that the training captions hold, and makes all others zeros: the rest were never
trained, and most of a small model is them. Sentences of kept words are embedded exactly as before.
--usual-scores embeds the validation split and writes what best score its descriptions reach there,
by their length, so that a query can say that nobody matches well.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sen_toolbox.command_line import read_first, run_main, tool_parser


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument('config', help='config of the model')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('out', type=Path, help='file to write, *.safetensors')
    parser.add_argument('--name', help='what the model is called (default: the name of the file)')
    parser.add_argument('--half', action='store_true', help='store float16')
    parser.add_argument(
        '--trained-words', action='store_true', help='drop the words that no caption holds'
    )
    parser.add_argument(
        '--usual-scores', action='store_true', help='measure what scores to expect, on validation'
    )
    return parser.parse_args(arguments)


read_first(__name__, parse_args)

import numpy as np
import torch

from sen_toolbox.config import load_config
from sen_toolbox.inference.encoder import Encoder
from sen_toolbox.inference.model_file import METADATA, save_model
from sen_toolbox.inference.processor import Processor
from sen_toolbox.inference.usual_scores import UsualScores, measure_usual_scores
from sen_toolbox.registry import DATASETS
from sen_toolbox.search.targets import check_target


def trained_words(config_path: str) -> torch.Tensor:
    """Ids, ascending, of the tokens in the training captions of a config."""
    config = load_config(config_path)
    split = {**config.train_dataloader.dataset, 'pipeline': [], 'test_mode': True}
    split.pop('tagger', None)
    dataset = DATASETS.build(split)
    captions = {
        caption for i in range(len(dataset)) for caption in dataset.get_data_info(i)['captions']
    }
    processor = Processor.from_config(config)
    ids = processor.prepare_texts(sorted(captions)).ids
    special = [number for number in processor.tokenizer.special if number is not None]
    return torch.from_numpy(np.union1d(ids, special))


def usual_scores(config_path: str, checkpoint: str) -> UsualScores:
    """What the captions of the validation split of a config reach among its pictures."""
    config = load_config(config_path)
    dataset = DATASETS.build({**config.val_dataloader.dataset, 'pipeline': []})
    records = [dataset.get_data_info(index) for index in range(len(dataset))]
    files = [record['img_path'] for record in records]
    captions = [caption for record in records for caption in record['captions']]
    return measure_usual_scores(Encoder.from_config(config, checkpoint), files, captions)


def main() -> None:
    args = parse_args()
    check_target(args.out, '.safetensors', METADATA.encode())
    words = trained_words(args.config) if args.trained_words else None
    scores = usual_scores(args.config, args.checkpoint) if args.usual_scores else ()
    save_model(
        args.config,
        args.checkpoint,
        args.out,
        name=args.name,
        half=args.half,
        words=words,
        usual_scores=scores,
    )
    kept = '' if words is None else f', {len(words)} words'
    print(f'{args.out}: {args.out.stat().st_size / 1e6:.2f} MB{kept}')


if __name__ == '__main__':
    run_main(main)
