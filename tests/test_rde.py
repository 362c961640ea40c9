"""RDE: losses and layers by a slow way, division, noise, training and resumption."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
import torch.distributed as dist
from closeness import assert_same
from mmengine.logging import MessageHub, MMLogger
from ranks import run_ranks
from tiny import all_features, as_tokens
from tiny_rde import golden_batch, rde_config
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from toy_data import NUM_CLASSES, ROOT, run_tool, toy_records, write_toy_data

from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.datasets import CUHKPEDES
from sen_toolbox.datasets.noise import swap_captions
from sen_toolbox.hooks.consensus_division import (
    CLEAN_PAIRS,
    EPOCH_DIVIDED,
    ConsensusDivisionHook,
    clean_pairs,
)
from sen_toolbox.models.features import (
    EMBEDDINGS,
    ImageSpec,
    PairFeatures,
    PairSpec,
    TextFeatures,
    TextSpec,
)
from sen_toolbox.registry import LOSSES, MODELS, NECKS

pytestmark = pytest.mark.numeric

FIT = dict(max_iterations=10, tolerance=1e-2, variance_floor=5e-4)
SPEC = PairSpec(6, ImageSpec(6, (8, 4)), TextSpec(6, 60, 12))


def small_rde(**kwargs) -> nn.Module:
    torch.manual_seed(0)
    return MODELS.build(rde_config(**kwargs))


def random_pairs(count=6, width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image, text = (
        torch.randn(count, width, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    return image, text, torch.arange(count) // 2


def slow_hinge(similarity, same, margin, temperature):
    """One direction of the alignment loss, anchor by anchor."""
    losses = []
    for row, mates in zip(similarity, same, strict=True):
        share = np.exp(row[mates] / temperature)
        positive = (share / share.sum() * row[mates]).sum()
        negative = temperature * np.log(np.exp(row[~mates] / temperature).sum())
        losses.append(max(0.0, margin - positive + negative))
    return np.array(losses)


def test_the_alignment_loss_equals_its_formula_anchor_by_anchor():
    image, text, labels = random_pairs()
    loss = LOSSES.build(dict(type='TripletAlignmentLoss', margin=0.2, temperature=0.1))
    cosine = nn.functional.normalize(text) @ nn.functional.normalize(image).t()
    same = (labels[:, None] == labels).numpy()
    expected = slow_hinge(cosine.numpy(), same, 0.2, 0.1)
    expected = expected + slow_hinge(cosine.t().numpy(), same, 0.2, 0.1)
    np.testing.assert_allclose(loss.per_pair(image, text, labels), expected, rtol=1e-9)
    weights = torch.tensor([1.0, 0, 1, 0, 0, 1])
    assert loss(image, text, labels, weights).item() == pytest.approx(expected[[0, 2, 5]].sum())
    assert loss(image, text, labels).item() == pytest.approx(expected.sum())


def test_a_batch_of_one_identity_has_no_alignment_loss_and_finite_gradients():
    image, text, _ = random_pairs(3)
    image.requires_grad_()
    loss = LOSSES.build(dict(type='TripletAlignmentLoss'))(image, text, torch.zeros(3))
    loss.backward()
    assert loss == 0
    assert image.grad.abs().sum() == 0


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(ValueError, match='temperature must be above 0, got 0'):
        LOSSES.build(dict(type='TripletAlignmentLoss', temperature=0))


def selection(ratio=0.5, num_tokens=8, width=4):
    torch.manual_seed(0)
    sizes = dict(num_tokens=num_tokens, in_width=6, width=width)
    return NECKS.build(dict(type='TokenSelection', ratio=ratio, **sizes, spec=SPEC)).eval()


@torch.no_grad()
def test_an_embedding_is_the_maximum_over_the_tokens_of_the_highest_score():
    neck = selection()
    tokens = torch.randn(2, 8, 6)
    score = torch.tensor(
        [[0.1, 0.5, 0.2, 0.9, 0.0, 0.3, 0.0, 0.0], [0.4, 0.4, 0, 0, 0, 0, 0, -1.0]]
    )
    embedding = neck(tokens, score, torch.tensor([6, 2]))
    # Four are chosen: 3, 1, 5, 2; of the second sample only two are there to choose from.
    for row, chosen in enumerate([[3, 1, 5, 2], [0, 1]]):
        unit = tokens[row, chosen] / tokens[row, chosen].norm(dim=1, keepdim=True)
        hidden = torch.relu(neck.norm(neck.hidden(unit)))
        expected = (neck.output(hidden) + neck.skip(unit)).max(dim=0).values
        assert_same(embedding[row], expected)


@torch.no_grad()
def test_of_equal_scores_the_earlier_token_is_chosen():
    tokens = torch.randn(1, 8, 6)
    first = selection(ratio=0.25)(tokens, torch.zeros(1, 8), torch.tensor([8]))
    alone = selection(ratio=0.25)(tokens[:, :2], torch.zeros(1, 2), torch.tensor([2]))
    assert_same(first, alone)


@torch.no_grad()
def test_more_tokens_may_be_asked_for_than_there_are():
    neck = selection(ratio=1.0)
    tokens, score = torch.randn(2, 3, 6), torch.rand(2, 3)
    few = neck(tokens, score, torch.tensor([3, 3]))
    assert few.shape == (2, 4)
    assert_same(few, neck(tokens, -score, torch.tensor([3, 3])))


@torch.no_grad()
def test_without_any_word_the_first_token_stands_for_the_caption():
    neck = selection()
    tokens, score = torch.randn(1, 8, 6), torch.zeros(1, 8)
    none = neck(tokens, score, torch.tensor([0]))
    assert_same(none, neck(tokens, score, torch.tensor([1])))


@pytest.mark.parametrize('ratio', [0, 1.1])
def test_a_ratio_beyond_a_share_is_refused(ratio):
    with pytest.raises(ValueError, match=f'ratio is a share above 0 and up to 1, got {ratio}'):
        selection(ratio=ratio)


def test_every_parameter_receives_a_gradient():
    model = small_rde()
    total, _ = model.parse_losses(model(mode='loss', **golden_batch()))
    total.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert without == []


def short_batch() -> dict:
    """Captions of no, one and three words in rows of six tokens; 58 starts, 59 ends."""
    rows = [[58, 59, 0, 0, 0, 0], [58, 7, 59, 0, 0, 0], [58, 3, 4, 5, 59, 0]]
    generator = torch.Generator().manual_seed(3)
    return dict(
        images=torch.randn(3, 3, 64, 32, generator=generator),
        tokens=as_tokens(torch.tensor(rows)),
        labels=torch.arange(3),
    )


def test_captions_of_no_or_one_word_give_finite_losses_and_gradients():
    model = small_rde()
    total, _ = model.parse_losses(model(mode='loss', **short_batch()))
    total.backward()
    assert total > 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@torch.no_grad()
def test_padding_changes_no_embedding():
    model, tokens = small_rde().eval(), short_batch()['tokens'][1:]
    longer = as_tokens(nn.functional.pad(tokens.ids, (0, 14)))
    assert_same(model.embed_text(tokens), model.embed_text(longer))


@torch.no_grad()
def test_words_are_those_between_the_first_and_the_last_token_whichever_stands_for_the_caption():
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(6) < torch.tensor([[5], [3]])
    features = TextFeatures(
        embedding=torch.randn(2, 64, generator=generator),
        tokens=torch.randn(2, 6, 64, generator=generator),
        attention=torch.rand(2, 6, generator=generator),
        mask=mask,
        end=torch.tensor([4, 2]),
    )
    [head] = (head for head in small_rde().heads.values() if hasattr(head, 'text_neck'))
    seen = []
    del head.text_neck
    head.text_neck = lambda tokens, score, count: seen.append((score, count.tolist()))
    for end in (features.end, torch.zeros(2, dtype=torch.long)):  # CLIP's rows and BERT's
        head.embed_text(PairFeatures(None, replace(features, end=end)))
    for score, count in seen:
        assert count == [3, 1]
        for row, words in enumerate(([1, 2, 3], [1])):
            assert sorted(score[row].argsort(descending=True)[: len(words)].tolist()) == words


@torch.no_grad()
def test_retrieval_scores_by_the_mean_of_both_similarities():
    model, batch = small_rde().eval(), golden_batch()
    batch['person_ids'], batch['image_of'] = batch['labels'], torch.tensor([0, 0, 2, 3, 4, 5])
    records = model(mode='predict', **batch)
    assert [len(record['text_embeddings']) for record in records] == [2, 0, 1, 1, 1, 1]
    image = torch.stack([record['image_embedding'] for record in records])
    text = torch.cat([record['text_embeddings'] for record in records])
    assert image.shape == text.shape == (6, 32 + 48)
    assert_same(image.norm(dim=1), torch.ones(6))
    pair = all_features(model, batch)
    head, unit = model.heads['tse'], nn.functional.normalize
    global_cosine = unit(pair.text.embedding) @ unit(pair.image.embedding).t()
    selected = unit(head.embed_text(pair)) @ unit(head.embed_image(pair)).t()
    assert_same(text @ image.t(), (global_cosine + selected) / 2)


@torch.no_grad()
def test_without_such_heads_retrieval_asks_the_backbone_for_pooled_tokens_alone():
    config = rde_config()
    model = MODELS.build({**config, 'heads': dict(bge=config['heads']['bge']),
                          'loss_weights': dict(bge=1.0)})  # fmt: skip
    batch = golden_batch()
    run = model.backbone.forward
    with mock.patch.object(model.backbone, 'forward', side_effect=run) as backbone:
        assert model.embed_images(batch['images']).shape == (6, 32)
        assert model.embed_text(batch['tokens']).shape == (6, 32)
    assert backbone.call_args_list
    assert {reads for (_, _, reads), _ in backbone.call_args_list} == {EMBEDDINGS}


@torch.no_grad()
def test_a_backbone_encodes_one_modality_without_the_other():
    backbone, batch = small_rde().backbone.eval(), golden_batch()
    both = backbone(batch['images'], batch['tokens'], backbone.provides)
    image = backbone(batch['images'], None, backbone.provides)
    text = backbone(None, batch['tokens'], backbone.provides)
    assert image.text is text.image is None
    for given, expected in ((image.image, both.image), (text.text, both.text)):
        for name in ('embedding', 'tokens', 'attention'):
            assert_same(getattr(given, name), getattr(expected, name))


class Objective(nn.Module):
    """RDE in double precision; its forward pass gives the losses."""

    def __init__(self):
        super().__init__()
        self.model = small_rde().double()

    def forward(self, batch):
        return self.model(mode='loss', **batch)


def double_batch():
    batch = golden_batch()
    return {**batch, 'images': batch['images'].double()}


def state_after_a_step(module, batch):
    losses = module(batch)
    sum(losses.values()).backward()
    found = {name: value.detach() for name, value in losses.items()}
    for name, parameter in module.named_parameters():
        found[f'gradient of {name.removeprefix("module.")}'] = parameter.grad
    for name, buffer in module.named_buffers():
        if '_neck.' in name:
            found[name.removeprefix('module.')] = buffer
    return found


def train_on_half(rank, folder):
    dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    half = slice(3 * rank, 3 * rank + 3)
    batch = {key: value[half] for key, value in double_batch().items()}
    module = DistributedDataParallel(Objective(), broadcast_buffers=False)
    torch.save(state_after_a_step(module, batch), f'{folder}/rank{rank}.pt')
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_losses_gradients_and_statistics_of_one(tmp_path):
    expected = state_after_a_step(Objective(), double_batch())
    assert expected['bge.loss'] > 0 < expected['tse.loss']
    run_ranks(train_on_half, str(tmp_path), ranks=2)
    for rank in range(2):
        found = torch.load(tmp_path / f'rank{rank}.pt')
        assert set(found) == set(expected)
        for name, value in expected.items():
            torch.testing.assert_close(
                found[name],
                value,
                rtol=1e-6,
                atol=1e-9,
                msg=lambda text, name=name: f'{name} {text}',
            )


def bimodal(count=100):
    """Losses of which the second half is high, and their order."""
    rng = np.random.default_rng(0)
    half = count // 2
    return np.concatenate([rng.normal(0.2, 0.05, half), rng.normal(2.0, 0.3, half)])


def test_an_obviously_bimodal_set_of_losses_is_divided_in_two():
    losses = bimodal()
    assert clean_pairs(losses, **FIT).tolist() == [True] * 50 + [False] * 50
    order = np.random.default_rng(1).permutation(100)
    assert (clean_pairs(losses[order], **FIT) == (order < 50)).all()


def test_equal_losses_are_all_clean():
    assert clean_pairs(np.full(7, 0.3), **FIT).all()


class GivenLosses(nn.Module):
    """A head whose losses are given by the index of the pair."""

    def __init__(self, losses):
        super().__init__()
        self.losses = torch.from_numpy(losses)

    def pair_losses(self, pair, batch):
        return self.losses[batch['sample_idx']]


class Loader(list):
    """Batches of four of the pairs."""

    def __init__(self, indices, size):
        super().__init__(
            dict(images=None, tokens=None, sample_idx=part) for part in indices.split(4)
        )
        self.dataset = range(size)


def stub_runner(first, second, epoch=0, indices=None):
    size = len(first)
    model = nn.Module()
    model.data_preprocessor = lambda batch, training: batch
    model.backbone = lambda images, tokens, reads: None
    model.reads = frozenset()
    model.heads = nn.ModuleDict(dict(a=GivenLosses(first), b=GivenLosses(second)))
    hub = MessageHub(f'division {epoch}')
    return SimpleNamespace(
        model=model,
        optim_wrapper=SimpleNamespace(optim_context=lambda model: nullcontext()),
        train_dataloader=Loader(torch.randperm(size) if indices is None else indices, size),
        message_hub=hub,
        epoch=epoch,
        seed=1,
        logger=MMLogger('division'),
    )


def divide(runner):
    hook = ConsensusDivisionHook(heads=['a', 'b'])
    hook.before_train_epoch(runner)
    return hook, runner.message_hub.get_info(CLEAN_PAIRS)


def test_agreement_decides_and_a_coin_decides_on_the_rest():
    first = bimodal(400)
    second = np.roll(first, 100)  # high in 0..99 and 300..399
    _, clean = divide(stub_runner(first, second))
    assert clean[100:200].all()
    assert not clean[300:].any()
    undecided = torch.cat([clean[:100], clean[200:300]]).sum().item()
    assert 70 < undecided < 130  # of 200 coins; four standard deviations are 28
    _, again = divide(stub_runner(first, second))
    _, later = divide(stub_runner(first, second, epoch=1))
    assert torch.equal(clean, again)
    assert not torch.equal(clean, later)


def test_pairs_that_were_not_drawn_count_as_clean():
    losses = bimodal()
    _, clean = divide(stub_runner(losses, losses, indices=torch.arange(20, 80)))
    assert clean.tolist() == [True] * 50 + [False] * 30 + [True] * 20


def test_batches_get_the_weights_of_their_pairs():
    losses = bimodal()
    runner = stub_runner(losses, losses)
    hook, _ = divide(runner)
    batch = dict(sample_idx=torch.tensor([60, 3, 99]))
    hook.before_train_iter(runner, 0, batch)
    assert batch['pair_weights'].tolist() == [0.0, 1.0, 0.0]


def test_the_division_of_this_epoch_is_kept_and_one_of_another_is_not():
    losses = bimodal()
    runner = stub_runner(losses, losses, epoch=3)
    kept = torch.zeros(100, dtype=torch.bool)
    for divided, expected in ((3, 0), (2, 50)):
        runner.message_hub.update_info(CLEAN_PAIRS, kept)
        runner.message_hub.update_info(EPOCH_DIVIDED, divided)
        assert divide(runner)[1].sum() == expected


def test_a_pipeline_without_sample_indices_is_told_what_it_lacks():
    runner = stub_runner(bimodal(), bimodal())
    del runner.train_dataloader[0]['sample_idx']
    with pytest.raises(KeyError, match=r'end the training pipeline with PackPair\(per_image='):
        divide(runner)


def test_several_captions_of_an_image_are_not_divided():
    runner = stub_runner(bimodal(), bimodal())
    runner.train_dataloader[0] |= dict(tokens=range(6), image_of=torch.arange(4))
    with pytest.raises(ValueError, match='one caption each, got 6 captions of 4 images'):
        divide(runner)


def numbered_pairs(count=41):
    return [dict(person_id=i // 3, captions=[f'c{i}'], pruned=[f'p{i}']) for i in range(count)]


@pytest.mark.parametrize(('rate', 'chosen'), [(0.0, 0), (0.2, 8), (0.5, 20), (0.8, 32), (1.0, 41)])
def test_a_share_of_the_captions_is_shuffled_among_their_pairs(rate, chosen):
    pairs = numbered_pairs()
    noisy, swapped = swap_captions(pairs, rate=rate, seed=0)
    assert sorted(p['captions'][0] for p in noisy) == sorted(p['captions'][0] for p in pairs)
    assert [p['person_id'] for p in noisy] == [p['person_id'] for p in pairs]
    assert all(p['pruned'][0][1:] == p['captions'][0][1:] for p in noisy)
    moved = sum(a['captions'] != b['captions'] for a, b in zip(pairs, noisy, strict=True))
    assert moved == swapped <= chosen
    assert swapped >= chosen - 5
    assert pairs == numbered_pairs()


def test_noise_depends_on_its_seed_alone():
    first, again, other = (
        swap_captions(numbered_pairs(), rate=0.5, seed=seed)[0] for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    return write_toy_data(tmp_path_factory.mktemp('rde') / 'data')


@pytest.mark.slow
def test_the_data_set_swaps_captions_for_training_and_says_how_many(data_root):
    clean, noisy = (
        CUHKPEDES(data_root=data_root, split='train', noise_rate=rate) for rate in (0.0, 0.5)
    )
    assert clean.metainfo['num_swapped'] == 0
    changed = [
        i
        for i in range(len(clean))
        if clean.get_data_info(i)['captions'] != noisy.get_data_info(i)['captions']
    ]
    swapped = noisy.metainfo['num_swapped']
    # A few swapped captions read like the one they replace.
    assert 10 < len(changed) <= swapped <= len(clean) // 2
    assert 'num_swapped' not in CUHKPEDES(data_root=data_root, split='val').metainfo


@pytest.mark.parametrize('place', [dict(split='val'), dict(split='train', test_mode=True)])
def test_noise_outside_training_is_refused(data_root, place):
    with pytest.raises(ValueError, match='noise_rate is for training alone, got 0.2'):
        CUHKPEDES(data_root=data_root, noise_rate=0.2, **place)


def test_a_noise_rate_above_one_is_refused(data_root):
    with pytest.raises(ValueError, match=r'noise_rate must be in 0..1, got 1.5'):
        CUHKPEDES(data_root=data_root, split='train', noise_rate=1.5)


TOY_RDE = """
_base_ = '{base}'
data_root = '{data_root}'
num_classes = {num_classes}
batch_size = 8
num_workers = 0
max_epochs = 2
param_scheduler = [dict(type='CosineAnnealingLR', end='$max_epochs')]
image_size = (64, 32)
context_length = 24
pretrained = None
clip_arch = dict(
    _delete_=True,
    embed_dim=64,
    quick_gelu=True,
    vision_cfg=dict(layers=1, width=64, patch_size=16),
    text_cfg=dict(layers=1, width=64, heads=1, context_length=24, vocab_size=49408))
