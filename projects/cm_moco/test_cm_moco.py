"""CM-MoCo against the numbers of the release, in float32 on the CPU.

``data/*.npz``: github.com/BrandonHanx/TextReID, commit 0d00d8e0844f, with small widths and a queue
of 24: weights, two batches, and what three training steps, an evaluation and an optimiser made of
them. Between the steps weights move by a thousandth of their gradients.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from parity import (
    check_array,
    check_close,
    check_full_gradients,
    check_norms,
    check_way_back,
    furthest_moves,
    load_arrays,
    one_rate,
    rates_by_epoch,
    under,
)
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from projects.cm_moco import official
from projects.cm_moco.momentum import MomentumQueueHead
from sen_toolbox.config import load_config
from sen_toolbox.models.features import ImageFeatures, PairFeatures, TextFeatures
from sen_toolbox.models.gather import GatheredChunks
from sen_toolbox.models.text_encoders import RecurrentTextEncoder
from sen_toolbox.models.weights import fit_grid
from sen_toolbox.registry import MODELS
from sen_toolbox.text.tokens import Tokens

pytestmark = pytest.mark.numeric

CONFIG = Path(__file__).parent / 'configs' / 'cm_moco_rn50_cuhk.py'
DATA = Path(__file__).parent / 'data'
# Of a value and 1, in the three steps: rounding of the images alone gives 2e-6, 1e-5 and 4e-5.
TOLERANCES = (1e-5, 2e-5, 8e-5)


def arrays(*names):
    return load_arrays(*(DATA / f'{name}.npz' for name in names))


def official_state() -> dict[str, torch.Tensor]:
    """The release's checkpoint, the query encoders twice, with the word vectors."""
    state = {k: torch.from_numpy(v) for k, v in arrays('state', 'state_slow').items()}
    for again, first in official.TWICE.items():
        state |= {again + k.removeprefix(first): v for k, v in state.items() if k.startswith(first)}
    return state | {'vocab_dict': torch.from_numpy(arrays('batch')['vocab_dict'])}


def small_config(**overrides):
    arch = dict(embed_dim=20, vision_cfg=dict(layers=[1, 1, 1, 1], width=4, head_width=32))
    sizes = {
        'clip_arch': arch,
        'pretrained': None,
        'image_size': (64, 32),
        'context_length': 14,
        'num_classes': 9,
        'tokenizer.vocab_file': None,
        'tokenizer.vocabulary': [f'w{number}' for number in range(38)],
        'model.backbone.embed_dim': 16,
        'model.backbone.text.word_vectors': None,
        'model.backbone.text.word_dim': 12,
        'model.backbone.text.hidden_dim': 10,
        'model.heads.moco.size': 24,
        'model.heads.moco.momentum': 0.9,
        'model.data_preprocessor.erasing_prob': 0.0,
    }
    return load_config(CONFIG, {**sizes, **overrides})


@pytest.fixture
def release():
    """The model with the release's weights, both batches, what came out."""
    model = MODELS.build(small_config().model)
    model.load_state_dict(official.from_official(official_state()))
    for part in (model.backbone, model.heads['moco'].slow):
        part.word_embedding.weight.requires_grad = False  # as with vectors from a file
    given = {k: torch.from_numpy(v) for k, v in arrays('batch').items()}
    batches = []
    for number in range(2):
        lengths = given['lengths'][number]
        mask = torch.arange(14) < lengths[:, None]
        tokens = Tokens(given['tokens'][number], mask, lengths - 1)
        images, labels = given['image'][number].float(), given['labels'][number]
        batches.append(dict(images=images, tokens=tokens, labels=labels))
    return model, batches, arrays('expected')


