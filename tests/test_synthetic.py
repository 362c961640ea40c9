"""Drawn pedestrians: what two of them share, what the pixels show, what the captions say."""

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sen_toolbox.datasets.synthetic import (
    Person,
    describe_person,
    draw_person,
    sample_people,
    write_synthetic_pedes,
)
from sen_toolbox.datasets.synthetic.describe import (
    MAX_WORDS,
    MIN_WORDS,
    choose_facts,
    split_words,
)
from sen_toolbox.datasets.synthetic.describe_briefly import describe_briefly
from sen_toolbox.datasets.synthetic.people import COLOURS, DARK, LIGHT
from sen_toolbox.datasets.synthetic.phrases import with_article
from sen_toolbox.datasets.synthetic.write import VERSION

SMALL = dict(num_ids=dict(train=5, val=2, test=3), images_per_id=2, image_size=(64, 32), workers=1)


def all_bytes(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp('drawn')
    write_synthetic_pedes(root, **SMALL)
    return root


@pytest.fixture(scope='module')
def people():
    return sample_people(400, seed=3)


def test_two_processes_write_the_same_bytes_as_one(drawn, tmp_path):
    write_synthetic_pedes(tmp_path, **{**SMALL, 'workers': 2})
    assert all_bytes(tmp_path) == all_bytes(drawn)


def test_another_seed_draws_another_set(drawn, tmp_path):
    write_synthetic_pedes(tmp_path, **SMALL, seed=1)
    assert all_bytes(tmp_path)['reid_raw.json'] != all_bytes(drawn)['reid_raw.json']


def test_seed_zero_still_describes_the_people_of_version_one():
    """The words are recorded from version 1; when they change, raise `write.VERSION`."""
    people = sample_people(2, seed=0)
    assert [describe_person(person, np.random.default_rng(0)) for person in people] == [
        'This female in a black shirt and a green long skirt carries a green handbag in one hand. '
        'She is wearing black boots. The female has a blond ponytail.',
        'The male is dressed in a black t-shirt with a red logo on the front, dark slacks and '
        'black leather shoes. The male has brown hair in a ponytail. There is a brown backpack '
        'on his back.',
    ]
    assert VERSION == 1


def test_the_layout_is_that_of_cuhk_pedes(drawn):
    records = json.loads((drawn / 'reid_raw.json').read_text())
    assert len(records) == 10 * 2
    for record in records:
        assert set(record) == {'split', 'captions', 'file_path', 'processed_tokens', 'id'}
        assert len(record['captions']) == len(record['processed_tokens']) == 2
        with Image.open(drawn / 'imgs' / record['file_path']) as image:
            assert (image.format, image.mode, image.size) == ('JPEG', 'RGB', (32, 64))
    assert len({record['file_path'] for record in records}) == len(records)
    assert len({record['file_path'].split('/')[0] for record in records}) > 1


def test_the_ids_of_the_splits_follow_each_other(drawn):
    records = json.loads((drawn / 'reid_raw.json').read_text())
    ids = {
        split: {record['id'] for record in records if record['split'] == split}
        for split in ('train', 'val', 'test')
    }
    assert ids == {'train': {1, 2, 3, 4, 5}, 'val': {6, 7}, 'test': {8, 9, 10}}


def test_other_parameters_in_the_same_folder_are_refused_by_name(drawn):
    before = all_bytes(drawn)
    with pytest.raises(ValueError, match='images_per_id is 2 there and 3 here'):
        write_synthetic_pedes(drawn, **{**SMALL, 'images_per_id': 3})
    assert all_bytes(drawn) == before


def test_a_folder_with_a_set_that_was_not_drawn_is_refused(tmp_path):
    (tmp_path / 'reid_raw.json').write_text('[]')
    with pytest.raises(ValueError, match='was not drawn'):
        write_synthetic_pedes(tmp_path, **SMALL)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('', r'synthetic\.json is empty'),
        ('{', r'synthetic\.json is not valid JSON'),
        ('[]', r'synthetic\.json holds a list, expected the numbers'),
        ('null', r'synthetic\.json holds a NoneType'),
        ('7', r'synthetic\.json holds a int'),
        ('[' * 100_000, r'synthetic\.json is nested too deeply'),
        ('{"seed": ' + '1' * 5000 + '}', r'synthetic\.json holds a number of too many digits'),
        ('{"seed": "' + 'x\\n' * 5000 + '"}', r"seed is 'x.nx.{90,115} there and 0 here"),
        (b'\xff\xfe{}', r'synthetic\.json is not UTF-8 text at byte 0'),
    ],
)
def test_hostile_parameters_are_one_line_that_names_the_file(tmp_path, content, message):
    path = tmp_path / 'synthetic.json'
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as caught:
        write_synthetic_pedes(tmp_path, num_ids={'train': 1}, workers=1)
    assert str(tmp_path) in str(caught.value)
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'imgs').exists()


