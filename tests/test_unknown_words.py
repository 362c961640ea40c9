"""Which words of a query mean nothing to a model, whatever tokenizer it has."""

import numpy as np
import pytest

from sen_toolbox.inference.unknown_words import unknown_words
from sen_toolbox.text.tokenizers import CLIPTokenizer, VocabularyTokenizer, WordPieceTokenizer

PIECES = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'a', 'man', 'in', 'red', '##dish', 't']
WORDS = ['a', 'man', 'in', 'red', 'tshirt']


def knows_all(tokenizer):
    return np.ones(tokenizer.vocab_size, bool)


@pytest.mark.parametrize('unknown_id', [False, True])
def test_a_word_that_the_vocabulary_lacks_is_unknown(unknown_id):
    tokenizer = VocabularyTokenizer(context_length=9, vocabulary=WORDS, unknown_id=unknown_id)
    found = unknown_words(tokenizer, knows_all(tokenizer), 'A man, in a RED Sari (a "sari"). -')
    assert found == ['sari']


def test_words_are_taken_as_the_tokenizer_takes_them():
    tokenizer = VocabularyTokenizer(context_length=9, vocabulary=WORDS)
    assert unknown_words(tokenizer, knows_all(tokenizer), 'a red t-shirt') == []


def test_a_word_without_pieces_is_unknown_to_bert():
    tokenizer = WordPieceTokenizer(context_length=9, vocabulary=PIECES)
    assert unknown_words(tokenizer, knows_all(tokenizer), 'A man in reddish tweed') == ['tweed']


def test_a_word_of_which_a_piece_was_dropped_is_unknown():
    tokenizer = CLIPTokenizer(context_length=20)
    known = np.zeros(tokenizer.vocab_size, bool)
    known[[token for word in ('a', 'man', 'coat') for token in tokenizer.encode(word)]] = True
    assert unknown_words(tokenizer, known, 'A man, a raincoat') == ['raincoat']
    assert unknown_words(tokenizer, known, ' ') == []
