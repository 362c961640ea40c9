"""Pictures and videos that are something else: nothing runs, nothing else is read, one line."""

import io
import json
import os
import shutil
import socket
import struct
import subprocess

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from sen_toolbox import pictures
from sen_toolbox.datasets.transforms import LoadImage
from sen_toolbox.search import PersonSearch
from sen_toolbox.search.cli import main
from sen_toolbox.search.detection.record import JOURNAL, Record, prune
from sen_toolbox.search.detection.video import read_frames
from sen_toolbox.search.images import read_image
from sen_toolbox.visualization.embedding_map import draw_embedding_map
from sen_toolbox.visualization.retrieval_board import draw_retrieval_board

POSTSCRIPT = (
    b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 40\n%%EndComments\n'
    b'0 0 20 40 rectfill\nshowpage\n%%EOF\n'
)
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 20, 3), dtype=np.uint8)


def saved_as(kind):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """A program of that name which leaves a trace; returns the path of the trace."""
    trace = tmp_path / 'it ran'
    program = tmp_path / 'bin' / 'gs'
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" > "{trace}"\n')
    program.chmod(0o755)
    monkeypatch.setenv('PATH', f'{program.parent}:{os.environ["PATH"]}')
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, 'gs_binary', None)
    return trace


@pytest.fixture
def postscript(tmp_path):
    path = tmp_path / 'person.jpg'
    path.write_bytes(POSTSCRIPT)
    return str(path)


@pytest.fixture
def search(made, tmp_path):
    """A search without an index, whose crops may be changed."""
    shutil.copytree(made / 'crops', tmp_path / 'crops')
    return PersonSearch(made / 'm.safetensors', index=tmp_path / 'index')


# Nothing runs


def test_pillow_itself_would_run_ghostscript(ghostscript, postscript):
    with pytest.raises((OSError, ValueError)), Image.open(postscript) as opened:
        opened.load()
    assert ghostscript.exists()


@pytest.mark.parametrize(
    'look',
    [
        lambda path: LoadImage()({'img_path': path}),
        read_image,
        lambda path: draw_retrieval_board([dict(caption='a man', image_paths=[path])]),
        lambda path: draw_embedding_map(
            torch.eye(2), [0, 1], torch.eye(2), [0, 1], {0: path, 1: path}
        ),
    ],
    ids=['training', 'search', 'board', 'map'],
)
def test_postscript_with_the_name_of_a_picture_runs_nothing(ghostscript, postscript, look):
    with pytest.raises(ValueError, match='not one of JPEG, PNG'):
        look(postscript)
    assert not ghostscript.exists()


def test_postscript_with_the_name_of_a_picture_is_skipped_by_an_indexing(
    ghostscript, search, tmp_path
):
    path = tmp_path / 'crops' / 'evil.jpg'
    path.write_bytes(POSTSCRIPT)
    report = search.index(tmp_path / 'crops')
    assert (report.added, list(report.skipped)) == (5, [str(path)])
    assert not ghostscript.exists()


@pytest.mark.parametrize(
    'kind', sorted({'DDS', 'EPS', 'ICNS', 'JPEG2000', 'PCX', 'PPM', 'SGI', 'TGA', 'BLP', 'QOI'})
)
def test_other_formats_are_refused_by_name(kind):
    image = Image.fromarray(PIXELS)
    buffer = io.BytesIO()
    try:
        (image.convert('P') if kind == 'BLP' else image).save(buffer, kind)
    except (KeyError, OSError):
        pytest.skip(f'this Pillow writes no {kind}')
    with pytest.raises(ValueError, match='not one of JPEG, PNG, WEBP, BMP, TIFF, GIF'):
        pictures.decode_image(buffer.getvalue())


@pytest.mark.parametrize('kind', ['PNG', 'WEBP', 'BMP', 'TIFF', 'GIF', 'AVIF'])
def test_the_formats_that_are_listed_are_read_as_pillow_reads_them(kind):
    if kind not in pictures._decodable():
        pytest.skip('this Pillow was built without it')
    content = saved_as(kind)
    expected = np.array(Image.open(io.BytesIO(content)).convert('RGB'))
    np.testing.assert_array_equal(pictures.decode_image(content), expected)


# Nothing stops the others


