"""Tokenizers: the ids of the official codes, what rows look like, and the way back to text."""

import functools
import json
import pickle
import random
import string
import subprocess
import sys
import unicodedata
from pathlib import Path

import ftfy
import numpy as np
import pytest
from hub_cache import piece_tokenizer, word_tokenizer
from open_clip.tokenizer import SimpleTokenizer
from toy_data import ROOT, run_tool, write_toy_config, write_toy_data

from sen_toolbox.registry import TOKENIZERS
from sen_toolbox.text.decoding import SeenPiece, seen_pieces
from sen_toolbox.text.registration import as_tokenizer
from sen_toolbox.text.tokenizers import (
    CLIPTokenizer,
    LibraryTokenizer,
    VocabularyTokenizer,
    WordPieceTokenizer,
    build_tokenizer,
)
from sen_toolbox.text.tokenizers.counting import build_vocabulary, split_words
from sen_toolbox.text.tokens import Piece, SpecialTokens

DATA = Path(__file__).parent / 'data'
CAPTIONS = json.loads((DATA / 'tokenizer_captions.json').read_text())
SSAN = json.loads((DATA / 'ssan_vocabulary.json').read_text())
BERT = json.loads((DATA / 'wordpiece.json').read_text())
MASK, START, END = 49405, 49406, 49407
WORDS = ['red', 'coat', 'bag', 'a']


def clip(length=77):
    return CLIPTokenizer(length)


def word_piece(length=20, **kwargs):
    return WordPieceTokenizer(context_length=length, vocabulary=BERT['vocabulary'], **kwargs)


def whole_words(length=6, vocabulary=WORDS, **kwargs):
    return VocabularyTokenizer(context_length=length, vocabulary=vocabulary, **kwargs)


def library(make, pad, length=12, **kwargs):
    return LibraryTokenizer(context_length=length, content=make().to_str(), pad=pad, **kwargs)


EVERY = dict(
    clip=lambda length: clip(length),
    word_piece=lambda length: word_piece(length),
    whole_words=lambda length: whole_words(length),
    whole_words_between=lambda length: whole_words(length, start=True, end=True, unknown_id=True),
    library_words=lambda length: library(word_tokenizer, 1, length, clean='canonicalize'),
    library_pieces=lambda length: library(piece_tokenizer, 0, length),
    whole_words_from_0=lambda length: whole_words(length, pad_is_first_word=True, start=True),
)
every = pytest.mark.parametrize('make', EVERY.values(), ids=EVERY)


def joined(pieces):
    return ''.join(piece.text + ' ' * piece.ends_word for piece in pieces).strip()


# Rows


@every
def test_a_row_is_start_words_end_and_padding(make):
    tokenizer = make(9)
    tokens = tokenizer(['a red coat', ''])
    special = tokenizer.special
    ids = tokenizer.encode('a red coat')
    start = [special.start] * (special.start is not None)
    end = [special.end] * (special.end is not None)
    row = [*start, *ids, *end]
    assert tokens.ids.tolist()[0] == row + [special.pad] * (9 - len(row))
    assert tokens.ids.dtype == tokens.end.dtype == np.int64
    assert tokens.mask.tolist()[0] == [True] * len(row) + [False] * (9 - len(row))
    assert tokens.ids[1, : len(start + end)].tolist() == start + end
    # A caption of nothing is one token of padding.
    assert tokens.lengths.tolist() == [len(row), max(len(start + end), 1)]


def test_the_token_that_stands_for_the_caption_is_clips_end_berts_start_or_the_last_word():
    captions = ['a red coat', 'a', '']
    assert clip()(captions).end.tolist() == [4, 2, 1]
    assert word_piece()(captions).end.tolist() == [0, 0, 0]
    assert whole_words()(captions).end.tolist() == [2, 0, 0]
    assert whole_words(start=True, end=True)(captions).end.tolist() == [4, 2, 1]
    assert whole_words(start=True)(captions).end.tolist() == [3, 1, 0]


