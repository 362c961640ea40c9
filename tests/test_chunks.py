"""A batch in chunks against the batch in one piece, and recomputed activations."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from tiny_methods import (
    CONFIGS,
    build_model,
    build_optim_wrapper,
    fix_noise,
    has_batch_norm,
    has_part_of_kind,
    pair_batch,
    parts_of_kind,
    step_and_gradients,
    tiny_config,
    with_several_captions,
)
from torch import nn

from sen_toolbox.models.blocks import Block
from sen_toolbox.models.chunking import require_chunkable
from sen_toolbox.models.gather import GatheredChunks, gather, widened
from sen_toolbox.models.text_encoders import RecurrentTextEncoder, TwoLSTMs

pytestmark = pytest.mark.numeric

SIZE = 10
# Captions of each image, so that no two chunks have the same share of images and of captions.
CAPTIONS = [3, 1, 1, 4, 1]


def step(method, *, chunks=1, dtype=None, model=None, captions=None):
    """What a step logs, its gradients and the optimiser's wrapper."""
    config = tiny_config(method)
    model = model or build_model(config, chunks=chunks)
    batch, noise = pair_batch(SIZE, seed=1)
    if captions:
        batch = with_several_captions(batch, captions)
    fix_noise(model, noise)
    options = dict(type='AutocastOptimWrapper', dtype=dtype) if dtype else {}
    if dtype:
        model.float()
    wrapper = build_optim_wrapper(config, model, **options)
    if dtype == 'float16':
        # The usual start of 65536 overflows here and is halved in later steps.
        wrapper.loss_scaler = torch.amp.GradScaler('cpu', init_scale=64.0)
    return *step_and_gradients(model, wrapper, batch), wrapper


def assert_chunks_change_nothing(method, all_chunks, **batch):
    if has_batch_norm(method):
        with pytest.raises(ValueError, match='chunks must be 1'):
            build_model(tiny_config(method), chunks=all_chunks[0])
        return
    logged, gradients, _ = step(method, **batch)
    for chunks in all_chunks:
        chunked_logged, chunked_gradients, _ = step(method, chunks=chunks, **batch)
        assert list(chunked_logged) == list(logged)
        for name, value in logged.items():
            torch.testing.assert_close(
                chunked_logged[name], value, rtol=1e-9, atol=1e-9, msg=f'{name}, {chunks}'
            )
        for name, gradient in gradients.items():
            torch.testing.assert_close(
                chunked_gradients[name], gradient, rtol=1e-7, atol=1e-9, msg=f'{name}, {chunks}'
            )


def test_methods_of_both_kinds_are_found():
    assert not has_batch_norm('sen')
    assert not has_batch_norm('irra')
    assert any(map(has_batch_norm, CONFIGS))


@pytest.mark.slow
@pytest.mark.parametrize('method', CONFIGS)
def test_chunks_give_the_numbers_and_the_gradient_of_one_piece(method):
    # 7 pieces of 10 differ in size; there are at most 10
    assert_chunks_change_nothing(method, (2, 4, 7, 2 * SIZE))


@pytest.mark.slow
@pytest.mark.parametrize('method', CONFIGS)
def test_chunks_of_images_with_several_captions_give_the_numbers_of_one_piece(method):
    assert sum(CAPTIONS) == SIZE
    assert_chunks_change_nothing(method, (2, 3, len(CAPTIONS)), captions=CAPTIONS)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_chunks_work_in_mixed_precision(dtype):
    logged, gradients, _ = step('sen', dtype=dtype)
    chunked_logged, chunked_gradients, wrapper = step('sen', chunks=3, dtype=dtype)
    scale = wrapper.loss_scaler.get_scale()
    assert scale == (64 if dtype == 'float16' else 1)
    torch.testing.assert_close(chunked_logged['loss'], logged['loss'], rtol=1e-2, atol=0)
    for name, gradient in gradients.items():
        assert gradient.isfinite().all()
        assert chunked_gradients[name].isfinite().all()
        # Rounded at other places; a weight cast without gradient would have none.
        difference = (chunked_gradients[name] - gradient).norm()
        assert difference <= 0.1 * gradient.norm() + 1e-4 * scale, name


