"""CFine computes what the official code computes.

data/*.npz: github.com/shuanglinyan/CFine, commit ab330e3f, in float32 on a CPU with small widths,
without dropout; no two tokens of a caption have the same attention.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
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
    under,
)
from part_ranking import shipped_rates

from projects.cfine.neck import most_attended
from projects.cfine.similarity import across_grains, token_by_token, with_partners
from sen_toolbox.checkpoint.layouts import load_layout
from sen_toolbox.config import load_config
from sen_toolbox.registry import IMAGE_ENCODERS, MODELS
from sen_toolbox.text.tokens import Tokens

pytestmark = pytest.mark.numeric

HERE = Path(__file__).parent
CONFIG = HERE / 'configs/cfine_vitb_cuhk.py'
LAYOUT = load_layout(HERE / 'official.py')
BATCH, EXPECTED = (load_arrays(HERE / 'data' / f'{name}.npz') for name in ('batch', 'expected'))
ARCH = dict(
    embed_dim=32,
    quick_gelu=True,
    vision_cfg=dict(layers=2, width=48, head_width=16, patch_size=8),
    text_cfg=dict(layers=1, width=32, heads=1, context_length=24, vocab_size=70),
)
BERT = dict(
    vocab_size=70, hidden_size=48, num_hidden_layers=2, num_attention_heads=2,
    intermediate_size=96, max_position_embeddings=24)  # fmt: skip
SIZES = {
    'clip_arch': ARCH,
    'pretrained': None,
    'image_size': (40, 40),
    'context_length': 24,
    'num_classes': 11,
    'model.backbone.text.config': BERT,
    'model.backbone.text.pretrained': None,
    'model.backbone.text.dropout': 0.0,
    'model.heads.groups.neck.image_share': 0.16,
    'model.heads.groups.neck.text_share': 0.21,
    'model.heads.groups.neck.head_width': 12,
    'model.heads.groups.neck.attention_dropout': 0.0,
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
    ids = given['tokens']
    tokens = Tokens(ids, ids > 0, torch.zeros(len(ids), dtype=torch.int64))
    return dict(images=given['images_uint8'].float() / 64 - 2, tokens=tokens, labels=given['pids'])


def check(found, name, tolerance=1e-5):
    check_array(found, EXPECTED[name], tolerance, name)


@torch.no_grad()
def test_tokens_attention_and_features_equal_the_official_ones():
    model, given = official_model().eval(), batch()
    neck = model.heads['groups'].neck
    pair = model.backbone(given['images'], given['tokens'], neck.reads)
    check(pair.image.tokens, 'eval/image_tokens')
    check(pair.text.tokens, 'eval/text_tokens')
    # There the first token has 0, as it has for the choice.
    image, text = EXPECTED['eval/image_attention'], EXPECTED['eval/text_attention']
    check_array(pair.image.attention, image[:, 1:], 1e-6)
    check_array(pair.text.extra['head_attention'].mean(dim=2)[:, 1:], text[:, 1:], 1e-6)
    check(neck.of_images(pair.image).features.transpose(0, 1), 'eval/image')
    check(neck.of_captions(pair.text).features.transpose(0, 1), 'eval/text')


@torch.no_grad()
def test_search_compares_three_features_side_by_side():
    model, given = official_model().eval(), batch()
    images, texts = model.embed_images(given['images']), model.embed_text(given['tokens'])
    check(images @ texts.t(), 'eval/similarity')


@pytest.fixture(scope='module')
def trained():
    """The model after a backward pass, what it logged, and what its parts gave."""
    model, kept = official_model().train(), {}
    head = model.heads['groups']

    def keep(name, owner, attribute):
        own = getattr(owner, attribute)

        def called(*arguments):
            kept[name] = own(*arguments)
            return kept[name]

        setattr(owner, attribute, called)

    keep('image', head.neck, 'of_images')
    keep('text', head.neck, 'of_captions')
    keep('scores', head, 'scores')
    return *after_backward(model, batch()), kept


def test_features_and_scores_in_training_equal_the_official_ones(trained):
    _, _, kept = trained
    check(kept['image'].features.transpose(0, 1), 'train/image')
    # In double precision the features are 1.6e-5 of the largest away from these.
    check(kept['text'].features.transpose(0, 1), 'train/text', 2e-5)
    check(kept['scores'][0], 'train/sim_cs')
    check(kept['scores'][1], 'train/sim_cd')


def test_each_term_of_the_loss_equals_the_official_one(trained):
    _, logged, _ = trained
    for name in (
        'diversity_image',
        'diversity_text',
        *(f'{k}_{n}' for k in ('cmpm', 'cmpc') for n in range(3)),
    ):
        expected = EXPECTED[f'loss/{name}'].item()
        assert logged[f'groups.{name}'].item() == pytest.approx(expected, **LOSS), name
    assert logged['groups.ranking'].item() == pytest.approx(EXPECTED['loss/sim'].item(), rel=1e-5)
    assert logged['total'].item() == pytest.approx(EXPECTED['loss/total'].item(), rel=1e-5)


def test_the_anchors_that_count_are_the_official_ones(trained):
    scores, labels = sum(trained[2]['scores']).detach(), batch()['labels']
    different = labels[:, None] != labels
    for rows, name in ((scores, 'triplets0'), (scores.t(), 'triplets1')):
        best = rows.masked_fill(~different, -torch.inf).max(dim=1)
        found = [[n, n, best.indices[n]] for n in range(8) if best.values[n] > rows[n, n]]
        assert torch.tensor(found).tolist() == EXPECTED[name].tolist()


def test_every_gradient_equals_the_official_one(trained):
    model = trained[0]
    found = {
        name: p.grad if p.requires_grad else torch.zeros(1) for name, p in model.named_parameters()
    }
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    found = LAYOUT.to_official(found, model)
    names, norms = (EXPECTED[f'gradnorm/{part}'].tolist() for part in ('names', 'values'))
    assert set(found) - set(names) <= {f'network.bottleneck_{m}.bias' for m in ('image', 'text')}
    # The bias of a key has rounding errors for a gradient.
    check_norms(found, names, norms, absolute=1e-6 * max(norms))
    check_full_gradients(found, under('grad/', EXPECTED), 5)


def test_a_step_leaves_the_official_statistics_of_three_passes(trained):
    found = LAYOUT.to_official(trained[0].state_dict(), trained[0])
    after = under('after/', EXPECTED)
    assert len(after) == 4
    for name, official in after.items():
        check_array(found[f'network.{name}'], official, 1e-5, name)


def test_rates_and_decay_are_those_of_the_release():
    model, rates, _ = shipped_rates(CONFIG)
    for name, rate in rates.items():
        assert rate == pytest.approx(1e-5 if name.startswith('backbone.') else 1e-4), name
    assert len(rates) == sum(p.requires_grad for p in model.parameters())
    found = rates_by_epoch(load_config(CONFIG).param_scheduler, one_rate(1), 50)
    expected = [
        (0.01 + 0.099 * e if e < 10 else 1) * 0.1 ** sum(e >= m for m in (20, 25, 35))
        for e in range(50)
    ]
    np.testing.assert_allclose(sum(found, []), expected, rtol=1e-6)


def test_scores_by_tokens_are_those_of_slow_loops():
    torch.manual_seed(0)
    patches, words = torch.randn(3, 4, 5).double(), torch.randn(3, 6, 5).double()
    image, text = torch.randn(3, 5).double(), torch.randn(3, 5).double()
    cosine = torch.nn.functional.cosine_similarity
    found = across_grains((image, text), (patches, words), 0.07)
    of_patches, of_words = with_partners(patches, words, (2, 3))
    aligned = token_by_token(patches, of_patches, 0.01)
    for i in range(3):
        shares = torch.stack([cosine(patches[i, p], words[i], dim=1).softmax(0) for p in range(4)])
        for p in range(4):
            best = sorted(range(6), key=lambda w, p=p, shares=shares: -shares[p, w])[:2]
            torch.testing.assert_close(of_patches[i, p], words[i, best].mean(0))
        for w in range(6):
            best = sorted(range(4), key=lambda p, w=w, shares=shares: -shares[p, w])[:3]
            torch.testing.assert_close(of_words[i, w], patches[i, best].mean(0))
        for j in range(3):
            u = cosine(image[i], words[j], dim=1) / 0.07
            v = cosine(text[j], patches[i], dim=1) / 0.07
            expected = ((u.softmax(0) * u).sum() + (v.softmax(0) * v).sum()) / 2
            torch.testing.assert_close(found[i, j], expected)
            expected = cosine(patches[i], of_patches[j], dim=1).mean() / 0.01
            torch.testing.assert_close(aligned[i, j], expected)


def test_of_equal_weights_the_earlier_token_is_chosen():
    tokens = torch.arange(10.0).view(2, 5, 1)
    weights = torch.tensor([[0, 0.5, 0.2, 0, 0], [0, 0.2, 0.2, 0.2, 0]])
    found = most_attended(tokens, weights, 4)[:, :, 0]
    assert found.tolist() == [[1, 2, 0, 3], [6, 7, 8, 5]]


def test_attention_that_training_drops_changes_the_choice():
    model, given = official_model().train(), batch()
    neck = model.heads['groups'].neck
    neck.attention_dropout = 0.5
    text = model.backbone.encode_text(given['tokens'], neck.reads)
    first, second = (neck.of_captions(text).chosen for _ in range(2))
    assert not torch.equal(first, second)
    neck.eval()
    assert torch.equal(neck.of_captions(text).chosen, neck.of_captions(text).chosen)


def test_encoders_that_do_not_fit_are_refused_by_name():
    for key, value, message in (
        (
            'model.backbone.image.projected',
            True,
            'tokens of images have 32 numbers, of captions 48',
        ),
        ('model.backbone.text.cuts_padding', True, 'set cuts_padding=False of the text encoder'),
        ('model.heads.groups.neck.image_share', 0.6, 'two groups of 15 of 25 patches'),
    ):
        with pytest.raises(ValueError, match=message):
            MODELS.build(load_config(CONFIG, {**SIZES, key: value}).model)


def test_a_projection_in_a_file_of_weights_is_left_out(tmp_path):
    options = dict(type='CLIPVisionTransformer', arch=ARCH, image_size=(40, 40))
    whole = IMAGE_ENCODERS.build(options)
    state = {f'visual.{key}': value for key, value in whole.state_dict().items()}
    torch.save(state, tmp_path / 'clip.pt')
    encoder = IMAGE_ENCODERS.build(
        {**options, 'projected': False, 'pretrained': str(tmp_path / 'clip.pt')}
    )
    encoder.load_weights()
    assert encoder.spec.width == 48
    assert torch.equal(encoder.conv1.weight, whole.conv1.weight)


def test_official_names_survive_the_way_there_and_back_and_others_are_refused():
    check_way_back(LAYOUT, official_state(), LAYOUT.UNUSED)
