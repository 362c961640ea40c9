"""A score that is not an inner product, on the best images of each caption, against a slow sort."""

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from test_head_methods import Head, build
from tiny import as_tokens

from sen_toolbox.evaluation.candidates import candidate_metrics
from sen_toolbox.registry import METRICS

pytestmark = pytest.mark.numeric

NUM_CAPTIONS = [1, 2, 0, 3, 1, 2, 2, 1, 1, 3, 1, 1]
PERSON_IDS = torch.tensor([30, 10, 20, 10, 40, 20, 30, 50, 20, 40, 60, 10])


class BestPatchHead(Head):
    """Scores three words of a caption by the patch that each of them is nearest to."""

    reads = frozenset({'image.tokens', 'text.tokens'})

    def candidate_image(self, pair):
        return pair.image.tokens[:, 1:]

    def candidate_text(self, pair):
        return pair.text.tokens[:, 1:4]

    def score(self, texts, images):
        return torch.einsum('twd,tknd->tkwn', texts, images).amax(dim=3).mean(dim=2)


@pytest.fixture(scope='module')
@torch.no_grad()
def records():
    """Of twelve images in three batches."""
    model = build(best=dict(type=BestPatchHead))
    torch.manual_seed(2)
    ids = torch.randint(1, 400, (sum(NUM_CAPTIONS), 9))
    ids[:, 0], ids[:, -1] = 49406, 49407
    image_of = torch.arange(12).repeat_interleave(torch.tensor(NUM_CAPTIONS))
    images, found = torch.randn(12, 3, 64, 32), []
    for rows in torch.arange(12).split(5):
        captions = (image_of[:, None] == rows).any(dim=1)
        found += model(
            mode='predict',
            images=images[rows],
            tokens=as_tokens(ids[captions]),
            image_of=image_of[captions] - rows[0],
            person_ids=PERSON_IDS[rows],
        )
    return found


def evaluate(records, **options) -> dict[str, float]:
    evaluator = Evaluator(METRICS.build(dict(type='RetrievalMetric', **options)))
    for start in range(0, len(records), 5):
        evaluator.process(data_samples=records[start : start + 5], data_batch=None)
    return evaluator.evaluate(len(records))


def slow_score(text, image) -> float:
    return sum(max(float(word @ patch) for patch in image) for word in text) / len(text)


def slow_metrics(records, candidates) -> dict[str, float]:
    """Sorts the images of one caption after another, the best of them anew."""
    found = dict.fromkeys(('R1', 'R5', 'R10', 'mAP', 'mINP'), 0.0)
    for record in records:
        for embedding, words in zip(
            record['text_embeddings'], record['candidate_text'], strict=True
        ):
            order = sorted(records, key=lambda other: -float(embedding @ other['image_embedding']))
            best = order[:candidates]
            best.sort(key=lambda other: -slow_score(words, other['candidate_image']))
            order[:candidates] = best
            places = [
                place
                for place, other in enumerate(order, start=1)
                if other['person_id'] == record['person_id']
            ]
            for k in (1, 5, 10):
                found[f'R{k}'] += places[0] <= k
            precisions = [right / place for right, place in enumerate(places, start=1)]
            found['mAP'] += sum(precisions) / len(places)
            found['mINP'] += len(places) / places[-1]
    return {name: 100 * value / sum(NUM_CAPTIONS) for name, value in found.items()}


@pytest.mark.parametrize('candidates', [1, 3, 11, 12, 500, None])
def test_the_best_images_are_put_into_the_order_of_the_score(records, candidates):
    metrics = evaluate(records, candidates=candidates)
    expected = slow_metrics(records, candidates or 12)
    for name, value in expected.items():
        assert metrics[f'scored/t2i/{name}'] == pytest.approx(value), name
    # The order of one candidate is that of the embeddings, of which the other figures speak.
    plain = slow_metrics(records, 1)
    assert {name: metrics[f't2i/{name}'] for name in plain} == pytest.approx(plain)
    assert (expected == pytest.approx(plain)) == (candidates == 1)
    assert {key.rpartition('/')[0] for key in metrics} == {'t2i', 'i2t', 'scored/t2i'}


