import logging

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from torch.nn.functional import normalize

from sen_toolbox.evaluation import metrics_from_similarity, metrics_table
from sen_toolbox.registry import METRICS

KEYS = [f'{way}/{name}' for way in ('t2i', 'i2t') for name in ('R1', 'R5', 'R10', 'mAP', 'mINP')]


def make_records(num_captions, seed=0):
    """One record per entry of num_captions, two images of each identity."""
    generator = torch.Generator().manual_seed(seed)
    return [
        dict(
            image_embedding=normalize(torch.randn(8, generator=generator), dim=0),
            text_embeddings=normalize(torch.randn(number, 8, generator=generator), dim=1),
            person_id=100 + 7 * (index // 2),
        )
        for index, number in enumerate(num_captions)
    ]


def evaluate(records, size=None, batch_size=3, **options):
    evaluator = Evaluator(METRICS.build(dict(type='RetrievalMetric', **options)))
    for start in range(0, len(records), batch_size):
        evaluator.process(data_samples=records[start : start + batch_size], data_batch=None)
    return evaluator.evaluate(size or len(records))


def test_both_directions_are_measured_over_uneven_numbers_of_captions():
    records = make_records([1, 3, 2, 2, 5, 1, 1, 4])
    metrics = evaluate(records)

    images = torch.stack([record['image_embedding'] for record in records])
    texts = torch.cat([record['text_embeddings'] for record in records])
    image_ids = torch.tensor([record['person_id'] for record in records])
    text_ids = torch.tensor(
        [record['person_id'] for record in records for _ in record['text_embeddings']]
    )
    similarity = texts @ images.T
    assert similarity.shape == (19, 8)
    expected = {
        't2i': metrics_from_similarity(similarity, text_ids, image_ids),
        'i2t': metrics_from_similarity(similarity.T, image_ids, text_ids),
    }
    assert list(metrics) == KEYS
    for key, value in metrics.items():
        direction, name = key.split('/')
        assert type(value) is float
        assert value == pytest.approx(expected[direction][name])


def test_matching_captions_give_full_marks():
    records = make_records([2, 2, 2, 2])
    points = torch.eye(8)
    for record, point in zip(records, (0, 0, 1, 1), strict=True):
        record.update(image_embedding=points[point], text_embeddings=points[point].repeat(2, 1))
    assert evaluate(records) == dict.fromkeys(KEYS, 100.0)


def test_padding_of_distributed_runs_is_cut_by_the_number_of_images():
    records = make_records([1, 2, 1, 2, 1, 3])
    assert evaluate([*records, *records[:2]], size=6) == evaluate(records)


def test_the_batch_size_does_not_matter():
    records = make_records([2, 1, 2, 1, 2, 1, 3, 3])
    assert evaluate(records, batch_size=1) == evaluate(records, batch_size=8)


def test_a_prefix_keeps_several_test_sets_apart():
    metrics = evaluate(make_records([1, 1]), prefix='RSTPReid')
    assert list(metrics) == [f'RSTPReid/{key}' for key in KEYS]


def test_a_second_evaluation_starts_afresh():
    evaluator = Evaluator(METRICS.build(dict(type='RetrievalMetric')))
    found = []
    for seed in (0, 1, 0):
        evaluator.process(data_samples=make_records([1] * 12, seed), data_batch=None)
        found.append(evaluator.evaluate(12))
    assert found[0] == found[2] != found[1]


def test_features_are_kept_without_their_graph():
    metric = METRICS.build(dict(type='RetrievalMetric'))
    record = make_records([2])[0]
    record['image_embedding'].requires_grad_()
    metric.process(None, [record])
    assert not metric.results[0]['image_embedding'].requires_grad


@pytest.fixture
def logged():
    lines = []
    handler = logging.Handler()
    handler.emit = lambda entry: lines.append(entry.getMessage())
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_the_table_is_logged(logged):
    metrics = evaluate(make_records([1, 2, 3, 4]), prefix='val')
    text = '\n'.join(logged)
    assert 'val: 4 images, 10 captions' in text
    assert 'text-to-image' in text
    assert 'image-to-text' in text
    assert f'{metrics["val/i2t/mAP"]:.2f}' in text


def test_no_prefix_is_needed_so_nothing_warns_of_a_missing_one(logged):
    METRICS.build(dict(type='RetrievalMetric'))
    assert logged == []


def test_an_image_without_captions_has_no_match_and_is_named():
    records = make_records([1, 1, 0, 0])
    with pytest.raises(ValueError, match=r'query 2 \(identity 107\) has no match'):
        evaluate(records)


def test_a_record_of_another_shape_is_an_error():
    record = make_records([2])[0]
    metric = METRICS.build(dict(type='RetrievalMetric'))
    with pytest.raises(ValueError, match=r'person 100 .* got \(8,\) and \(8,\)'):
        metric.process(None, [dict(record, text_embeddings=record['text_embeddings'][0])])
    with pytest.raises(ValueError, match=r'got \(8,\) and \(2, 7\)'):
        metric.process(None, [dict(record, text_embeddings=record['text_embeddings'][:, :7])])


def test_no_records_is_an_error():
    with pytest.raises(ValueError, match='no records'):
        METRICS.build(dict(type='RetrievalMetric')).compute_metrics([])


def test_the_table_has_a_row_per_direction_and_two_decimals():
    metrics = {key: number + 0.126 for number, key in enumerate(KEYS)}
    lines = [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in metrics_table(metrics, title='best').splitlines()
        if line.startswith('|')
    ]
    assert lines == [
        ['best'],
        ['direction', 'R1', 'R5', 'R10', 'mAP', 'mINP'],
        ['text-to-image', '0.13', '1.13', '2.13', '3.13', '4.13'],
        ['image-to-text', '5.13', '6.13', '7.13', '8.13', '9.13'],
    ]


@pytest.mark.parametrize(
    'metrics, message',
    [
        ({'R1': 1.0}, "'R1' is not '<direction>/<measure>'"),
        ({'x2y/R1': 1.0}, "'x2y/R1' .* among .'i2t', 't2i'"),
        ({'t2i/R1': 1.0, 'i2t/R5': 1.0}, "'i2t' has the measures .*R5.*, not .*R1"),
        ({}, 'no metrics'),
    ],
)
def test_a_table_of_other_keys_is_an_error(metrics, message):
    with pytest.raises(ValueError, match=message):
        metrics_table(metrics)
