"""What queries fail on, and what a config costs: counted right and drawn."""

import importlib.util
import json

import pytest
import torch
from mmengine.config import Config
from PIL import Image
from toy_data import ROOT, run_tool, write_toy_config, write_toy_data

from sen_toolbox.config import load_config
from sen_toolbox.evaluation import retrieval_metrics
from sen_toolbox.evaluation.analysis import (
    failure_report,
    first_right_ranks,
    wilson_interval,
    words_of_caption,
)
from sen_toolbox.registry import MODELS
from sen_toolbox.visualization.share_chart import draw_shares

pytestmark = pytest.mark.numeric


def slow_ranks(queries, gallery, query_ids, gallery_ids):
    ranks = []
    for query, number in zip(queries, query_ids.tolist(), strict=True):
        scores = (gallery @ query).tolist()
        best = max(s for s, p in zip(scores, gallery_ids.tolist(), strict=True) if p == number)
        pairs = zip(scores, gallery_ids.tolist(), strict=True)
        ranks.append(1 + sum(s >= best - 1e-6 and p != number for s, p in pairs))
    return ranks


@pytest.mark.parametrize('chunk', [2**21, 40, 1])
def test_ranks_are_those_of_a_loop_over_queries_in_chunks_of_any_size(chunk, monkeypatch):
    monkeypatch.setattr('sen_toolbox.evaluation.analysis._SCORES_PER_CHUNK', chunk)
    torch.manual_seed(0)
    # Few different values, so that there are ties.
    queries, gallery = torch.randint(-1, 2, (17, 3)).float(), torch.randint(-1, 2, (13, 3)).float()
    gallery_ids = torch.tensor([0, 0, 1, 1, 1, 2, 3, 3, 4, 4, 4, 4, 5])
    query_ids = torch.arange(17) % 6
    found = first_right_ranks(queries, gallery, query_ids, gallery_ids)
    assert found.tolist() == slow_ranks(queries, gallery, query_ids, gallery_ids)
    metrics = retrieval_metrics(queries, gallery, query_ids, gallery_ids, topk=(1, 5))
    assert 100 * float((found == 1).double().mean()) == pytest.approx(metrics['R1'])
    assert 100 * float((found <= 5).double().mean()) == pytest.approx(metrics['R5'])


def test_a_query_without_a_match_is_named():
    with pytest.raises(ValueError, match='identity 7 has a query, but no match'):
        first_right_ranks(torch.eye(2), torch.eye(2), torch.tensor([1, 7]), torch.tensor([1, 2]))


# R: prop.test(hits, count, correct=FALSE)$conf.int
@pytest.mark.parametrize(
    ('hits', 'count', 'expected'),
    [(8, 10, (0.4901625, 0.9433178)), (0, 10, (0.0, 0.2775328)), (1, 1, (0.2065493, 1.0))],
)
def test_intervals_are_wilsons(hits, count, expected):
    assert wilson_interval(hits, count) == pytest.approx(expected, abs=1e-6)


def test_words_keep_their_hyphens_and_lose_case_and_punctuation():
    assert words_of_caption('A T-shirt; BLUE, (knee-length)!') == [
        'a',
        't-shirt',
        'blue',
        'knee-length',
    ]


def report(min_count=1):
    captions = ['a red coat'] * 3 + ['a blue coat, red hat'] * 2 + ['Green green'] * 1
    return failure_report(captions, [1, 2, 1, 1, 5, 1], min_count=min_count)


def by_name(entries):
    return {entry['name']: (entry['count'], round(entry['R1'], 2)) for entry in entries}


def test_each_word_counts_the_captions_that_have_it_once():
    found = report()
    assert (found['overall']['count'], round(found['overall']['R1'], 2)) == (6, 66.67)
    assert by_name(found['words']) == {
        'a': (5, 60.0),
        'red': (5, 60.0),
        'coat': (5, 60.0),
        'blue': (2, 50.0),
        'hat': (2, 50.0),
        'green': (1, 100.0),
    }
    assert by_name(found['attributes']['colour']) == {
        'red': (5, 60.0),
        'blue': (2, 50.0),
        'green': (1, 100.0),
    }
    assert by_name(found['groups'])['colour'] == (6, 66.67)
    assert by_name(found['groups'])['hat'] == (2, 50.0)
    assert by_name(found['colours']) == {'1': (3, 66.67), '2': (3, 66.67)}
    assert by_name(found['lengths']) == {'up to 10': (6, 66.67)}


def test_what_few_captions_have_in_common_is_left_out_and_the_surest_failure_comes_first():
    found = report(min_count=2)
    assert 'green' not in by_name(found['words'])
    highs = [entry['high'] for entry in found['words']]
    assert highs == sorted(highs)
    with pytest.raises(ValueError, match='min_count be at least 1, got 6, 0'):
        report(min_count=0)


@pytest.mark.parametrize(
    ('words', 'group'), [(10, 'up to 10'), (11, '11-15'), (40, '31-40'), (41, 'over 40')]
)
def test_lengths_are_grouped_without_gap(words, group):
    found = failure_report(['word ' * words], [1], min_count=1)
    assert [entry['name'] for entry in found['lengths']] == [group]


def test_a_chart_has_a_panel_for_each_group_that_has_entries():
    found = report()
    one = draw_shares({'a': found['words'], 'empty': []}, overall=50, title='t')
    two = draw_shares({'a': found['words'], 'b': found['groups']}, overall=50, title='t')
    assert two.width > 1.9 * one.width
    with pytest.raises(ValueError, match='no entries'):
        draw_shares({'a': []}, overall=50, title='t')


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp('analysis')
    write_toy_data(folder / 'data')
    return write_toy_config(folder / 'toy.py', folder / 'data')


@pytest.mark.slow
def test_the_tool_writes_figures_and_a_picture(toy):
    torch.manual_seed(0)
    model = MODELS.build(load_config(toy).model)
    torch.save(dict(state_dict=model.state_dict()), toy.parent / 'toy.pth')
    out = toy.parent / 'analysis'
    run_tool('analyze_results', toy, toy.parent / 'toy.pth', '--out', out, '--min-count', 2)
    found = json.loads((out / 'analysis.json').read_text())
    # 7 images of the test split with 2 captions each.
    assert found['overall']['count'] == 14
    assert by_name(found['words'])['shirt'][0] == 7
    assert Image.open(out / 'analysis.png').width > 400


class Answer(list):
    put = list.append


@pytest.mark.slow
def test_the_benchmark_counts_parameters_and_operations_and_runs_a_step(toy):
    spec = importlib.util.spec_from_file_location('benchmark', ROOT / 'tools/benchmark.py')
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    answer = Answer()
    args = Config(dict(batch_size=8, repeats=1, no_training=False, cfg_options={}))
    benchmark.measure(str(toy), args, answer)
    [found] = answer
    assert set(found) == set(benchmark.COLUMNS)
    model = MODELS.build(load_config(toy, {'num_classes': 4}).model)
    assert found['parameters_m'] == sum(p.numel() for p in model.parameters()) / 1e6
    # One block of width 64 on 4 x 2 patches of 16 x 16 and a class token, of which the last block
    # computes keys and values for all, and the rest for the class token alone.
    width, tokens = 64, 9
    macs = 8 * width * 3 * 16 * 16
    macs += tokens * 2 * width**2 + width**2 + 2 * tokens * width + width**2 + 8 * width**2
    macs += width * 64
    assert found['image_gflops'] == pytest.approx(2 * macs / 1e9)
    assert found['step_gflops'] > 3 * (found['image_gflops'] + found['text_gflops'])
    assert min(found.values()) > 0
