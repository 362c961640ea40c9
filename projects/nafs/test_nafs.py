"""NAFS computes what the official code computes.

data/*.npz: github.com/TencentYoutuResearch/PersonReID-NAFS, commit efaf47779ec5, in float32 on a
CPU with small widths, without dropout, stripes in given orders.
"""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from parity import LOSS, check_array, check_norms, load_arrays, relative_error
from tiny import build_optimizer
from tiny_methods import replace_vocabularies

from projects.nafs.attention import local_similarity
from projects.nafs.release_reranking import released_bonus
from sen_toolbox.checkpoint.layouts import load_layout
from sen_toolbox.config import load_config
from sen_toolbox.evaluation.reranking import neighbour_overlap
from sen_toolbox.registry import IMAGE_ENCODERS, MODELS, PARAM_SCHEDULERS, TOKENIZERS
from sen_toolbox.text.tokens import Tokens

pytestmark = pytest.mark.numeric

HERE = Path(__file__).parent
CONFIG = HERE / 'configs/nafs_r50_cuhk.py'
LAYOUT = load_layout(HERE / 'official.py')
WORDPIECE = HERE.parents[1] / 'tests' / 'data' / 'wordpiece.json'
BERT = dict(
    vocab_size=110, hidden_size=48, num_hidden_layers=2, num_attention_heads=2,
    intermediate_size=64, max_position_embeddings=100)  # fmt: skip
SIZES = {
    'image_size': (96, 48),
    'num_classes': 9,
    'model.backbone.embed_dim': 48,
    'model.backbone.image.depth': dict(
        block='bottleneck', blocks=(1, 1, 2, 1), widths=(4, 8, 16, 32), stem=16
    ),
    'model.backbone.image.pretrained': None,
    'model.backbone.text.config': BERT,
    'model.backbone.text.pretrained': None,
    'model.backbone.text.dropout': 0.0,
}


def arrays(*names):
    return load_arrays(*(HERE / 'data' / f'{name}.npz' for name in names))


BATCH, EXPECTED = arrays('batch'), arrays('expected')


def official_state():
    state = arrays('state', 'state_image')
    return {key: torch.from_numpy(value) for key, value in state.items()}


def batch():
    given = {key: torch.from_numpy(value) for key, value in BATCH.items()}
    ids = torch.cat([given['tokens'], given['clause_tokens'].view(6, 200)], dim=1)
    mask = torch.cat([given['attention_mask'], given['clause_attention_mask'].view(6, 200)], dim=1)
    images = given['images_uint8'].float() / 64 - 2
    tokens = Tokens(ids, mask.bool(), torch.zeros(6, dtype=torch.long))
    return dict(images=images, tokens=tokens, labels=given['pids'])


def official_model():
    """The shipped model with the official weights and the recorded orders of stripes."""
    model = MODELS.build(load_config(CONFIG, SIZES).model)
    model.load_state_dict(LAYOUT.from_official(official_state()))
    orders = {len(order): order for order in (BATCH['p2'].tolist(), BATCH['p3'].tolist())}
    model.backbone.image.draw_order = orders.__getitem__
    return model


def check(found, name, tolerance=1e-5):
    expected = EXPECTED[name]
    found = found.detach()[: len(expected)] if expected.ndim else found.detach()
    check_array(found, expected, tolerance, name)


@torch.no_grad()
def test_every_feature_equals_the_official_one_in_evaluation():
    model, given = official_model().eval(), batch()
    head = model.heads['local']
    reads = head.reads | {'image.embedding'}
    plain = model.backbone.image(given['images'], frozenset({'extra.stripes'}))
    check(plain.embedding, 'eval/branch1')
    check(plain.extra['stripes'][:, :3], 'eval/branch2')
    check(plain.extra['stripes'][:, 3:], 'eval/branch3')
    pair = model.backbone(given['images'], given['tokens'], reads)
    seen = given['tokens'].mask[:2, :100, None]
    check_array(pair.text.tokens[:2] * seen, EXPECTED['eval/bert'] * seen.numpy())
    check(pair.text.extra['clauses'].flatten(0, 1), 'eval/bert_clause_cls')
    check(pair.image.embedding, 'eval/image_global')
    check(pair.text.embedding, 'eval/text_global')
    regions, words = head.regions(pair), head.words(pair)
    check(regions.queries, 'eval/image_query')
    check(regions.values, 'eval/image_value')
    check(words.keys, 'eval/text_key')
    check(words.values, 'eval/text_value')