def test_a_finished_set_is_left_alone(drawn):
    image = next((drawn / 'imgs').rglob('*.jpg'))
    content = image.read_bytes()
    image.unlink()
    write_synthetic_pedes(drawn, **SMALL)
    assert not image.exists()
    image.write_bytes(content)


def test_an_interrupted_set_is_completed_without_drawing_again(drawn, tmp_path):
    def interrupt(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_synthetic_pedes(tmp_path, **SMALL, progress=interrupt)
    assert not (tmp_path / 'reid_raw.json').exists()
    images = sorted(tmp_path.rglob('*.jpg'))
    assert len(images) == 4 * 2
    times = [image.stat().st_mtime_ns for image in images]
    calls = []
    write_synthetic_pedes(tmp_path, **SMALL, progress=lambda *counts: calls.append(counts))
    assert [image.stat().st_mtime_ns for image in images] == times
    assert calls == [(done, 10) for done in range(1, 11)]
    assert all_bytes(tmp_path) == all_bytes(drawn)


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(num_ids=dict(training=3)), r"unknown splits \['training'\]"),
        (dict(num_ids=dict(train=0)), 'num_ids must be'),
        (dict(images_per_id=0), 'images_per_id must be at least 1, got 0'),
        (dict(captions_per_image=0), 'captions_per_image'),
        (dict(image_size=(8, 64)), 'image_size'),
        (dict(seed=-1), 'seed'),
        (dict(workers=0), 'workers'),
    ],
)
def test_parameters_out_of_range_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write_synthetic_pedes(tmp_path, **{**SMALL, **change})


def test_any_two_people_differ_in_three_described_attributes(people):
    words = np.array([person.described for person in people])
    differences = (words[:, None] != words[None]).sum(2)
    assert differences[~np.eye(len(people), dtype=bool)].min() >= 3


def test_a_smaller_draw_is_the_beginning_of_a_larger_one(people):
    assert sample_people(20, seed=3) == people[:20]


def test_no_colour_dresses_more_than_a_quarter_of_the_people(people):
    counts = [sum(person.top_colour == colour for person in people) for colour in COLOURS]
    assert 0 < min(counts) and max(counts) < len(people) / 4


@pytest.mark.slow
def test_a_plain_top_shows_its_colour_in_the_pixels(people):
    """Averaged over views, the middle of the torso is nearest in hue to its own colour."""
    names = ['red', 'blue', 'green', 'yellow', 'white', 'black', 'purple', 'orange']
    palette = np.array([COLOURS[name] for name in names], dtype=float)
    person = replace(
        people[0],
        top='sweater',
        pattern='plain',
        second_colour='none',
        inner_colour='none',
        sleeves='long',
        bag='none',
        bag_colour='none',
        carried='none',
        carried_colour='none',
    )
    for index, name in enumerate(names):
        dressed = replace(person, top_colour=name)
        views = [draw_person(dressed, np.random.default_rng([7, view])) for view in range(24)]
        mean = np.mean([view[38:58, 26:38].mean((0, 1)) for view in views], axis=0)
        assert np.abs(palette - mean).sum(1).argmin() == index, (name, mean)


@pytest.mark.parametrize('size', [(128, 64), (64, 32), (384, 128), (97, 51)])
def test_a_view_has_the_size_asked_for_and_repeats_with_its_seed(people, size):
    views = [draw_person(people[1], np.random.default_rng([0, seed]), size) for seed in (5, 5, 6)]
    assert views[0].shape == (*size, 3) and views[0].dtype == np.uint8
    assert np.array_equal(views[0], views[1])
    assert not np.array_equal(views[0], views[2])


def test_captions_are_plain_english_of_the_promised_length(people):
    seen = set()
    for index, person in enumerate(people):
        caption = describe_person(person, np.random.default_rng([1, index]))
        assert MIN_WORDS <= len(caption.split()) <= MAX_WORDS
        assert caption.isascii() and caption[0].isupper() and caption.endswith('.')
        assert '  ' not in caption and 'none' not in caption
        words = split_words(caption)
        for article, word in zip(words, words[1:], strict=False):
            if article in ('a', 'an'):
                assert article == with_article(word).split()[0], caption
        seen.add(caption)
    assert len(seen) > 0.98 * len(people)


def test_brief_descriptions_are_short_and_name_nothing_that_somebody_lacks(people):
    seen, lengths = set(), []
    for index, person in enumerate(people):
        text = describe_briefly(person, np.random.default_rng([1, index]))
        assert text.isascii() and text == text.lower().strip('. ')
        assert '  ' not in text and 'none' not in text
        for article, word in zip(text.split(), text.split()[1:], strict=False):
            if article in ('a', 'an'):
                assert article == with_article(word).split()[0], text
        for thing, has in (
            ('glasses', person.glasses != 'none'),
            ('backpack', person.bag == 'backpack'),
            ('jeans', person.bottom == 'jeans'),
            ('coat', person.top in ('coat', 'jacket')),
        ):
            assert has or thing not in text, text
        seen.add(text)
        lengths.append(len(text.split()))
    assert len(seen) > 0.9 * len(people)
    assert min(lengths) >= 3 and max(lengths) <= 26 and np.median(lengths) == 10


