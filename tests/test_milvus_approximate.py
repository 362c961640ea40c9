"""What Milvus is asked for, and exact search of pages, against the sorted product of everything."""

import numpy as np
import pytest

from sen_toolbox.search.milvus_approximate import effort, is_made, search_pages, structure

# As the server 2.3.5 describes an index.
IVF = dict(index_type='IVF_FLAT', nlist='512', metric_type='IP', total_rows=60000)
HNSW = dict(index_type='HNSW', M='16', efConstruction='200', metric_type='IP')


@pytest.mark.parametrize('sizes', [[7, 7, 3], [1] * 17, [17], [16, 1]])
@pytest.mark.parametrize('k', [1, 5, 17, 40])
def test_pages_give_what_one_array_gives(sizes, k):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((17, 6)).astype(np.float32)
    queries = rng.standard_normal((3, 6)).astype(np.float32)
    rows = iter([dict(name=row, vector=vector.tolist()) for row, vector in enumerate(vectors)])
    pages = ([next(rows) for _ in range(size)] for size in sizes)
    found = search_pages(pages, queries, k)
    for query, hits in zip(queries, found, strict=True):
        slow = sorted(range(17), key=lambda row: -float(vectors[row] @ query))[:k]
        assert [row['name'] for row, _ in hits] == slow
        assert [score for _, score in hits] == pytest.approx(vectors[slow] @ query, abs=1e-5)


def test_no_pages_give_nothing():
    assert search_pages([], np.eye(2, dtype=np.float32), 3) == [[], []]


@pytest.mark.parametrize(
    ('rows', 'groups'),
    # 39 vectors a group; from some thousands on 4 times as many groups as vectors in one; a segment
    # holds no more than 2 ** 17.
    [(0, 1), (38, 1), (80, 2), (5000, 128), (2**16, 512), (2**17, 1024), (10**9, 1024)],
)
def test_groups_are_right_for_a_segment(rows, groups):
    assert structure('ivf', rows) == dict(index_type='IVF_FLAT', params=dict(nlist=groups))


def test_an_unknown_kind_is_refused_by_name():
    with pytest.raises(
        ValueError, match="no approximate search 'tree', choose from .'ivf', 'hnsw'"
    ):
        structure('tree', 5)


def test_what_is_made_already_is_known_from_what_is_not():
    assert is_made(IVF, structure('ivf', 2**16))
    assert not is_made(IVF, structure('ivf', 2**17))
    assert not is_made(IVF, structure('hnsw', 2**16))
    assert is_made(HNSW, structure('hnsw', 5))


def test_a_search_looks_at_a_share_of_the_groups_and_at_more_of_a_graph_than_it_returns():
    assert effort(IVF, 10) == dict(nprobe=512 // 24)
    assert effort(dict(IVF, nlist='2'), 10) == dict(nprobe=8)
    assert effort(HNSW, 10) == dict(ef=64)
    assert effort(HNSW, 1000) == dict(ef=2000)
    assert effort(dict(index_type='AUTOINDEX'), 10) == effort(dict(index_type='FLAT'), 10) == {}