def test_masks_and_dropout_repeat_between_the_passes(monkeypatch):
    config = tiny_config('sen')
    model = build_model(config, chunks=3)
    encoder = model.backbone.image
    encoder.ln_pre = nn.Sequential(encoder.ln_pre, nn.Dropout(0.5))
    head, noises, seen = model.heads['restoration'], [], []
    draw = head.draw_noise

    def keep_noise(count, device):
        noises.append(draw(count, device))
        return noises[-1]

    exchange = GatheredChunks.exchange

    def keep_tensor(chunks, tensor):
        seen.append(tensor.detach().clone())
        return exchange(chunks, tensor)

    head.draw_noise = keep_noise
    monkeypatch.setattr(GatheredChunks, 'exchange', keep_tensor)
    batch, _ = pair_batch(SIZE, seed=1)
    model.train_step(batch, build_optim_wrapper(config, model))
    for both in (noises, seen):
        first, second = both[: len(both) // 2], both[len(both) // 2 :]
        assert len(first) >= 3
        for before, after in zip(first, second, strict=True):
            assert torch.equal(before, after)
    assert not torch.equal(noises[0], noises[1])


def test_a_chunk_sees_the_others_as_constants():
    rows = torch.arange(6.0).view(6, 1)
    weight = torch.tensor(2.0, requires_grad=True)
    chunks, parts = GatheredChunks(), rows.split([3, 2, 1])

    with torch.no_grad():
        for part in parts:
            with chunks.record():
                gather(part * weight)
    for index, part in enumerate(parts):
        with chunks.replay(index, len(part) / 6):
            x = gather(part * weight)
        torch.testing.assert_close(x, rows * 2)
        ((x @ x.t()).sum() * len(part) / 6).backward()
    # The sum of all products is (15 w)^2.
    torch.testing.assert_close(weight.grad, torch.tensor(2 * 15.0**2 * 2))


@pytest.mark.parametrize(
    ('dtype', 'wide'),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_what_losses_compare_has_at_least_single_precision(dtype, wide):
    assert widened(torch.ones(2, 3, dtype=dtype)).dtype == wide


@pytest.mark.parametrize('method', CONFIGS)
def test_a_model_with_batch_norm_alone_is_refused(method):
    config = tiny_config(method)
    norms = parts_of_kind(build_model(config), nn.modules.batchnorm._BatchNorm)
    if not norms:
        assert build_model(config, chunks=2).chunks == 2
        return
    name = next(iter(norms))
    with pytest.raises(ValueError, match=rf'chunks must be 1: {name} is a GlobalBatchNorm'):
        build_model(config, chunks=2)


@pytest.mark.parametrize('encoder', [partial(RecurrentTextEncoder, pooling='padded_max'), TwoLSTMs])
def test_captions_that_see_how_long_the_others_are_are_refused(encoder):
    model = nn.Sequential(encoder(tokenizer=SimpleNamespace(vocab_size=3, context_length=4)))
    kind = type(model[0]).__name__
    with pytest.raises(ValueError, match=f'chunks must be 1: 0 is a {kind}, which'):
        require_chunkable(model)


def test_no_chunk_at_all_is_refused():
    with pytest.raises(ValueError, match='chunks must be at least 1, got 0'):
        build_model(tiny_config('sen'), chunks=0)


def test_chunks_and_accumulation_exclude_each_other():
    config = tiny_config('clip')
    model = build_model(config, chunks=2)
    wrapper = build_optim_wrapper(config, model, accumulative_counts=2)
    with pytest.raises(ValueError, match='chunks and accumulative_counts exclude each other'):
        model.train_step(pair_batch(4, seed=1)[0], wrapper)


@pytest.mark.parametrize(('name', 'rows'), [('tokens', 8), ('labels', 3), ('further', 5)])
def test_rows_that_belong_to_no_image_are_refused(name, rows):
    config = tiny_config('clip')
    model = build_model(config, chunks=2)
    given, _ = pair_batch(8, seed=1)
    batch = {key: value[:4] for key, value in given.items()}
    batch[name] = given['tokens' if name == 'tokens' else 'labels'][:rows]
    message = rf"of 4 images and 4 captions there are \{{'{name}': {rows}\}}.*without image_of"
    with pytest.raises(ValueError, match=message):
        model.train_step(batch, build_optim_wrapper(config, model))


def test_rows_that_belong_to_no_caption_are_refused():
    config = tiny_config('clip')
    model = build_model(config, chunks=2)
    batch = with_several_captions(pair_batch(SIZE, seed=1)[0], CAPTIONS)
    batch['word_labels'] = batch['word_labels'][:7]
    message = r"of 5 images and 10 captions there are \{'word_labels': 7\}"
    with pytest.raises(ValueError, match=message):
        model.train_step(batch, build_optim_wrapper(config, model))


@pytest.mark.slow
@pytest.mark.parametrize('method', CONFIGS)
def test_recomputed_activations_give_the_same_bits(method, monkeypatch):
    if not has_part_of_kind(method, Block):
        with pytest.raises(ValueError, match='checkpoint_activations'):
            build_model(tiny_config(method), checkpoint_activations=True)
        return
    recomputed = set()
    original = torch.utils.checkpoint.checkpoint

    def noted(block, *args, **kwargs):
        recomputed.add(block)
        return original(block, *args, **kwargs)

    monkeypatch.setattr('sen_toolbox.models.blocks.checkpoint', noted)
    logged, gradients, _ = step(method)
    assert not recomputed
    model = build_model(tiny_config(method), checkpoint_activations=True)
    logged_again, gradients_again, _ = step(method, model=model)
    # Those of the heads too.
    assert recomputed == {part for part in model.modules() if isinstance(part, Block)}
    assert logged_again == logged
    for name, gradient in gradients.items():
        assert torch.equal(gradients_again[name], gradient), name


@pytest.mark.parametrize(('method', 'head'), [('sen', 'restoration'), ('irra', 'mlm')])
def test_recomputed_dropout_repeats_its_draws(method, head):
    found = []
    for checkpointed in (False, True):
        model = build_model(tiny_config(method), checkpoint_activations=checkpointed)
        for tower in (model.backbone.image.transformer, model.heads[head].neck.transformer):
            tower.resblocks[0].ls_1 = nn.Dropout(0.5)
        torch.manual_seed(0)
        found.append(step(method, model=model))
    (logged, gradients, _), (logged_again, gradients_again, _) = found
    assert logged_again == logged
    for name, gradient in gradients.items():
        assert torch.equal(gradients_again[name], gradient), name
