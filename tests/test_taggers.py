"""Pruning of captions, and its cache."""

import importlib
import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest
from toy_data import tool

from sen_toolbox.datasets import cache
from sen_toolbox.datasets.cache import pruned_captions
from sen_toolbox.text.taggers import NLTKTagger, RuleTagger, join_kept

# 60 captions with the tokens, tags and result of filter_sentence of the SEN release.
ROWS = json.loads((Path(__file__).parent / 'data' / 'text_aug_pruned.json').read_text())
SHARED_DATA = Path(__file__).parents[2] / 'shared' / 'nltk_data'


@pytest.fixture
def nltk_data(monkeypatch):
    nltk = importlib.import_module('nltk')
    monkeypatch.setattr(nltk.data, 'path', [*nltk.data.path, str(SHARED_DATA)])
    try:
        nltk.data.find('tokenizers/punkt_tab')
        nltk.data.find('taggers/averaged_perceptron_tagger_eng')
    except LookupError:
        pytest.skip('NLTK data are not installed')


class UpperTagger:
    version = '1'

    def __init__(self):
        self.calls = []

    def prune(self, caption):
        self.calls.append(caption)
        return '' if caption == 'and' else caption.upper()


@pytest.fixture
def user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'user'))
    return tmp_path / 'user' / 'sen_toolbox'


def test_the_kept_words_equal_the_release_for_its_tags():
    for row in ROWS:
        tagged = zip(row['tokens'], row['tags'], strict=True)
        assert join_kept(tagged) == row['filtered']


def test_pronouns_nouns_and_adjectives_are_kept_and_wh_words_not():
    tagged = [('he', 'PRP'), ('his', 'PRP$'), ('shoes', 'NNS'), ('bigger', 'JJR'), ('who', 'WP'),
              ('whose', 'WP$'), ('wears', 'VBZ'), ('to', 'TO'), ('.', '.')]  # fmt: skip
    assert join_kept(tagged) == 'he his shoes bigger'


def test_nltk_prunes_as_the_release(nltk_data):
    tagger = NLTKTagger()
    assert [tagger.prune(row['caption']) for row in ROWS] == [row['filtered'] for row in ROWS]


@pytest.fixture
def no_nltk_data(monkeypatch):
    # A fresh NLTK, which has not read its data yet.
    for name in [name for name in sys.modules if name.split('.')[0] == 'nltk']:
        monkeypatch.delitem(sys.modules, name)
    nltk = importlib.import_module('nltk')
    monkeypatch.setattr(nltk.data, 'path', [])


def test_missing_nltk_data_are_an_error_that_says_how_to_get_them(no_nltk_data):
    command = 'python -m nltk.downloader punkt_tab averaged_perceptron_tagger_eng'
    with pytest.raises(FileNotFoundError, match=command) as info:
        NLTKTagger().prune('A man with a red bag.')
    assert 'NLTK_DATA' in str(info.value)


def test_a_training_asks_for_the_data_before_it_builds_a_model(no_nltk_data, tmp_path):
    check_tagger = tool('train').check_tagger
    dataset = dict(data_root=str(tmp_path), tagger=dict(type='NLTKTagger'))
    with pytest.raises(FileNotFoundError, match='NLTKTagger needs tables'):
        check_tagger(dataset)
    check_tagger({**dataset, 'tagger': dict(type='RuleTagger')})
    check_tagger(dict(data_root=str(tmp_path)))
    # Captions that were pruned elsewhere are not pruned again.
    (tmp_path / '.sen_cache').mkdir()
    (tmp_path / '.sen_cache' / 'pruned_0123.kept').touch()
    check_tagger(dataset)


def test_rules_agree_with_the_release_in_nine_of_ten_words():
    tagger = RuleTagger()
    right = wrong = lost = 0
    for row in ROWS:
        ours = Counter(tagger.prune(row['caption']).split())
        theirs = Counter(row['filtered'].split())
        right += (ours & theirs).total()
        wrong += (ours - theirs).total()
        lost += (theirs - ours).total()
    # Measured: precision 0.954, recall 0.961.
    assert right / (right + wrong) > 0.92
    assert right / (right + lost) > 0.92


@pytest.mark.parametrize(
    ('caption', 'expected'),
    [
        ('The man is wearing a red t-shirt, and black shoes.', 'man red t-shirt black shoes'),
        ("He's carrying two bags on his left shoulder", 'He bags his left shoulder'),
        ("THE WOMAN'S HAIR IS BRIGHTLY COLOURED", 'WOMAN HAIR COLOURED'),
        ('of the with', ''),
        ('👜 and', ''),
        ('', ''),
    ],
)
def test_rules_drop_verbs_function_words_and_punctuation(caption, expected):
    assert RuleTagger().prune(caption) == expected


# The cache


def test_captions_are_pruned_once_and_then_read(tmp_path, user_cache):
    captions = ['red', 'blue', 'red']
    first = UpperTagger()
    assert pruned_captions(captions, tagger=first, data_root=tmp_path) == {
        'red': 'RED',
        'blue': 'BLUE',
    }
    assert sorted(first.calls) == ['blue', 'red']
    second = UpperTagger()
    assert pruned_captions(captions[::-1], tagger=second, data_root=tmp_path)['red'] == 'RED'
    assert second.calls == []
    assert not user_cache.exists()
    assert [path.suffix for path in (tmp_path / '.sen_cache').iterdir()] == ['.kept']


def test_a_caption_of_which_nothing_remains_stays_whole(tmp_path, user_cache):
    table = pruned_captions(['and'], tagger=UpperTagger(), data_root=tmp_path)
    assert table == {'and': 'and'}


def test_other_captions_and_another_version_are_pruned_anew(tmp_path, user_cache):
    tagger = UpperTagger()
    pruned_captions(['red'], tagger=tagger, data_root=tmp_path)
    pruned_captions(['red', 'blue'], tagger=tagger, data_root=tmp_path)
    tagger.version = '2'
    pruned_captions(['red'], tagger=tagger, data_root=tmp_path)
    assert tagger.calls == ['red', 'blue', 'red', 'red']


@pytest.mark.parametrize('content', ['', '{"red": "RE', '[]', '{"blue": "BLUE"}', b'\xff\xfe'])
def test_a_damaged_cache_is_made_again(tmp_path, user_cache, content):
    pruned_captions(['red'], tagger=UpperTagger(), data_root=tmp_path)
    (path,) = (tmp_path / '.sen_cache').iterdir()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    tagger = UpperTagger()
    assert pruned_captions(['red'], tagger=tagger, data_root=tmp_path) == {'red': 'RED'}
    assert tagger.calls == ['red']
    assert json.loads(path.read_text()[cache.DIGEST :]) == {'red': 'RED'}


def test_the_user_cache_serves_when_the_data_folder_cannot_be_written(tmp_path, user_cache):
    # A file in the folder's place; permissions would not stop root.
    (tmp_path / '.sen_cache').write_text('')
    pruned_captions(['red'], tagger=UpperTagger(), data_root=tmp_path)
    tagger = UpperTagger()
    assert pruned_captions(['red'], tagger=tagger, data_root=tmp_path) == {'red': 'RED'}
    assert tagger.calls == []
    assert len(os.listdir(user_cache)) == 1


def test_pruning_works_where_nothing_can_be_written(tmp_path, user_cache):
    (tmp_path / '.sen_cache').write_text('')
    user_cache.parent.write_text('')
    table = pruned_captions(['red'], tagger=UpperTagger(), data_root=tmp_path)
    assert table == {'red': 'RED'}
