"""Exact search against the sorted product of everything; approximate search of all groups too."""

import faiss
import numpy as np
import pytest

from sen_toolbox.search import exact_search
from sen_toolbox.search.approximate_search import build_lists, open_lists, search_lists
from sen_toolbox.search.exact_search import search_exactly
from sen_toolbox.search.vector_file import append_vectors, create_vector_file, map_vectors

# Blocks hold 13 float32 or 26 float16 rows; three threads share 1009 rows, a prime number.
ROWS, DIM, BLOCK = 1009, 24, 13 * 24 * 4
CHOICES = {
    'all': np.arange(ROWS),
    'all but a few': np.delete(np.arange(ROWS), np.arange(40, ROWS, 90)),
    'every other': np.arange(1, ROWS, 2),
    'one in fifty': np.arange(7, ROWS, 50),
    'a folder': np.arange(500, 611),
    'the last': np.array([ROWS - 1]),
}


@pytest.fixture(autouse=True)
def three_threads_and_small_blocks(monkeypatch):
    monkeypatch.setattr(faiss, 'omp_get_max_threads', lambda: 3)
    monkeypatch.setattr(exact_search, 'BLOCK', BLOCK)
    monkeypatch.setattr(exact_search, 'SHORT', 4)
    exact_search.threads.cache_clear()
    yield
    exact_search.threads().shutdown()
    exact_search.threads.cache_clear()


def whole_numbers(*shape, seed=0):
    """Vectors whose inner products are exact in any order of summation, and often equal."""
    return np.random.default_rng(seed).integers(-2, 3, shape).astype(np.float32)


def sorted_product(vectors, queries, k, rows):
    scores = queries.astype(np.float64) @ vectors[rows].astype(np.float64).T
    ranked = [sorted(zip(-line, rows, strict=True))[:k] for line in scores]
    return tuple(np.array([[pair[part] for pair in line] for line in ranked]) for part in (0, 1))


@pytest.mark.parametrize('choice', CHOICES)
@pytest.mark.parametrize('count', [1, 2, 50])
@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_the_best_rows_are_those_of_the_sorted_product_and_equal_ones_follow_their_rows(
    dtype, count, choice
):
    vectors, queries = whole_numbers(ROWS, DIM).astype(dtype), whole_numbers(count, DIM, seed=1)
    rows = CHOICES[choice]
    for k in {1, min(10, len(rows)), len(rows)}:
        scores, found = search_exactly(vectors, queries, k, rows)
        negative, expected = sorted_product(vectors, queries, k, rows)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(scores, -negative)


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_scores_are_inner_products_to_the_rounding_of_float32(dtype):
    rng = np.random.default_rng(0)
    vectors, queries = (rng.standard_normal((n, 512), dtype=np.float32) for n in (ROWS, 5))
    vectors = vectors.astype(dtype)
    scores, found = search_exactly(vectors, queries, ROWS, np.arange(ROWS))
    assert (np.diff(scores) <= 0).all()
    for query, line, rows in zip(queries, scores, found, strict=True):
        products = vectors[rows].astype(np.float64) * query.astype(np.float64)
        # Every one of 512 additions and products rounds to 2 ** -24 at the worst.
        bound = 513 * 2**-24 * np.abs(products).sum(axis=1)
        assert (np.abs(line - products.sum(axis=1)) <= bound).all()
        assert sorted(rows) == list(range(ROWS))


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_a_vector_has_one_score_in_every_place_and_beside_every_query(dtype):
    rng = np.random.default_rng(0)
    vectors, queries = (rng.standard_normal((n, DIM), dtype=np.float32) for n in (1, 7))
    vectors = np.repeat(vectors, ROWS, axis=0).astype(dtype)
    scores, found = search_exactly(vectors, queries, 100, np.arange(ROWS))
    assert (scores == scores[:, :1]).all()
    np.testing.assert_array_equal(found, np.tile(np.arange(100), (7, 1)))
    for query, line in zip(queries, scores, strict=True):
        alone, _ = search_exactly(vectors, query[None], 1, np.array([3, 77]))
        assert alone == line[0]


@pytest.mark.parametrize('rows', [np.arange(0), np.array([4, 9])])
def test_what_is_not_there_is_row_minus_one(rows):
    scores, found = search_exactly(whole_numbers(ROWS, DIM), whole_numbers(2, DIM), 3, rows)
    assert (found[:, len(rows) :] == -1).all()
    assert np.isneginf(scores[:, len(rows) :]).all()
    assert (np.sort(found[:, : len(rows)]) == rows).all()