model = dict(heads=dict(tse=dict(neck=dict(width=32))))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_dataloader = dict(dataset=dict(noise_rate=0.5))
default_hooks = dict(checkpoint=dict(every_iters=4))
"""


def toy_config(folder, data_root, name):
    path = folder / f'{name}.py'
    path.write_text(
        TOY_RDE.format(
            base=ROOT / 'configs/rde/rde_vitb_cuhk.py',
            data_root=data_root,
            num_classes=NUM_CLASSES,
        )
    )
    return path


class Killed(BaseException):
    """Ends a run as a signal does."""


@pytest.mark.slow
def test_a_run_killed_within_an_epoch_ends_with_the_division_and_weights_of_a_whole_one(
    tmp_path, data_root, capfd
):
    whole, killed = (toy_config(tmp_path, data_root, name) for name in ('whole', 'killed'))
    run_tool('train', whole, '--work-dir', tmp_path / 'whole')
    output = ''.join(capfd.readouterr())
    pairs = len(toy_records()[: NUM_CLASSES * 2 - 1]) * 2
    assert f'of {pairs} training pairs have the caption of another pair' in output
    assert output.count(f'of {pairs} pairs count as clean') == 2

    # An epoch has 6 batches, so the checkpoint of iteration 8 lies within epoch 2.
    step = ConsensusDivisionHook.before_train_iter

    def kill(hook, runner, batch_idx, data_batch=None):
        if runner.iter == 9:
            raise Killed
        step(hook, runner, batch_idx, data_batch)

    with (
        mock.patch.object(ConsensusDivisionHook, 'before_train_iter', kill),
        pytest.raises(Killed),
    ):
        run_tool('train', killed, '--work-dir', tmp_path / 'killed')
    capfd.readouterr()
    run_tool('train', killed, '--work-dir', tmp_path / 'killed', '--resume')
    assert 'pairs count as clean' not in ''.join(capfd.readouterr())
    ends = [load_checkpoint_file(tmp_path / n / 'epoch_2.pth') for n in ('whole', 'killed')]
    for key, value in ends[0]['state_dict'].items():
        assert torch.equal(value, ends[1]['state_dict'][key]), key
    first, second = (end['message_hub']['runtime_info'] for end in ends)
    assert first[EPOCH_DIVIDED] == 1
    assert first[CLEAN_PAIRS].shape == (pairs,)
    assert 0 < first[CLEAN_PAIRS].sum() < pairs
    assert torch.equal(first[CLEAN_PAIRS], second[CLEAN_PAIRS])
