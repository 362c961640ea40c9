"""Finds people in full photos and in frames of videos."""

import os

from sen_toolbox.search.detection.boxes import Detection, Detector
from sen_toolbox.search.detection.cutter import PersonCutter

HOG = 'hog'

__all__ = ['HOG', 'Detection', 'Detector', 'PersonCutter', 'open_detector']


def open_detector(which: str | os.PathLike, *, device: str = 'cpu') -> Detector:
    """The detector built into OpenCV, or one of torchvision's.

    Args:
        which: 'hog', or a file with weights of torchvision.models.detection.
        device: Where a detector of torchvision computes.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds anything else.
    """
    if which == HOG:
        from sen_toolbox.search.detection.hog import HogDetector

        return HogDetector()
    from sen_toolbox.search.detection.torchvision_detector import TorchvisionDetector

    return TorchvisionDetector(which, device=device)
