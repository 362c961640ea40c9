"""Writes the file of words that a config's VocabularyTokenizer reads, from its training split.

Which words, and in which order, the tokenizer's config says; the file is its vocab_file. Captions
are read as the training pipeline's fixed transforms leave them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sen_toolbox.command_line import add_cfg_options, read_first, run_main, tool_parser


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument('config', help='config with a VocabularyTokenizer')
    parser.add_argument(
        '--known',
        type=Path,
        metavar='FILE',
        help='keep only the words of this file, one per line (Dual Path: those of word2vec)',
    )
    add_cfg_options(parser)
    return parser.parse_args(arguments)


read_first(__name__, parse_args)

from mmengine.config import ConfigDict

from sen_toolbox.config import load_config
from sen_toolbox.registry import DATASETS, TRANSFORMS
from sen_toolbox.text.tokenizers.counting import (
    build_vocabulary,
    counting_options,
    write_vocabulary,
)


def main() -> None:
    args = parse_args()
    dataset = load_config(args.config, args.cfg_options).train_dataloader.dataset
    place = next((n for n, step in enumerate(dataset.pipeline) if reads_words(step)), None)
    if place is None:
        raise SystemExit(f'{args.config} has no VocabularyTokenizer with a vocab_file')
    tokenizer = dataset.pipeline[place].tokenizer
    options = counting_options(**tokenizer)
    known = args.known and set(args.known.read_text(encoding='utf-8').splitlines())
    captions = training_captions(dataset, before=place)
    words = build_vocabulary(captions, **options, known=known)
    write_vocabulary(Path(tokenizer.vocab_file), words, options)
    print(f'{tokenizer.vocab_file}: {len(words)} words of {len(captions)} captions')


def reads_words(step: ConfigDict) -> bool:
    tokenizer = step.get('tokenizer', {})
    return tokenizer.get('type') == 'VocabularyTokenizer' and bool(tokenizer.get('vocab_file'))


def training_captions(config: ConfigDict, *, before: int) -> list[str]:
    """Captions of a data set as the fixed transforms of text before a step leave them."""
    needed = {key: value for key, value in config.items() if key not in ('image_cache', 'tagger')}
    needed.pop('noise_rate', None)
    dataset = DATASETS.build({**needed, 'pipeline': [], 'test_mode': True})
    steps = [TRANSFORMS.build(step) for step in config.pipeline[:before]]
    fixed = [
        step
        for step in steps
        if getattr(step, 'deterministic', False) and step.changes == frozenset({'captions'})
    ]
    captions = []
    for index in range(len(dataset)):
        record = dataset.get_data_info(index)
        for step in fixed:
            record = step(record)
        captions += record['captions']
    return captions


if __name__ == '__main__':
    run_main(main)