@pytest.mark.parametrize(
    'fault',
    [
        NotImplementedError('unsupported pixel format'),
        ZeroDivisionError('division by zero'),
        RuntimeError('broken\ndata stream'),
        MemoryError(),
        RecursionError('too deep'),
        struct.error('unpack requires a buffer'),
        subprocess.CalledProcessError(1, ['gs']),
        AssertionError(),
        AttributeError('no attribute'),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_whatever_a_decoder_raises_one_file_is_skipped(search, tmp_path, monkeypatch, fault):
    real = pictures.open_image

    def opened(data):
        if b'evil' in data:
            raise fault
        return real(data)

    monkeypatch.setattr(pictures, 'open_image', opened)
    path = tmp_path / 'crops' / 'evil.png'
    path.write_bytes(b'evil')
    report = search.index(tmp_path / 'crops')
    assert (report.added, list(report.skipped)) == (5, [str(path)])
    assert type(fault).__name__ in report.skipped[str(path)]
    assert '\n' not in report.skipped[str(path)]
    with pytest.raises(ValueError, match=r'cannot decode image .*evil\.png'):
        LoadImage()({'img_path': str(path)})


def test_a_remark_of_pillow_without_a_name_is_not_shown(made, search, tmp_path, capsys):
    content = bytearray(saved_as('TIFF'))
    [entries] = struct.unpack_from('<I', content, 4)
    # The number of values of the tag that stands last.
    count = struct.unpack_from('<H', content, entries)[0]
    struct.pack_into('<I', content, entries + 2 + 12 * (count - 1) + 4, 2**20)
    path = tmp_path / 'crops' / 'odd.png'
    path.write_bytes(content)
    with pytest.warns(UserWarning, match='larger than file'), Image.open(path):
        pass
    model = ['--model', str(made / 'm.safetensors'), '--index', str(tmp_path / 'index')]
    main(['index', str(tmp_path / 'crops'), *model])
    assert 'note:' not in capsys.readouterr().err


def test_what_pillow_logs_is_not_shown_beside_the_refusal(caplog):
    content = bytearray(saved_as('TIFF'))
    [entries] = struct.unpack_from('<I', content, 4)
    for place in range(entries + 2, len(content) - 12, 12):
        tag, kind, count = struct.unpack_from('<HHI', content, place)
        if (tag, kind, count) == (277, 3, 1):  # samples per pixel
            struct.pack_into('<H', content, place + 8, 63713)
            break
    with pytest.raises(ValueError, match='SyntaxError: unknown data organization|not one of'):
        pictures.decode_image(bytes(content))
    assert caplog.text == ''


def test_an_image_that_is_too_large_to_prepare_is_skipped(search, tmp_path, monkeypatch):
    real = type(search.encoder).prepare

    def prepare(self, image):
        if image.shape == PIXELS.shape:
            raise MemoryError
        return real(self, image)

    monkeypatch.setattr(type(search.encoder), 'prepare', prepare)
    path = tmp_path / 'crops' / 'large.png'
    Image.fromarray(PIXELS).save(path)
    report = search.index(tmp_path / 'crops')
    assert (report.added, report.skipped) == (5, {str(path): 'is too large for the memory'})


def test_an_interruption_is_not_taken_for_a_damaged_picture(monkeypatch):
    def interrupted(data):
        raise KeyboardInterrupt

    monkeypatch.setattr(pictures, 'open_image', interrupted)
    with pytest.raises(KeyboardInterrupt):
        pictures.decode_image(b'x')


# What is not a file is not opened


@pytest.fixture(params=['fifo', 'socket', 'device', 'folder', 'endless'])
def not_a_file(request, tmp_path):
    """Something with the name of a picture that would block whoever opens it, or never end."""
    folder = tmp_path / 'odd'
    folder.mkdir()
    path = folder / 'odd.jpg'
    if request.param == 'fifo':
        os.mkfifo(path)
    elif request.param == 'device':
        path.symlink_to('/dev/zero')
    elif request.param == 'folder':
        path.mkdir()
    elif request.param == 'endless':
        path.touch()
        os.truncate(path, pictures.MAX_BYTES + 1)
    else:
        with socket.socket(socket.AF_UNIX) as server:
            before = os.getcwd()
            # Addresses of sockets are short.
            os.chdir(folder)
            server.bind('odd.jpg')
            os.chdir(before)
            yield path
            return
    yield path


def test_what_is_not_a_regular_file_is_refused_before_it_is_opened(not_a_file, monkeypatch):
    real = os.open

    def no_open(path, *args, **kwargs):
        assert str(path) != str(not_a_file)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, 'open', no_open)
    monkeypatch.setattr(pictures, 'decode_image', None)
    message = r'is not a regular file|has 500000001 bytes, more than 500000000'
    for look in (read_image, lambda path: LoadImage()({'img_path': str(path)})):
        with pytest.raises(ValueError, match=message):
            look(not_a_file)
    with pytest.raises(ValueError, match='not a regular file|is not a video'):
        next(read_frames(str(not_a_file), 1.0))


def test_what_is_not_a_regular_file_is_skipped_by_an_indexing(search, tmp_path):
    os.mkfifo(tmp_path / 'crops' / 'pipe.jpg')
    (tmp_path / 'crops' / 'device.png').symlink_to('/dev/zero')
    report = search.index(tmp_path / 'crops')
    assert report.added == 5
    assert set(report.skipped.values()) == {'is not a regular file'}
    assert len(report.skipped) == 2


# A video is its own content


def film(path, frames=4):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 5, (64, 64))
    for number in range(frames):
        writer.write(np.full((64, 64, 3), 40 * number, np.uint8))
    writer.release()


