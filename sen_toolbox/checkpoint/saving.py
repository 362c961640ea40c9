"""Writes files so that a crash leaves the old one; replaces MMEngine's local file backend."""

import os
import secrets
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend


class AtomicLocalBackend(LocalBackend):
    """Writes beside the target, then renames; the target is the old or the new file, never half."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes ``obj`` to ``filepath`` atomically; creates the folder.

        Raises:
            OSError: If the disk is full or not writable; names the file, the old one stays.
        """
        path = Path(filepath)
        # A name of its own, as MMEngine lets all processes write the results of a test.
        partial = path.with_name(f'{path.name}.{secrets.token_hex(4)}.partial')
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(partial, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
            _sync_folder(path.parent)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise OSError(
                error.errno, f'could not write {path} ({error.strerror}); any older file is kept'
            ) from error

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Writes text to ``filepath`` atomically."""
        self.put(obj.encode(encoding), filepath)


def _sync_folder(folder: Path) -> None:
    # Or a power cut could undo the renaming after an older checkpoint has been deleted.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


register_backend('local', AtomicLocalBackend, force=True, prefixes='')
