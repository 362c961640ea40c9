"""Transforms of images, compared with torchvision, and what becomes a batch."""

import mmcv.transforms
import numpy as np
import pytest
import simplejpeg
import torch
import torchvision.transforms.functional as F
from PIL import Image

from sen_toolbox.datasets import collate_pairs
from sen_toolbox.datasets.transforms import (
    LoadImage,
    PackPair,
    PadCrop,
    RandomFlip,
    ResizeImage,
)
from sen_toolbox.registry import TRANSFORMS
from sen_toolbox.text.tokenizers import CLIPTokenizer


@pytest.fixture
def noise():
    return np.random.RandomState(0).randint(0, 256, size=(97, 41, 3), dtype=np.uint8)


def tokenize(*captions):
    return CLIPTokenizer()(captions)


# Images


def test_an_image_is_read_as_rgb_rows_first(tmp_path, noise):
    Image.fromarray(noise).save(tmp_path / 'a.png')
    image = LoadImage()({'img_path': str(tmp_path / 'a.png')})['img']
    np.testing.assert_array_equal(image, noise)
    assert image.dtype == np.uint8


@pytest.mark.parametrize('mode', ['L', 'P', 'RGBA', 'CMYK', '1'])
def test_every_mode_of_an_image_becomes_rgb(tmp_path, noise, mode):
    path = tmp_path / ('a.tif' if mode == 'CMYK' else 'a.png')
    Image.fromarray(noise).convert(mode).save(path)
    expected = np.array(Image.open(path).convert('RGB'))
    np.testing.assert_array_equal(LoadImage()({'img_path': str(path)})['img'], expected)


@pytest.mark.parametrize('mode', ['RGB', 'L', 'CMYK'])
@pytest.mark.parametrize(
    'options',
    [
        dict(quality=50, subsampling='4:2:0'),
        dict(quality=95, subsampling='4:2:2'),
        dict(quality=100, subsampling='4:4:4'),
        dict(progressive=True),
        dict(restart_marker_rows=1),
    ],
)
def test_a_jpeg_has_the_pixels_that_pillow_reads(tmp_path, noise, mode, options):
    path = tmp_path / 'a.jpg'
    Image.fromarray(noise).convert(mode).save(path, **options)
    expected = np.array(Image.open(path).convert('RGB'))
    np.testing.assert_array_equal(LoadImage()({'img_path': str(path)})['img'], expected)


def test_a_jpeg_that_is_odd_but_whole_has_the_pixels_that_pillow_reads(tmp_path, noise):
    path = tmp_path / 'a.jpg'
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    data = data[:-2] + bytes(100) + data[-2:]
    path.write_bytes(data)
    with pytest.raises(ValueError, match='Corrupt JPEG data'):
        simplejpeg.decode_jpeg(data)
    expected = np.array(Image.open(path))
    np.testing.assert_array_equal(LoadImage()({'img_path': str(path)})['img'], expected)


def test_an_image_of_too_many_pixels_is_refused(tmp_path, noise, monkeypatch):
    Image.fromarray(noise).save(tmp_path / 'huge.jpg')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', noise.size // 10)
    with pytest.raises(ValueError, match=r'huge\.jpg.*decompression bomb'):
        LoadImage()({'img_path': str(tmp_path / 'huge.jpg')})


def test_an_image_is_turned_upright_by_its_exif_tag(tmp_path, noise):
    image = Image.fromarray(noise)
    exif = image.getexif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    image.save(tmp_path / 'a.jpg', exif=exif)
    found = LoadImage()({'img_path': str(tmp_path / 'a.jpg')})['img']
    stored = np.array(Image.open(tmp_path / 'a.jpg'))
    # Its first row is the right side.
    np.testing.assert_array_equal(found, np.rot90(stored, -1))


@pytest.mark.parametrize('kept', [0, 10, 400, 2000])
def test_a_truncated_jpeg_is_an_error_that_names_the_file(tmp_path, noise, kept):
    Image.fromarray(noise).save(tmp_path / 'whole.jpg', quality=95)
    path = tmp_path / 'cut.jpg'
    path.write_bytes((tmp_path / 'whole.jpg').read_bytes()[:kept])
    with pytest.raises(ValueError, match=r'cannot decode image .*cut\.jpg'):
        LoadImage()({'img_path': str(path)})


