"""What a search finds; imports nothing heavy."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Result:
    """One person that a search found.

    Attributes:
        rank: From 1.
        score: Cosine of query and image, in -1..1.
        path: Absolute path of the image or video.
        identity: Who it is, if the index was told.
        place: Where in the file, as JSON values; empty for the whole of an image. For a person who
            was detected ``box`` (x0, y0, x1, y1 in pixels), ``score`` (of the detection) and
            ``crop`` (absolute path of a JPEG); in a video also ``frame`` and ``time`` (seconds).
    """

    rank: int
    score: float
    path: str
    identity: str | None = None
    place: Mapping = field(default_factory=dict)

    @property
    def picture(self) -> str:
        """Absolute path of an image of the person alone."""
        return self.place.get('crop', self.path)

    @property
    def is_missing(self) -> bool:
        """Whether the file is gone: deleted, moved, or on a drive that is not there."""
        return not os.path.exists(self.path)

    @property
    def where(self) -> str:
        """Where in the file, for people to read; empty for the whole of an image."""
        parts = []
        if 'time' in self.place:
            minutes, seconds = divmod(self.place['time'], 60)
            parts.append(f'{minutes:.0f}:{seconds:04.1f}')
        if 'frame' in self.place:
            parts.append(f'frame {self.place["frame"]}')
        if 'box' in self.place:
            parts.append('box {}, {}, {}, {}'.format(*self.place['box']))
        return ', '.join(parts)
