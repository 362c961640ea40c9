"""ViTAA computes what the official code computes.

data/*.npz: github.com/Jarr0d/ViTAA, commit 0bd7638f, in float32 on a CPU with small widths.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from parity import (
    LOSS,
    check_array,
    check_full_gradients,
    check_norms,
    check_way_back,
    furthest_moves,
    load_arrays,
    one_rate,
    rates_by_epoch,
    under,
)
from PIL import Image

from projects.vitaa.attributes import PARTS
from projects.vitaa.head import part_labels
from projects.vitaa.phrases import read_phrases
from sen_toolbox.checkpoint.layouts import load_layout
from sen_toolbox.config import load_config
from sen_toolbox.models.text_encoders.lstm import with_padding
from sen_toolbox.registry import IMAGE_ENCODERS, LOSSES, MODELS, TRANSFORMS
from sen_toolbox.text.tokenizers import VocabularyTokenizer
from sen_toolbox.text.tokens import Tokens

pytestmark = pytest.mark.numeric

HERE = Path(__file__).parent
CONFIG = HERE / 'configs/vitaa_r50_cuhk.py'
LAYOUT = load_layout(HERE / 'official.py')
DEPTH = dict(block='bottleneck', blocks=(1, 1, 1, 1), widths=(4, 8, 16, 32), stem=4)
SIZES = {
    'image_size': (64, 32),
    'context_length': 18,
    'num_classes': 9,
    'tokenizer.vocab_file': None,
    'tokenizer.vocabulary': [f'w{number}' for number in range(48)],
    'model.backbone.embed_dim': 16,
    'model.backbone.image.depth': DEPTH,
    'model.backbone.image.branch_width': 24,
    'model.backbone.image.pretrained': None,
    'model.backbone.text.word_dim': 14,
    'model.backbone.text.hidden_dim': 10,
    'model.heads.attributes.width': 12,
}
# Multiplying images by 1 + 1e-7 moves the official embeddings by 2e-5 of 1 + their size.
TOLERANCE = 2e-5


BATCH, EXPECTED = (load_arrays(HERE / 'data' / f'{name}.npz') for name in ('batch', 'expected'))


def official_state():
    state = load_arrays(HERE / 'data' / 'state.npz')
    return {key: torch.from_numpy(value) for key, value in state.items()}


def official_model():
    model = MODELS.build(load_config(CONFIG, SIZES).model)
    model.load_state_dict(LAYOUT.from_official(official_state()))
    return model


def batch():
    given = {key: torch.from_numpy(value) for key, value in BATCH.items()}

    def tokens(ids, lengths):
        return Tokens(ids, torch.arange(ids.shape[-1]) < lengths[..., None], (lengths - 1).clamp(0))

    attributes = tokens(given['attributes'], given['attribute_lengths'])
    return dict(
        images=given['image'].float(),
        tokens=tokens(given['tokens'], given['lengths']),
        labels=given['labels'],
        segmentation=given['segmentation'],
        attribute_tokens=Tokens(
            attributes.ids.flatten(1), attributes.mask.flatten(1), attributes.end[:, 0]
        ),
    )


def check(found, name, tolerance=TOLERANCE):
    check_array(found, EXPECTED[name], tolerance, name)


@torch.no_grad()
def test_every_feature_equals_the_official_one_in_evaluation():
    model, given = official_model().eval(), batch()
    head, backbone = model.heads['attributes'], model.backbone
    reads = head.reads | {'text.extra.pooled'}
    pair = backbone(given['images'], given['tokens'], reads)
    check(pair.image.stages['layer3'], 'eval/feature_map')
    check(pair.image.embedding, 'eval/image_embed')
    check(pair.text.embedding, 'eval/text_embed_alone')
    # There a caption's embedding depends on the longest of its batch.
    pooled = with_padding(pair.text.extra['pooled'], given['tokens'].lengths)
    check(pooled, 'eval/text_feature')
    text = backbone.text_projection(pooled)
    check(text, 'eval/text_embed')
    image = F.normalize(pair.image.embedding)
    check(F.normalize(text) @ image.t(), 'eval/similarity')
    check(head.embed_parts(head.maps(pair)), 'eval/part_embed')
    told = torch.from_numpy(EXPECTED['eval/attribute_mask'])
    model.backbone.text.train()
    found, is_told = head.embed_attributes(given['attribute_tokens'], backbone)
    check(found, 'eval/attribute_embed')
    assert torch.equal(is_told, told)


@torch.no_grad()
def test_search_compares_the_wholes_alone():
    model, given = official_model().eval(), batch()
    assert model.embedding_heads == model.scorers == []
    expected = F.normalize(torch.from_numpy(EXPECTED['eval/image_embed']))
    torch.testing.assert_close(model.embed_images(given['images']), expected, rtol=2e-5, atol=2e-5)
    expected = F.normalize(torch.from_numpy(EXPECTED['eval/text_embed_alone']))
    torch.testing.assert_close(model.embed_text(given['tokens']), expected, rtol=2e-5, atol=2e-5)


@pytest.fixture(scope='module')
def trained():
    """The model after a backward pass, what its parts gave, and what it logged."""
    model, given, kept = official_model().train(), batch(), {}
    head = model.heads['attributes']

    def keep(name, own):
        def called(*arguments):
            kept[name] = own(*arguments)
            return kept[name]

        setattr(head, name, called)

    keep('embed_parts', head.embed_parts)
    keep('embed_attributes', head.embed_attributes)
    head.segment.register_forward_hook(lambda *call: kept.update(segment=call[2]))
    model.backbone.register_forward_hook(lambda *call: kept.update(pair=call[2]))
    logged = model(**given, mode='loss')
    model.parse_losses(logged)[0].backward()
    return model, SimpleNamespace(**kept), logged


def test_every_feature_equals_the_official_one_in_training(trained):
    _, kept, _ = trained
    check(kept.pair.image.embedding, 'train/image_embed')
    check(kept.pair.text.embedding, 'train/text_embed')
    check(kept.embed_parts.transpose(0, 1), 'train/part_embed')
    check(kept.embed_attributes[0].transpose(0, 1), 'train/attribute_embed')
    check(kept.segment, 'train/seg_logits')
    seen = (part_labels(batch()['segmentation']) > 0).flatten(2).any(dim=2)
    assert torch.equal(seen, torch.from_numpy(EXPECTED['train/part_mask']))


def test_each_term_of_the_loss_equals_the_official_one(trained):
    model, _, logged = trained
    weight = model.heads['attributes'].mask_weight
    for found, official in (
        (logged['instance.loss'], 'instance_loss'),
        (weight * logged['attributes.mask'], 'mask_loss'),
        (logged['align.loss'], 'global_align_loss'),
        (logged['attributes.align'], 'local_align_loss'),
        (model.parse_losses(logged)[0], 'total'),
    ):
        expected = EXPECTED[f'loss/{official}'].item()
        assert found.item() == pytest.approx(expected, **LOSS), official


def test_every_gradient_equals_the_official_one(trained):
    model, _, _ = trained
    found = LAYOUT.to_official({name: p.grad for name, p in model.named_parameters()}, model)
    norms = under('gradnorm/', EXPECTED)
    assert set(norms) == set(found)
    check_norms(found, norms, norms.values(), absolute=1e-6 * float(max(norms.values())))
    check_full_gradients(found, under('grad/', EXPECTED), 8)


def test_a_step_leaves_the_official_statistics(trained):
    model, _, _ = trained
    found = LAYOUT.to_official(model.state_dict(), model)
    after = [key for key in EXPECTED if key.startswith('after/')]
    assert len(after) == 2
    for key in after:
        check(found[key.removeprefix('after/')], key)


def test_the_first_step_of_the_optimiser_is_the_official_one(trained):
    model, _, _ = trained
    moved = furthest_moves(model, load_config(CONFIG, SIZES).optim_wrapper)
    names, expected = LAYOUT.to_official(moved, model), under('adam_max/', EXPECTED)
    assert set(expected) == set(names)
    for name, value in expected.items():
        assert names[name].item() == pytest.approx(value.item(), rel=1e-3, abs=1e-9), name


def test_rates_of_the_epochs_are_the_releases():
    rates = rates_by_epoch(load_config(CONFIG).param_scheduler, one_rate(1e-4), 80)
    expected = [2.8e-5, 4.6e-5, 6.4e-5, 8.2e-5] + [1e-4] * 35 + [1e-5] * 30 + [1e-6] * 11
    assert sum(rates, []) == pytest.approx(expected)


@torch.no_grad()
def test_pixels_are_those_of_the_release():
    image = TRANSFORMS.build(dict(type='ReverseChannels'))(dict(img=BATCH['raw_image']))['img']
    model = MODELS.build(load_config(CONFIG, SIZES).model)
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
    check(model.data_preprocessor(dict(images=pixels))['images'][0], 'transform/normalised', 1e-5)


def slow_neighbours(rows, own):
    """Columns that are among the three best of a row and have it among their own three best."""

    def best(values):
        return sorted(range(len(values)), key=lambda m: -values[m])[:3]

    return {m for m in best(rows[own]) if own in best([row[m] for row in rows])}


def slow_local_align(parts, attributes, labels, seen, told, of):
    """The release's loops, over samples and their positives and negatives."""
    total, count = 0.0, len(labels)
    for p in range(parts.shape[1]):
        s = (F.normalize(parts[:, p]) @ F.normalize(attributes[:, p]).t()).tolist()

        def term(value, positive):
            x = -10 * (value - 0.6) if positive else 40 * (value - 0.4)
            return F.softplus(torch.tensor(x, dtype=torch.float64)).item()

        for j in range(count):
            if not seen[j][p]:
                continue
            positives = {m for m in range(count) if labels[m] == labels[j]}
            own = p if of == 'part' else j
            right = positives | slow_neighbours(s, own)
            total += sum(term(s[j][m], m in right) for m in range(count) if told[m][p])
            if told[j][p]:
                right = positives | slow_neighbours(list(zip(*s, strict=True)), own)
                total += sum(term(s[r][j], r in right) for r in range(count) if seen[r][p])
    return total / count / parts.shape[1]


