"""The image cache: the same samples, made once, renewed when needed, and what it refuses."""

import copy
import hashlib
import io
import json
import multiprocessing
import os
import pickle
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sen_toolbox.datasets import CUHKPEDES, cache, image_cache
from sen_toolbox.datasets.cache import pruned_captions, token_ids
from sen_toolbox.datasets.image_cache import cache_images, split_pipeline
from sen_toolbox.datasets.transforms import (
    CleanCaption,
    LoadImage,
    PadCrop,
    RandomFlip,
    ResizeImage,
    Tokenize,
)
from sen_toolbox.text.taggers import RuleTagger
from sen_toolbox.text.tokenizers import CLIPTokenizer

STEPS = [LoadImage(), ResizeImage(size=(24, 8))]
TOKENIZER = dict(type='CLIPTokenizer', context_length=16)
PIPELINE = [
    dict(type='LoadImage'),
    dict(type='ResizeImage', size=(24, 8)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PadCrop', padding=3),
    dict(type='PruneCaption', prob=0.5),
    dict(type='Tokenize', tokenizer=TOKENIZER),
    dict(type='MaskWords', tokenizer=TOKENIZER),
    dict(type='PackPair'),
]


@pytest.fixture
def paths(tmp_path):
    """Five images of different sizes."""
    rng = np.random.RandomState(0)
    files = []
    for number in range(5):
        path = tmp_path / 'imgs' / f'{number}.jpg'
        path.parent.mkdir(exist_ok=True)
        pixels = rng.randint(0, 256, size=(30 + number, 11, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, quality=90)
        files.append(str(path))
    return files


@pytest.fixture
def folder(tmp_path):
    return tmp_path / 'cache'


@pytest.fixture
def log(monkeypatch):
    lines = []
    monkeypatch.setattr(image_cache, 'print_log', lambda text, **_: lines.append(text))
    return lines


def pixels(path):
    return STEPS[1](STEPS[0]({'img_path': path}))['img']


def cached(step, path):
    return step({'img_path': path})['img']


def files(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != '.lock')


def dataset(root, **kwargs):
    return CUHKPEDES(
        data_root=root, split='train', pipeline=PIPELINE, tagger=dict(type='RuleTagger'), **kwargs
    )


@pytest.fixture
def root(tmp_path, paths):
    records = [
        {
            'split': 'train',
            'file_path': Path(path).name,
            'id': number,
            'captions': [f'A man in a red coat, number {number}.', 'He walks.'],
        }
        for number, path in enumerate(paths)
    ]
    (tmp_path / 'reid_raw.json').write_text(json.dumps(records))
    return tmp_path


# The same pixels


def test_cached_images_equal_those_made_each_time(paths, folder):
    step = cache_images(paths, STEPS, folder=folder)
    for path in paths:
        np.testing.assert_array_equal(cached(step, path), pixels(path))
        assert cached(step, path).shape == (24, 8, 3)


def test_samples_are_the_same_with_and_without(root, folder):
    plain, fast = dataset(root), dataset(root, image_cache=folder)
    assert len(files(folder)) == 1
    for data in (plain, fast):
        data.set_epoch(3, 1)
    for index in range(len(plain)):
        one, other = plain[index], fast[index]
        assert one.keys() == other.keys()
        assert torch.equal(one['images'], other['images'])
        assert torch.equal(one['tokens'].ids, other['tokens'].ids)


def test_writing_into_an_image_does_not_change_the_cache(paths, folder):
    step = cache_images(paths, STEPS, folder=folder)
    cached(step, paths[0])[:] = 0
    np.testing.assert_array_equal(cached(step, paths[0]), pixels(paths[0]))


def test_a_pickled_data_set_names_the_file_and_does_not_hold_its_images(root, folder):
    data = dataset(root, image_cache=folder)
    (file,) = folder.glob('*.npy')
    step = data.pipeline.transforms[0]
    assert len(pickle.dumps(step)) < file.stat().st_size / 2
    # Our own bytes of a moment ago.
    for other in (pickle.loads(pickle.dumps(data)), copy.deepcopy(data)):  # noqa: S301
        np.testing.assert_array_equal(
            cached(other.pipeline.transforms[0], data.get_data_info(0)['img_path']),
            pixels(data.get_data_info(0)['img_path']),
        )


def test_the_pipeline_is_divided_before_the_first_random_transform():
    steps = [*STEPS, RandomFlip(0.5), PadCrop(), LoadImage()]
    assert split_pipeline(steps) == (steps[:2], steps[2:])
    assert split_pipeline(STEPS) == (STEPS, [])
    assert split_pipeline([PadCrop()])[0] == []


# Made once, and anew when needed


def test_images_are_decoded_once(paths, folder, log):
    cache_images(paths, STEPS, folder=folder)
    assert 'caching 5 images' in log[0]
    assert log[-1] == 'cached 5 of 5 images'
    log.clear()
    cache_images([*paths, *paths], STEPS, folder=folder)
    assert log == []


def test_a_changed_image_replaces_the_file(paths, folder):
    cache_images(paths, STEPS, folder=folder)
    before = files(folder)
    Image.new('RGB', (11, 31), 'red').save(paths[1])
    step = cache_images(paths, STEPS, folder=folder)
    np.testing.assert_array_equal(cached(step, paths[1]), pixels(paths[1]))
    assert len(files(folder)) == 1 and files(folder) != before


def test_a_change_of_the_time_alone_is_enough(paths, folder):
    cache_images(paths, STEPS, folder=folder)
    before = files(folder)
    os.utime(paths[1], (1, 1))
    cache_images(paths, STEPS, folder=folder)
    assert files(folder) != before


def test_another_size_and_another_pillow_have_files_of_their_own(paths, folder, monkeypatch):
    cache_images(paths, STEPS, folder=folder)
    step = cache_images(paths, [LoadImage(), ResizeImage(size=(8, 24))], folder=folder)
    assert cached(step, paths[0]).shape == (8, 24, 3)
    assert len(files(folder)) == 2
    monkeypatch.setattr(image_cache.PIL, '__version__', '0.0')
    cache_images(paths, STEPS, folder=folder)
    assert len(files(folder)) == 3


def test_an_interrupted_file_is_completed_and_then_as_never_interrupted(
    paths, folder, tmp_path, log, monkeypatch
):
    monkeypatch.setattr(image_cache, 'CHUNK', 2)
    whole = cache_images(paths, STEPS, folder=tmp_path / 'whole').file.read_bytes()
    real = image_cache._log_progress

    def interrupt(before, done, total):
        if done == 4:
            raise KeyboardInterrupt
        real(before, done, total)

    monkeypatch.setattr(image_cache, '_log_progress', interrupt)
    with pytest.raises(KeyboardInterrupt):
        cache_images(paths, STEPS, folder=folder)
    (partial,) = folder.glob('*.partial')
    # Killed while it wrote the fourth image.
    with open(partial, 'r+b') as file:
        file.truncate(partial.stat().st_size - 24 * 8 * 3 // 2)
    monkeypatch.setattr(image_cache, '_log_progress', real)
    log.clear()
    step = cache_images(paths, STEPS, folder=folder)
    assert '3 are there already' in log[0]
    assert step.file.read_bytes() == whole
    assert files(folder) == [step.file.name]


@pytest.mark.parametrize('length', [0, 5])
def test_a_file_cut_off_in_its_header_is_begun_anew(paths, folder, tmp_path, length):
    finished = cache_images(paths, STEPS, folder=folder).file
    whole = finished.read_bytes()
    finished.with_suffix('.partial').write_bytes(whole[:length])
    finished.unlink()
    assert cache_images(paths, STEPS, folder=folder).file.read_bytes() == whole


class SlowLoad(LoadImage):
    """Leaves a second process time to come, and a line for each image."""

    def __init__(self, notes):
        self.notes = notes

    def transform(self, results):
        time.sleep(0.05)
        with open(self.notes, 'a') as out:
            out.write(results['img_path'] + '\n')
        return super().transform(results)


def _cache_in_process(paths, folder, notes, barrier):
    barrier.wait()
    step = cache_images(paths, [SlowLoad(notes), STEPS[1]], folder=folder)
    for path in paths:
        np.testing.assert_array_equal(cached(step, path), pixels(path))


def test_two_processes_at_once_make_one_file(paths, folder, tmp_path):
    context = multiprocessing.get_context('fork')
    barrier = context.Barrier(2)
    arguments = (paths, folder, tmp_path / 'notes', barrier)
    processes = [context.Process(target=_cache_in_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(files(folder)) == 1
    # The first image is also made to learn the size.
    assert len((tmp_path / 'notes').read_text().splitlines()) == len(paths) + 1


# A file that is damaged


def overwrite(file, offset, content):
    with open(file, 'r+b') as opened:
        opened.seek(offset, os.SEEK_END if offset < 0 else os.SEEK_SET)
        opened.write(content)


def swap_images(file):
    data = bytearray(file.read_bytes())
    size, start = 24 * 8 * 3, 128
    first, second = slice(start, start + size), slice(start + size, start + 2 * size)
    data[first], data[second] = data[second], data[first]
    file.write_bytes(data)


def with_shape(text):
    """The header says another shape of as many bytes."""

    def change(file):
        data = file.read_bytes()
        header = data[:128].replace(b'(5, 24, 8, 3)', text.ljust(13))
        file.write_bytes(header + data[128:])

    return change


def as_another_array(**arrays):
    def change(file):
        with open(file, 'wb') as opened:
            np.save(opened, **arrays)

    return change


IMAGE_DAMAGE = {
    'a pixel': lambda f: overwrite(f, 1000, bytes([f.read_bytes()[1000] ^ 1])),
    'swapped images': swap_images,
    'cut': lambda f: os.truncate(f, f.stat().st_size - 1),
    'cut to half': lambda f: os.truncate(f, f.stat().st_size // 2),
    'empty': lambda f: os.truncate(f, 0),
    'a checksum': lambda f: overwrite(f, -4, b'abcd'),
    'something behind': lambda f: f.write_bytes(f.read_bytes() + b'x'),
    'text': lambda f: f.write_text('no array at all'),
    'another size': with_shape(b'(5, 8, 24, 3)'),
    'fewer images': with_shape(b'(4, 24, 8, 3)'),
    'endless': with_shape(b'(9999999999,)'),
    'no shape': with_shape(b'(-5, 24,8, 3)'),
    'floats': as_another_array(arr=np.zeros((5, 24, 8, 3))),
    'objects': as_another_array(arr=np.array([{}, []], object), allow_pickle=True),
    'an older format': as_another_array(arr=np.zeros((5, 24, 8, 3), np.uint8)),
}


@pytest.mark.parametrize('damage', IMAGE_DAMAGE)
def test_a_damaged_file_is_made_again_with_a_warning_that_names_it(paths, folder, log, damage):
    file = cache_images(paths, STEPS, folder=folder).file
    whole = file.read_bytes()
    IMAGE_DAMAGE[damage](file)
    assert file.read_bytes() != whole
    log.clear()
    step = cache_images(paths, STEPS, folder=folder)
    assert step.file.read_bytes() == whole
    for path in paths:
        np.testing.assert_array_equal(cached(step, path), pixels(path))
    [warning] = [line for line in log if 'made again' in line]
    assert str(file) in warning
    assert '\n' not in warning


def test_a_file_of_other_images_is_not_taken_for_these(paths, folder, log):
    other = cache_images(paths[::-1], STEPS, folder=folder / 'other').file
    file = cache_images(paths, STEPS, folder=folder).file
    shutil.copy(other, file)
    step = cache_images(paths, STEPS, folder=folder)
    np.testing.assert_array_equal(cached(step, paths[0]), pixels(paths[0]))


def test_a_file_whose_sums_were_written_before_a_kill_is_completed(paths, folder):
    finished = cache_images(paths, STEPS, folder=folder).file
    whole = finished.read_bytes()
    finished.rename(finished.with_suffix('.partial'))
    assert cache_images(paths, STEPS, folder=folder).file.read_bytes() == whole


# Refusals


@pytest.mark.parametrize('kind', ['link', 'pipe'])
def test_a_file_is_begun_nowhere_else(paths, folder, tmp_path, kind):
    made = cache_images(paths, STEPS, folder=folder)
    partial = made.file.with_suffix('.partial')
    made.file.unlink()
    (tmp_path / 'mine').write_text('years of work')
    partial.symlink_to(tmp_path / 'mine') if kind == 'link' else os.mkfifo(partial)
    step = cache_images(paths, STEPS, folder=folder)
    assert all(np.array_equal(cached(step, path), pixels(path)) for path in paths)
    assert (tmp_path / 'mine').read_text() == 'years of work'


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(paths, folder, monkeypatch):
    need = 5 * 24 * 8 * 3
    usage = shutil.disk_usage(folder.parent)._replace(free=need - 1)
    monkeypatch.setattr(image_cache.shutil, 'disk_usage', lambda _: usage)
    with pytest.raises(OSError, match=r'need 0\.00 GB in .*are free.*image_cache=None'):
        cache_images(paths, STEPS, folder=folder)
    assert not list(folder.glob('*.npy'))
    assert sum(path.stat().st_size for path in folder.iterdir()) < 200
    usage = usage._replace(free=need)
    cache_images(paths, STEPS, folder=folder)


def test_a_folder_that_cannot_be_made_is_named(paths, tmp_path):
    # A file in the folder's place; permissions would not stop root.
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match=r'cannot write into .*file/cache.*image_cache=None'):
        cache_images(paths, STEPS, folder=tmp_path / 'file' / 'cache')


def test_a_finished_file_needs_no_right_to_write(paths, folder, monkeypatch):
    cache_images(paths, STEPS, folder=folder)
    monkeypatch.setattr(image_cache, 'FileLock', None)
    cache_images(paths, STEPS, folder=folder)


def test_a_corrupt_image_is_named_and_no_file_pretends_to_be_complete(paths, folder):
    with open(paths[3], 'r+b') as file:
        file.truncate(300)
    with pytest.raises(ValueError, match=r'cannot decode image .*3\.jpg'):
        cache_images(paths, STEPS, folder=folder)
    assert not list(folder.glob('*.npy'))


def test_a_missing_image_is_named(paths, folder):
    os.unlink(paths[2])
    with pytest.raises(FileNotFoundError, match=r'2\.jpg'):
        cache_images(paths, STEPS, folder=folder)


def test_images_of_different_sizes_are_refused(paths, folder):
    with pytest.raises(ValueError, match=r'1\.jpg has .*\(31, 11\).*0\.jpg has \(30, 11\).*Resize'):
        cache_images(paths, [LoadImage()], folder=folder)


def test_a_pipeline_that_begins_at_random_is_refused(root, folder):
    data = dict(data_root=root, split='train', image_cache=folder)
    with pytest.raises(ValueError, match='begins with deterministic transforms'):
        CUHKPEDES(pipeline=[dict(type='PadCrop')], **data)


# Token ids


@pytest.fixture
def encoded(monkeypatch):
    """The texts that a tokenizer reads."""
    texts = []
    encode = CLIPTokenizer.encode
    monkeypatch.setattr(
        CLIPTokenizer, 'encode', lambda self, text: texts.append(text) or encode(self, text)
    )
    return texts


def test_every_caption_is_tokenised_once_for_all_workers(root, encoded):
    first = dataset(root)
    assert sorted(encoded) == sorted(set(encoded))
    assert len(encoded) == 8  # six captions, and two when pruned
    second = dataset(root)
    for data in (first, second):
        samples = [data[index]['tokens'] for index in range(len(data))]
    assert len(encoded) == 8
    assert len(samples) == 10


def test_known_and_unknown_captions_have_the_same_tokens(root):
    tokenize = next(s for s in dataset(root).pipeline.transforms if isinstance(s, Tokenize))
    plain = Tokenize(TOKENIZER)
    assert len(tokenize.known) == 8
    captions = [*tokenize.known, 'Never seen before.', 'He walks. ' * 20]
    known, read = (step({'captions': captions})['tokens'] for step in (tokenize, plain))
    for left, right in zip(vars(known).values(), vars(read).values(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_rewritten_captions_are_not_tokenised_beforehand(root):
    pipeline = [dict(type='CleanCaption'), dict(type='Tokenize', tokenizer=TOKENIZER)]
    data = CUHKPEDES(data_root=root, split='train', pipeline=pipeline)
    assert len(data.pipeline.transforms[1].known) == 0


class Counting:
    """Numbers letters; only what the cache asks for."""

    def __init__(self, fingerprint='a', vocab_size=300):
        self.fingerprint = fingerprint
        self.vocab_size = vocab_size
        self.texts = []

    def encode(self, text):
        self.texts.append(text)
        return [self.vocab_size - 1 - ord(letter) % 7 for letter in text]


def test_token_ids_are_kept_by_captions_and_by_the_fingerprint(tmp_path):
    first = Counting()
    table = token_ids(['red', 'a', 'red', ''], tokenizer=first, data_root=tmp_path)
    assert sorted(first.texts) == ['', 'a', 'red']
    assert {text: ids.tolist() for text, ids in table.items()} == {
        text: first.encode(text) for text in ('red', 'a', '')
    }
    again, other = Counting(), Counting('b')
    kept = token_ids(['a', 'red', ''], tokenizer=again, data_root=tmp_path)
    assert kept['red'].tolist() == table['red'].tolist()
    assert again.texts == []
    token_ids(['a', 'red', ''], tokenizer=other, data_root=tmp_path)
    assert len(other.texts) == 3


@pytest.mark.parametrize(('size', 'dtype'), [(2**16, np.uint16), (2**16 + 1, np.uint32)])
def test_token_ids_take_the_type_that_holds_them_all(tmp_path, size, dtype):
    tokenizer = Counting(vocab_size=size)
    for _ in ('made', 'read'):
        table = token_ids(['red'], tokenizer=tokenizer, data_root=tmp_path)
        assert table.ids.dtype == dtype
        assert table['red'].tolist() == tokenizer.encode('red')


def sealed(tokenizer, captions, content):
    """A file as one would write it who wants it to be taken for ours."""
    key = hashlib.sha256(json.dumps([tokenizer.fingerprint, sorted(captions)]).encode())
    return cache._seal(key.hexdigest(), content) + content


def arrays(**values):
    content = io.BytesIO()
    np.savez(content, **values)
    return content.getvalue()


IDS, ENDS = np.array([1, 2, 3, 4], np.uint16), np.array([1, 4], np.int64)
# What a file holds that says it is of these captions.
FORGED = {
    'beyond the end': arrays(ids=IDS, ends=ENDS + 1),
    'before the beginning': arrays(ids=IDS, ends=np.array([-1, 4])),
    'backwards': arrays(ids=IDS, ends=np.array([5, 4])),
    'not all ids': arrays(ids=IDS, ends=np.array([1, 3])),
    'wild ends': arrays(ids=IDS, ends=np.array([2**62, -(2**62)])),
    'too few ends': arrays(ids=IDS, ends=np.array([4])),
    'ends as floats': arrays(ids=IDS, ends=np.array([1.0, 4.0])),
    'an id beyond the vocabulary': arrays(ids=IDS + 296, ends=ENDS),
    'signed ids': arrays(ids=-IDS.astype(np.int64), ends=ENDS),
    'two dimensions': arrays(ids=IDS[None], ends=ENDS),
    'no ends': arrays(ids=IDS),
    'objects': arrays(ids=np.array([{}], object), ends=ENDS),
    'text': b'no arrays at all',
    'empty': b'',
    'cut': arrays(ids=IDS, ends=ENDS)[:-30],
}


@pytest.fixture
def warnings(monkeypatch):
    lines = []
    monkeypatch.setattr(cache, 'print_log', lambda text, **_: lines.append(text))
    return lines


@pytest.mark.parametrize('content', FORGED.values(), ids=FORGED)
def test_token_ids_that_make_no_sense_are_made_again(tmp_path, warnings, content):
    captions, tokenizer = ['a', 'red'], Counting()
    expected = token_ids(captions, tokenizer=tokenizer, data_root=tmp_path)
    [file] = (tmp_path / '.sen_cache').iterdir()
    whole = file.read_bytes()
    file.write_bytes(sealed(tokenizer, captions, content))
    again = token_ids(captions, tokenizer=tokenizer, data_root=tmp_path)
    assert {c: again[c].tolist() for c in captions} == {c: expected[c].tolist() for c in captions}
    [warning] = warnings
    assert warning.startswith(f'{file} is not used, it is made again')
    assert '\n' not in warning
    assert file.read_bytes() == whole


@pytest.mark.parametrize('tagger', [None, RuleTagger()], ids=['tokens', 'pruned'])
def test_any_flipped_byte_of_what_is_kept_is_noticed(tmp_path, warnings, tagger):
    def keep():
        if tagger:
            table = pruned_captions(['a man in red', 'blue'], tagger=tagger, data_root=tmp_path)
            return dict(table)
        table = token_ids(['a', 'red'], tokenizer=Counting(), data_root=tmp_path)
        return {caption: ids.tolist() for caption, ids in table.items()}

    expected = keep()
    [file] = (tmp_path / '.sen_cache').iterdir()
    whole = file.read_bytes()
    for place in range(0, len(whole), 29):
        overwrite(file, place, bytes([whole[place] ^ 4]))
        assert keep() == expected
        assert len(warnings) == 1, place
        assert file.read_bytes() == whole
        warnings.clear()


@pytest.mark.parametrize('content', [b'[' * 50_000, b'{"a": 7, "red": "red"}', b'[]', b'{}'])
def test_pruned_captions_that_make_no_sense_are_made_again(tmp_path, warnings, content):
    tagger, captions = RuleTagger(), ['a', 'red']
    expected = pruned_captions(captions, tagger=tagger, data_root=tmp_path)
    [file] = (tmp_path / '.sen_cache').iterdir()
    key = hashlib.sha256(json.dumps([tagger.version, captions]).encode()).hexdigest()
    file.write_bytes(cache._seal(key, content) + content)
    assert pruned_captions(captions, tagger=tagger, data_root=tmp_path) == expected
    assert len(warnings) == 1


@pytest.mark.parametrize('keep', [token_ids, pruned_captions])
def test_a_caption_that_raises_leaves_no_bar_behind(tmp_path, keep):
    class Broken(Counting):
        version = 'x'

        def encode(self, text):
            raise LookupError(text)

        prune = encode

    before = threading.enumerate()
    with pytest.raises(LookupError) as held:
        broken = dict(tokenizer=Broken()) if keep is token_ids else dict(tagger=Broken())
        keep(['a', 'b'], data_root=tmp_path, **broken)
    # A bar that was told to end does so at its next turn.
    for thread in set(threading.enumerate()) - set(before):
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert held.value.args == ('a',)


# Which transforms leave a fixed image


def test_fixed_transforms_of_captions_are_not_part_of_the_cached_image():
    steps = [*STEPS, CleanCaption(), *STEPS[1:]]
    assert split_pipeline(steps) == (STEPS, steps[2:])
