"""CTLG computes what the official code computes.

data/*: github.com/HCPLab-SYSU/PersonSearch-CTLG, commit 5c2b97de9827, in float32 on a CPU with
small encoders, without dropout; its data set with pictures and words that stand in for real ones.
"""

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from parity import (
    LOSS,
    after_backward,
    check_array,
    check_full_gradients,
    check_norms,
    check_way_back,
    load_arrays,
    one_rate,
    rates_by_epoch,
    relative_error,
    under,
)
from tiny import build_optimizer

from sen_toolbox.checkpoint.layouts import load_layout
from sen_toolbox.config import load_config
from sen_toolbox.evaluation.ranking import retrieval_metrics
from sen_toolbox.registry import LOSSES, MODELS, TRANSFORMS
from sen_toolbox.text.tokens import Tokens

pytestmark = pytest.mark.numeric

HERE = Path(__file__).parent
CONFIG = HERE / 'configs/ctlg_vitb_cuhk.py'
LAYOUT = load_layout(HERE / 'official.py')
BATCH, EXPECTED, OPTIM = (
    load_arrays(HERE / 'data' / f'{name}.npz') for name in ('batch', 'expected', 'optim')
)
MIXUP = json.loads((HERE / 'data' / 'mixup.json').read_text())
BERT = dict(
    vocab_size=200, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
    intermediate_size=256, max_position_embeddings=23)  # fmt: skip
SIZES = {
    'image_size': (64, 40),
    'context_length': 20,
    'model.backbone.image.name': dict(patch_size=16, embed_dim=64, depth=2, num_heads=4),
    'model.backbone.image.pretrained': None,
    'model.backbone.text.config': BERT,
    'model.backbone.text.pretrained': None,
    'model.backbone.text.dropout': 0.0,
}


def official_state():
    state = load_arrays(HERE / 'data' / 'state.npz')
    return {key: torch.from_numpy(value) for key, value in state.items()}


def official_model():
    model = MODELS.build(load_config(CONFIG, SIZES).model)
    model.load_state_dict(LAYOUT.from_official(official_state()))
    return model


def batch():
    given = {key: torch.from_numpy(value) for key, value in BATCH.items()}
    mask = given['attention_mask'].bool()
    tokens = Tokens(given['tokens'], mask, torch.zeros(len(mask), dtype=torch.int64))
    return dict(images=given['images'].float(), tokens=tokens, labels=given['pids'])


@torch.no_grad()
@pytest.mark.parametrize('mode', ['eval', 'train'])
def test_embeddings_equal_the_official_ones(mode):
    model, given = official_model().train(mode == 'train'), batch()
    pair = model.backbone(given['images'], given['tokens'])
    check_array(pair.image.embedding, EXPECTED[f'{mode}/image'])
    check_array(pair.text.embedding, EXPECTED[f'{mode}/text'])
    if mode == 'eval':
        scores = model.embed_text(given['tokens']) @ model.embed_images(given['images']).t()
        check_array(scores, EXPECTED['eval/similarity'])


def test_the_loss_both_of_its_halves_and_every_gradient_equal_the_official_ones():
    model, logged = after_backward(official_model().train(), batch())
    assert logged['total'].item() == pytest.approx(EXPECTED['train/infonce'].item(), **LOSS)
    found = LAYOUT.to_official({name: p.grad for name, p in model.named_parameters()}, model)
    norms = dict(zip(EXPECTED['grad_norm_names'].tolist(), EXPECTED['grad_norm'], strict=True))
    used = {name: norm for name, norm in norms.items() if not np.isnan(norm)}
    assert set(used) == set(found)
    # The biases of keys have rounding errors for a gradient.
    check_norms(found, used, used.values(), absolute=1e-6 * max(used.values()))
    check_full_gradients(found, under('grad/', EXPECTED), 14)
    with torch.no_grad():
        pair = model.backbone(batch()['images'], batch()['tokens'])
        scores = F.normalize(pair.image.embedding) @ F.normalize(pair.text.embedding).t() / 0.005
        for rows, name in ((scores, 'image_to_text'), (scores.t(), 'text_to_image')):
            expected = EXPECTED[f'train/infonce_{name}'].item()
            assert F.cross_entropy(rows, torch.arange(8)).item() == pytest.approx(expected, 1e-5)


@pytest.mark.parametrize(
    ('cfg', 'name'),
    [
        (dict(type='InfoNCELoss', temperature=0.005, positives='pair'), 'infonce'),
        (dict(type='CMPMLoss', epsilon=1e-8), 'cmpm_unused'),
    ],
)
def test_the_losses_of_the_release_alone(cfg, name):
    image, text = (
        torch.from_numpy(BATCH[f'loss_{side}']).requires_grad_() for side in ('image', 'text')
    )
    loss = LOSSES.build(cfg)(image, text, torch.from_numpy(BATCH['pids']))
    assert loss.item() == pytest.approx(EXPECTED[f'loss/{name}'].item(), **LOSS)
    loss.backward()
    for tensor, side in ((image, 'image'), (text, 'text')):
        assert relative_error(tensor.grad, EXPECTED[f'loss/{name}/grad_{side}']) < 1e-4


