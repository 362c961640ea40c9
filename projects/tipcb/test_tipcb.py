"""TIPCB computes what the official code computes.

data/*.npz: github.com/OrangeYHChen/TIPCB, commit 93aa7c53bf6f, in float32 on a CPU with small
widths and BERT's dropout off. Of the six names of the shared downsample they hold the first.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from parity import (
    LOSS,
    check_array,
    check_full_gradients,
    check_norms,
    load_arrays,
    rates_by_epoch,
    under,
)
from tiny import build_optimizer

from sen_toolbox.checkpoint.layouts import load_layout
from sen_toolbox.config import load_config
from sen_toolbox.registry import MODELS
from sen_toolbox.text.tokens import Tokens

pytestmark = pytest.mark.numeric

HERE = Path(__file__).parent
CONFIG = HERE / 'configs/tipcb_r50_cuhk.py'
LAYOUT = load_layout(HERE / 'official.py')
# Ours by the official name.
NAMES = {'f3': 'low', **{f'f4{number}': f'part_{number}' for number in range(1, 7)}, 'f4': 'whole'}
SIZES = {
    'image_size': (384, 32),
    'bert': None,
    'model.backbone.image.pretrained': None,
    'model.backbone.image.depth': dict(
        block='bottleneck', blocks=(1, 1, 2, 1), widths=(4, 8, 16, 32)
    ),
    'model.backbone.text.dropout': 0.0,
    'model.backbone.text.config': dict(
        vocab_size=120,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
    ),
    'model.heads.levels.neck.middle': 32,
}


def arrays(*names):
    return load_arrays(*(HERE / 'data' / f'{name}.npz' for name in names))


EXPECTED = arrays('expected', 'maps', 'image_maps')


def official_state():
    state = arrays('state_encoders', 'state_text', 'state_text_rest')
    for key in [key for key in state if key.startswith('model_txt.branch1.0.downsample')]:
        state |= {key.replace('branch1', f'branch{number}'): state[key] for number in range(2, 7)}
    return {key: torch.from_numpy(value) for key, value in state.items()}


def batch():
    given = {key: torch.from_numpy(value) for key, value in arrays('batch').items()}
    images = given['images_uint8'].float() / 64 - 2
    mask = given['attention_mask'].bool()
    tokens = Tokens(given['tokens'], mask, torch.zeros(len(mask), dtype=torch.int64))
    return dict(images=images, tokens=tokens, labels=given['pids'])


def official_model():
    """The shipped model with the official weights."""
    model = MODELS.build(load_config(CONFIG, SIZES).model)
    model.load_state_dict(LAYOUT.from_official(official_state()))
    return model


def check(found, name, tolerance=1e-5):
    check_array(found, EXPECTED[name], tolerance, name)


@torch.no_grad()
def levels(model):
    """The eight levels of images and captions by our name."""
    given, head = batch(), model.heads['levels']
    pair = model.backbone(given['images'], given['tokens'], head.reads)
    seen = []
    head.loss.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[:2]))
    head(pair, given, model.backbone)
    return dict(zip(NAMES.values(), seen, strict=True)), pair


def test_maps_words_and_branches_equal_the_official_ones():
    model = official_model().eval()
    _, pair = levels(model)
    check(pair.image.stages['layer3'], 'eval/map3')
    check(pair.image.stages['layer4'], 'eval/map4')
    check(pair.text.tokens, 'eval/bert')
    neck, seen = model.heads['levels'].neck, []
    neck.downsample.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    neck.branches[0][-1].register_forward_hook(lambda *given: seen.append(given[-1]))
    with torch.no_grad():
        neck(pair.text.tokens)
    check(seen[0].unsqueeze(2), 'eval/text_map3')
    check(seen[1].unsqueeze(2), 'eval/text_map41')


def test_every_branch_of_a_caption_equals_the_official_one():
    found, _ = levels(official_model().eval())
    for number in range(1, 7):
        check(found[f'part_{number}'][1], f'eval/text_f4{number}')


def test_every_level_in_training_equals_the_official_one():
    found, _ = levels(official_model().train())
    for official, ours in NAMES.items():
        check(found[ours][0], f'train/image_{official}')
        check(found[ours][1], f'train/text_{official}')


@torch.no_grad()
def test_search_compares_what_the_official_code_compares():
    model, given = official_model().eval(), batch()
    images, texts = model.embed_images(given['images']), model.embed_text(given['tokens'])
    for found, name in ((images, 'eval/image'), (texts, 'eval/text')):
        official = torch.nn.functional.normalize(torch.from_numpy(EXPECTED[name]))
        torch.testing.assert_close(found, official, rtol=1e-5, atol=1e-5)
    check(texts @ images.t(), 'eval/similarity')


@torch.no_grad()
def test_the_padding_behind_a_caption_changes_its_embedding():
    model, tokens = official_model().eval(), batch()['tokens']
    whole, cut = model.embed_tokens(tokens[1:2]), model.embed_tokens(tokens[1:2].cut(11))
    assert (whole * cut).sum() < 0.999


@pytest.fixture(scope='module')
def trained():
    """The model after a backward pass, and what it logged."""
    model = official_model().train()
    logged = model(**batch(), mode='loss')
    model.parse_losses(logged)[0].backward()
    return model, logged


def test_each_term_of_the_loss_equals_the_official_one(trained):
    _, logged = trained
    for official, ours in NAMES.items():
        expected = EXPECTED[f'loss/cmpm_{official}'].item()
        assert logged[f'levels.{ours}'].item() == pytest.approx(expected, **LOSS), ours
    assert logged['levels.loss'].item() == pytest.approx(EXPECTED['loss/total'], rel=1e-6)


def official_names(model):
    """Our parameters by their official names."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    places = LAYOUT.rename({name: name for name in named}, LAYOUT.inverse(LAYOUT.TABLE))
    return {official: named[ours] for official, ours in places.items()}