@every
@pytest.mark.parametrize('length', [3, 5, 8])
def test_a_long_caption_keeps_its_first_words(make, length):
    (text,) = [' '.join(['red coat'] * 50)]
    short, whole = make(length)([text]), make(200)([text])
    special = make(length).special
    # BERT's codes cut behind the end token that was added, the others before it.
    ends = special.end is not None and special.end != 6
    kept = length - ends
    np.testing.assert_array_equal(short.ids[0, :kept], whole.ids[0, :kept])
    assert short.mask.all()
    assert not ends or short.ids[0, -1] == special.end


@pytest.mark.parametrize(
    ('make', 'least'),
    [
        (clip, 3),
        (word_piece, 3),
        (whole_words, 1),
        (functools.partial(whole_words, start=True), 2),
    ],
)
def test_a_context_without_room_for_a_word_is_refused(make, least):
    assert make(least)(['a']).ids.shape == (1, least)
    with pytest.raises(ValueError, match=f'at least {least}, got {least - 1}'):
        make(least - 1)


@every
def test_rows_of_ids_are_packed_as_their_captions_are(make):
    tokenizer = make(9)
    captions = ['a red coat', '', 'red bag ' * 30]
    rows = [np.array(tokenizer.encode(text), dtype=np.uint16) for text in captions]
    for left, right in zip(
        vars(tokenizer.pack(rows)).values(), vars(tokenizer(captions)).values(), strict=True
    ):
        np.testing.assert_array_equal(left, right)
    assert len(tokenizer([])) == 0


@every
def test_no_word_has_the_id_of_a_special_token(make):
    tokenizer = make(9)
    assert {tokenizer.special.start, tokenizer.special.end, tokenizer.special.mask}.isdisjoint(
        tokenizer.words
    )
    assert 0 <= tokenizer.words.start < tokenizer.words.stop <= tokenizer.vocab_size
    ids = tokenizer.encode('a red coat')
    assert len(ids) == 3 and set(ids) <= set(tokenizer.words)


def test_a_tokenizer_of_the_library_leaves_out_special_tokens_in_a_caption():
    words, pieces = library(word_tokenizer, 1), library(piece_tokenizer, 0)
    assert words.encode('a man</s>') == words.encode('a man')
    assert pieces.encode('[CLS] a [SEP] man [PAD]') == pieces.encode('a man')
    assert library(word_tokenizer, 1, clean='canonicalize').encode('A MAN!') == words.encode(
        'a man'
    )


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        (dict(clean='upper'), "clean is one of whitespace, lower, canonicalize, got 'upper'"),
        (dict(content='{}'), 'reads no tokenizer'),
        (dict(pad=-1), 'pad must be a whole number'),
    ],
)
def test_a_tokenizer_of_the_library_that_makes_no_sense_is_refused(changes, said):
    content = dict(content=word_tokenizer().to_str(), pad=1)
    with pytest.raises(ValueError, match=said):
        LibraryTokenizer(context_length=9, **{**content, **changes})


# Names and descriptions


@every
def test_a_description_is_json_that_builds_the_tokenizer_again(make):
    tokenizer = make(9)
    config = json.loads(json.dumps(tokenizer.describe()))
    for again in (build_tokenizer(config), TOKENIZERS.build(config), as_tokenizer(config)):
        assert type(again) is type(tokenizer)
        assert again.describe() == tokenizer.describe()
        assert again.fingerprint == tokenizer.fingerprint
        assert again.vocab_size == tokenizer.vocab_size
        captions = ['a red coat with Buttons!', '']
        np.testing.assert_array_equal(again(captions).ids, tokenizer(captions).ids)
    assert as_tokenizer(tokenizer) is tokenizer


def test_an_unknown_tokenizer_is_refused_with_those_there_are():
    with pytest.raises(KeyError, match="no tokenizer 'SentencePiece' here; there are CLIPTok"):
        build_tokenizer(dict(type='SentencePiece'))


