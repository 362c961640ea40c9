"""LFSA computes what the official code computes.

data/*: github.com/CottonCandyZ/LFSA, commit 528ab91588ce, in float32 on a CPU with small towers,
and the pairs that its generator drew.
"""

import importlib
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
    check_gradients,
    check_three_steps,
    check_way_back,
    load_arrays,
    one_rate,
    rates_by_epoch,
    relative_error,
    under,
)
from tiny import as_tokens

from projects.lfsa import losses
from sen_toolbox.checkpoint.layouts import load_layout
from sen_toolbox.config import load_config
from sen_toolbox.datasets.samplers import IdentityGroupSampler
from sen_toolbox.models.features import ImageFeatures, PairFeatures, TextFeatures
from sen_toolbox.registry import LOSSES, MODELS, TRANSFORMS

pytestmark = pytest.mark.numeric

HERE = Path(__file__).parent
CONFIG = HERE / 'configs/lfsa_vitb_cuhk.py'
ONE_STREAM = HERE / 'configs/lfsa_onestream_vitb_cuhk.py'
LAYOUT = load_layout(HERE / 'official.py')
BATCH, EXPECTED, OPTIM = (
    load_arrays(HERE / 'data' / f'{name}.npz') for name in ('batch', 'expected', 'optim')
)
ARCH = dict(
    embed_dim=32,
    quick_gelu=True,
    vision_cfg=dict(layers=2, width=64, patch_size=16),
    text_cfg=dict(layers=2, width=64, heads=1, context_length=24, vocab_size=512),
)
SIZES = dict(clip_arch=ARCH, pretrained=None, image_size=(64, 48), context_length=24, num_classes=9)
SIZES['model.data_preprocessor.erasing_prob'] = 0.0
# Our term of each official one, whose two streams have each other's names.
TERMS = {
    f'{official}{suffix}': f'{ours}_{stream}'
    for official, ours in (('BCL', 'boundary'), ('HSMLM', 'hardest'), ('HSMLD', 'drawn'))
    for suffix, stream in (('', 'corrupted'), ('_mod', 'intact'))
} | {'id_loss': 'identity'}


def official_state():
    state = load_arrays(HERE / 'data' / 'state.npz')
    return {key: torch.from_numpy(value) for key, value in state.items()}


def official_model(config=CONFIG):
    model = MODELS.build(load_config(config, SIZES).model)
    model.load_state_dict(LAYOUT.from_official(official_state()))
    return model


def batch():
    given = {key: torch.from_numpy(value) for key, value in BATCH.items()}
    intact, corrupted = (as_tokens(given[name].long()) for name in ('captions_ori', 'captions'))
    return dict(
        images=given['images'].float(),
        tokens=intact,
        second_tokens=corrupted,
        labels=given['pids'],
        image_id=given['image_ids'],
    )


@pytest.fixture
def give(monkeypatch):
    """Makes the losses take the given indices (streams, 2, B), one row in every call."""

    def give_draws(*draws):
        rows = iter([torch.from_numpy(row)[:, None] for x in draws for both in x for row in both])
        monkeypatch.setattr(losses, 'draw_others', lambda *_: next(rows))

    return give_draws


@torch.no_grad()
def test_embeddings_and_search_equal_the_official_ones():
    model, given = official_model().eval(), batch()
    backbone = model.backbone
    image = backbone.encode_image(given['images']).embedding
    text = backbone.encode_text(given['tokens']).embedding
    check_array(image, EXPECTED['eval/image'])
    check_array(text, EXPECTED['eval/text'])
    corrupted = backbone.encode_text(given['second_tokens']).embedding
    check_array(corrupted, EXPECTED['eval/text_corrupted'])
    scores = model.embed_text(given['tokens']) @ model.embed_images(given['images']).t()
    check_array(scores, EXPECTED['eval/similarity'])


def official_names(model):
    """Our parameter by its official name."""
    names = {name: name for name, _ in model.named_parameters()}
    return LAYOUT.to_official(names, model)


