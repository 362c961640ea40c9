"""Keeps one who stands still from filling the gallery."""

from collections.abc import Sequence
from dataclasses import dataclass

from sen_toolbox.search.detection.boxes import Box, iou

KEPT = 3
SAME_PLACE = 0.5
# Detectors miss the same person in some frames; so many may pass without.
MEMORY = 5


@dataclass
class _Stand:
    box: Box
    frame: int
    count: int = 1


class Repeats:
    """Lets the first 3 boxes at one place pass, frame after frame.

    A place is forgotten when nobody was there for 5 frames. Who walks on is at a new place once
    less than half overlaps (IoU).
    """

    def __init__(self) -> None:
        self._stands: list[_Stand] = []
        self._frame = 0

    def keep(self, boxes: Sequence[Box]) -> list[bool]:
        """Which boxes of the next frame pass."""
        self._frame += 1
        self._stands = [s for s in self._stands if self._frame - s.frame <= MEMORY]
        free = list(self._stands)
        kept = []
        for box in boxes:
            best = max(free, key=lambda stand: iou(stand.box, box), default=None)
            if best is None or iou(best.box, box) < SAME_PLACE:
                best = _Stand(box, self._frame)
                self._stands.append(best)
            else:
                free.remove(best)
                best.frame = self._frame
                best.count += 1
            kept.append(best.count <= KEPT)
        return kept