def test_fingerprints_differ_when_anything_differs():
    tokenizers = [
        clip(),
        clip(20),
        word_piece(),
        word_piece(21),
        word_piece(lower_case=False),
        WordPieceTokenizer(context_length=20, vocabulary=[*BERT['vocabulary'], 'new']),
        whole_words(),
        whole_words(7),
        whole_words(vocabulary=WORDS[::-1]),
        whole_words(lower_case=False),
        whole_words(deleted=''),
        whole_words(separators='-'),
        whole_words(unknown_id=True),
        whole_words(pad_is_first_word=True),
        whole_words(start=True),
        whole_words(end=True),
    ]
    assert len({tokenizer.fingerprint for tokenizer in tokenizers}) == len(tokenizers)


@pytest.mark.parametrize('package', ['open_clip_torch', 'tokenizers', 'ftfy'])
def test_another_version_of_what_cleans_or_cuts_text_is_another_fingerprint(monkeypatch, package):
    from sen_toolbox.text.tokenizers import rows

    first = clip().fingerprint
    version = rows.version
    monkeypatch.setattr(rows, 'version', lambda name: version(name) + '+1' * (name == package))
    assert clip().fingerprint != first


@every
def test_a_pickled_tokenizer_gives_the_same_ids(make):
    tokenizer = make(9)
    again = pickle.loads(pickle.dumps(tokenizer))  # noqa: S301
    np.testing.assert_array_equal(again(['a red coat']).ids, tokenizer(['a red coat']).ids)


def test_tokenizers_load_neither_torch_nor_mmengine():
    code = """
import json, sys
from sen_toolbox.text.tokenizers import build_tokenizer
for config in json.loads(sys.argv[1]):
    tokenizer = build_tokenizer(config)
    tokens = tokenizer(['a red coat'])
    tokenizer.decode(tokens.ids[0]), tokenizer.fingerprint
heavy = {'torch', 'open_clip', 'mmengine', 'mmcv', 'transformers', 'sen_toolbox.registry'}
print(*heavy & set(sys.modules))
"""
    configs = json.dumps([make(9).describe() for make in EVERY.values()])
    run = subprocess.run(
        [sys.executable, '-c', code, configs], cwd=ROOT, capture_output=True, text=True
    )
    assert (run.returncode, run.stdout.strip(), run.stderr) == (0, '', '')


# CLIP


def test_clips_ids_equal_the_tokenizer_of_the_release():
    """200 captions tokenised by utils/simple_tokenizer.py of the SEN release (IRRA's is equal)."""
    expected = np.load(DATA / 'tokenizer_ids.npz')['official']
    different = np.flatnonzero((clip()(CAPTIONS).ids != expected).any(axis=1)).tolist()
    # The release reads <|mask|> (184..186) and <|startoftext|> (187) in a caption as special
    # tokens and raises KeyError for "jekyll" (198, 199).
    assert different == [184, 185, 186, 187, 198, 199]


@functools.cache
def open_clip_encode():
    """open_clip's own tokenizer without the merge that makes the mask's id."""
    tokenizer = SimpleTokenizer()
    del tokenizer.bpe_ranks[max(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.get)]
    return tokenizer.encode


ODD = [
    'McJekyll’s JEKYLL!!', 'naïve café &amp;amp; &lt;b&gt;', "it's, we'LL, they'VE 'ſ", '3½ 12 ² ٣',
    'ÃƒÂ©tÃ© donâ€™t', 'a\u200bb\u00a0c\u2028d\te', 'ﬁne Ⅷ ①', 'ΑΣ İstanbul', '<|endoftext|> red',
    '!! !!!a', '👩🏽‍🦰 👜👜', 'x' * 300, '男人 in black', '', ' ',
]  # fmt: skip


def test_clips_ids_equal_open_clips_on_golden_and_odd_captions():
    encode = open_clip_encode()
    # To open_clip these are special tokens.
    texts = [text for text in CAPTIONS + ODD if '<start_of_text>' not in text]
    assert len(texts) == len(CAPTIONS + ODD) - 1
    assert [text for text in texts if clip().encode(text) != encode(text)] == []


