"""The drawn world: the same files each time, more than people, captions like the web's."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sen_toolbox.checkpoint.tensor_file import pack_tensors
from sen_toolbox.datasets import DrawnWorld
from sen_toolbox.datasets.synthetic import describe_person, sample_people, write_drawn_world
from sen_toolbox.datasets.synthetic.alt_text import cut_words, describe_scene
from sen_toolbox.datasets.synthetic.describe import split_words
from sen_toolbox.datasets.synthetic.things import ANIMALS, THINGS
from sen_toolbox.datasets.synthetic.world import (
    FRAMES,
    STYLES,
    Scene,
    Thing,
    draw_scene,
    sample_scene,
)
from sen_toolbox.models.image_encoders.clip_vit import CLIPVisionTransformer
from sen_toolbox.models.pretrained_file import SHIPPED, find_pretrained
from sen_toolbox.models.text_encoders.clip_text import CLIPTextTransformer
from sen_toolbox.models.weights import read_tower
from sen_toolbox.registry import TOKENIZERS

SMALL = dict(num_pictures=dict(train=6, val=2, test=2), image_size=(32, 16), workers=1)


def all_bytes(root):
    return {p.relative_to(root): p.read_bytes() for p in root.rglob('*') if p.is_file()}


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp('world')
    write_drawn_world(root, **SMALL)
    return root


@pytest.fixture(scope='module')
def scenes():
    return [sample_scene(np.random.default_rng(seed)) for seed in range(2000)]


def test_two_processes_write_the_same_bytes_as_one(drawn, tmp_path):
    write_drawn_world(tmp_path, **{**SMALL, 'workers': 2})
    assert all_bytes(tmp_path) == all_bytes(drawn)


def test_an_interrupted_world_is_completed_and_a_finished_one_left_alone(drawn, tmp_path):
    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_drawn_world(tmp_path, **SMALL, progress=stop)
    write_drawn_world(tmp_path, **SMALL)
    assert all_bytes(tmp_path) == all_bytes(drawn)
    write_drawn_world(tmp_path, **SMALL, progress=stop)


def test_each_picture_is_an_identity_of_one_split(drawn):
    records = json.loads((drawn / 'reid_raw.json').read_text())
    assert [record['id'] for record in records] == list(range(1, 11))
    assert [record['split'] for record in records] == ['train'] * 6 + ['val'] * 2 + ['test'] * 2
    assert all(len(record['captions']) == 4 for record in records)
    with Image.open(drawn / 'imgs' / records[0]['file_path']) as image:
        assert (image.format, image.size) == ('JPEG', (16, 32))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(num_pictures=dict(train=1, exam=1)), r"unknown splits \['exam'\]"),
        (dict(num_pictures=dict(train=0)), 'at least 0 and 1 in all'),
        (dict(captions_per_image=0), 'captions_per_image'),
        (dict(image_size=(8, 8)), 'at least 16 each'),
        (dict(seed=-1), 'seed'),
    ],
)
def test_parameters_out_of_range_are_refused_before_anything_is_written(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write_drawn_world(tmp_path, **{**SMALL, **change})
    assert not list(tmp_path.iterdir())


def test_a_folder_of_drawn_pedestrians_is_not_a_world(tmp_path):
    (tmp_path / 'reid_raw.json').write_text('[]')
    with pytest.raises(ValueError, match=r'there is no world\.json beside it'):
        write_drawn_world(tmp_path, **SMALL)


def test_the_data_set_draws_itself_and_counts_pictures_as_identities(tmp_path):
    settings = {name: value for name, value in SMALL.items() if name != 'workers'}
    train = DrawnWorld(data_root=tmp_path / 'world', split='train', **settings)
    assert train.metainfo['num_classes'] == train.metainfo['num_images'] == 6
    assert train.metainfo['num_captions'] == 24
    assert DrawnWorld.recognises(tmp_path / 'world')


def test_the_smaller_part_of_the_world_is_one_person_seen_whole(scenes):
    alone = [s for s in scenes if len(s.people) == 1 and s.frame == 'whole']
    assert 0.3 < len(alone) / len(scenes) < 0.5
    assert {len(scene.people) for scene in scenes} == {0, 1, 2, 3}
    assert {scene.frame for scene in scenes} == set(FRAMES)
    assert {scene.style for scene in scenes} == set(STYLES)
    kinds = {thing.kind for scene in scenes for thing in scene.things}
    assert kinds == set(THINGS) and set(ANIMALS) < kinds


def test_every_thing_changes_the_picture_in_its_colour():
    for kind in THINGS:
        shown = [
            draw_scene(
                Scene((), 'whole', (Thing(kind, colour, 1),), 'flat'),
                np.random.default_rng(1),
                (64, 32),
            ).astype(int)
            for colour in ('red', 'blue')
        ]
        if kind != 'tree':
            redder = shown[0][..., 0] - shown[0][..., 2] > shown[1][..., 0] - shown[1][..., 2] + 40
            assert redder.mean() > 0.001, kind


def test_captions_are_cut_short_and_sometimes_wrong(scenes):
    told = [describe_scene(s, np.random.default_rng(i)) for i, s in enumerate(scenes)]
    assert all(caption.isascii() and len(caption.split()) >= 2 for caption in told)
    whole = [s for s in scenes if len(s.people) == 1 and s.frame == 'whole' and not s.things]
    lengths = [len(describe_scene(s, np.random.default_rng(0)).split()) for s in whole]
    full = [len(describe_person(s.people[0], np.random.default_rng(0)).split()) for s in whole]
    assert 0.3 < np.mean(lengths) / np.mean(full) < 0.7


def test_captions_have_commas_and_full_stops_behind_words_and_some_have_none(scenes):
    told = [describe_scene(s, np.random.default_rng(i)) for i, s in enumerate(scenes)]
    assert {mark for caption in told for mark in ',.' if mark in caption} == {',', '.'}
    assert not any(caption.startswith((',', '.')) or ' ,' in caption for caption in told)
    marked = [
        ',' in text or '.' in text
        for text, scene in zip(told, scenes, strict=True)
        if len(scene.people) == 1 and scene.frame == 'whole'
    ]
    assert 0.2 < np.mean(marked) < 0.8


def test_half_of_the_captions_are_a_few_words_in_a_row():
    words = 'a b c d e f g h i j k l m n o p q r s t u v w x y z'
    rows = 0
    for seed in range(400):
        kept = cut_words(words.split(), np.random.default_rng(seed))
        first, last = words.index(kept[0]), words.index(kept[-1])
        rows += (last - first) // 2 + 1 <= 12
        assert kept == sorted(kept)
    assert 0.4 < rows / 400 < 0.6


def test_the_world_speaks_every_word_of_the_pedestrians_captions(scenes):
    world = {
        word
        for seed in range(3)
        for i, scene in enumerate(scenes)
        for word in split_words(describe_scene(scene, np.random.default_rng([i, seed])))
    }
    people = sample_people(300, seed=5)
    said = {
        word
        for i, person in enumerate(people)
        for word in split_words(describe_person(person, np.random.default_rng(i)))
    }
    assert not said - world


def test_the_shipped_towers_are_read_with_the_words_that_they_know(tmp_path):
    path = find_pretrained('shipped', 'tiny-8')
    assert path == SHIPPED / 'tiny-8.safetensors'
    assert path.stat().st_size < 8e6
    image = CLIPVisionTransformer(arch='tiny-8', image_size=(96, 48), pretrained='shipped')
    text = CLIPTextTransformer(arch='tiny-8', context_length=56, pretrained='shipped')
    for encoder in (image, text):
        encoder.load_weights()
    assert image.spec.num_patches >= 60
    tokenizer = TOKENIZERS.build(dict(type='CLIPTokenizer', context_length=56))
    table = text.word_embedding.weight
    for i, person in enumerate(sample_people(100, seed=5)):
        for token in tokenizer.encode(describe_person(person, np.random.default_rng(i))):
            assert table[token].abs().sum() > 0


def test_towers_of_another_architecture_are_not_shipped():
    with pytest.raises(FileNotFoundError, match=r"no towers of 'ViT-B-16' are shipped, .*tiny-8"):
        find_pretrained('shipped', 'ViT-B-16')
    with pytest.raises(FileNotFoundError, match='are shipped'):
        find_pretrained('shipped', dict(embed_dim=8))


def test_rows_of_the_kept_words_go_to_their_places(tmp_path):
    arch = dict(
        embed_dim=8,
        vision_cfg=dict(layers=1, width=64, patch_size=8),
        text_cfg=dict(layers=1, width=64, heads=1, context_length=8, vocab_size=20),
    )
    torch.manual_seed(0)
    text = CLIPTextTransformer(arch=arch)
    state = {f'backbone.text.{key}': value for key, value in text.state_dict().items()}
    key = 'backbone.text.token_embedding.weight'
    whole = state[key]
    state[key] = whole[[3, 7]]
    state['known_words'] = torch.tensor([3, 7], dtype=torch.int32)
    path = tmp_path / 'few.safetensors'
    path.write_bytes(pack_tensors(state, {}))
    assert 'known_words' in read_tower(path, 'text')[0]
    other = CLIPTextTransformer(arch=arch, pretrained=str(path))
    other.load_weights()
    assert torch.equal(other.word_embedding.weight[[3, 7]], whole[[3, 7]])
    assert not other.word_embedding.weight[[0, 1, 19]].any()
    state['known_words'] = torch.tensor([3, 20], dtype=torch.int32)
    path.write_bytes(pack_tensors(state, {}))
    with pytest.raises(ValueError, match=r'few\.safetensors: known_words must number the rows'):
        other.load_weights()
