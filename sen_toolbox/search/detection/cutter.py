"""Cuts the people out of photos and videos for an index."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from sen_toolbox.checks import checked_positive
from sen_toolbox.io import file_sha256
from sen_toolbox.search.detection.boxes import Detector
from sen_toolbox.search.detection.record import Record
from sen_toolbox.search.detection.repeats import Repeats
from sen_toolbox.search.detection.video import read_frames
from sen_toolbox.search.images import Crop, read_image
from sen_toolbox.search.suffixes import is_video

# Pixels; a smaller person shows hardly more than the colour of the clothes.
MIN_HEIGHT = 40


class PersonCutter:
    """The people in a file, each as a crop that is also kept as a JPEG.

    Args:
        detector: What finds them.
        folder: Where the crops of all files are kept.
        every: Seconds from one frame of a video to the next that is looked at, above 0.
        progress: Called with the path of a video and the share of it that was looked at, 0..1.
    """

    def __init__(
        self,
        detector: Detector,
        folder: Path,
        *,
        every: float = 1.0,
        progress: Callable[[str, float], None] | None = None,
    ) -> None:
        self._every = checked_positive('every (in seconds)', every)
        self._detector, self._folder = detector, folder
        self._progress = progress or (lambda path, share: None)
        self.recipe = f'{detector.name}, every {every:g} s'

    def read(self, path: str) -> tuple[str, Iterator[Crop]]:
        """The SHA-256 of a file, and its crops in the order of the frames.

        They are cut when they are asked for, but for those that an earlier call has cut.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it cannot be decoded; says why.
        """
        return file_sha256(path), self._cut(path)

    def _cut(self, path: str) -> Iterator[Crop]:
        status = os.stat(path)
        made_of = dict(size=status.st_size, mtime_ns=status.st_mtime_ns, recipe=self.recipe)
        record = Record(self._folder, path, made_of)
        repeats = Repeats()
        for line in record.frames:
            repeats.keep([tuple(found['box']) for found in line['found']])
            yield from _crops(record, line)
        if record.done:
            return
        for when, image in self._images(path, record.frames):
            people = [p for p in self._detector(image) if p.box[3] - p.box[1] >= MIN_HEIGHT]
            kept = repeats.keep([person.box for person in people])
            yield from _crops(record, record.add(image, people, kept, when))
        record.finish()

    def _images(self, path: str, known: list[dict]) -> Iterator[tuple[dict, np.ndarray]]:
        """What has not been looked at: number and time of each frame, and the frame."""
        if is_video(path):
            after = known[-1].get('frame', -1) if known else -1
            for frame in read_frames(path, self._every, after=after):
                yield dict(frame=frame.number, time=round(frame.time, 3)), frame.image
                self._progress(path, frame.share)
        elif not known:
            yield {}, read_image(path)


def _crops(record: Record, line: dict) -> Iterator[Crop]:
    # The crop as it is kept, not as it was cut: a continued run gives the same.
    for file, place in record.places(line):
        yield Crop(read_image(file), place)