def test_plain_ascii_is_read_as_if_it_had_been_repaired():
    draw = random.Random(0)
    texts = [''.join(draw.choices(string.printable, k=30)) for _ in range(2000)]
    texts += ['&amp;lt;b&gt; &', 'a\tb\r\nc\x1b[1md\x00e']
    assert [clip().encode(t) for t in texts] == [clip().encode(ftfy.fix_text(t)) for t in texts]


def test_clips_ids_equal_open_clips_on_random_text():
    # Characters that every Unicode since 3.2 knows. U+0345 alone is dropped by open_clip.
    known = unicodedata.ucd_3_2_0.category
    letters = [c for c in map(chr, range(0x3000)) if known(c)[0] != 'C' and c != '\u0345']
    generator = random.Random(0)
    encode, tokenizer = open_clip_encode(), clip()
    for _ in range(3000):
        pool = letters if generator.random() < 0.5 else letters[:95]
        text = ''.join(generator.choices(pool, k=generator.randrange(1, 16)))
        if '<start_of_text>' not in text and '<end_of_text>' not in text:
            assert tokenizer.encode(text) == encode(text), text


def test_no_caption_yields_the_mask_or_an_early_end():
    captions = CAPTIONS + ['Jekyll', 'mcjekyll', 'a jekyll.', '<END_OF_TEXT>', '<|mask|>']
    tokens = clip()([*captions, '&lt;end_of_text&gt; red', '<start_of_text>'])
    assert not (tokens.ids == MASK).any()
    assert ((tokens.ids == END).sum(axis=1) == 1).all()
    assert ((tokens.ids == START).sum(axis=1) == 1).all()
    assert (tokens.ids[:, 0] == START).all()
    assert (tokens.ids[np.arange(len(tokens)), tokens.end] == END).all()


def test_jekyll_is_still_a_word_of_its_own():
    assert len({tuple(row) for row in clip()(['jekyll', 'hyde', 'je', '']).ids.tolist()}) == 4


def test_case_does_not_matter_and_emoji_are_tokens():
    lower, upper, emoji = clip()(['a red bag', 'A RED BAG', 'a red bag 👜']).ids
    np.testing.assert_array_equal(lower, upper)
    assert (emoji != 0).sum() > (lower != 0).sum()


def test_clips_special_tokens_and_words():
    tokenizer = clip()
    assert tokenizer.special == SpecialTokens(start=START, end=END, mask=MASK, pad=0)
    assert (tokenizer.vocab_size, tokenizer.words) == (49408, range(1, MASK))
    assert clip()(['']).ids[0, :3].tolist() == [START, END, 0]


def test_the_table_marks_45209_tokens_and_no_special_one():
    """The count is that of the release's tagging of its vocabulary."""
    table = np.frombuffer(clip().noun_or_adjective, dtype=bool)
    assert table.shape == (clip().vocab_size,)
    assert table.sum() == 45209
    assert not table[[0, MASK, START, END]].any()
    jacket, red, the, wearing = clip().encode('jacket red the wearing')
    assert table[[jacket, red]].all()
    assert not table[[the, wearing]].any()


def test_without_open_clip_its_vocabulary_is_asked_for(monkeypatch):
    from sen_toolbox.text.tokenizers import clip as module

    monkeypatch.setattr(module, 'open_clip_folder', lambda: None)
    with pytest.raises(FileNotFoundError, match='pip install open_clip_torch'):
        module._pairs.__wrapped__()


# Word pieces


def test_word_pieces_equal_those_of_the_nafs_and_saf_releases():
    """Their BertTokenizer on 12 captions; [SEP] and [PAD] in a caption (7) are text here."""
    tokens = word_piece(100)(BERT['captions'])
    rows = [ids[:length].tolist() for ids, length in zip(tokens.ids, tokens.lengths, strict=True)]
    different = [n for n, row in enumerate(rows) if row != BERT['tokens'][n]]
    assert different == [7]
    assert max(tokens.lengths) == 100
    names = dict(enumerate(BERT['vocabulary']))
    assert [names[token] for token in rows[7]][:5] == ['[CLS]', 'a', '[', 'p', '##a']