@torch.no_grad()
def test_embeddings_and_ranking_in_evaluation(release):
    model, (batch, _), expected = release
    backbone = model.eval().backbone
    image = backbone.image(batch['images']).embedding
    text = backbone.text(batch['tokens'], frozenset({'tokens'}))
    # Here the longest caption of the batch is padded, too; there it is not.
    longest = batch['tokens'].lengths == batch['tokens'].lengths.max()
    states = text.tokens.masked_fill(~batch['tokens'].mask[:, :, None], -torch.inf)
    alone = states.max(dim=1).values
    in_batch = torch.where(longest[:, None], alone, text.embedding)
    image_embed = backbone.image_projection(image)
    text_embed = backbone.text_projection(in_batch)
    check_close(
        expected,
        **{
            'eval/visual_feature': image,
            'eval/text_feature': in_batch,
            'eval/image_embed': image_embed,
            'eval/text_embed': text_embed,
            'eval/text_embed_alone': backbone.text_projection(alone),
            'eval/similarity': F.normalize(text_embed) @ F.normalize(image_embed).t(),
        },
    )
    found = model.embed_tokens(batch['tokens'])
    torch.testing.assert_close(found[~longest], F.normalize(text_embed)[~longest])


def test_three_steps_with_queues_and_slow_encoders(release):
    model, batches, expected = release
    model.train()
    moco = model.heads['moco']
    moco.follow()
    for step, tolerance in enumerate(TOLERANCES):

        def check(*, tolerance=tolerance, **pairs):
            for name, (found, value) in pairs.items():
                check_array(found, value, tolerance, name)

        batch = batches[step % 2]
        theirs = under(f'step{step}/', expected)
        queues = moco.image_queue.clone(), moco.text_queue.clone(), moco.identities.clone()
        pair = model.backbone(batch['images'], batch['tokens'])
        check(
            image=(pair.image.embedding, theirs['v_embed']),
            text=(pair.text.embedding, theirs['t_embed']),
        )
        logged = {name: head(pair, batch, model.backbone) for name, head in model.heads.items()}
        [(image_key, text_key, labels)] = moco._waiting
        image, text = F.normalize(pair.image.embedding), F.normalize(pair.text.embedding)
        there = (queues[2][:, None] == labels).any(dim=1)
        for side, query, key, queue in (
            ('v', image, text_key, queues[1]),
            ('t', text, image_key, queues[0]),
        ):
            logits = moco.logits(query, key, queue, there)
            kept = logits[:, 1:][:, ~there]
            check(own=(logits[:, :1], theirs[f'{side}_pos']), others=(kept, theirs[f'{side}_neg']))
        total = sum(values['loss'] for values in logged.values())
        for name, value in (
            ('instance_loss', logged['instance']['loss']),
            ('infonce_loss', logged['moco']['loss']),
            ('global_align_loss', logged['align']['loss']),
            ('total', total),
        ):
            official_value = theirs[f'loss/{name}'].item()
            assert value.item() == pytest.approx(official_value, abs=2e-5, rel=tolerance), name
        model.zero_grad()
        total.backward()
        if step == 0:
            check_gradients(model, expected)
            check_first_optimiser_step(model, expected)
        with torch.no_grad():
            state = official.to_official(model.state_dict(), model)
            after = under('after/', theirs)
            slow = [k for k in after if 'queue' not in k]
            assert len(slow) > 3
            for key in slow:
                found = state[f'embed_model.{key}']
                check(**{key: (found, after[key])})
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.sub_(1e-3 * parameter.grad)
        moco.after_step()
        state = official.to_official(model.state_dict(), model)
        for key in ('v_queue', 't_queue', 'id_queue', 'queue_ptr'):
            found = state[f'embed_model.{key}']
            check(**{key: (found, after[key])})


def official_names(values: dict[str, torch.Tensor], model) -> dict[str, torch.Tensor]:
    """Tensors by the names of our parameters under theirs, without those saved again."""
    named = official.to_official(values, model)
    return {
        k.removeprefix('embed_model.'): v
        for k, v in named.items()
        if not k.startswith(tuple(official.TWICE))
    }


def check_gradients(model, expected):
    own = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    found = official_names(own, model)
    norms = under('gradnorm/', expected)
    assert found.keys() == norms.keys()
    # Keys' biases have no gradient but rounding.
    check_norms(found, norms, norms.values(), absolute=1e-5)
    check_full_gradients(found, under('grad/', expected), 5)


def check_first_optimiser_step(model, expected):
    """How far the config's optimiser moves each parameter at most; the model stays as it is."""
    moved = {
        name: value
        for name, value in furthest_moves(model, small_config().optim_wrapper).items()
        if '.slow.' not in name and not name.endswith('word_embedding.weight')
    }
    found, theirs = official_names(moved, model), under('adam_max/', expected)
    assert {k for k, v in theirs.items() if v > 0} <= found.keys()
    for name, value in theirs.items():
        if name in found and not name.endswith('k_proj.bias'):
            assert found[name].item() == pytest.approx(value.item(), rel=1e-3, abs=1e-9), name


