"""IVT computes what the official code computes.

data/*.npz: github.com/TencentYoutuResearch/PersonRetrieval-IVT, commit f2057885fbf5, in float32 on
a CPU with small widths, BERT's dropout off, and what its generators drew. data/texts.json: what it
draws from captions.
"""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from parity import (
    LOSS,
    GivenPath,
    check_array,
    hit_rates,
    relative_error,
    release_average_precision,
)
from tiny import build_optimizer
from tiny_methods import build_optim_wrapper
from toy_data import ROOT

from projects.ivt import transforms
from projects.ivt.preprocessor import NoisePreprocessor
from sen_toolbox.checkpoint.layouts import load_layout
from sen_toolbox.config import load_config
from sen_toolbox.datasets.samplers import IdentityGroupSampler
from sen_toolbox.models.text_encoders import BERT
from sen_toolbox.registry import LOSSES, MODELS, PARAM_SCHEDULERS
from sen_toolbox.text.tokens import Tokens

pytestmark = pytest.mark.numeric

HERE = Path(__file__).parent
CONFIG = HERE / 'configs/ivt_vitb_cuhk.py'
LAYOUT = load_layout(HERE / 'official.py')
SIZES = {
    'image_size': (64, 40),
    'context_length': 20,
    'model.backbone.image.pretrained': None,
    'model.backbone.image.drop_path': 0.0,
    'model.backbone.image.name': dict(
        patch_size=16, embed_dim=64, depth=2, num_heads=4, mlp_ratio=4
    ),
    'model.backbone.text.pretrained': None,
    'model.backbone.text.dropout': 0.0,
    'model.backbone.text.config': dict(
        vocab_size=200,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=40,
    ),
}
PAIRS, PATCHES, WORDS = 6, 15, 19


def arrays(name):
    with np.load(HERE / 'data' / f'{name}.npz') as content:
        return dict(content)


EXPECTED, BATCH, OPTIM = arrays('expected'), arrays('batch'), arrays('optim')


def official_state():
    state = arrays('state_image') | arrays('state_text')
    return {key: torch.from_numpy(value) for key, value in state.items()}


def texts(rows):
    given = {key: torch.from_numpy(BATCH[key][rows]) for key in ('tokens', 'attention_mask')}
    end = torch.zeros(len(given['tokens']), dtype=torch.int64)
    return Tokens(given['tokens'], given['attention_mask'].bool(), end)


def batch():
    """The official batch: views after views, words before phrases before captions."""
    images = torch.from_numpy(arrays('images')['images']).float()
    first, second, third = images.split(PAIRS)
    words, phrases = texts(slice(0, 6)), texts(slice(6, 12))
    ids, mask = (torch.cat([getattr(words, n), getattr(phrases, n)], 1) for n in ('ids', 'mask'))
    return dict(
        images=first,
        views=torch.stack([second, third], dim=1),
        tokens=texts(slice(12, 18)),
        further_tokens=Tokens(ids, mask, words.end),
        labels=torch.from_numpy(BATCH['pids']),
    )


def official_model(**options):
    """The shipped model with the official weights."""
    model = MODELS.build(load_config(CONFIG, SIZES | options).model)
    model.load_state_dict(LAYOUT.from_official(official_state()))
    return model


def take_draws(model, group):
    """Lets the tokens stay that stayed in the official pass."""
    kept = {
        PATCHES: torch.from_numpy(BATCH[f'{group}_keep_image']) - 1,
        WORDS: torch.from_numpy(BATCH[f'{group}_keep_text']) - 1,
    }
    model.backbone.draw_kept = lambda count, device: kept[count]


def embeddings(model):
    """What the head compares."""
    seen = []
    handle = model.heads['cmpm'].loss.register_forward_pre_hook(lambda _, given: seen.append(given))
    logged = model(**batch(), mode='loss')
    handle.remove()
    [(image, text, labels)] = seen
    # The caption comes first here, there last.
    return logged, image, torch.cat([text[PAIRS:], text[:PAIRS]]), labels


def check(found, name, tolerance=1e-5):
    check_array(found, EXPECTED[name], tolerance, name)


@torch.no_grad()
def test_embeddings_in_search_equal_the_official_ones():
    model, given = official_model().eval(), batch()
    pair = model.backbone(given['images'], given['tokens'])
    check(pair.image.embedding, 'eval/image')
    check(pair.text.embedding, 'eval/text')
    similarity = model.embed_text(given['tokens']) @ model.embed_images(given['images']).t()
    check(similarity, 'eval/similarity')
    # All tokens enter.
    assert not pair.image.extra and not pair.text.extra


