"""What was found in one file, kept on disk frame by frame so that no frame is looked at twice."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sen_toolbox.io import write_atomically
from sen_toolbox.search.detection.boxes import Detection
from sen_toolbox.search.images import read_image

JOURNAL = 'found.jsonl'
# What :meth:`Record.add` calls a crop; any other name in a journal is not ours.
CROP_NAME = re.compile(r'[0-9]{8,}_[0-9]+\.jpg')
# High, so that a crop shown and searched by is as good as one cut from the source.
JPEG_QUALITY = 95


class Record:
    """The people cut out of a file so far: a JPEG each, and a journal with a line a frame.

    A crash costs at most the frame that was being written. A record made of another state of the
    file, or otherwise, is begun anew.

    Args:
        folder: Where the crops of all files are.
        path: Absolute path of the file.
        made_of: What the record depends on, as JSON values.
    """

    def __init__(self, folder: Path, path: str, made_of: dict) -> None:
        self._root, self._folder = folder, folder / _place_of(path)
        self._journal = self._folder / JOURNAL
        header = dict(made_of, path=path)
        lines = _read_lines(self._journal)
        if lines[:1] != [header] or not self._crops_are_whole(lines):
            shutil.rmtree(self._folder, ignore_errors=True)
            lines = [header]
        self._lines, self._is_begun = lines, False
        self.done = lines[-1] == {'done': True}
        self.frames = [line for line in lines if 'found' in line]

    def add(
        self, image: np.ndarray, detections: Sequence[Detection], kept: Sequence[bool], when: dict
    ) -> dict:
        """Writes one frame.

        Args:
            image: RGB (H, W, 3) uint8.
            detections: The people in it.
            kept: Which of them to cut out.
            when: Number and time of the frame; empty for a photo.
        """
        self._begin()
        found = []
        for number, (detection, is_kept) in enumerate(zip(detections, kept, strict=True)):
            name = f'{when.get("frame", 0):08d}_{number}.jpg' if is_kept else None
            if name is not None:
                x0, y0, x1, y1 = detection.box
                crop = Image.fromarray(image[y0:y1, x0:x1])
                crop.save(self._folder / name, quality=JPEG_QUALITY)
            found.append(dict(box=list(detection.box), score=round(detection.score, 4), crop=name))
        line = dict(when, found=found)
        self._append(line)
        return line

    def finish(self) -> None:
        """Notes that the whole file was looked at."""
        self._begin()
        self._append({'done': True})

    def places(self, line: dict) -> Iterator[tuple[Path, dict]]:
        """Crop file and place of each person who was cut out of a frame.

        The place names the crop relative to the folder of all crops.
        """
        when = {key: value for key, value in line.items() if key != 'found'}
        for found in line['found']:
            if found['crop'] is not None:
                crop = self._folder / found['crop']
                name = crop.relative_to(self._root).as_posix()
                yield crop, dict(when, box=found['box'], score=found['score'], crop=name)

    def _begin(self) -> None:
        if self._is_begun:
            return
        # Leaves out the line that a crash cut off.
        write_atomically(self._journal, ''.join(json.dumps(line) + '\n' for line in self._lines))
        self._is_begun = True

    def _append(self, line: dict) -> None:
        with self._journal.open('a', encoding='utf-8') as file:
            file.write(json.dumps(line) + '\n')

    def _crops_are_whole(self, lines: Sequence[dict]) -> bool:
        """Whether the last crop survived: a failing machine loses what was written last."""
        names = [found['crop'] for line in lines for found in line.get('found', ())]
        names = [name for name in names if name is not None]
        try:
            return not names or bool(read_image(self._folder / names[-1]).size)
        except ValueError:
            return False


def prune(folder: Path, known: Collection[str]) -> None:
    """Deletes the crops of files that are neither indexed nor there."""
    places = {_place_of(path) for path in known}
    for journal in folder.glob(f'*/*/{JOURNAL}'):
        if journal.parent.relative_to(folder) in places or _leaves(folder, journal):
            continue
        header = _read_lines(journal)[:1]
        if not header or not os.path.lexists(header[0]['path']):
            shutil.rmtree(journal.parent)


def _place_of(path: str) -> Path:
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
    return Path(name[:2], name)


def _leaves(folder: Path, journal: Path) -> bool:
    """Whether a link leads from the folder of all crops to a folder elsewhere."""
    return journal.parent.resolve() != folder.resolve() / journal.parent.relative_to(folder)


def _read_lines(journal: Path) -> list[dict]:
    """The lines of a journal, to the first that a crash cut off or that is not one of ours."""
    try:
        text = journal.read_text('utf-8', 'replace')
    except OSError:
        return []
    lines: list[dict] = []
    for line in text.splitlines():
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not (_is_frame(content) if lines else _is_header(content)):
            break
        lines.append(content)
    return lines


def _is_header(line: object) -> bool:
    path = line.get('path') if isinstance(line, dict) else None
    return isinstance(path, str) and '\0' not in path


def _is_frame(line: object) -> bool:
    """Whether a line of an index that may come from elsewhere is what :meth:`Record.add` writes."""
    if line == {'done': True}:
        return True
    if not isinstance(line, dict) or not isinstance(line.get('found'), list):
        return False
    when = {key: value for key, value in line.items() if key != 'found'}
    if when and not (
        set(when) == {'frame', 'time'}
        and isinstance(when['frame'], int)
        and isinstance(when['time'], int | float)
    ):
        return False
    return all(_is_person(found) for found in line['found'])


def _is_person(found: object) -> bool:
    if not isinstance(found, dict) or set(found) != {'box', 'score', 'crop'}:
        return False
    box, crop = found['box'], found['crop']
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(edge, int) for edge in box)
        and isinstance(found['score'], int | float)
        and (crop is None or (isinstance(crop, str) and bool(CROP_NAME.fullmatch(crop))))
    )
