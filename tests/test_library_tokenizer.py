"""Tokenizers of the library as transformers hands them over: the same rows from their JSON."""

import json

import pytest
from hub_cache import piece_tokenizer, tokenizer_files, word_tokenizer
from transformers import AutoTokenizer

from sen_toolbox.text.tokenizers import LibraryTokenizer, build_tokenizer

TEXTS = ['a man in red coats', 'a woman', '', 'a man and a woman and a man and a woman in red']
# The classes of SigLIP's, SigLIP 2's and CLIPA's tokenizers, and what their repositories say.
KINDS = {
    'T5Tokenizer': (word_tokenizer, ('<unk>', '</s>', '</s>'), dict(extra_ids=0, legacy=False)),
    'GemmaTokenizer': (
        word_tokenizer,
        ('<unk>', '<pad>', '</s>'),
        dict(padding_side='right', add_bos_token=False, add_eos_token=True),
    ),
    'BertTokenizer': (piece_tokenizer, ('[UNK]', '[PAD]', '[SEP]'), {}),
}


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('length', [8, 40])
def test_rows_are_those_of_transformers(kind, length, tmp_path):
    make, names, settings = KINDS[kind]
    files = tokenizer_files(make(), *names)
    told = json.loads(files['tokenizer_config.json']) | dict(tokenizer_class=kind, **settings)
    (tmp_path / 'tokenizer.json').write_bytes(files['tokenizer.json'])
    (tmp_path / 'tokenizer_config.json').write_text(json.dumps(told))
    theirs = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert type(theirs).__name__ == kind
    rows = theirs(TEXTS, max_length=length, padding='max_length', truncation=True).input_ids
    ours = LibraryTokenizer(
        context_length=length,
        content=theirs.backend_tokenizer.to_str(),
        pad=theirs.pad_token_id,
    )
    # An empty caption has its end token in both.
    assert ours(TEXTS).ids.tolist() == rows
    again = build_tokenizer(json.loads(json.dumps(ours.describe())))
    assert again(TEXTS).ids.tolist() == rows