def test_every_gradient_equals_the_official_one(trained):
    parameters = official_names(trained[0])
    names = EXPECTED['gradnorm/names'].tolist()
    assert set(names) == set(parameters)
    gradients = {name: parameter.grad for name, parameter in parameters.items()}
    check_norms(gradients, names, EXPECTED['gradnorm/values'])
    check_full_gradients(gradients, under('grad/', EXPECTED), 9)


def test_a_step_leaves_the_official_statistics_six_times_those_of_the_downsample():
    model = official_model().train()
    model(**batch(), mode='loss')
    found, before = LAYOUT.to_official(model.state_dict(), model), official_state()
    after = [key for key in EXPECTED if key.startswith('after/')]
    assert len(after) == 12
    for key in after:
        name = key.removeprefix('after/')
        # The official code counted from 0 on.
        counted_before = before[name] if name.endswith('num_batches_tracked') else 0
        check(found[name] - counted_before, key)


def test_rates_are_the_official_ones_in_every_epoch():
    config, model = load_config(CONFIG), official_model()
    optimizer = build_optimizer(config.optim_wrapper, model)
    [group] = optimizer.param_groups
    assert (group['betas'], group['eps'], group['weight_decay']) == ((0.9, 0.999), 1e-8, 0)
    found = sum(rates_by_epoch(config.param_scheduler, optimizer, config.max_epochs), [])
    np.testing.assert_allclose(found, EXPECTED['optim/lr_by_epoch'], rtol=1e-9)


def test_three_steps_of_the_optimiser_are_the_official_ones():
    model = official_model().train()
    optimizer = build_optimizer(load_config(CONFIG).optim_wrapper, model)
    steps = zip(EXPECTED['optim/losses'], EXPECTED['optim/lr_by_epoch'], strict=False)
    for number, (official, rate) in enumerate(steps):
        optimizer.param_groups[0]['lr'] = rate
        total, _ = model.parse_losses(model(**batch(), mode='loss'))
        assert total.item() == pytest.approx(official, rel=2e-5), number
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        for key in [key for key in EXPECTED if key.startswith('step1/')] if number == 0 else []:
            check(official_names(model)[key.removeprefix('step1/')], key)


def test_bert_is_frozen_and_its_dropout_is_on_in_training():
    text = load_config(CONFIG).model.backbone.text
    assert (text.frozen, text.dropout) == (True, 0.1)
    model = official_model()
    assert not any(p.requires_grad for p in model.backbone.text.parameters())


def test_official_names_survive_the_way_there_and_back():
    state = official_state()
    back = LAYOUT.to_official(LAYOUT.from_official(state), official_model())
    assert set(back) == set(state)
    for key, value in state.items():
        if not key.startswith('text_embed.pooler'):
            assert torch.equal(back[key], value.to(back[key].dtype)), key
        assert back[key].shape == value.shape


def test_official_weights_of_another_kind_are_refused_by_name():
    key = 'model_txt.branch4.0.downsample.1.bias'
    with pytest.raises(ValueError, match=f'{key} differs from model_txt.branch1'):
        LAYOUT.from_official({**official_state(), key: torch.ones(128)})
    with pytest.raises(ValueError, match=r"layout, the first are \['classifier.weight'\]"):
        LAYOUT.from_official({**official_state(), 'classifier.weight': torch.zeros(1)})


def test_a_text_encoder_that_lets_padding_be_cut_is_refused():
    config = load_config(CONFIG, {**SIZES, 'model.backbone.text.cuts_padding': True})
    with pytest.raises(ValueError, match='set cuts_padding=False of the text encoder'):
        MODELS.build(config.model)
