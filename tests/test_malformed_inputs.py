"""Damaged and hostile files, names, indexes and models: one clear message, and nothing lost.

Requests to the web page are in test_web.py.
"""

import io
import json
import os
import shutil
import sqlite3
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sen_toolbox.search import PersonSearch
from sen_toolbox.search.cli import main
from sen_toolbox.search.images import read_image

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (60, 30, 3), dtype=np.uint8)


def encoded(kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind, **options)
    return buffer.getvalue()


FORMATS = {
    'jpg': encoded('JPEG'),
    'progressive.jpg': encoded('JPEG', progressive=True),
    'png': encoded('PNG'),
    'bmp': encoded('BMP'),
    'webp': encoded('WEBP', lossless=True),
}


def png(width, height, depth=8, colour=2, data=b''):
    """A PNG whose header says what it likes."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack('>I', len(content)) + body + struct.pack('>I', zlib.crc32(body))

    header = struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0)
    packed = zlib.compress(data)
    return (
        b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', packed) + chunk(b'IEND', b'')
    )


BROKEN = {
    **{
        f'cut to {share:.0%}.{name}': content[: int(len(content) * share)]
        for name, content in FORMATS.items()
        for share in (0.02, 0.1, 0.5, 0.9)
    },
    **{f'head lost.{name}': content[8:] for name, content in FORMATS.items()},
    **{f'all zero.{name}': bytes(len(content)) for name, content in FORMATS.items()},
    **{f'one byte.{name}': content[:1] for name, content in FORMATS.items()},
    **{f'empty.{name}': b'' for name in FORMATS},
    'text.jpg': b'this is no image\n',
    'page.png': b'<!doctype html><html><body>404</body></html>',
    'program.jpg': b'\x7fELF' + bytes(200),
    'archive.png': b'PK\x03\x04' + bytes(200),
    'script.jpg': b'#!/bin/sh\nexit 1\n',
    'json.webp': b'{"a": 1}',
    'pickle.bmp': b'\x80\x04cos\nsystem\n(S"true"\ntR.',
    'postscript.jpg': b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n',
    'vector.png': b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    'noise.jpg': RNG.bytes(500),
    'noise.png': RNG.bytes(500),
    'two billion.png': png(2**31 - 1, 2**31 - 1),
    'wide.png': png(10**9, 1),
    'tall.png': png(1, 10**9),
    'bomb.png': png(20_000, 20_000, data=bytes(1000)),
    'nothing wide.png': png(0, 10),
    'nothing high.png': png(10, 0),
    'no pixels.png': png(100, 100),
    'half the pixels.png': png(100, 100, data=bytes(15_000)),
    'strange depth.png': png(10, 10, depth=7, data=bytes(400)),
    'strange colour.png': png(10, 10, colour=5, data=bytes(400)),
    'huge.bmp': b'BM'
    + struct.pack('<IHHIIiiHH', 54, 0, 0, 54, 40, 2**30, 2**30, 1, 24)
    + bytes(24),
    'marker loop.jpg': b'\xff\xd8' + b'\xff\xe0\x00\x02' * 500,
    'bad length.jpg': b'\xff\xd8\xff\xe0\xff\xff' + bytes(40),
}
# These are odd and yet images.
ODD = {
    'jpeg called png.png': FORMATS['jpg'],
    'png called jpeg.jpg': FORMATS['png'],
    'webp called bmp.bmp': FORMATS['webp'],
    'rest behind.jpg': FORMATS['jpg'] + b'<script>alert(1)</script>',
    'one pixel.png': png(1, 1, data=bytes(4)),
    'thin.png': png(1, 3000, data=bytes(4 * 3000)),
    'flat.png': png(3000, 1, data=bytes(9001)),
    'SHOUTED.JPG': FORMATS['jpg'],
    ' spaces  in it .jpg': FORMATS['jpg'],
    'quote\' " ; rm -rf $HOME `id`.jpg': FORMATS['jpg'],
    '<b onclick=x>&amp;.jpg': FORMATS['jpg'],
    '%2e%2e%2fname.jpg': FORMATS['jpg'],
    '..jpg.jpg': FORMATS['jpg'],
    '-rf.jpg': FORMATS['jpg'],
    'line\nbreak\ttab.jpg': FORMATS['jpg'],
    '\x1b[31mred.jpg': FORMATS['jpg'],
    '\u4eba\u7269 \U0001f9e5.jpg': FORMATS['jpg'],
    '\u202egpj.exe.jpg': FORMATS['jpg'],
    'caf\udce9 \udcff\udcfe.jpg': FORMATS['jpg'],
    'n' * 240 + '.jpg': FORMATS['jpg'],
}


@pytest.fixture(scope='module')
def indexed(made, tmp_path_factory):
    """All of them in one folder, indexed together with five good images."""
    root = tmp_path_factory.mktemp('malformed')
    shutil.copytree(made / 'crops', root / 'crops')
    for name, content in {**BROKEN, **ODD}.items():
        (root / 'crops' / name).write_bytes(content)
    search = PersonSearch(made / 'm.safetensors', index=root / 'index')
    report = search.index(root / 'crops')
    return root, search, report


@pytest.mark.parametrize('name', BROKEN)
def test_a_broken_file_is_skipped_with_one_line(indexed, name):
    root, search, report = indexed
    problem = report.skipped[str(root / 'crops' / name)]
    assert problem
    assert '\n' not in problem
    assert not list(search.gallery.items([str(root / 'crops' / name)]))


@pytest.mark.parametrize('name', ODD)
def test_an_odd_file_is_indexed_and_found(indexed, name):
    root, search, report = indexed
    path = root / 'crops' / name
    assert str(path) not in report.skipped
    [(entry, vector)] = search.gallery.items([str(path)])
    assert entry.path == str(path)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    best = search.search(image=read_image(path), k=40)
    assert str(path) in [result.path for result in best if result.score > 0.999]


def test_nothing_else_was_lost_or_counted_twice(indexed, made):
    root, search, report = indexed
    assert set(report.skipped) == {str(root / 'crops' / name) for name in BROKEN}
    assert report.added == len(search) == 5 + len(ODD)
    again = search.index(root / 'crops')
    assert (again.unchanged, again.added, again.changed) == (5 + len(ODD), 0, 0)
    assert again.skipped == report.skipped


@pytest.fixture
def index(made, tmp_path):
    """A new index of five images and its model."""
    search = PersonSearch(made / 'm.safetensors', index=tmp_path / 'index')
    search.index(made / 'crops')
    return tmp_path / 'index'


def in_database(statement):
    def change(index):
        with sqlite3.connect(index / 'index.sqlite') as db:
            db.execute(statement)

    return change


DAMAGE = {
    'the database is cut': lambda i: os.truncate(i / 'index.sqlite', 5000),
    'the database is text': lambda i: (i / 'index.sqlite').write_text('no database' * 500),
    'the database is noise': lambda i: (i / 'index.sqlite').write_bytes(RNG.bytes(9000)),
    'the database is empty': lambda i: (i / 'index.sqlite').write_bytes(b''),
    'the database is gone': lambda i: (i / 'index.sqlite').unlink(),
    'the vectors are cut': lambda i: os.truncate(i / 'vectors.0', 100),
    'the vectors are empty': lambda i: os.truncate(i / 'vectors.0', 0),
    'the vectors are gone': lambda i: (i / 'vectors.0').unlink(),
    'the format is new': in_database("UPDATE meta SET value = '9' WHERE key = 'format'"),
    'the model is another': in_database("UPDATE meta SET value = 'x' WHERE key = 'fingerprint'"),
    'more is counted than there is': in_database("UPDATE meta SET value = '99' WHERE key = 'rows'"),
    'entries have no table': in_database('DROP TABLE entries'),
}


@pytest.mark.parametrize('damage', DAMAGE)
def test_a_damaged_index_is_one_message(index, made, capsys, damage):
    DAMAGE[damage](index)
    code = main(['query', 'a man', '--index', str(index), '--model', str(made / 'm.safetensors')])
    out, err = capsys.readouterr()
    assert (code, out) == (1, '')
    assert err.startswith('sen-search: ')
    assert err.count('\n') == 1


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('', 'is not a JSON file'),
        ('{', 'is not a JSON file'),
        ('nonsense', 'is not a JSON file'),
        ('[' * 100_000, 'is not a JSON file'),
        ('[]', 'must hold an object'),
        ('7', 'must hold an object'),
        ('null', 'must hold an object'),
        (b'\xff\xfe{}', 'is not a JSON file'),
        (None, 'No such file'),
    ],
)
def test_a_file_of_identities_without_sense_is_one_message(
    made,
    tmp_path,
    capsys,
    content,
    message,
):
    path = tmp_path / 'ids.json'
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    model = ['--model', str(made / 'm.safetensors'), '--index', str(tmp_path / 'index')]
    code = main(['index', str(made / 'crops'), '--ids', str(path), *model])
    err = capsys.readouterr().err
    assert (code, err.count('\n')) == (1, 1)
    assert message in err
    assert not (tmp_path / 'index').exists()


def with_header(made, change):
    """The model file with another safetensors header."""
    content = (made / 'm.safetensors').read_bytes()
    length = struct.unpack('<Q', content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    return change(header, content[8 + length :])


def packed(header, data):
    text = json.dumps(header).encode()
    return struct.pack('<Q', len(text)) + text + data


def with_description(text):
    def change(header, data):
        header['__metadata__']['sen_toolbox'] = text
        return packed(header, data)

    return change


MODELS = {
    'empty': lambda h, d: b'',
    'text': lambda h, d: b'no model at all',
    'no header': lambda h, d: d[:1000],
    'endless header': lambda h, d: struct.pack('<Q', 2**60) + b'{}',
    'cut': lambda h, d: packed(h, d[:-100]),
    'description is no JSON': with_description('{'),
    'description is a list': with_description('[]'),
    'description is a number': with_description('7'),
    'description is empty': with_description('{}'),
    'description is of another format': with_description('{"format": 9}'),
    'a tensor beyond the end': lambda h, d: packed(
        {**h, 'x': dict(dtype='F32', shape=[10**6], data_offsets=[0, 4 * 10**6])}, d
    ),
}


@pytest.mark.parametrize('kind', MODELS)
def test_a_model_file_without_sense_is_one_message(made, tmp_path, capsys, kind):
    (tmp_path / 'bad.safetensors').write_bytes(with_header(made, MODELS[kind]))
    arguments = ['--model', str(tmp_path / 'bad.safetensors'), '--index', str(tmp_path / 'index')]
    code = main(['index', str(made / 'crops'), *arguments])
    out, err = capsys.readouterr()
    assert (code, out) == (1, '')
    assert (err.startswith('sen-search: '), err.count('\n')) == (True, 1)
    assert not (tmp_path / 'index').exists()