@torch.no_grad()
def test_training_reads_no_padding_behind_clauses_and_finds_the_same():
    text, tokens = official_model().backbone.text, batch()['tokens']
    columns, reads = [], frozenset({'tokens', 'extra.clauses'})
    text.embeddings.register_forward_hook(lambda *call: columns.append(call[2].shape[1]))
    whole, cut = text.eval()(tokens, reads), text.train()(tokens, reads)
    longest = tokens.mask[:, 100:].unflatten(1, (2, -1)).sum(dim=2).max().item()
    assert longest < 100
    assert columns == [100, 100, longest]
    check_array(cut.tokens, whole.tokens.numpy())
    check_array(cut.extra['clauses'], whole.extra['clauses'].numpy())


@torch.no_grad()
def test_the_score_adds_the_official_local_and_global_similarities():
    model, given = official_model().eval(), batch()
    head = model.heads['local']
    pair = model.backbone(given['images'], given['tokens'], head.reads)
    images, texts = head.candidate_image(pair), head.candidate_text(pair)
    check(head.score(texts, images.expand(6, -1, -1)).t(), 'eval/score')
    regions = type(head.regions(pair))(*(x[None] for x in head.regions(pair)))
    check(local_similarity(head.words(pair), regions, 20.0).t(), 'eval/local_i2t')
    check(
        model.embed_images(given['images']) @ model.embed_text(given['tokens']).t(),
        'eval/global_similarity',
    )


@pytest.fixture(scope='module')
def trained():
    """The model after a backward pass, its features, and what it logged."""
    model, given = official_model().train(), batch()
    features = {}
    head = model.heads['local']
    own = head.forward

    def keep(pair, *rest):
        features.update(pair=pair, regions=head.regions(pair), words=head.words(pair))
        return own(pair, *rest)

    head.forward = keep
    logged = model(**given, mode='loss')
    model.parse_losses(logged)[0].backward()
    return model, features, logged


def test_every_feature_equals_the_official_one_in_training(trained):
    _, features, _ = trained
    # Rounding alone gives 3e-6 of the largest number.
    check(features['pair'].image.embedding, 'train/image_global', 2e-5)
    check(features['pair'].text.embedding, 'train/text_global', 2e-5)
    for name, found in zip(('image_query', 'image_value'), features['regions'], strict=True):
        check(found, f'train/{name}', 2e-5)
    for name, found in zip(('text_key', 'text_value'), features['words'][:2], strict=True):
        check(found, f'train/{name}', 2e-5)


def test_each_term_of_the_loss_equals_the_official_one(trained):
    model, _, logged = trained
    for head, official in (('cmpm', 'cmpm'), ('cmpc', 'cmpc'), ('local', 'contrastive_unweighted')):
        found = logged[f'{head}.loss'].item() / model.loss_weights[head]
        assert found == pytest.approx(EXPECTED[f'loss/{official}'].item(), **LOSS)
    total = model.parse_losses(logged)[0].item()
    assert total == pytest.approx(EXPECTED['loss/total'].item(), rel=2e-6)
    for side in ('image', 'text'):
        assert logged[f'cmpc.{side}_acc'].item() == pytest.approx(EXPECTED[f'acc/{side}'].item())


def official_names(values, model):
    return LAYOUT.to_official(values, model)


def test_every_gradient_equals_the_official_one(trained):
    model, _, _ = trained
    found = official_names({name: p.grad for name, p in model.named_parameters()}, model)
    norms = dict(zip(EXPECTED['gradnorm/names'].tolist(), EXPECTED['gradnorm/values'], strict=True))
    scale = max(norms.values())
    # The release has no gradient for the biases of both norms, which our rates keep as they are.
    assert set(norms) <= set(found)
    assert set(found) - set(norms) == {'bottleneck_image.bias', 'bottleneck_text.bias'}
    # A bias before a norm, and one that a softmax takes away, have rounding for a gradient.
    check_norms(found, norms, norms.values(), absolute=2e-6 * scale)
    full = [key for key in EXPECTED if key.startswith('grad/')]
    assert len(full) == 17
    for key in full:
        ours = found[key.removeprefix('grad/').removesuffix('[:8]')]
        ours = ours[:8] if key.endswith('[:8]') else ours
        assert relative_error(ours.reshape(EXPECTED[key].shape), EXPECTED[key]) < 2e-4, key


