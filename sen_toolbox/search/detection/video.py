"""Frames of a video file, every so many seconds."""

import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from sen_toolbox.io import check_regular

# FFmpeg recognises a file by its content, and a list of other files by any name; these are the
# demuxers that read what is in the file alone.
CONTAINERS = 'asf,avi,matroska,webm,mov,mpeg,mpegts,mpegvideo'
# Of a frame; beyond a cinema's.
MAX_PIXELS = 100_000_000
# Containers count frames roughly; less than this part of the count is a cut file.
WHOLE = 0.9


@dataclass(frozen=True)
class Frame:
    """One frame of a video.

    Attributes:
        number: From 0.
        time: Seconds from the start.
        image: RGB (H, W, 3) uint8.
        share: How much of the video has been read, 0..1, as far as that is known.
    """

    number: int
    time: float
    image: np.ndarray
    share: float


def read_frames(path: str, every: float, *, after: int = -1) -> Iterator[Frame]:
    """The first frame of a video, and of each span of so many seconds.

    Args:
        path: The file.
        every: Length of a span in seconds, above 0.
        after: Number of the last frame that is not wanted any more.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If nothing can be decoded, or a frame is too large; says why, without the path.
    """
    check_regular(os.stat(path))
    video = _open(path)
    number, span = -1, -1
    try:
        total = video.get(cv2.CAP_PROP_FRAME_COUNT)
        _check_size(video)
        while video.grab():
            number += 1
            time = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
            # A time just below a span's start is a rounded one.
            current = math.floor(time / every + 1e-6)
            if current == span:
                continue
            span = current
            if number <= after:
                continue
            decoded, image = video.retrieve()
            if decoded:
                share = min((number + 1) / total, 1.0) if total > 0 else 0.0
                yield Frame(number, time, cv2.cvtColor(image, cv2.COLOR_BGR2RGB), share)
    except (cv2.error, MemoryError) as error:
        text = ' '.join(str(error).split())
        raise ValueError(f'cannot be decoded after frame {number} ({text})') from error
    finally:
        video.release()
    if number < 0:
        raise ValueError('is not a video, or holds no frame that can be decoded')
    if number + 1 < WHOLE * total:
        warnings.warn(f'{path} breaks off after {number + 1} of {total:.0f} frames', stacklevel=2)


def read_frame(path: str, number: int) -> np.ndarray:
    """One frame of a video, RGB (H, W, 3) uint8.

    Args:
        path: The file.
        number: From 0, as :func:`read_frames` counts.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If there is no such frame, or it is too large; says why, without the path.
    """
    check_regular(os.stat(path))
    video = _open(path)
    try:
        _check_size(video)
        # Some containers jump to a key picture beside the frame that was asked for.
        video.set(cv2.CAP_PROP_POS_FRAMES, number)
        if video.get(cv2.CAP_PROP_POS_FRAMES) != number:
            video.release()
            video = _open(path)
            for _ in range(number):
                if not video.grab():
                    break
        decoded, image = video.read()
    except (cv2.error, MemoryError) as error:
        text = ' '.join(str(error).split())
        raise ValueError(f'cannot be decoded at frame {number} ({text})') from error
    finally:
        video.release()
    if not decoded:
        raise ValueError(f'has no frame {number} that can be decoded')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _check_size(video: cv2.VideoCapture) -> None:
    columns, rows = (
        int(video.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    )
    if columns * rows > MAX_PIXELS:
        raise ValueError(f'has frames of {columns} x {rows} pixels, more than {MAX_PIXELS}')


def _open(path: str) -> cv2.VideoCapture:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        # OpenCV crashes on it.
        raise ValueError('has a name that is not text: rename it') from error
    # What is wrong with a file is told by whoever reads it, in one line.
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    os.environ['OPENCV_FFMPEG_CAPTURE_OPTIONS'] = f'format_whitelist;{CONTAINERS}'
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        # Other readers than FFmpeg would take some names for patterns of many files.
        return cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    finally:
        cv2.utils.logging.setLogLevel(level)