def test_three_steps_of_the_optimiser_are_the_official_ones():
    model = official_model().train()
    before = LAYOUT.to_official({n: p.detach().clone() for n, p in model.named_parameters()}, model)
    optimizer = build_optimizer(load_config(CONFIG).optim_wrapper, model)
    for group in optimizer.param_groups:
        assert (group['lr'], group['weight_decay']) == (OPTIM['lr'][0], OPTIM['decay'][0])
    assert set(OPTIM['lr']) == {1e-4}
    for step in (1, 2, 3):
        total, _ = model.parse_losses(model(**batch(), mode='loss'))
        official = OPTIM['total_loss_before_step'][step - 1]
        assert total.item() == pytest.approx(official, rel=2e-5)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        after = LAYOUT.to_official(dict(model.named_parameters()), model)
        norms = zip(OPTIM['names'].tolist(), OPTIM[f'delta_norm_after_step{step}'], strict=True)
        for name, norm in norms:
            # Adam makes full steps of the rounding errors in the gradient of a key's bias.
            if name in after and not name.endswith(('qkv.bias', 'key.bias')):
                moved = (after[name] - before[name]).detach().double().norm().item()
                assert moved == pytest.approx(norm, rel=1e-3), name


def test_rates_of_all_epochs_are_the_official_ones():
    rates = rates_by_epoch(load_config(CONFIG).param_scheduler, one_rate(1e-4), 70)
    np.testing.assert_allclose(sum(rates, []), OPTIM['schedule_lr_by_epoch'], rtol=1e-9)


def test_shares_of_right_answers_are_the_official_ones():
    image, text = (F.normalize(torch.from_numpy(BATCH[f'metric_{x}'])) for x in ('image', 'text'))
    people = torch.from_numpy(BATCH['metric_pids'])
    found = retrieval_metrics(text, image, people, people)
    official = EXPECTED['metric/R1_R5_R10_mAP'][:3]
    scale = 1 if official.max() > 1 else 100
    assert [found[f'R{k}'] for k in (1, 5, 10)] == pytest.approx(list(scale * official))


class Stand(torch.nn.Module):
    """Stands for the transforms that read a picture: one of a grey level."""

    def __init__(self, paths):
        super().__init__()
        self.paths = paths

    def forward(self, results):
        grey = 10 * self.paths.index(results['img_path'])
        return {**results, 'img': np.full((2, 2, 3), grey, np.uint8)}


@pytest.mark.parametrize('case', MIXUP['cases'], ids=lambda case: str(case['seed']))
def test_pairs_are_mixed_and_captions_varied_as_there(case):
    pipeline = load_config(CONFIG).train_dataloader.dataset.pipeline
    steps = {step['type']: step for step in pipeline}
    mix = TRANSFORMS.build(steps['MixWithAnother'])
    vary = TRANSFORMS.build({**steps['VaryCaption'], 'synonyms': None})
    paths, captions = list(map(str, range(8))), MIXUP['captions']
    mix.see_pairs([dict(img_path=p, captions=[c]) for p, c in zip(paths, captions, strict=True)])
    mix.steps = [Stand(paths)]
    vary.actions = [
        lambda text, name=name: f'{text} <{name}>' for name in ('synonym', 'crop', 'delete')
    ]
    own = case['index']
    record = mix.steps[0](dict(img_path=str(own), captions=[captions[own]]))
    random.seed(case['seed'])
    found = vary(mix(record))
    assert found['captions'] == [case['text']]
    # Which other picture it was, the sums of the release's tell.
    sums = MIXUP['image_sums']
    other = min(range(8), key=lambda n: abs((sums[own] + sums[n]) / 2 - case['image_sum']))
    assert (found['img'] == 5 * (own + other)).all()


def vary(**options):
    return TRANSFORMS.build(dict(type='VaryCaption', **{'synonyms': None, **options}))


def test_a_fifth_of_the_words_goes_at_least_one_and_at_most_ten():
    random.seed(0)
    step = vary()
    for count, gone in ((1, 0), (2, 1), (9, 1), (10, 2), (49, 9), (80, 10)):
        words = [f'w{number}' for number in range(count)]
        for action in (step.cut_span, step.delete_words):
            left = action(' '.join(words)).split()
            assert len(left) == count - gone
            assert left == [word for word in words if word in left]
    span = step.cut_span(' '.join(map(str, range(20)))).split()
    missing = sorted({*range(20)} - {*map(int, span)})
    assert missing == list(range(missing[0], missing[0] + 4))


def test_words_are_replaced_where_another_is_known():
    class Synonyms:
        def lemmas(self, word, part):
            return ['coat', 'outer_garment'] if (word, part) == ('coat', 'n') else []

    random.seed(0)
    step = vary()
    step.synonyms = Synonyms()
    assert step.replace_words('a red coat') == 'a red outer garment'
    assert step.replace_words('a red bag') == 'a red bag'
    assert vary().replace_words('a red coat') == 'a red coat'


def test_each_way_to_vary_is_as_likely():
    random.seed(0)
    step, seen = vary(), Counter()
    step.actions = [lambda text, name=name: name for name in 'abc']
    seen.update(step.vary('x') for _ in range(6000))
    assert seen['x'] / 6000 == pytest.approx(0.5, abs=0.03)
    for name in 'abc':
        assert seen[name] / 6000 == pytest.approx(1 / 6, abs=0.03)


def test_a_test_pipeline_has_no_other_pairs():
    step = TRANSFORMS.build(dict(type='MixWithAnother', steps=[]))
    with pytest.raises(KeyError, match='for the pipeline of a training split'):
        step(dict(img=np.zeros((2, 2, 3), np.uint8), captions=['a']))


def test_official_names_survive_the_way_there_and_back_and_others_are_refused():
    check_way_back(LAYOUT, official_state(), LAYOUT.UNUSED)