@pytest.fixture(scope='module')
def trained():
    """The model after a backward pass, what it logged, and both sides of the loss."""
    model = official_model().train()
    take_draws(model, 'train')
    logged, image, text, _ = embeddings(model)
    model.parse_losses(logged)[0].backward()
    return model, logged, image, text


def test_all_views_and_levels_and_their_loss_equal_the_official_ones(trained):
    _, logged, image, text = trained
    check(image, 'train/image')
    check(text, 'train/text')
    assert logged['cmpm.loss'].item() == pytest.approx(EXPECTED['train/cmpm'].item(), **LOSS)


def official_values(values, model):
    return LAYOUT.to_official({k: v for k, v in values.items() if v is not None}, model)


def test_every_gradient_equals_the_official_one(trained):
    model = trained[0]
    found = official_values({name: p.grad for name, p in model.named_parameters()}, model)
    norms = dict(zip(EXPECTED['grad_norm_names'], EXPECTED['grad_norm'], strict=True))
    assert {name for name, norm in norms.items() if not np.isnan(norm)} == set(found)
    for name, gradient in found.items():
        assert gradient.double().norm().item() == pytest.approx(norms[name], rel=1e-4), name
    full = [key for key in EXPECTED if key.startswith('grad/')]
    assert len(full) == 14
    for key in full:
        assert relative_error(found[key.removeprefix('grad/')], EXPECTED[key]) < 1e-4, key


@torch.no_grad()
def test_skipped_branches_equal_the_official_ones():
    model = official_model(**{'model.backbone.image.drop_path': 0.5}).train()
    take_draws(model, 'droppath')
    block = model.backbone.image.blocks[1]
    # There all images come in one pass, then all texts; here the first view, the captions, then
    # the other views, then the shorter texts.
    draws = BATCH['droppath_draws']
    for name, image, text in (('drop_path1', 0, 2), ('drop_path2', 1, 3)):
        rows = [draws[image][:6], draws[text][12:], draws[image][6:], draws[text][:12]]
        assert getattr(block, name).drop_prob == 0.5
        setattr(block, name, GivenPath(0.5, rows))
    logged, image, text, _ = embeddings(model)
    check(image, 'droppath/image')
    check(text, 'droppath/text')
    assert logged['cmpm.loss'].item() == pytest.approx(EXPECTED['droppath/cmpm'].item(), **LOSS)


def test_the_loss_alone_equals_the_official_one():
    loss = LOSSES.build(load_config(CONFIG).model.heads.cmpm.loss)
    sides = [torch.from_numpy(BATCH[f'loss_{name}']).requires_grad_() for name in ('image', 'text')]
    found = loss(*sides, torch.from_numpy(BATCH['pids']).repeat(3))
    assert found.item() == pytest.approx(EXPECTED['loss/cmpm'].item(), **LOSS)
    found.backward()
    for name, side in zip(('image', 'text'), sides, strict=True):
        assert relative_error(side.grad, EXPECTED[f'loss/grad_{name}']) < 1e-4


def test_three_steps_of_the_optimiser_are_the_official_ones():
    model = official_model().train()
    config = load_config(CONFIG)
    optimizer = build_optimizer(config.optim_wrapper, model)
    rules = {
        id(p): (group['lr'], group['weight_decay'])
        for group in optimizer.param_groups
        for p in group['params']
    }
    named = official_values(dict(model.named_parameters()), model)
    before = {name: p.detach().clone() for name, p in named.items()}
    norms = [OPTIM[f'delta_norm_after_step{step}'] for step in (1, 2, 3)]
    for name, *rule in zip(OPTIM['names'], OPTIM['lr'], OPTIM['decay'], strict=True):
        if name in named:
            assert rules[id(named[name])] == pytest.approx(rule), name
    for step, expected in enumerate(norms, start=1):
        take_draws(model, f'step{step}')
        total, _ = model.parse_losses(model(**batch(), mode='loss'))
        assert total.item() == pytest.approx(OPTIM['total_loss_before_step'][step - 1], rel=2e-5)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        for name, norm in zip(OPTIM['names'], expected, strict=True):
            moved = named[name].detach() - before[name] if name in named else torch.zeros(1)
            assert moved.double().norm().item() == pytest.approx(norm, rel=1e-4), name
    for key in [key for key in OPTIM if key.startswith('delta_after_step3/')]:
        name = key.removeprefix('delta_after_step3/')
        assert relative_error(named[name].detach() - before[name], OPTIM[key]) < 1e-4, key