def greedy(word, pieces):
    """The longest piece that begins the word, again and again."""
    found, start = [], 0
    while start < len(word):
        for stop in range(len(word), start, -1):
            piece = ('##' if start else '') + word[start:stop]
            if piece in pieces:
                break
        else:
            return ['[UNK]']
        found.append(piece)
        start = stop
    return found


def test_word_pieces_of_a_vocabulary_file_are_the_longest_from_the_left(tmp_path):
    letters = 'abc'
    pieces = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'a', 'b', '##a', '##b', 'ab', '##ab',
              '##ba', 'aba', '##abc', 'abba']  # fmt: skip
    path = tmp_path / 'vocab.txt'
    path.write_text('\n'.join(pieces) + '\n', encoding='utf-8')
    tokenizer = WordPieceTokenizer(context_length=50, vocab_file=path)
    assert tokenizer.special == SpecialTokens(start=2, end=3, mask=4, pad=0)
    assert (tokenizer.vocab_size, tokenizer.words) == (15, range(5, 15))
    generator = random.Random(0)
    words = [''.join(generator.choices(letters, k=generator.randrange(1, 8))) for _ in range(200)]
    for word in words:
        assert [pieces[token] for token in tokenizer.encode(word.upper())] == greedy(word, pieces)
    assert tokenizer.encode('ab abba') == [*tokenizer.encode('ab'), *tokenizer.encode('abba')]


def test_case_and_accents_matter_only_to_a_cased_vocabulary():
    assert word_piece().encode('CAFÉ') == word_piece().encode('cafe')
    unknown = BERT['vocabulary'].index('[UNK]')
    assert word_piece(lower_case=False).encode('CAFÉ') == [unknown]


def test_words_are_the_ordinary_pieces_behind_the_unused_ones():
    assert word_piece().words == range(8, len(BERT['vocabulary']))


def test_a_missing_vocabulary_file_says_what_to_get(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'gone\.txt: copy vocab.txt of the BERT model'):
        WordPieceTokenizer(context_length=9, vocab_file=tmp_path / 'gone.txt')


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(), 'takes either vocab_file or vocabulary'),
        (dict(vocab_file='x', vocabulary=[]), 'takes either vocab_file or vocabulary'),
        (dict(vocabulary=['[CLS]', 'a']), r'lacks \[SEP\], \[MASK\], \[PAD\], \[UNK\]: give'),
        (dict(vocabulary=[*BERT['vocabulary'], 'red']), "has 'red' twice"),
    ],
)
def test_a_vocabulary_that_is_none_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        WordPieceTokenizer(context_length=9, **kwargs)


# Whole words


def test_the_vocabulary_and_the_ids_are_those_of_the_ssan_release():
    """Its process_CUHK_data.py; counts words in lower case and looks them up as they are."""
    words = build_vocabulary(SSAN['counted'], least_count=2)
    assert words == SSAN['vocabulary']
    tokenizer = whole_words(100, vocabulary=words, lower_case=False)
    assert [tokenizer.encode(text) for text in SSAN['captions']] == SSAN['ids']
    assert tokenizer.vocab_size == len(words) + 1


def test_words_are_split_as_in_ssan_cmpm_and_dual_path():
    text = "A man's T-shirt, (dark-blue)."
    assert split_words(text) == ['a', 'mans', 'tshirt', 'darkblue']
    assert split_words(text, lower_case=False) == ['A', 'mans', 'Tshirt', 'darkblue']
    dual_path = dict(lower_case=False, deleted='', separators='-.,()')
    assert split_words(text, **dual_path) == ['A', "man's", 'T', 'shirt', 'dark', 'blue']
    assert split_words('red-blue', separators='-') == ['red', 'blue']
    assert split_words(' ') == []