@pytest.mark.parametrize('candidates', [6, None])
def test_neighbours_of_the_gallery_are_added_to_the_score(records, candidates):
    metrics = evaluate(records, candidates=candidates, rerank=['visual_neighbours'])
    images = torch.stack([record['image_embedding'] for record in records])
    near = [set(row.argsort(descending=True)[:5].tolist()) for row in images @ images.T]
    first = 0
    for record in records:
        for embedding, words in zip(
            record['text_embeddings'], record['candidate_text'], strict=True
        ):
            plain = (images @ embedding).tolist()
            order = sorted(range(12), key=lambda n: -plain[n])
            head, tail = order[: candidates or 12], order[candidates or 12 :]
            scores = {n: slow_score(words, records[n]['candidate_image']) for n in head}
            # The others below them, in steps that keep their order.
            highest = plain[tail[0]] if tail else 0.0
            scores |= {n: plain[n] - highest + min(scores.values()) - 1 for n in tail}
            best = set(sorted(scores, key=scores.get)[-5:])
            scores = {n: s + len(best & near[n]) / len(best | near[n]) for n, s in scores.items()}
            first += records[max(scores, key=scores.get)]['person_id'] == record['person_id']
    expected = 100 * first / sum(NUM_CAPTIONS)
    assert metrics['visual_neighbours/scored/t2i/R1'] == pytest.approx(expected)


def test_the_table_says_how_many_images_are_scored_anew(records, monkeypatch):
    said = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'info', said.append)
    evaluate(records, candidates=3)
    assert any(
        'best 3 images of each caption scored anew: 12 images, 18 captions' in t for t in said
    )


def test_records_hold_what_is_scored_of_each_image_and_caption(records):
    for record, count in zip(records, NUM_CAPTIONS, strict=True):
        assert record['candidate_image'].shape == (8, 64)
        assert record['candidate_text'].shape == (count, 3, 64)


def test_scoring_in_several_parts_changes_nothing(records, monkeypatch):
    expected = evaluate(records, candidates=7)
    monkeypatch.setattr('sen_toolbox.evaluation.candidates.NUMBERS_AT_ONCE', 2 * 7 * 8 * 64)
    assert evaluate(records, candidates=7) == pytest.approx(expected)


def test_two_heads_that_score_candidates_are_refused():
    with pytest.raises(ValueError, match=r"one head may score candidates, got \['first', 'last'\]"):
        build(first=dict(type=BestPatchHead), last=dict(type=BestPatchHead))


def test_a_score_that_is_not_finite_is_refused():
    points, ids = torch.eye(3), torch.arange(3)
    with pytest.raises(ValueError, match='score of a candidate is NaN or infinite'):
        candidate_metrics(
            lambda texts, images: images[..., 0] / 0,
            texts=points,
            images=points,
            candidate_texts=points,
            candidate_images=points,
            text_ids=ids,
            image_ids=ids,
            count=2,
        )


def test_no_candidate_at_all_is_refused():
    with pytest.raises(ValueError, match='candidates is a number of images from 1 up, got 0'):
        METRICS.build(dict(type='RetrievalMetric', candidates=0))


def test_among_ties_the_candidates_are_of_other_persons():
    same = torch.ones(20, 1)
    found = candidate_metrics(
        lambda texts, images: torch.zeros(images.shape[:2]),
        texts=same,
        images=same,
        candidate_texts=same,
        candidate_images=same,
        text_ids=torch.arange(20),
        image_ids=torch.arange(20),
        count=5,
    )
    # The right one is the last of twenty.
    assert [found[f't2i/{name}'] for name in ('R1', 'R5', 'R10', 'mAP')] == pytest.approx(
        [0, 0, 0, 5]
    )