@pytest.mark.parametrize(
    'content',
    [
        'ffconcat version 1.0\nfile private.avi\n',
        '#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nprivate.avi\n#EXT-X-ENDLIST\n',
    ],
    ids=['concat', 'playlist'],
)
def test_a_list_of_files_with_the_name_of_a_video_leads_to_none_of_them(tmp_path, content):
    film(tmp_path / 'private.avi')
    assert len(list(read_frames(str(tmp_path / 'private.avi'), 0.1))) == 4
    (tmp_path / 'list.mp4').write_text(content)
    with pytest.raises(ValueError, match='is not a video'):
        list(read_frames(str(tmp_path / 'list.mp4'), 0.1))


def test_a_video_whose_decoder_breaks_is_one_line(tmp_path, monkeypatch):
    def broken(image, code):
        raise cv2.error('OpenCV(4)\nInsufficient memory')

    film(tmp_path / 'film.avi')
    monkeypatch.setattr(cv2, 'cvtColor', broken)
    message = r'^cannot be decoded after frame 0 \(OpenCV\(4\) Insufficient memory\)$'
    with pytest.raises(ValueError, match=message):
        list(read_frames(str(tmp_path / 'film.avi'), 0.1))


# The journal of crops lies in an index, which may come from elsewhere


PERSON = dict(box=[0, 0, 9, 9], score=0.5, crop='00000000_0.jpg')


@pytest.mark.parametrize(
    'line',
    [
        dict(found=[dict(PERSON, crop='../../../private.jpg')]),
        dict(found=[dict(PERSON, crop='/etc/passwd')]),
        dict(found=[dict(PERSON, crop=7)]),
        dict(found=[dict(PERSON, box=[1, 2])]),
        dict(found=[dict(PERSON, box='none')]),
        dict(found=[dict(PERSON, score='high')]),
        dict(found=[7]),
        dict(found=7),
        dict(found=[PERSON], frame='x', time=1.0),
        dict(found=[PERSON], crop='../../private.jpg'),
        [],
        7,
        None,
    ],
)
def test_a_line_that_is_not_ours_ends_a_journal(tmp_path, line):
    record = Record(tmp_path / 'crops', '/photo.jpg', dict(size=1))
    record.finish()
    [journal] = (tmp_path / 'crops').rglob(JOURNAL)
    header = journal.read_text().splitlines()[0]
    journal.write_text(f'{header}\n{json.dumps(line)}\n')
    again = Record(tmp_path / 'crops', '/photo.jpg', dict(size=1))
    assert (again.frames, again.done) == ([], False)


@pytest.mark.parametrize('header', ['7', '[]', '{}', '{"path": 3}', '{"path": "\\u0000"}', 'x'])
def test_a_journal_without_a_sensible_header_is_pruned_without_a_traceback(tmp_path, header):
    place = tmp_path / 'crops' / 'ab' / 'abcd'
    place.mkdir(parents=True)
    (place / JOURNAL).write_text(header)
    prune(tmp_path / 'crops', [])
    assert not place.exists()


def test_pruning_follows_no_link_out_of_the_folder(tmp_path):
    mine = tmp_path / 'mine' / 'photos'
    mine.mkdir(parents=True)
    (mine / JOURNAL).write_text('{"path": "/gone.jpg"}\n')
    (tmp_path / 'crops').mkdir()
    (tmp_path / 'crops' / 'ab').symlink_to(tmp_path / 'mine')
    prune(tmp_path / 'crops', [])
    assert (mine / JOURNAL).exists()