def test_words_are_counted_and_ordered_as_told():
    captions = ['the red coat', 'a red bag', 'A coat, a coat']
    assert build_vocabulary(captions) == ['the', 'red', 'coat', 'a', 'bag']
    assert build_vocabulary(captions, least_count=2) == ['red', 'coat', 'a']
    # coat and a occur three times, coat first.
    assert build_vocabulary(captions, order='frequency') == ['coat', 'a', 'red', 'the', 'bag']
    assert build_vocabulary(captions, lower_case=False, least_count=2) == ['red', 'coat', 'a']
    assert build_vocabulary(captions, known={'bag', 'coat', 'hat'}) == ['coat', 'bag']
    with pytest.raises(ValueError, match="order is one of appearance, frequency, got 'size'"):
        build_vocabulary(captions, order='size')


def test_unknown_words_are_left_out_before_the_caption_is_cut():
    tokens = whole_words(2)(['my long red coat', 'tall'])
    assert tokens.ids.tolist() == [[1, 2], [0, 0]]
    assert tokens.lengths.tolist() == [2, 1]


def test_unknown_words_get_one_id_behind_the_last_word():
    tokenizer = whole_words(unknown_id=True)
    assert tokenizer.encode('my red tie') == [5, 1, 5]
    assert (tokenizer.vocab_size, tokenizer.words) == (6, range(1, 5))


def test_ids_of_cmpm_begin_with_0_which_pads_too():
    """reference: ids from 0 in the order of frequency, one for unknown words behind the last."""
    tokenizer = whole_words(5, vocabulary=['a', 'red'], unknown_id=True, pad_is_first_word=True)
    assert tokenizer(['a red hat']).ids.tolist() == [[0, 1, 2, 0, 0]]
    assert tokenizer(['a red hat']).lengths.tolist() == [3]
    assert tokenizer.vocab_size == 3


def test_start_and_end_have_ids_behind_all_others():
    tokenizer = whole_words(6, unknown_id=True, start=True, end=True)
    assert tokenizer(['red hat']).ids.tolist() == [[6, 1, 5, 7, 0, 0]]
    assert tokenizer.special == SpecialTokens(start=6, end=7, mask=None, pad=0)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(), 'takes either vocab_file or vocabulary'),
        (dict(vocab_file='x', vocabulary=[]), 'takes either vocab_file or vocabulary'),
        (dict(vocabulary=['a', 'red', 'red']), "the vocabulary has 'red' 2 times"),
    ],
)
def test_words_that_are_no_vocabulary_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        VocabularyTokenizer(context_length=9, **kwargs)


def test_a_missing_file_of_words_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'words\.json: make it by python tools/make_voc'):
        VocabularyTokenizer(context_length=9, vocab_file=tmp_path / 'words.json')


@pytest.mark.parametrize('content', ['', '[]', '{"words": []}', '{"words": "red", "counting": {}}'])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / 'words.json'
    path.write_text(content)
    with pytest.raises(ValueError, match=r'words\.json is not a file of words .*make_vocabulary'):
        VocabularyTokenizer(context_length=9, vocab_file=path)


# The tool


@pytest.fixture
def toy(tmp_path):
    config = write_toy_config(tmp_path / 'toy.py', write_toy_data(tmp_path / 'data'))
    path = tmp_path / 'made/words.json'
    tokenizer = (
        f"dict(type='VocabularyTokenizer', context_length=20, vocab_file={str(path)!r}, "
        "counting=dict(least_count=2, order='frequency'))"
    )
    with config.open('a') as file:
        file.write(f'\ntokenizer = {tokenizer}\n')
    return config, path


def training_captions(root):
    [file] = root.glob('*.json')
    records = json.loads(file.read_text())
    return [text for r in records if r['split'] == 'train' for text in r['captions']]