def test_rates_are_the_official_ones_in_every_epoch():
    config = load_config(CONFIG)
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [dict(params=[p], lr=lr) for p, lr in zip(parameters, (0.005, 0.01), strict=True)]
    optimizer = torch.optim.SGD(groups, lr=0.005)
    [schedule] = [
        PARAM_SCHEDULERS.build(dict(scheduler), default_args=dict(optimizer=optimizer))
        for scheduler in config.param_scheduler
    ]
    found = []
    for _ in range(config.max_epochs):
        found.append([group['lr'] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    expected = [OPTIM['schedule_lr_by_epoch'], OPTIM['schedule_bias_lr_by_epoch']]
    np.testing.assert_allclose(np.transpose(found), expected, rtol=1e-9)


CASES = json.loads((HERE / 'data/texts.json').read_text(encoding='utf-8'))['cases']
KINDS = {
    'phrase': transforms.phrases,
    'word_cuhk_no_attributes': transforms.phrases,
    'word_icfg_rstp': transforms.comma_pieces,
}


@pytest.mark.parametrize('case', CASES, ids=lambda case: f'{case["kind"]}-{case["seed"]}')
def test_shorter_texts_are_drawn_from_the_official_ones(case):
    candidates = KINDS[case['kind']](case['caption'])
    # Of one kind alone the release leaves a bracket in which a caption stands.
    assert candidates == [text.strip('[') for text in case['candidates']]
    random.seed(case['seed'])
    assert transforms.draw(candidates, case['caption']) == case['text'].strip('[')


def test_a_caption_without_a_piece_stands_for_itself():
    assert transforms.phrases('a man.') == transforms.comma_pieces('a man.') == []
    assert transforms.draw([], 'a man.') == 'a man.'


def test_texts_of_all_levels_stand_side_by_side():
    config = load_config(ROOT / 'projects/ivt/configs/ivt_tiny_synthetic.py')
    [cfg] = [t for t in config.train_dataloader.dataset.pipeline if t.type == 'TextLevels']
    step = transforms.TextLevels(tokenizer=cfg.tokenizer, words=cfg.words)
    random.seed(0)
    found = step(dict(captions=['A red coat, blue jeans. Brown shoes.']))['further_tokens']
    length = step.tokenizer.context_length
    assert found.ids.shape == found.mask.shape == (1, 2 * length)
    words, phrases = (step.tokenizer.decode(row) for row in np.split(found.ids[0], 2))
    drawn = [' '.join(piece.text for piece in row) for row in (words, phrases)]
    assert drawn[0] in {'a red coat', 'blue jeans', 'brown shoes'}
    assert drawn[1] in {'a red coat', 'blue jeans', 'brown shoes'}
    with pytest.raises(ValueError, match="words is one of .*, got 'letters'"):
        transforms.TextLevels(tokenizer=cfg.tokenizer, words='letters')


def test_the_sampler_draws_the_official_pairs():
    persons = BATCH['sampler_pids'].tolist()

    class Records:
        def __len__(self):
            return len(persons)

        def get_data_info(self, index):
            return dict(person_id=persons[index])

    options = dict(load_config(CONFIG).train_dataloader.sampler, batch_size=12, seed=0)
    assert options.pop('type') == 'IdentityGroupSampler'
    sampler = IdentityGroupSampler(Records(), **options)
    found = sampler.draw(random.Random(4201), np.random.RandomState(4201 % 1000))
    np.testing.assert_array_equal(found, EXPECTED['sampler/indices'])


@pytest.mark.parametrize(('name', 'step'), [('CUHK', 2), ('ICFG', 1)])
def test_the_release_measures_by_other_rules_than_ours(name, step):
    image, text = (torch.from_numpy(BATCH[f'metric_{kind}']) for kind in ('image', 'text'))
    persons = torch.from_numpy(BATCH['metric_pids'])
    # Every second image, as if each had exactly two captions.
    image, gallery = image[::step], persons[::step]
    scores = torch.cosine_similarity(text[:, None], image[None], dim=2)
    same = persons[:, None] == gallery
    assert hit_rates(scores, same) == pytest.approx(EXPECTED[f'metric/{name}/cmc'].tolist())
    expected = EXPECTED[f'metric/{name}/mAP'].item()
    assert release_average_precision(scores, same) == pytest.approx(expected, rel=1e-5)


def test_tokens_that_stay_are_the_same_of_all_and_most_do():
    random.seed(0)
    model = official_model().train()
    counts = []
    for _ in range(50):
        pair = model.backbone(batch()['images'], batch()['tokens'], frozenset({'image.tokens'}))
        counts.append((len(pair.image.extra['kept']), len(pair.text.extra['kept'])))
        assert pair.image.tokens.shape[1] == 1 + counts[-1][0]
    images, words = zip(*counts, strict=True)
    # A fifth of 16 and of 20, the first token counted.
    assert set(images) == set(range(PATCHES - 3, PATCHES + 1))
    assert set(words) == set(range(WORDS - 4, WORDS + 1))


def test_a_batch_in_chunks_leaves_out_the_same_tokens_in_both_passes():
    config = load_config(CONFIG, SIZES | {'model.chunks': 2})
    model = MODELS.build(config.model).train()
    own, drawn = model.backbone.draw_kept, []
    model.backbone.draw_kept = lambda *given: drawn.append(own(*given)) or drawn[-1]
    random.seed(0)
    model.data_preprocessor.erasing_prob = 0
    given = batch()
    for name in ('images', 'views'):
        given[name] = (given[name] * 20).clamp(0, 255).byte()
    model.train_step(given, build_optim_wrapper(config, model))
    kept = [places.tolist() for places in drawn]
    assert kept[:4] == kept[4:] and kept[0] != kept[2]


def test_noise_stands_in_rectangles_of_every_view():
    torch.manual_seed(0)
    preprocess = NoisePreprocessor(mean=[0.5] * 3, std=[0.5] * 3, erasing_prob=1.0, also=['views'])
    pixels = torch.zeros(8, 3, 64, 32, dtype=torch.uint8)
    given = dict(images=pixels, views=pixels[:, None].repeat(1, 2, 1, 1, 1))
    found = preprocess(given, training=True)
    for pictures in (found['images'], *found['views'].unbind(1)):
        erased = pictures != -1
        shares = erased.flatten(1).float().mean(dim=1)
        assert ((shares > 0.015) & (shares < 0.36)).all()
        noise = pictures[erased]
        assert noise.mean().abs() < 0.1 and (noise.std() - 1).abs() < 0.1
    assert not torch.equal(found['images'], found['views'][:, 0])
    assert (preprocess(given)['views'] == -1).all()


def test_a_vit_and_a_bert_become_one_transformer(tmp_path):
    model = official_model()
    image, text = model.backbone.image, model.backbone.text
    vit = {key: torch.rand_like(value) for key, value in image.state_dict().items()}
    del vit['type_embed']
    vit['pos_embed'] = torch.rand(1, 17, 64)
    bert = BERT(config=text.config).state_dict()
    torch.save(vit, tmp_path / 'vit.pth')
    torch.save(bert, tmp_path / 'bert.pth')
    image.pretrained, text.pretrained = str(tmp_path / 'vit.pth'), str(tmp_path / 'bert.pth')
    types = image.type_embed.detach().clone()
    model.load_weights()
    assert torch.equal(image.blocks[1].attn.qkv.weight, vit['blocks.1.attn.qkv.weight'])
    assert torch.equal(image.type_embed, types)
    grid = vit['pos_embed'][0, 1:].T.reshape(1, 64, 4, 4)
    resized = torch.nn.functional.interpolate(grid, (5, 3), mode='bilinear')
    torch.testing.assert_close(image.pos_embed[0, 1:], resized[0].flatten(1).T)
    dense = 'encoder.layer.1.{}.dense.weight'
    assert torch.equal(text.mlps[1].fc1.weight, bert[dense.format('intermediate')])
    assert torch.equal(text.mlps[1].fc2.weight, bert[dense.format('output')])
    words = 'embeddings.word_embeddings.weight'
    assert torch.equal(text.state_dict()[words], bert[words])


def test_official_names_survive_the_way_there_and_back():
    state = official_state()
    back = LAYOUT.to_official(LAYOUT.from_official(state), None)
    used = {key: value for key, value in state.items() if not key.startswith(LAYOUT.UNUSED)}
    assert set(back) == set(used)
    for key, value in used.items():
        assert torch.equal(back[key], value.to(back[key].dtype)), key
    with pytest.raises(ValueError, match=r"layout, the first are \['more.weight'\]"):
        LAYOUT.from_official({**state, 'more.weight': torch.zeros(1)})


def test_encoders_of_two_depths_are_refused():
    sizes = {**SIZES['model.backbone.text.config'], 'num_hidden_layers': 3}
    with pytest.raises(ValueError, match='images have 64 and 2 blocks, captions 64 and 3'):
        official_model(**{'model.backbone.text.config': sizes})
