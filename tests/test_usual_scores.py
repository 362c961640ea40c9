"""Which scores to expect of a description, where they are kept, and who is told."""

import json

import numpy as np
import pytest

from sen_toolbox.inference.loading import load_encoder
from sen_toolbox.inference.model_file import save_model
from sen_toolbox.inference.usual_scores import (
    LEAST,
    checked_usual_scores,
    measure_usual_scores,
    usual_score,
)
from sen_toolbox.search import PersonSearch
from sen_toolbox.search.cli import main
from sen_toolbox.search.remarks import remarks_on
from sen_toolbox.search.web.api import SearchApi

SCORES = [(4, 0.5), (8, 0.9)]
# Of four and of eight words; no score of random weights is above 0.9.
SHORT, LONG = 'a man in red', 'a man in a red coat and jeans'


class Angles:
    """An encoder of pictures 0 to 9 and of sentences; who has more words has a larger cosine."""

    def embed_files(self, names):
        return np.array([[np.cos(int(name)), np.sin(int(name))] for name in names], np.float32)

    def embed_text(self, texts):
        angles = [int(text.split()[0]) + 1 / len(text.split()) for text in texts]
        return np.array([[np.cos(angle), np.sin(angle)] for angle in angles], np.float32)


def test_they_are_a_low_quantile_of_the_best_score_of_each_length():
    rng = np.random.default_rng(0)
    lengths = [int(n) for n in rng.integers(2, 10, 5 * LEAST)]
    captions = [' '.join([str(rng.integers(10))] * n) for n in lengths]
    found = measure_usual_scores(Angles(), [str(name) for name in range(10)], captions)
    # Fewer than a hundred captions have 12 words.
    assert [words for words, _ in found] == [3, 5, 8]
    for words, score in found:
        assert score == pytest.approx(np.cos(1 / words), abs=1e-4)


def test_too_few_captions_tell_nothing():
    with pytest.raises(ValueError, match='take 100 captions of 3 words, got 2 captions'):
        measure_usual_scores(Angles(), ['1', '2'], ['1 a man', '2 a woman'])


def test_lengths_between_are_interpolated_and_others_take_the_nearest():
    expected = {'a': 0.5, SHORT: 0.5, f'{SHORT} and blue': 0.7, LONG: 0.9, f'{LONG} too': 0.9}
    for sentence, score in expected.items():
        assert usual_score(SCORES, sentence) == pytest.approx(score)
    assert usual_score([], SHORT) is None


@pytest.mark.parametrize(
    'value',
    [
        None,
        {},
        'text',
        [3],
        [[3]],
        [[3, 0.5, 1]],
        [['3', 0.5]],
        [[3, '0.5']],
        [[True, 0.5]],
        [[3, float('nan')]],
        [[3, 2.0]],
        [[3, 0.5], [3, 0.6]],
        [[5, 0.5], [3, 0.6]],
        [[number, 0.5] for number in range(100)],
    ],
)
def test_what_a_file_says_of_them_is_checked(value):
    with pytest.raises(ValueError, match='usual_scores is a list of'):
        checked_usual_scores(value)


@pytest.fixture(scope='module')
def searched(made, tmp_path_factory):
    """A model file with usual scores, and an index."""
    root = tmp_path_factory.mktemp('usual')
    scores = dict(usual_scores=SCORES)
    save_model(made / 'config.py', made / 'm.pth', root / 'm.safetensors', **scores)
    PersonSearch(root / 'm.safetensors', index=root / 'index').index(made / 'crops')
    return root


def test_a_model_file_keeps_them_and_its_vectors_stay_the_same(searched, made):
    with_scores, without = (load_encoder(root / 'm.safetensors') for root in (searched, made))
    assert list(with_scores.usual_scores) == SCORES
    assert list(without.usual_scores) == []
    assert with_scores.model_id.fingerprint == without.model_id.fingerprint


@pytest.mark.slow
def test_an_exported_model_keeps_them(searched):
    from sen_toolbox.inference.onnx_export import export_onnx

    export_onnx(load_encoder(searched / 'm.safetensors'), searched / 'm.onnx')
    assert load_encoder(searched / 'm.onnx').usual_score(LONG) == pytest.approx(0.9)


def test_a_query_whose_best_score_is_lower_says_that_nobody_matches_well(searched, capsys):
    where = ['--index', str(searched / 'index'), '--model', str(searched / 'm.safetensors')]
    for extra in ([], ['--rerank', 'k_reciprocal']):
        assert main(['query', LONG, *where, '--json', *extra]) == 0
        captured = capsys.readouterr()
        best = json.loads(captured.out)[0]['score']
        message = (
            f'note: nobody matches well: the best score is {best:.2f}, and 95% of descriptions of '
            'this length reach 0.90 where somebody fits\n'
        )
        assert captured.err == ('' if extra else message)


def test_a_query_whose_best_score_is_usual_is_silent(searched):
    encoder = load_encoder(searched / 'm.safetensors')
    encoder.usual_scores = [(4, -1.0)]
    search = PersonSearch(encoder, index=searched / 'index')
    results = search.search(LONG)
    assert remarks_on(encoder, LONG, results, by_text_alone=True) == []
    assert remarks_on(encoder, LONG, [], by_text_alone=True) == []


def test_the_page_says_it_of_words_alone(searched):
    api = SearchApi(PersonSearch(searched / 'm.safetensors', index=searched / 'index'))
    found = api.search(dict(text=LONG))
    [remark] = found['remarks']
    assert remark.startswith(
        f'nobody matches well: the best score is {found["results"][0]["score"]:.2f}'
    )
    marked = [found['results'][0]['id']]
    assert api.search(dict(text=LONG, right=marked))['remarks'] == []
    assert api.search(dict(like=marked[0]))['remarks'] == []
