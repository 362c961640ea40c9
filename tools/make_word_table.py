"""Makes the table that says which tokens ``MaskWords`` takes for nouns or adjectives.

Follows the SEN release: a token's text loses its last four characters (the mark of a word's end;
pieces of words lose letters), NLTK tags it alone, and NN* and JJ* count. Needs NLTK's
averaged_perceptron_tagger_eng. The table is part of the package; run this only to check it:
    python tools/make_word_table.py --check
"""

import argparse
from collections.abc import Sequence

from sen_toolbox.command_line import read_first, run_main, tool_parser


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser('Makes the noun and adjective table.')
    parser.add_argument('--check', action='store_true', help='compare, do not write')
    return parser.parse_args(arguments)


read_first(__name__, parse_args)

import nltk
import numpy as np

from sen_toolbox.text.tokenizers import CLIPTokenizer
from sen_toolbox.text.tokenizers.clip import WORD_TABLE, symbols


def word_table() -> np.ndarray:
    """Returns one bool for each token id; False for the padding and the special tokens."""
    table = np.zeros(CLIPTokenizer.vocab_size, dtype=bool)
    for token in CLIPTokenizer.words:
        ((_, tag),) = nltk.pos_tag([symbols()[token][:-4]])
        table[token] = tag.startswith(('NN', 'JJ'))
    return table


def main() -> None:
    """Writes the table or compares it with the one in the package."""
    args = parse_args()
    table = word_table()
    if args.check:
        with np.load(WORD_TABLE) as stored:
            differences = np.flatnonzero(stored['noun_or_adjective'] != table)
        if differences.size:
            raise SystemExit(f'{differences.size} tokens differ, e.g. {differences[:10].tolist()}')
    else:
        np.savez_compressed(WORD_TABLE, noun_or_adjective=table)


if __name__ == '__main__':
    run_main(main)
