from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from sen_toolbox.evaluation import ranking
from sen_toolbox.evaluation.ranking import metrics_from_similarity, retrieval_metrics

pytestmark = pytest.mark.numeric

NAMES = ('R1', 'R5', 'R10', 'mAP', 'mINP')
GOLDEN = np.load(Path(__file__).parent / 'data' / 'metrics.npz')
GOLDEN_CASES = [name for name in GOLDEN.files if name.endswith(('/t2i', '/i2t'))]


def slow_metrics(similarity, query_ids, gallery_ids, topk=(1, 5, 10)):
    """Sort every query's gallery, wrong items before right ones of the same score, and walk it."""
    gallery_ids = gallery_ids.tolist()
    sums = [0.0] * (len(topk) + 2)
    for row, pid in zip(similarity.tolist(), query_ids.tolist(), strict=True):
        scored = zip(row, gallery_ids, strict=True)
        items = sorted((-score, other == pid) for score, other in scored)
        hits = [rank for rank, (_, right) in enumerate(items, start=1) if right]
        precisions = [number / rank for number, rank in enumerate(hits, start=1)]
        values = [float(hits[0] <= k) for k in topk]
        values += [sum(precisions) / len(hits), len(hits) / hits[-1]]
        sums = [total + value for total, value in zip(sums, values, strict=True)]
    names = [*(f'R{k}' for k in topk), 'mAP', 'mINP']
    return {n: 100 * total / len(similarity) for n, total in zip(names, sums, strict=True)}


def draw_pids(num_queries, num_gallery, num_identities, generator):
    """Pids with gaps and a negative one, unevenly frequent, every query matched."""
    names = torch.arange(num_identities) * 37 - 5
    weights = torch.arange(1.0, num_identities + 1)
    spare = max(0, num_gallery - num_identities)
    drawn = torch.multinomial(weights, spare + 1, replacement=True, generator=generator)[:spare]
    gallery = torch.cat([torch.arange(num_identities), drawn])
    gallery = gallery[torch.randperm(len(gallery), generator=generator)]
    queries = torch.multinomial(weights, num_queries, replacement=True, generator=generator)
    return names[queries], names[gallery]


@pytest.mark.parametrize('case', GOLDEN_CASES)
def test_metrics_equal_those_of_the_sen_release(case):
    # Numbers of rank() in utils/metrics.py of the SEN release (float32), on the stored similarity.
    name, direction = case.split('/')
    similarity, queries, gallery = (
        torch.from_numpy(GOLDEN[f'{name}/{key}']) for key in ('similarity', 'q_pids', 'g_pids')
    )
    if direction == 'i2t':
        similarity, queries, gallery = similarity.T, gallery, queries
    found = metrics_from_similarity(similarity, queries, gallery)
    assert list(found) == list(NAMES)
    assert list(found.values()) == pytest.approx(GOLDEN[case].tolist(), abs=1e-4)


def test_the_golden_file_holds_five_cases_in_both_directions():
    assert len(GOLDEN_CASES) == 10


@pytest.mark.parametrize('levels', [None, 1, 3, 40])
@pytest.mark.parametrize(
    'num_queries, num_gallery, num_identities',
    [(1, 1, 1), (1, 23, 4), (40, 17, 5), (13, 101, 30), (9, 12, 12), (7, 11, 1), (30, 4, 4)],
)
def test_counting_equals_sorting_with_and_without_ties(
    num_queries, num_gallery, num_identities, levels
):
    generator = torch.Generator().manual_seed(num_queries * 1000 + num_gallery)
    query_ids, gallery_ids = draw_pids(num_queries, num_gallery, num_identities, generator)
    similarity = torch.rand(num_queries, num_gallery, generator=generator) * 2 - 1
    if levels is not None:
        similarity = (similarity * levels).round() / levels
    expected = slow_metrics(similarity, query_ids, gallery_ids)
    for chunk_size in (None, 1, 4):
        found = metrics_from_similarity(similarity, query_ids, gallery_ids, chunk_size=chunk_size)
        assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize('chunk_size', [None, 1, 7, 1000])