def test_an_empty_gallery_and_a_gallery_of_one():
    query = whole_numbers(1, DIM)
    assert search_exactly(whole_numbers(0, DIM), query, 1, np.arange(0))[1].tolist() == [[-1]]
    assert search_exactly(whole_numbers(1, DIM), query, 1, np.arange(1))[1].tolist() == [[0]]


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_a_mapped_file_is_searched_as_it_was_when_it_was_opened(tmp_path, dtype):
    vectors, path = whole_numbers(ROWS, DIM), tmp_path / 'vectors'
    create_vector_file(path)
    append_vectors(path, vectors[:1000], 0, dtype)
    mapped = map_vectors(path, rows=1000, dim=DIM, dtype=dtype)
    append_vectors(path, 9 * vectors[1000:], 1000, dtype)
    assert path.stat().st_size == vectors.astype(dtype).nbytes
    assert not mapped.flags.writeable
    scores, found = search_exactly(mapped, vectors[:3], 20, np.arange(1000))
    negative, expected = sorted_product(vectors[:1000], vectors[:3], 20, np.arange(1000))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(scores, -negative)


@pytest.mark.parametrize('choice', CHOICES)
def test_an_approximate_search_of_all_groups_and_of_later_rows_finds_the_best(tmp_path, choice):
    vectors, queries = whole_numbers(ROWS, DIM), whole_numbers(20, DIM, seed=1)
    build_lists(vectors[:1000], tmp_path / 'lists')
    lists = open_lists(tmp_path / 'lists', rows=1000, dim=DIM)
    lists.nprobe = lists.nlist
    rows = CHOICES[choice]
    scores, found = search_lists(
        lists, vectors, queries, 10, allowed=None if choice == 'all' else rows
    )
    # Groups hold differences from their centres, of at most 4, in float16: the error of a score
    # is below DIM * 2 * 4 * 2 ** -11 < 0.1, and scores are whole numbers.
    negative, _ = sorted_product(vectors, queries, 10, rows)
    np.testing.assert_array_equal(np.rint(scores[:, : len(rows)]), -negative)
    assert set(found.ravel()) <= {-1, *rows}
    for query, line, hits in zip(queries, scores, found, strict=True):
        there = hits >= 0
        np.testing.assert_array_equal(vectors[hits[there]] @ query, np.rint(line[there]))


def test_a_choice_of_more_than_the_groups_looked_at_hold_is_made_among_those_groups(tmp_path):
    vectors, queries = whole_numbers(1000, DIM), whole_numbers(20, DIM, seed=1)
    build_lists(vectors, tmp_path / 'lists')
    lists = open_lists(tmp_path / 'lists', rows=1000, dim=DIM)
    assert lists.nprobe == 8 and lists.nlist == 1000 // 39
    allowed = np.arange(1, 1000, 2)
    scores, found = search_lists(lists, vectors, queries, 10, allowed)
    _, group = lists.quantizer.search(vectors, 1)
    _, near = lists.quantizer.search(queries, 8)
    for query, groups, line in zip(queries, near, scores, strict=True):
        rows = np.intersect1d(np.flatnonzero(np.isin(group[:, 0], groups)), allowed)
        negative, _ = sorted_product(vectors, query[None], 10, rows)
        np.testing.assert_array_equal(np.rint(line), -negative[0])


@pytest.mark.parametrize('choice', ['a folder', 'one in fifty', 'the last'])
def test_a_choice_of_fewer_is_searched_exactly(tmp_path, choice):
    vectors, queries = whole_numbers(ROWS, DIM), whole_numbers(20, DIM, seed=1)
    build_lists(vectors[:1000], tmp_path / 'lists')
    lists = open_lists(tmp_path / 'lists', rows=1000, dim=DIM)
    rows = CHOICES[choice]
    scores, found = search_lists(lists, vectors, queries, min(10, len(rows)), rows)
    negative, expected = sorted_product(vectors, queries, min(10, len(rows)), rows)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(scores, -negative)


@pytest.mark.parametrize('rows', [1000, 5000])
def test_faiss_has_nothing_to_say_of_groups_of_few_vectors(tmp_path, rows, capfd):
    build_lists(whole_numbers(rows, DIM), tmp_path / 'lists')
    assert capfd.readouterr() == ('', '')