def test_a_step_leaves_the_official_statistics(trained):
    model, _, _ = trained
    found = official_names(model.state_dict(), model)
    before = official_state()
    after = [key for key in EXPECTED if key.startswith('after/')]
    assert len(after) == 12
    for key in after:
        name = key.removeprefix('after/')
        value = found[name]
        for projection, norm in LAYOUT.PROJECTIONS.items():
            if name == f'{norm}.running_mean':
                value = value + before[f'{projection}.bias'].float()
        if not name.endswith('num_batches_tracked'):
            check(value, key)


def test_three_steps_of_the_optimiser_are_the_official_ones():
    # Each at the rate of the next epoch.
    model = official_model().train()
    config = load_config(CONFIG, SIZES)
    schedules, optimizer = schedule_of(config, model)
    for number, official in enumerate(EXPECTED['optim/losses']):
        total, _ = model.parse_losses(model(**batch(), mode='loss'))
        assert total.item() == pytest.approx(official, rel=2e-5), number
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        for scheduler in schedules:
            scheduler.step()
        if number == 1:
            found = official_names(model.state_dict(), model)
            for key in (key for key in EXPECTED if key.startswith('step2/')):
                check(found[key.removeprefix('step2/')], key)


def schedule_of(config, model):
    config.optim_wrapper.optimizer.pop('fused', None)
    optimizer = build_optimizer(config.optim_wrapper, model)
    schedules = [
        PARAM_SCHEDULERS.build(dict(scheduler), default_args=dict(optimizer=optimizer))
        for scheduler in config.param_scheduler
    ]
    return schedules, optimizer


def test_rates_of_all_epochs_are_the_official_ones():
    config = load_config(CONFIG)
    replace_vocabularies(dict(config))
    with torch.device('meta'):
        model = MODELS.build(config.model)
    schedules, optimizer = schedule_of(config, model)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = {}
    for group in optimizer.param_groups:
        for parameter in group['params']:
            name = names[id(parameter)]
            groups[name] = group
            decays = name.startswith('backbone.image.')
            assert group['weight_decay'] == (4e-5 if decays else 0), name
    places = [
        'heads.cmpc.weight',
        'backbone.image.conv1.weight',
        'backbone.text.embeddings.LayerNorm.bias',
    ]
    rates = []
    for _ in range(60):
        rates.append([groups[name]['lr'] for name in places])
        for scheduler in schedules:
            scheduler.step()
    np.testing.assert_allclose(rates, EXPECTED['optim/lr_by_epoch'], rtol=1e-6)
    assert groups['backbone.image_projection.norm.bias']['lr'] == 0


def test_visual_neighbours_are_those_that_the_release_means():
    similarity = torch.from_numpy(EXPECTED['rerank/similarity']).t().double()
    images = torch.from_numpy(EXPECTED['rerank/image_similarity']).double()
    overlap = neighbour_overlap(similarity, images)
    np.testing.assert_allclose(overlap, EXPECTED['rerank/intended_iou'], atol=1e-6)
    score = similarity + overlap
    np.testing.assert_allclose(score, EXPECTED['rerank/intended_score'], rtol=1e-5, atol=1e-6)


def shares_within(scores, query_ids, item_ids):
    """Percent of the queries with a right item among the best 1, 5 and 10."""
    right = item_ids[scores.argsort(dim=1, descending=True)] == query_ids[:, None]
    return [right[:, :k].any(dim=1).double().mean().item() * 100 for k in (1, 5, 10)]


def test_the_re_ranking_of_the_release_gives_its_figures():
    given = {k: torch.from_numpy(v) for k, v in EXPECTED.items() if k.startswith('rerank/')}
    similarity, images = given['rerank/similarity'].double(), given['rerank/image_similarity']
    bonus = released_bonus(similarity, images.double())
    np.testing.assert_allclose(bonus, given['rerank/official_bonus'], atol=1e-6)
    people, captions = given['rerank/image_pids'], given['rerank/caption_pids']
    plain = shares_within(similarity.t(), captions, people)
    np.testing.assert_allclose(plain, given['rerank/plain_t2i'], rtol=1e-6)
    score = similarity + bonus
    assert shares_within(score, people, captions) == pytest.approx(
        given['rerank/official_i2t'].tolist(), rel=1e-6
    )
    assert shares_within(score.t(), captions, people) == pytest.approx(
        given['rerank/official_t2i'].tolist(), rel=1e-6
    )


def clause_tokenizer(length=300):
    vocabulary = json.loads(WORDPIECE.read_text())['vocabulary']
    words = dict(type='WordPieceTokenizer', vocabulary=vocabulary)
    return TOKENIZERS.build(dict(type='ClauseTokenizer', context_length=length, tokenizer=words))