def test_metrics_of_features_equal_sorting_their_products(chunk_size):
    generator = torch.Generator().manual_seed(3)
    query_ids, gallery_ids = draw_pids(33, 58, 9, generator)
    # Small integers, whose products are exact and often tied.
    queries = torch.randint(-2, 3, (33, 5), generator=generator)
    gallery = torch.randint(-2, 3, (58, 5), generator=generator)
    expected = slow_metrics(queries @ gallery.T, query_ids, gallery_ids)
    found = retrieval_metrics(queries, gallery, query_ids, gallery_ids, chunk_size=chunk_size)
    assert found == pytest.approx(expected, abs=1e-9)


def test_memory_is_bounded_by_scoring_few_queries_at_a_time(monkeypatch):
    widths = []
    original = ranking._ranks_of_positives

    def spy(scores, *args):
        widths.append(scores.numel())
        return original(scores, *args)

    monkeypatch.setattr(ranking, '_ranks_of_positives', spy)
    monkeypatch.setattr(ranking, '_SCORES_PER_CHUNK', 100)
    pids = torch.arange(30) % 5
    features = torch.rand(30, 4, generator=torch.Generator().manual_seed(0))
    retrieval_metrics(features, features, pids, pids)
    assert widths == [90] * 10
    widths.clear()
    # A gallery larger than a chunk still takes one query at a time.
    monkeypatch.setattr(ranking, '_SCORES_PER_CHUNK', 10)
    retrieval_metrics(features, features, pids, pids)
    assert widths == [30] * 30


def test_a_tie_counts_against_the_method():
    # Right item tied with two wrong ones: it is third.
    similarity = torch.tensor([[0.5, 0.5, 0.5, 0.1]])
    found = metrics_from_similarity(
        similarity, torch.tensor([1]), torch.tensor([1, 2, 3, 4]), topk=(1, 2, 3)
    )
    third = 100 / 3
    assert found == pytest.approx({'R1': 0, 'R2': 0, 'R3': 100, 'mAP': third, 'mINP': third})


def test_tied_right_items_do_not_count_against_each_other():
    similarity = torch.tensor([[0.5, 0.5, 0.5, 0.1]])
    found = metrics_from_similarity(similarity, torch.tensor([1]), torch.tensor([1, 1, 1, 2]))
    assert found == dict.fromkeys(NAMES, 100.0)


def test_positive_and_negative_zero_are_a_tie():
    found = metrics_from_similarity(
        torch.tensor([[0.0, -0.0]]), torch.tensor([1]), torch.tensor([1, 2])
    )
    assert found['R1'] == 0


@pytest.mark.parametrize('num_dims', [1, 64, 512, 2048])
@pytest.mark.parametrize('num_queries, num_gallery', [(1, 63), (2, 17), (100, 301)])
def test_constant_features_give_the_worst_ranks(num_queries, num_gallery, num_dims):
    constant = normalize(torch.rand(num_dims, generator=torch.Generator().manual_seed(1)), dim=0)
    gallery_ids = torch.arange(num_gallery) // 2
    query_ids = gallery_ids[:num_queries]
    found = retrieval_metrics(
        constant.repeat(num_queries, 1),
        constant.repeat(num_gallery, 1),
        query_ids,
        gallery_ids,
    )
    worst = slow_metrics(torch.zeros(num_queries, num_gallery), query_ids, gallery_ids)
    assert worst['R10'] == 0
    assert found == pytest.approx(worst)


def test_scores_within_rounding_error_are_a_tie_and_others_are_not():
    query, pids = torch.tensor([[1.0]]), torch.tensor([1, 2])
    nearly = torch.tensor([[1.0], [1 - 2**-24]])
    clearly = torch.tensor([[1.0], [1 - 1e-5]])
    assert retrieval_metrics(query, nearly, pids[:1], pids)['R1'] == 0
    assert retrieval_metrics(query, clearly, pids[:1], pids)['R1'] == 100


def test_the_order_of_a_tied_gallery_does_not_matter():
    generator = torch.Generator().manual_seed(5)
    query_ids, gallery_ids = draw_pids(20, 50, 6, generator)
    similarity = torch.randint(0, 4, (20, 50), generator=generator)
    order = torch.randperm(50, generator=generator)
    found = metrics_from_similarity(similarity, query_ids, gallery_ids)
    shuffled = metrics_from_similarity(similarity[:, order], query_ids, gallery_ids[order])
    assert found == pytest.approx(shuffled)