def test_the_tool_counts_the_words_of_the_training_split(toy, tmp_path, capsys):
    config, path = toy
    run_tool('make_vocabulary', config)
    words = build_vocabulary(training_captions(tmp_path / 'data'), least_count=2, order='frequency')
    assert json.loads(path.read_text())['words'] == words
    assert f'{len(words)} words of 46 captions' in capsys.readouterr().out
    options = dict(least_count=2, order='frequency')
    tokenizer = VocabularyTokenizer(context_length=20, vocab_file=path, counting=options)
    assert tokenizer.words == range(1, 1 + len(words))
    with pytest.raises(ValueError, match="made with order='frequency' for 'appearance' of the con"):
        VocabularyTokenizer(context_length=20, vocab_file=path, counting=dict(least_count=2))


def test_the_tool_may_keep_known_words_only(toy, tmp_path):
    config, path = toy
    known = tmp_path / 'known.txt'
    known.write_text('red\nnever seen\nthe\n')
    run_tool('make_vocabulary', config, '--known', known)
    assert set(json.loads(path.read_text())['words']) <= {'red', 'the'}


def test_the_tool_needs_a_config_that_names_a_file_of_words(tmp_path):
    config = write_toy_config(tmp_path / 'toy.py', write_toy_data(tmp_path / 'data'))
    with pytest.raises(SystemExit, match='has no VocabularyTokenizer with a vocab_file'):
        run_tool('make_vocabulary', config)


# Back to text


@every
def test_decoding_gives_back_the_cleaned_text_without_special_tokens(make):
    tokenizer = make(30)
    text = 'A red  COAT'
    pieces = tokenizer.decode(tokenizer([text]).ids[0])
    assert joined(pieces) == 'a red coat'
    assert tokenizer.decode(tokenizer(['']).ids[0]) == []
    columns = [piece.position for piece in pieces]
    first = 0 if tokenizer.special.start is None else 1
    assert columns == list(range(first, first + len(pieces)))


@pytest.mark.parametrize('text', CAPTIONS[:20])
def test_decoding_clips_ids_gives_back_the_caption_but_for_spaces(text):
    pieces = clip(200).decode(clip(200)([text]).ids[0])
    assert joined(pieces).replace(' ', '') == text.lower().replace(' ', '')


def test_pieces_of_a_word_are_not_taken_for_words():
    text = 'a multicoloured windbreaker in cafés .'
    pieces = clip().decode(clip()([text]).ids[0])
    assert joined(pieces) == text
    assert len(pieces) > 6
    pieces = word_piece().decode(word_piece()(['wears red jeans']).ids[0])
    assert joined(pieces) == 'wears red jeans'
    assert len(pieces) == 11


def test_the_masks_of_clip_and_bert_are_shown_alike():
    assert clip().decode([START, 320, MASK, END, 0]) == [
        Piece(1, 'a', True),
        Piece(2, '[mask]', True),
    ]
    assert word_piece().decode([5, 8, 7, 6, 0]) == [
        Piece(1, 'a', True),
        Piece(2, '[mask]', True),
    ]


def test_an_unknown_word_is_shown_as_such():
    assert joined(whole_words(unknown_id=True).decode([1, 5, 0])) == 'red [unknown]'


def test_masked_exchanged_and_kept_words_show_what_they_were():
    [row] = clip()(['a red coat .']).ids
    labels = np.zeros_like(row)
    red, coat = row[2], row[3]
    labels[1:4] = row[1:4]
    row[2], row[3] = MASK, red
    assert seen_pieces(clip(), row, labels) == [
        SeenPiece('a', 'a', True),
        SeenPiece('[mask]', 'red', True),
        SeenPiece('red', 'coat', True),
        SeenPiece('.', '', True),
    ]
    assert coat != red


def test_a_masked_piece_of_a_word_does_not_end_it():
    [row] = word_piece()(['wears red']).ids
    labels = np.zeros_like(row)
    labels[1], row[1] = row[1], 7
    assert seen_pieces(word_piece(), row, labels)[0] == SeenPiece('[mask]', 'w', False)
