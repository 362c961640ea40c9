"""Files that a crash leaves whole."""

import errno
import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sen_toolbox.io import PARTIAL, atomic_path, file_sha256, put_in_place, write_atomically

ROOT = Path(__file__).parents[1]


def names(folder):
    return [path.name for path in folder.iterdir()]


@pytest.fixture
def file(tmp_path):
    write_atomically(tmp_path / 'x.bin', b'old')
    return tmp_path / 'x.bin'


def test_a_file_replaces_the_old_one_and_leaves_nothing_beside(file):
    write_atomically(file, b'new')
    assert file.read_bytes() == b'new'
    assert names(file.parent) == ['x.bin']


def test_text_is_written_in_utf_8_with_its_line_ends(tmp_path):
    write_atomically(tmp_path / 'x.txt', 'é\r\n\n')
    assert (tmp_path / 'x.txt').read_bytes() == b'\xc3\xa9\r\n\n'


def test_the_folder_is_made(tmp_path):
    write_atomically(tmp_path / 'a' / 'b' / 'x', b'1')
    assert names(tmp_path / 'a' / 'b') == ['x']


@pytest.mark.parametrize('call', ['fsync', 'replace'])
def test_a_full_disk_keeps_the_old_file_and_leaves_no_part(file, monkeypatch, call):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(
            OSError,
            match=r'could not write .*x.bin \(No space left on device\); any older file is kept',
        ) as caught:
            write_atomically(file, b'new')
    assert caught.value.errno == errno.ENOSPC
    assert file.read_bytes() == b'old'
    assert names(file.parent) == ['x.bin']


def test_a_place_that_cannot_be_a_folder_is_named(file):
    with pytest.raises(OSError, match=r'could not write .*x\.bin/below \(.*\); any older'):
        write_atomically(file / 'below', b'new')


def test_an_error_while_writing_passes_through_and_keeps_the_old_file(file):
    with pytest.raises(RuntimeError, match='bad content'), atomic_path(file) as partial:
        partial.write_bytes(b'half')
        raise RuntimeError('bad content')
    assert file.read_bytes() == b'old'
    assert names(file.parent) == ['x.bin']


def test_a_kill_while_writing_keeps_the_old_file_and_leaves_the_known_suffix(file):
    code = """
import os, sys
from sen_toolbox.io import write_atomically
os.fsync = lambda descriptor: os._exit(9)
write_atomically(sys.argv[1], b'new')
"""
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    assert subprocess.run([sys.executable, '-c', code, file], env=env).returncode == 9
    assert file.read_bytes() == b'old'
    left = set(names(file.parent)) - {'x.bin'}
    assert [name.endswith(PARTIAL) for name in left] == [True]


def test_two_writers_of_one_file_do_not_meet(file):
    with atomic_path(file) as first, atomic_path(file) as second:
        assert {first.parent, second.parent} == {file.parent}
        assert first != second
        first.write_bytes(b'first')
        second.write_bytes(b'second')
    # The inner block ends before the outer one.
    assert file.read_bytes() == b'first'


def test_a_file_system_that_cannot_sync_folders_will_do(file, monkeypatch):
    fsync = os.fsync

    def files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, 'fsync', files_only)
    write_atomically(file, b'new')
    assert file.read_bytes() == b'new'


def test_a_file_made_elsewhere_is_put_in_place(file):
    partial = file.with_suffix(PARTIAL)
    partial.write_bytes(b'new')
    put_in_place(partial, file)
    assert file.read_bytes() == b'new'
    assert names(file.parent) == ['x.bin']


def test_a_file_is_known_by_its_content_however_large(tmp_path):
    content = bytes(range(256)) * (3 * 2**12) + b'end'
    (tmp_path / 'x').write_bytes(content)
    assert file_sha256(tmp_path / 'x') == hashlib.sha256(content).hexdigest()
