"""OpenCV's built-in people detector, which needs no file."""

import cv2
import numpy as np

from sen_toolbox.search.detection.boxes import Detection, area, clip_box, drop_doubles

# The detector knows people 96 pixels tall in a window of 128. Small frames are enlarged, for
# people from 64 pixels; large ones reduced, for time.
MAX_SCALE = 1.5
LONG_SIDE = 1600
WINDOW_STEP = (8, 8)
SIZE_STEP = 1.05
# Chosen by looking at a street video of 768 x 576 pixels.
MIN_SCORE = 0.7
MAX_SHARED = 0.6
# Parts of a window beside and above or below the person, left out of its box.
SIDE_MARGIN = 0.13
END_MARGIN = 0.06


class HogDetector:
    """Finds people who stand or walk and are seen whole, from about 64 pixels tall.

    Takes vans and posts for people now and then; misses many who overlap.

    Raises:
        ModuleNotFoundError: If OpenCV has no such detector.
    """

    name = 'hog'

    def __init__(self) -> None:
        if not hasattr(cv2, 'HOGDescriptor'):
            raise ModuleNotFoundError(
                f'OpenCV {cv2.__version__} has no people detector: pip install "opencv-python<5", '
                'or give the weights of a torchvision detector'
            )
        self._hog = cv2.HOGDescriptor()
        self._hog.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())

    def __call__(self, image: np.ndarray) -> list[Detection]:
        """The people in an RGB image (H, W, 3) uint8."""
        size = image.shape[:2]
        scale = min(MAX_SCALE, LONG_SIDE / max(size))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        columns, rows = (round(side * scale) for side in size[::-1])
        window_columns, window_rows = self._hog.winSize
        if columns < window_columns or rows < window_rows:
            return []
        # It looks at the strongest channel of a pixel, so their order does not matter.
        windows, scores = self._hog.detectMultiScale(
            cv2.resize(image, (columns, rows), interpolation=method),
            hitThreshold=MIN_SCORE,
            winStride=WINDOW_STEP,
            scale=SIZE_STEP,
            groupThreshold=0,
        )
        found = []
        for (x, y, width, height), score in zip(windows, np.ravel(scores), strict=True):
            side, end = SIDE_MARGIN * width, END_MARGIN * height
            edges = (x + side, y + end, x + width - side, y + height - end)
            box = clip_box((float(edge) / scale for edge in edges), size)
            if area(box):
                found.append(Detection(box, float(score)))
        return drop_doubles(found, MAX_SHARED)