def test_rates_of_the_epochs_are_the_releases():
    rates = rates_by_epoch(load_config(CONFIG).param_scheduler, one_rate(1e-4), 80)
    expected = [1e-5, 2.8e-5, 4.6e-5, 6.4e-5, 8.2e-5] + [1e-4] * 35 + [1e-5] * 30 + [1e-6] * 10
    assert sum(rates, []) == pytest.approx(expected)


def test_position_embeddings_are_resized_as_there():
    given = torch.from_numpy(arrays('batch')['pos_embed_in']).float()
    expected = arrays('expected')['load/pos_embed']
    found, _ = fit_grid(given, (4, 2) if len(expected) == 9 else (24, 8), square=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_weights_go_there_and_back_to_the_bit():
    check_way_back(official, official_state())


def test_linear_layers_of_the_encoders_start_apart_unless_told_otherwise():
    for restarts in (True, False):
        head = {'model.heads.moco.restarts_linear': restarts}
        model = MODELS.build(small_config(**head).model)
        slow = model.heads['moco'].slow.image.attnpool.q_proj
        fast = model.backbone.image.attnpool.q_proj
        assert torch.allclose(slow.weight, fast.weight) == (not restarts)
        assert torch.equal(
            model.heads['moco'].slow.image.conv1.weight, model.backbone.image.conv1.weight
        )
        assert torch.equal(
            model.heads['moco'].slow.text_projection.weight, model.backbone.text_projection.weight
        )


def test_a_queue_goes_round():
    moco = MODELS.build(small_config().model).heads['moco']
    for number in range(4):
        rows = torch.full((10, 16), float(number))
        moco._waiting.append((rows, rows, torch.full((10,), number)))
        moco.after_step()
    assert moco.pointer.item() == 40 % 24
    assert moco.identities.tolist() == [2] * 6 + [3] * 10 + [1] * 4 + [2] * 4
    assert torch.equal(moco.image_queue[0].long(), moco.identities)


class Rows(nn.Module):
    """Encoders whose embeddings are what they are given."""

    def forward(self, images, tokens):
        return PairFeatures(ImageFeatures(images), TextFeatures(tokens))


@pytest.mark.parametrize('chunks', [[range(7)], [range(3), range(3, 5), range(5, 7)]])
def test_a_batch_enters_the_queue_once_in_whatever_chunks_it_comes(chunks):
    torch.manual_seed(0)
    moco = MomentumQueueHead(size=10, spec=SimpleNamespace(embed_dim=4))
    moco.setup(Rows())
    batch = dict(images=torch.randn(7, 4), tokens=torch.randn(7, 4), labels=torch.arange(7))

    def run(rows):
        part = {name: value[list(rows)] for name, value in batch.items()}
        moco(Rows()(part['images'], part['tokens']), part, None)

    if len(chunks) == 1:
        run(chunks[0])
    else:
        gathered = GatheredChunks()
        for rows in chunks:
            with gathered.record():
                run(rows)
        for index, rows in enumerate(chunks):
            with gathered.replay(index, len(rows) / 7):
                run(rows)
    moco.after_step()
    assert moco.pointer.item() == 7
    assert moco.identities.tolist() == [*range(7), -1, -1, -1]
    assert_close(moco.image_queue[:, :7], F.normalize(batch['images']).t())
    assert_close(moco.text_queue[:, :7], F.normalize(batch['tokens']).t())


@pytest.mark.parametrize('training', [True, False])
def test_the_maximum_counts_padding_behind_the_shorter_captions(training):
    model = MODELS.build(small_config().model)
    encoder = model.backbone.text.train(training)
    assert isinstance(encoder, RecurrentTextEncoder)
    states = torch.full((2, 3, 4), -1.0)
    states[0, :, 0], states[0, 2] = 5, 0
    found = encoder.pool(states, torch.tensor([2, 3]))
    assert found[0].tolist() == [5, 0, 0, 0]
    assert found[1].tolist() == ([-1] * 4 if training else [0] * 4)