def test_a_missing_image_is_a_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'gone\.jpg'):
        LoadImage()({'img_path': str(tmp_path / 'gone.jpg')})


@pytest.mark.parametrize('filter', ['bilinear', 'bicubic'])
@pytest.mark.parametrize('size', [(384, 128), (33, 17), (128, 384), (97, 41)])
def test_resize_equals_torchvision_on_a_pillow_image_bit_for_bit(noise, size, filter):
    mode = F.InterpolationMode(filter)
    expected = np.array(F.resize(Image.fromarray(noise), list(size), mode))
    result = ResizeImage(size=size, filter=filter)({'img': noise})['img']
    assert result.shape == (*size, 3)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize('size', [(384,), (0, 128), (384, 128, 3)])
def test_resize_refuses_what_is_not_rows_and_columns(size):
    with pytest.raises(ValueError, match=r'\(rows, columns\)'):
        ResizeImage(size=size)


def test_resize_refuses_an_unknown_filter():
    with pytest.raises(ValueError, match="filter is one of bilinear, bicubic, got 'box'"):
        ResizeImage(size=(4, 4), filter='box')


def test_flip_of_the_registry_mirrors_left_and_right(noise):
    flip = TRANSFORMS.build(dict(type='RandomFlip', prob=1.0))
    expected = np.array(F.hflip(Image.fromarray(noise)))
    np.testing.assert_array_equal(flip({'img': noise.copy()})['img'], expected)


def test_flip_takes_the_draws_of_mmcv(noise):
    flips = RandomFlip(prob=0.3), mmcv.transforms.RandomFlip(prob=0.3)
    changed = 0
    for seed in range(40):
        images = []
        for flip in flips:
            np.random.seed(seed)
            images.append(flip({'img': noise.copy()})['img'])
        np.testing.assert_array_equal(*images)
        changed += (images[0] != noise).any()
    assert 4 < changed < 25


def test_flip_takes_an_image_that_is_a_view(noise):
    view = noise.transpose(2, 0, 1).copy().transpose(1, 2, 0)[:, ::-1]
    np.testing.assert_array_equal(RandomFlip(prob=1.0)({'img': view})['img'], noise)


@pytest.mark.parametrize('offset', [(0, 0), (20, 20), (10, 10), (3, 17)])
def test_pad_and_crop_equal_torchvision_for_the_same_offset(noise, offset):
    pad_crop = PadCrop(padding=10)
    pad_crop.draw_offset = lambda: offset
    expected = F.crop(F.pad(Image.fromarray(noise), 10), *offset, *noise.shape[:2])
    np.testing.assert_array_equal(pad_crop({'img': noise})['img'], np.array(expected))


def test_an_image_may_be_smaller_than_its_padding():
    image = np.full((3, 2, 3), 255, np.uint8)
    pad_crop = PadCrop(padding=4)
    for offset in ((0, 0), (8, 8), (4, 5), (0, 8), (3, 3)):
        pad_crop.draw_offset = lambda offset=offset: offset
        expected = F.crop(F.pad(Image.fromarray(image), 4), *offset, 3, 2)
        np.testing.assert_array_equal(pad_crop({'img': image})['img'], np.array(expected))


def test_the_offset_reaches_every_place_and_no_other():
    np.random.seed(0)
    drawn = {PadCrop(padding=1).draw_offset() for _ in range(300)}
    assert drawn == {(row, column) for row in range(3) for column in range(3)}