def test_clauses_are_the_official_ones():
    given = json.loads(WORDPIECE.read_text())
    clauses = json.loads((HERE / 'data' / 'clauses.json').read_text())['clauses']
    tokens = clause_tokenizer()(given['captions'])
    assert tokens.ids.shape == (12, 300)
    for number, (ids, mask) in enumerate(zip(tokens.ids, tokens.mask, strict=True)):
        rows = [
            part[seen].tolist()
            for part, seen in zip(np.split(ids, 3), np.split(mask, 3), strict=True)
        ]
        if number == 7:  # "[SEP]" in a caption is text here
            continue
        assert rows == [given['tokens'][number], *clauses[2 * number : 2 * number + 2]]


def test_clauses_end_at_no_unknown_word():
    pieces = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'a', '.']
    words = dict(type='WordPieceTokenizer', vocabulary=pieces)
    tokenizer = TOKENIZERS.build(dict(type='ClauseTokenizer', context_length=30, tokenizer=words))
    assert tokenizer.clauses(tokenizer.encode('a, a! a. a')) == [[5, 1, 5, 1, 5], [5]]
    assert tokenizer([]).ids.shape == (0, 30)


def test_a_row_that_three_parts_do_not_share_is_refused():
    with pytest.raises(ValueError, match='a multiple of 3, got 301'):
        clause_tokenizer(301)


@torch.no_grad()
def test_stripes_come_back_in_their_places_whatever_their_order():
    torch.manual_seed(0)
    depth = dict(block='basic', blocks=(1, 1, 1, 1), widths=(4, 4, 4, 4), stem=4)
    options = dict(type='StaircaseResNet', depth=depth, image_size=(64, 32), last_stride=1)
    encoder = IMAGE_ENCODERS.build(options)
    for number, (height, order) in enumerate(itertools.product((8, 12), ([2, 0, 1], [1, 2, 0]))):
        encoder.draw_order = lambda count, order=order: order
        x = torch.arange(height).float()[None, None, :, None].expand(2, 4, height, 3)
        halves = torch.nn.AvgPool2d((2, 1))
        expected = encoder.eval()._means(x, 3, 2, halves)
        found = encoder.train()._means(x, 3, 2, halves)
        torch.testing.assert_close(found, expected, msg=str(number))
    with pytest.raises(ValueError, match='an even number of rows, from 6 up, got 5'):
        IMAGE_ENCODERS.build({**options, 'image_size': (40, 32)})


@pytest.mark.parametrize('prefix', ['', 'backbone.image.'])  # torchvision's file, a checkpoint
def test_weights_of_a_resnet_begin_the_further_stages(prefix, tmp_path):
    torch.manual_seed(0)
    depth = dict(block='basic', blocks=(1, 1, 1, 1), widths=(4, 4, 4, 4), stem=4)
    options = dict(depth=depth, image_size=(96, 32), last_stride=1)
    plain = IMAGE_ENCODERS.build(dict(type='ResNet', **options))
    state = {f'{prefix}{name}': value for name, value in plain.state_dict().items()}
    torch.save(dict(state_dict=state) if prefix else state, tmp_path / 'resnet.pth')
    encoder = IMAGE_ENCODERS.build(
        dict(type='StaircaseResNet', pretrained=str(tmp_path / 'resnet.pth'), **options)
    )
    encoder.load_weights()
    for name in ('layer4', 'branch2_layer4', 'branch3_layer4'):
        stage = encoder.get_submodule(name)
        assert torch.equal(stage[0].conv1.weight, plain.layer4[0].conv1.weight)
    assert torch.equal(encoder.branch2_layer3[0].conv1.weight, plain.layer3[0].conv1.weight)


def test_official_names_survive_the_way_there_and_back():
    state = official_state()
    back = LAYOUT.to_official(LAYOUT.from_official(state), None)
    assert set(back) == set(state)
    moved = {*(f'{p}.bias' for p in LAYOUT.PROJECTIONS)}
    moved |= {f'{n}.running_mean' for n in LAYOUT.PROJECTIONS.values()}
    for key, value in state.items():
        assert key in moved or torch.equal(back[key], value.to(back[key].dtype)), key
    again = LAYOUT.from_official(back)
    for key, value in LAYOUT.from_official(state).items():
        assert torch.equal(again[key], value), key


def test_an_unknown_official_key_is_refused_by_name():
    with pytest.raises(ValueError, match=r"layout, the first are \['more.weight'\]"):
        LAYOUT.from_official({**official_state(), 'more.weight': torch.zeros(1)})