def test_each_term_and_every_gradient_equal_the_official_ones(give):
    give(BATCH['draws'])
    model, logged = after_backward(official_model().train(), batch())
    for official, ours in TERMS.items():
        expected = EXPECTED[f'loss/{official}'].item()
        assert logged[f'pairs.{ours}'].item() == pytest.approx(expected, **LOSS), official
    assert logged['total'].item() == pytest.approx(EXPECTED['loss/total'].item(), rel=2e-6)
    check_gradients(model, official_names(model), EXPECTED)


def test_rates_decay_and_three_steps_of_the_optimiser_are_the_official_ones(give):
    model = official_model().train()
    give(*(BATCH[f'draws_step{step}'] for step in (1, 2, 3)))
    check_three_steps(model, batch(), CONFIG, official_names(model), OPTIM)


def test_rates_of_all_epochs_are_the_official_ones():
    rates = rates_by_epoch(load_config(CONFIG).param_scheduler, one_rate(1e-5), 60)
    np.testing.assert_allclose(sum(rates, []), OPTIM['schedule_lr_by_epoch'], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize('case', ['two', 'one'])
def test_terms_of_free_embeddings_and_their_gradients_are_the_official_ones(case, give):
    model = official_model(CONFIG if case == 'two' else ONE_STREAM)
    image, text = (torch.from_numpy(BATCH[f'loss_{name}']) for name in ('image', 'text'))
    corrupted, intact = text.chunk(2)
    texts = [corrupted, intact] if case == 'two' else [intact]
    given = batch()
    for name, expected in under(f'{case}/', EXPECTED).items():
        if '/' in name:
            continue
        give(BATCH[f'{case}_draws'])
        leaves = [x.clone().requires_grad_() for x in (image, *texts)]
        pair = PairFeatures(ImageFeatures(leaves[0]), TextFeatures(leaves[-1]))
        encode = torch.nn.Module()
        encode.encode_text = lambda tokens, leaves=leaves: TextFeatures(leaves[1])
        found = model.heads['pairs'](pair, given, encode)
        # One stream has the names without an end.
        ours = TERMS[name] if case == 'two' else TERMS[name].replace('corrupted', 'intact')
        assert found[ours].item() == pytest.approx(expected.item(), **LOSS), name
        found[ours].backward()
        gradients = [torch.zeros_like(x) if x.grad is None else x.grad for x in leaves]
        for gradient, side in ((gradients[0], 'image'), (torch.cat(gradients[1:]), 'text')):
            official = EXPECTED[f'{case}/grad_{side}/{name}']
            assert relative_error(gradient, official) < 1e-4, (name, side)


@torch.no_grad()
def test_numbers_choose_among_the_official_probabilities():
    model, given = official_model().train(), batch()
    image = F.normalize(model.backbone.encode_image(given['images']).embedding)
    kinds = losses.PairKinds.of(given['labels'], given['image_id'])
    for stream, tokens in enumerate((given['second_tokens'], given['tokens'])):
        similarity = image @ F.normalize(model.backbone.encode_text(tokens).embedding).t()
        for direction, rows in enumerate((similarity.t(), similarity)):
            shares = torch.from_numpy(EXPECTED['draw_probs'][stream, direction]).double()
            ends = shares.cumsum(dim=1) / shares.sum(dim=1, keepdim=True)
            for column in range(rows.shape[1]):
                middle = ends[:, column] - shares[:, column] / shares.sum(dim=1) / 2
                found = losses.draw_others(rows, kinds.other, middle).squeeze(1)
                possible = shares[:, column] > 0
                assert (found[possible] == column).all()


def test_no_other_person_costs_nothing_where_one_is_drawn():
    kinds = losses.PairKinds.of(torch.tensor([0, 0]), torch.tensor([0, 1]))
    scores = torch.tensor([[0.5, -0.5], [-0.5, 0.5]], requires_grad=True)
    draws = torch.ones(2, 2)
    loss = LOSSES.build(dict(type='HardSampleLoss', drawn=True))(scores, kinds, draws)
    loss.backward()
    assert loss.item() == 0
    assert not scores.grad.any()
    # The nearest of no one counts as of cosine 0: two persons' terms of 0.55 for both directions.
    hardest = LOSSES.build(dict(type='HardSampleLoss', drawn=False))
    assert hardest(scores, kinds, draws).item() == pytest.approx(4 * 2 * 0.55 / 2)


def test_batches_are_those_of_the_release():
    class Records(list):
        def get_data_info(self, index):
            return dict(person_id=self[index])

    records = Records(BATCH['sampler_pids'].tolist())
    sampler = IdentityGroupSampler(
        records, batch_size=16, num_instances=4, vary_group_size=False, seed=0
    )
    seed = 4101
    found = sampler.draw(random.Random(seed), np.random.RandomState(seed % 1000))
    assert found == EXPECTED['sampler/indices'].tolist()


CASES = json.loads((HERE / 'data' / 'corruption.json').read_text())


class Given:
    """Stands for a tagger and for WordNet."""

    def __init__(self, case):
        self.case = case
        self.options = {(row['word'], row['pos']): row['options'] for row in case['synonyms']}

    def tag(self, words):
        assert words == [word for word, _ in self.case['tags']]
        return [tag for _, tag in self.case['tags']]

    def lemmas(self, word, part):
        return self.options[word, part]


def corruption(config, **changed):
    """The transform of a config, with stand-ins that need no data."""
    steps = load_config(config).train_dataloader.dataset.pipeline
    [step] = [step for step in steps if step['type'] == 'CorruptCaption']
    return TRANSFORMS.build(
        {**step, 'synonyms': None, 'tagger': dict(type='RuleTagger'), **changed}
    )


@pytest.mark.parametrize('case', CASES, ids=lambda case: case['caption'][:12] + str(case['mod']))
def test_captions_are_corrupted_as_there(case):
    step = corruption(CONFIG if case['mod'] == 0.6 else ONE_STREAM)
    assert step.rate == case['mod']
    step.tagger = step.synonyms = Given(case)
    draws, chosen = (
        iter(case['draws']),
        iter([row['chosen'] for row in case['synonyms'] if row['options']]),
    )
    step.draw = lambda: next(draws)
    step.choose = lambda lemmas: next(chosen)
    assert step.corrupt(case['caption']) == case['ids']
    assert [*draws, *chosen] == []


def test_shares_of_masked_and_deleted_words():
    random.seed(0)
    step = corruption(CONFIG)
    caption, kept = 'red coat', Counter()
    for _ in range(4000):
        ids = step.corrupt(caption)
        kept.update(masks=ids.count(step.mask_id), words=len(ids))
    assert kept['masks'] / 8000 == pytest.approx(0.24, abs=0.02)
    assert kept['words'] / 8000 == pytest.approx(1 - 0.24, abs=0.02)


def test_a_lemma_of_two_words_is_divided_and_plurals_are_nouns_where_asked():
    step = corruption(CONFIG, exact=False)
    asked = []

    class Synonyms:
        def lemmas(self, word, part):
            asked.append((word, part))
            return ['Carrier_Bag']

    step.synonyms, step.draw = Synonyms(), lambda: 0.59
    step.tagger = Given(dict(tags=[['bags', 'NNS']], synonyms=[]))
    assert step.corrupt('bags') == step.tokenizer.encode('carrier bag')
    step.exact = True
    step.corrupt('bags')
    assert asked == [('bags', 'n'), ('bags', 'v')]


def test_what_a_training_lacks_is_said():
    model, given = official_model(), batch()
    del given['image_id']
    with pytest.raises(KeyError, match=r"the batch has no \['image_id'\]: put CorruptCaption"):
        model(**given, mode='loss')
    with pytest.raises(ValueError, match='takes CLIPTokenizer, got VocabularyTokenizer'):
        words = dict(type='VocabularyTokenizer', context_length=9, vocabulary=['a'])
        corruption(CONFIG, tokenizer=words)


def test_missing_data_of_wordnet_are_an_error_that_says_how_to_get_them(monkeypatch):
    nltk = importlib.import_module('nltk')
    monkeypatch.setattr(nltk.data, 'path', [])
    step = corruption(CONFIG, synonyms=dict(type='WordNet'))
    with pytest.raises(FileNotFoundError, match='python -m nltk.downloader wordnet'):
        step.see_pairs([])


def test_official_names_survive_the_way_there_and_back_and_others_are_refused():
    check_way_back(LAYOUT, official_state())