@pytest.mark.parametrize('of', ['part', 'sample'])
def test_the_local_alignment_is_that_of_slow_loops(of):
    generator = torch.Generator().manual_seed(0)
    parts, attributes = (
        torch.randn(7, 5, 6, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    labels = torch.tensor([0, 1, 1, 2, 3, 0, 4])
    seen, told = (torch.rand(7, 5, generator=generator) < 0.7 for _ in range(2))
    loss = LOSSES.build(dict(type='LocalAlignLoss', neighbours=3, neighbours_of=of))
    expected = slow_local_align(
        parts, attributes, labels.tolist(), seen.tolist(), told.tolist(), of
    )
    assert loss(parts, attributes, labels, seen, told).item() == pytest.approx(expected, rel=1e-9)


def test_neighbours_of_others_are_refused():
    with pytest.raises(ValueError, match=r"one of \('part', 'sample'\), got 'batch'"):
        LOSSES.build(dict(type='LocalAlignLoss', neighbours_of='batch'))


WORDS = 'a man in red coat blue trousers white shoes black hair'.split()


def tokenizer():
    return VocabularyTokenizer(context_length=20, vocabulary=WORDS, unknown_id=True)


def attributes_of(tokens, words):
    """Words of each part of the first caption."""
    rows = zip(np.split(tokens.ids[0], 5), np.split(tokens.mask[0], 5), strict=True)
    return [[words[n - 1] for n in ids[mask]] for ids, mask in rows]


def test_attributes_of_the_releases_files_are_read(tmp_path):
    folder = tmp_path / 'text_attribute_graph'
    folder.mkdir()
    phrases = [{'hair': ['black', 'hair']}, {'other': ['odd']}, {'upperbody': ['red', 'coat']}]
    (folder / 'CUHK01-1.png-1.json').write_text(repr([*phrases, {'person': ['man']}]))
    step = TRANSFORMS.build(
        dict(type='FiledAttributes', data_root=str(tmp_path), tokenizer=tokenizer(), length=3)
    )
    path = str(tmp_path / 'imgs' / 'CUHK01' / '1.png')
    record = dict(img_path=path, captions=['second'])
    with pytest.raises(KeyError, match='for the pipeline of a training split'):
        step(dict(record))
    step.see_pairs([dict(img_path=path, captions=[text]) for text in ('first', 'second')])
    found = attributes_of(step(dict(record))['attribute_tokens'], WORDS)
    assert found == [['black', 'hair', 'man'], ['red', 'coat'], [], [], []]
    with pytest.raises(FileNotFoundError, match=r'CUHK01-1.png-0.json: put those of the release'):
        step(dict(record, captions=['first']))


@pytest.mark.parametrize(
    'content', ['[1]', 'print(1)', '[{"tail": ["long"]}]', '[{"hat": 1}]', '(']
)
def test_other_files_of_phrases_are_refused(tmp_path, content):
    path = tmp_path / 'x.json'
    path.write_text(content)
    with pytest.raises(ValueError, match=r'x.json must hold a list of dicts'):
        read_phrases(path)


def test_attributes_are_named_by_the_nouns_of_parts():
    step = TRANSFORMS.build(dict(type='NamedAttributes', tokenizer=tokenizer(), length=4))
    found = step(dict(captions=['A man in red COAT, blue trousers.', 'a man']))['attribute_tokens']
    assert found.ids.shape == (2, 20)
    assert attributes_of(found, WORDS) == [
        [],
        ['in', 'red', 'coat'],
        ['coat', 'blue', 'trousers'],
        [],
        [],
    ]
    assert not found.mask[1].any()


def test_a_segmentation_is_read_by_its_palette_and_made_small(tmp_path):
    (tmp_path / 'segs' / 'a').mkdir(parents=True)
    labels = np.repeat(np.repeat([[0, 1], [5, 2]], 16, 0), 8, 1).astype(np.uint8)
    picture = Image.fromarray(labels, mode='P')
    picture.putpalette(list(range(256)) * 3)
    picture.save(tmp_path / 'segs' / 'a' / '1.png')
    step = TRANSFORMS.build(
        dict(type='LoadSegmentation', data_root=str(tmp_path), image_size=(32, 16))
    )
    record = dict(img_path=str(tmp_path / 'imgs' / 'a' / '1.jpg'))
    expected = [[0, 1], [0, 1], [5, 2], [5, 2]]
    assert step(record)['segmentation'].tolist() == expected
    Image.fromarray(labels + 1).save(tmp_path / 'segs' / 'a' / '1.png')
    with pytest.raises(ValueError, match=r'a/1.png has the label 6, known are 0'):
        step(record)
    Image.new('RGB', (4, 4)).save(tmp_path / 'segs' / 'a' / '1.png')
    with pytest.raises(ValueError, match=r'a/1.png \(its pixels are RGB, not labels'):
        step(record)
    with pytest.raises(
        FileNotFoundError, match=r'no segmentation .*b.png: put those of the release'
    ):
        step(dict(img_path=str(tmp_path / 'imgs' / 'b.jpg')))


def test_a_part_keeps_its_label_alone():
    found = part_labels(torch.tensor([[[0, 1, 5], [2, 2, 1]]], dtype=torch.uint8))
    assert found.shape == (1, len(PARTS), 2, 3)
    assert found[0, 0].tolist() == [[0, 1, 0], [0, 0, 1]]
    assert found[0, 4].tolist() == [[0, 0, 5], [0, 0, 0]]


def test_a_batch_without_attributes_is_refused_by_name():
    model, given = official_model(), batch()
    del given['segmentation']
    with pytest.raises(KeyError, match=r"the batch has no \['segmentation'\]: put the transforms"):
        model(**given, mode='loss')


def test_weights_of_torchvision_end_at_the_last_stage(tmp_path):
    options = dict(depth=DEPTH, image_size=(64, 32))
    plain = IMAGE_ENCODERS.build(dict(type='ResNet', **options))
    state = {**plain.state_dict(), 'fc.weight': torch.zeros(3, 128)}
    torch.save(state, tmp_path / 'resnet.pth')
    file = str(tmp_path / 'resnet.pth')
    encoder = IMAGE_ENCODERS.build(
        dict(type='BranchedResNet', branch_width=8, pretrained=file, **options)
    )
    encoder.load_weights()
    assert torch.equal(encoder.layer3[0].conv1.weight, plain.layer3[0].conv1.weight)
    assert not hasattr(encoder, 'layer4')
    assert encoder.spec.width == 8


def test_official_names_survive_the_way_there_and_back_and_others_are_refused():
    check_way_back(LAYOUT, official_state())