def test_the_whole_image_chain_equals_torchvision(tmp_path, noise):
    Image.fromarray(noise).save(tmp_path / 'a.jpg')
    pad_crop = PadCrop(padding=10)
    pad_crop.draw_offset = lambda: (4, 13)
    results = {'img_path': str(tmp_path / 'a.jpg'), 'tokens': tokenize('a'), 'person_id': 3}
    flip = TRANSFORMS.build(dict(type='RandomFlip', prob=1.0))
    for step in (LoadImage(), ResizeImage(size=(48, 16)), flip, pad_crop, PackPair()):
        results = step(results)
    image = F.hflip(F.resize(Image.open(tmp_path / 'a.jpg').convert('RGB'), [48, 16]))
    expected = F.pil_to_tensor(F.crop(F.pad(image, 10), 4, 13, 48, 16))
    assert torch.equal(results['images'], expected)


@pytest.mark.parametrize('prob', [-0.1, 1.5])
def test_what_is_no_probability_is_refused(prob):
    with pytest.raises(ValueError, match=f'prob must be in 0..1, got {prob}'):
        RandomFlip(prob)


# Packing and collation


def test_packing_keeps_what_was_asked_for_and_nothing_else(noise):
    record = {'img': noise, 'tokens': tokenize('a', 'b'), 'person_id': 7, 'img_path': 'x'}
    sample = PackPair()(dict(record))
    assert set(sample) == {'images', 'tokens', 'per_image', 'per_caption'}
    assert sample['images'].dtype == torch.uint8
    assert torch.equal(sample['images'][2], torch.from_numpy(noise[:, :, 2]))
    assert sample['tokens'].ids.dtype == torch.int64
    assert (sample['per_image'], sample['per_caption']) == ({'person_ids': 7}, {})
    pack = PackPair(per_image=['mask'], per_caption=['word_labels'])
    sample = pack({**record, 'label': 2, 'mask': noise[:, :, 0], 'word_labels': np.zeros((2, 77))})
    assert set(sample['per_image']) == {'person_ids', 'labels', 'mask'}
    assert sample['per_caption']['word_labels'].shape == (2, 77)
    with pytest.raises(KeyError, match=r"no 'mask' in the record; it has \['img', 'img_path'"):
        pack(dict(record))


def packed(noise, *captions, person_id=0, **extra):
    record = {'img': noise, 'tokens': tokenize(*captions), 'person_id': person_id, **extra}
    return PackPair(per_image=['place'], per_caption=['word_labels'])(
        {'place': person_id, 'word_labels': np.full((len(captions), 77), person_id), **record}
    )


def test_a_batch_joins_captions_and_says_whose_they_are(noise):
    samples = [packed(noise, 'a', 'b', 'c', person_id=5), packed(noise, 'd', person_id=2)]
    batch = collate_pairs(samples)
    assert batch['images'].shape == (2, 3, 97, 41)
    assert batch['images'].dtype == torch.uint8
    expected = tokenize('a', 'b', 'c', 'd')
    for name in ('ids', 'mask', 'end'):
        found = getattr(batch['tokens'], name)
        assert torch.equal(found, torch.from_numpy(getattr(expected, name)))
    assert batch['person_ids'].tolist() == batch['place'].tolist() == [5, 2]
    assert batch['word_labels'][:, 0].tolist() == [5, 5, 5, 2]
    assert batch['image_of'].tolist() == [0, 0, 0, 1]


def test_a_batch_of_one_caption_each_does_not_say_whose_they_are(noise):
    batch = collate_pairs([packed(noise, 'a'), packed(noise, 'b')])
    assert 'image_of' not in batch


def test_a_mask_is_mirrored_and_shifted_with_its_image(noise):
    mask = noise[:, :, 0].copy()
    shift = PadCrop(padding=3, also=['mask'])
    shift.draw_offset = lambda: (1, 5)
    results = dict(img=noise.copy(), mask=mask)
    for step in (RandomFlip(1.0, also=['mask']), shift):
        results = step(results)
    np.testing.assert_array_equal(results['img'][:, :, 0], results['mask'])
    assert not np.array_equal(results['mask'], mask)
    np.testing.assert_array_equal(results['mask'][2:, :-2], mask[:-2, ::-1][:, 2:])


def test_images_of_two_sizes_are_refused(noise):
    samples = [packed(img, 'a') for img in (noise, noise[1:])]
    with pytest.raises(ValueError, match=r'\(96, 41\), \(97, 41\).*ResizeImage'):
        collate_pairs(samples)