def test_a_gallery_of_one_identity_is_always_right():
    features = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))
    found = retrieval_metrics(features[:2], features, torch.tensor([9, 9]), torch.full((6,), 9))
    assert found == dict.fromkeys(NAMES, 100.0)


def test_k_may_exceed_the_gallery():
    similarity = torch.tensor([[0.1, 0.9]])
    found = metrics_from_similarity(
        similarity, torch.tensor([1]), torch.tensor([1, 2]), topk=(2, 500)
    )
    assert found == {'R2': 100.0, 'R500': 100.0, 'mAP': 50.0, 'mINP': 50.0}


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_ranked_too(dtype):
    generator = torch.Generator().manual_seed(2)
    query_ids, gallery_ids = draw_pids(10, 20, 4, generator)
    similarity = torch.rand(10, 20, generator=generator).to(dtype)
    found = metrics_from_similarity(similarity, query_ids, gallery_ids)
    assert found == pytest.approx(slow_metrics(similarity, query_ids, gallery_ids))


def test_pids_may_be_of_different_integer_types():
    pids = torch.tensor([4, 9])
    found = retrieval_metrics(torch.eye(2), torch.eye(2), pids.int(), pids)
    assert found == dict.fromkeys(NAMES, 100.0)


def test_the_similarity_is_left_as_it_was():
    similarity = torch.tensor([[0.3, 0.9], [0.2, 0.1]])
    before = similarity.clone()
    metrics_from_similarity(similarity, torch.tensor([1, 2]), torch.tensor([1, 2]))
    assert torch.equal(similarity, before)


def test_a_query_without_a_match_is_named():
    with pytest.raises(ValueError, match=r'query 1 \(identity 42\) has no match .* 2 of 4 queries'):
        retrieval_metrics(
            torch.eye(4), torch.eye(4), torch.tensor([3, 42, 4, 43]), torch.tensor([3, 4, 3, 4])
        )


@pytest.mark.parametrize('name', ['queries', 'gallery'])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_feature_that_is_not_finite_is_an_error(name, value):
    features = {'queries': torch.eye(4), 'gallery': torch.eye(4)}
    features[name][2, 1] = value
    with pytest.raises(ValueError, match=f'{name}: row 2 holds NaN or infinity'):
        retrieval_metrics(**features, query_ids=torch.arange(4), gallery_ids=torch.arange(4))


def test_a_score_that_is_not_finite_is_an_error_in_any_chunk():
    similarity = torch.eye(4)
    similarity[3, 0] = float('nan')
    with pytest.raises(ValueError, match='row 3 .* NaN'):
        metrics_from_similarity(similarity, torch.arange(4), torch.arange(4), chunk_size=2)


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(queries=torch.eye(5)), 'with one D, got .*5, 5.* and .*4, 4'),
        (dict(query_ids=torch.arange(3)), 'query_ids .* 4 .* got 3'),
        (dict(gallery_ids=torch.arange(6)), 'gallery_ids .* 4 .* got 6'),
        (dict(queries=torch.zeros(0, 4), query_ids=torch.arange(0)), 'query_ids must be'),
        (dict(gallery=torch.zeros(0, 4), gallery_ids=torch.arange(0)), 'gallery_ids must be'),
        (dict(topk=(0, 5)), r'topk .* got \(0, 5\)'),
        (dict(topk=()), r'topk .* got \(\)'),
        (dict(chunk_size=0), 'chunk_size .* got 0'),
    ],
)
def test_wrong_arguments_are_named(change, message):
    arguments = dict(
        queries=torch.eye(4),
        gallery=torch.eye(4),
        query_ids=torch.arange(4),
        gallery_ids=torch.arange(4),
    )
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(**{**arguments, **change})


def test_a_similarity_of_another_shape_than_the_pids_is_an_error():
    with pytest.raises(ValueError, match=r'\(3, 4\) .* got \(4, 3\)'):
        metrics_from_similarity(torch.zeros(4, 3), torch.arange(3), torch.arange(4))
