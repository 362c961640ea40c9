"""Writes MMEngine's files so that a crash leaves the old one."""

from pathlib import Path

from mmengine.fileio import LocalBackend

from sen_toolbox.io import write_atomically


class AtomicLocalBackend(LocalBackend):
    """MMEngine's local files, each the old or the new one, never half; all processes may write."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes ``obj`` to ``filepath``, see :func:`sen_toolbox.io.write_atomically`."""
        write_atomically(filepath, obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Writes text to ``filepath``."""
        self.put(obj.encode(encoding), filepath)