def test_only_training_views_have_brief_captions_and_others_stay_as_they_were(drawn, tmp_path):
    write_synthetic_pedes(tmp_path, **SMALL, brief_captions_per_image=1)
    before, after = (json.loads((r / 'reid_raw.json').read_text()) for r in (drawn, tmp_path))
    for old, new in zip(before, after, strict=True):
        assert new['captions'][:2] == old['captions']
        assert len(new['captions']) == 2 + (new['split'] == 'train')
        assert [split_words(caption) for caption in new['captions']] == new['processed_tokens']
    for root, change in ((drawn, 1), (tmp_path, 0)):
        with pytest.raises(ValueError, match='brief_captions_per_image'):
            write_synthetic_pedes(root, **SMALL, brief_captions_per_image=change)
    with pytest.raises(ValueError, match='brief_captions_per_image'):
        write_synthetic_pedes(tmp_path, **SMALL, brief_captions_per_image=-1)


def test_whoever_has_a_great_deal_on_is_described_briefly_enough():
    person = Person(
        sex='woman',
        skin='pale',
        build='average',
        top='jacket',
        top_colour='navy',
        pattern='two-tone',
        second_colour='white',
        sleeves='long',
        inner_colour='purple',
        bottom='long skirt',
        bottom_colour='brown',
        shoes='flats',
        shoes_colour='grey',
        hair='bun',
        hair_colour='grey',
        hat='sun hat',
        hat_colour='beige',
        bag='shoulder bag',
        bag_colour='grey',
        glasses='none',
        carried='none',
        carried_colour='none',
        tint=0,
    )
    for seed in range(2000):
        caption = describe_person(person, np.random.default_rng(seed))
        assert MIN_WORDS <= len(caption.split()) <= MAX_WORDS


def test_captions_nearly_always_name_the_colours_of_both_garments(people):
    synonyms = {
        'grey': ('grey', 'gray'),
        'navy': ('navy', 'dark blue'),
        'light blue': ('light blue', 'pale blue'),
        'maroon': ('maroon', 'dark red', 'burgundy'),
        'beige': ('beige', 'tan', 'khaki'),
        'dark green': ('dark green', 'olive green'),
        'purple': ('purple', 'violet'),
    }
    named = []
    for index, person in enumerate(people):
        caption = describe_person(person, np.random.default_rng([2, index])).lower()
        colours = [person.top_colour]
        if person.bottom != 'bare legs' and person.top != 'suit':
            colours.append(person.bottom_colour)
        named.append(
            all(
                any(word in caption for word in synonyms.get(colour, (colour,)))
                for colour in colours
            )
        )
    assert np.mean(named) > 0.93


def test_an_ideal_reader_finds_the_described_among_two_hundred(people):
    def shade(colour):
        return 'dark' if colour in DARK else 'light' if colour in LIGHT else 'other'

    def told(person, fact):
        return {
            'top colour': person.top_colour,
            'bottom colour': person.bottom_colour,
            'top shade': shade(person.top_colour),
            'bottom shade': shade(person.bottom_colour),
            'inner': person.inner_colour,
            'second': (person.pattern, person.second_colour),
            'shoes': person.shoes_colour,
            'hair': (person.hair, person.hair_colour),
            'hat': (person.hat, person.hat_colour),
            'bag': (person.bag, person.bag_colour),
        }.get(fact) or getattr(person, fact)

    gallery = people[:200]
    chances = []
    for index, person in enumerate(gallery):
        facts = choose_facts(person, np.random.default_rng([3, index]))
        fitting = [
            all(told(person, fact) == told(other, fact) for fact in facts) for other in gallery
        ]
        chances.append(1 / sum(fitting))
    assert np.mean(chances) > 0.9


def test_the_tool_draws_a_set_and_refuses_to_change_it(tmp_path, monkeypatch):
    tool = str(Path(__file__).parents[1] / 'tools' / 'make_synthetic.py')
    options = (
        '--train 2 --val 1 --test 1 --images-per-id 1 --image-size 32 16 --workers 1 --seed'
    ).split()
    monkeypatch.setattr(sys, 'argv', [tool, str(tmp_path), *options, '0'])
    runpy.run_path(tool, run_name='__main__')
    assert len(json.loads((tmp_path / 'reid_raw.json').read_text())) == 4
    monkeypatch.setattr(sys, 'argv', [tool, str(tmp_path), *options, '1'])
    with pytest.raises(SystemExit, match='seed is 0 there and 1 here'):
        runpy.run_path(tool, run_name='__main__')
