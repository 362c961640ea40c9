"""Re-ranking against slow versions of the papers' formulas, and its figures beside plain ones."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from toy_data import run_tool, write_toy_config, write_toy_data

from sen_toolbox.config import load_config
from sen_toolbox.evaluation import RetrievalMetric, reranking, retrieval_metrics
from sen_toolbox.evaluation.reranking import (
    expand_queries,
    k_reciprocal,
    neighbour_overlap,
    reranked_metrics,
)
from sen_toolbox.registry import MODELS
from sen_toolbox.search import PersonSearch
from sen_toolbox.search.index import Entry, FileState, ModelId

pytestmark = pytest.mark.numeric


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def slow_neighbours(scores, item, k):
    order = sorted(range(len(scores)), key=lambda other: (other != item, -scores[item, other]))
    return order[: k + 1]


def slow_reciprocal(scores, item, k):
    near = slow_neighbours(scores, item, k)
    return {other for other in near if item in slow_neighbours(scores, other, k)}


def slow_k_reciprocal(queries, gallery, k1, k2, share):
    """The distance of equations 3 to 12 of Zhong et al., item by item, with sets."""
    pool = np.concatenate([queries, gallery]).astype(np.float64)
    scores = pool @ pool.T
    distances = np.maximum(2 - 2 * scores, 0)
    distances /= distances.max(axis=1, keepdims=True)
    encodings = np.zeros_like(scores)
    for item in range(len(pool)):
        near = slow_reciprocal(scores, item, k1)
        larger = set(near)
        for other in near:
            theirs = slow_reciprocal(scores, other, round(k1 / 2))
            if len(theirs & near) > 2 / 3 * len(theirs):
                larger |= theirs
        for other in larger:
            encodings[item, other] = np.exp(-distances[item, other])
        encodings[item] /= encodings[item].sum()
    means = [encodings[slow_neighbours(scores, item, k2 - 1)].mean(0) for item in range(len(pool))]
    result = np.zeros((len(queries), len(gallery)))
    for query in range(len(queries)):
        for item in range(len(gallery)):
            one, other = means[query], means[len(queries) + item]
            jaccard = 1 - np.minimum(one, other).sum() / np.maximum(one, other).sum()
            plain = distances[query, len(queries) + item]
            result[query, item] = -((1 - share) * jaccard + share * plain)
    return result


@pytest.mark.parametrize('chunk', [2**24, 64])
@pytest.mark.parametrize(
    ('queries', 'gallery', 'k1', 'k2', 'share'),
    [
        (7, 23, 5, 3, 0.3),
        (23, 7, 6, 1, 0.0),
        (1, 12, 3, 2, 1.0),
        (5, 4, 20, 6, 0.3),
        (1, 1, 1, 1, 0.5),
    ],
)
def test_k_reciprocal_is_the_papers(queries, gallery, k1, k2, share, chunk, monkeypatch):
    monkeypatch.setattr(reranking, '_VALUES_PER_CHUNK', chunk)
    texts, images = unit(queries, 6), unit(gallery, 6, seed=1)
    found = k_reciprocal(texts, images, k1=k1, k2=k2, share=share)
    expected = slow_k_reciprocal(texts.numpy(), images.numpy(), k1, k2, share)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-6)


@pytest.mark.parametrize('chunk', [2**24, 20])
@pytest.mark.parametrize(('k', 'alpha'), [(1, 3.0), (4, 0.0), (50, 2.5)])
def test_query_expansion_adds_the_best_items_by_their_scores(k, alpha, chunk, monkeypatch):
    monkeypatch.setattr(reranking, '_VALUES_PER_CHUNK', chunk)
    queries, gallery = unit(6, 5), unit(9, 5, seed=1)
    expanded = expand_queries(queries, gallery, k=k, alpha=alpha)
    for query, row in zip(queries.numpy(), expanded.numpy(), strict=True):
        total = query.copy()
        for item in sorted(gallery.numpy(), key=lambda other: -(other @ query))[:k]:
            if item @ query > 0:
                total += (item @ query) ** alpha * item
        np.testing.assert_allclose(row, total / np.linalg.norm(total), atol=1e-6)


# One sentence, and images of which the second is like the first but not like the sentence.
TEXT = F.normalize(torch.tensor([[1.0, 0.2, 0.0, 0.0]]), dim=1)
SPECIAL = [[1.0, 0.5, 0.0, 0.0], [0.9, 0.9, 0.1, 0.0], [0.9, 0.0, 0.0, 0.45]]
OTHERS = unit(60, 4, seed=3) - torch.tensor([1.5, 0.0, 0.0, 0.0])
IMAGES = F.normalize(torch.cat([torch.tensor(SPECIAL), OTHERS]), dim=1)


def test_an_image_like_the_best_one_is_moved_up():
    pids = torch.tensor([5, 5, 6, *range(10, 70)])
    plain = retrieval_metrics(TEXT, IMAGES, torch.tensor([5]), pids)
    for method in reranking.RERANKERS:
        found = reranked_metrics(method, TEXT, IMAGES, torch.tensor([5]), pids)
        assert found['R1'] == plain['R1'] == 100
        assert found['mINP'] > plain['mINP']


def test_collapsed_features_are_not_rescued():
    same = unit(1, 8).expand(60, 8)
    pids = torch.arange(60)
    for method in reranking.RERANKERS:
        assert reranked_metrics(method, same, same, pids, pids)['R1'] < 5


@pytest.mark.parametrize('k', [1, 3, 9, 50])
def test_the_overlap_of_neighbours_is_that_of_sets(k):
    texts, images = unit(5, 6), unit(9, 6, seed=1)
    similarity, among = texts @ images.T, images @ images.T
    found = neighbour_overlap(similarity, among, k=k)
    best = [set(row.argsort(descending=True)[:k].tolist()) for row in similarity]
    near = [set(row.argsort(descending=True)[:k].tolist()) for row in among]
    expected = [[len(a & b) / len(a | b) for b in near] for a in best]
    torch.testing.assert_close(found, torch.tensor(expected))
    with pytest.raises(ValueError, match='k must be at least 1, got 0'):
        neighbour_overlap(similarity, among, k=0)


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        (dict(k1=0), 'k1 must be at least 1, got 0'),
        (dict(k2=0), 'k2 must be at least 1, got 0'),
        (dict(share=-0.1), r'share must be in 0\.\.1, got -0\.1'),
        (dict(share=1.1), r'share must be in 0\.\.1, got 1\.1'),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        k_reciprocal(unit(2, 4), unit(3, 4), **values)


def test_an_expansion_by_nothing_is_refused():
    with pytest.raises(ValueError, match='k must be at least 1, got 0'):
        expand_queries(unit(2, 4), unit(3, 4), k=0)


def test_the_metric_tells_its_figures_apart_from_the_plain_ones():
    images, text = unit(6, 8), unit(12, 8, seed=1)
    records = [
        dict(image_embedding=image, text_embeddings=pair, person_id=number % 3)
        for number, (image, pair) in enumerate(zip(images, text.split(2), strict=True))
    ]
    plain, more = RetrievalMetric(), RetrievalMetric(rerank=list(reranking.RERANKERS))
    for metric in (plain, more):
        metric.process(None, records)
    expected, found = plain.evaluate(6), more.evaluate(6)
    assert {key: found[key] for key in expected} == expected
    image_ids = torch.arange(6) % 3
    text_ids = image_ids.repeat_interleave(2)
    for method in reranking.RERANKERS:
        t2i = reranked_metrics(method, text, images, text_ids, image_ids)
        i2t = reranked_metrics(method, images, text, image_ids, text_ids)
        for way, values in (('t2i', t2i), ('i2t', i2t)):
            for name, value in values.items():
                assert found[f'{method}/{way}/{name}'] == pytest.approx(value)
    assert len(found) == (1 + len(reranking.RERANKERS)) * len(expected)
    with pytest.raises(KeyError, match="there is no re-ranking 'magic', choose from"):
        RetrievalMetric(rerank=['magic'])


@pytest.mark.slow
def test_the_tool_reports_reranking_apart(tmp_path, capsys):
    config = write_toy_config(tmp_path / 'toy.py', write_toy_data(tmp_path / 'data'))
    torch.manual_seed(0)
    model = MODELS.build(load_config(config).model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'toy.pth')
    arguments = [config, tmp_path / 'toy.pth', '--work-dir']
    run_tool('test', *arguments, tmp_path / 'plain')
    run_tool('test', *arguments, tmp_path / 'more', '--rerank', 'k_reciprocal', 'query_expansion')
    plain, more = (
        json.loads((tmp_path / name / 'results.json').read_text())['evaluations'][0]
        for name in ('plain', 'more')
    )
    assert more['metrics'] == plain['metrics']
    assert 'reranked' not in plain
    assert list(more['reranked']) == ['k_reciprocal', 'query_expansion']
    for values in more['reranked'].values():
        assert set(values) == set(plain['metrics'])
    assert 'after k_reciprocal re-ranking, not comparable' in capsys.readouterr().out


def test_a_search_orders_its_best_by_reranking(tmp_path):
    class Words:
        model_id = ModelId('words', 'words', 4)

        def embed_text(self, sentences):
            return TEXT.numpy()

    search = PersonSearch(Words(), index=tmp_path / 'index')
    paths = [f'/gallery/{number:02d}.png' for number in range(len(IMAGES))]
    with search.gallery.writing():
        files = {path: FileState(1, 1, path) for path in paths}
        search.gallery.write(files, [Entry(path) for path in paths], IMAGES.numpy())
    plain = {r.path: r.score for r in search.search('a man', k=50)}
    for method, rank in reranking.RERANKERS.items():
        order = rank(TEXT, IMAGES)[0].argsort(descending=True, stable=True).tolist()
        found = search.search('a man', k=7, rerank=method)
        assert [r.path for r in found] == [paths[i] for i in order[:7]]
        assert [r.rank for r in found] == list(range(1, 8))
        assert [r.score for r in found] == [plain[r.path] for r in found]
        assert search.search('a man', within='/nowhere', rerank=method) == []
    with pytest.raises(ValueError, match="there is no re-ranking 'magic', choose from"):
        search.search('a man', rerank='magic')
