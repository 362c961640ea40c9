"""Where the package open_clip lies; it is not imported, which takes as long as torch."""

from importlib.util import find_spec
from pathlib import Path


def open_clip_folder() -> Path | None:
    """The folder of the package; None where it is not installed."""
    spec = find_spec('open_clip')
    return None if spec is None or spec.origin is None else Path(spec.origin).parent
