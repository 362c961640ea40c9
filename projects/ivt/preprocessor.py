"""Random erasing by noise, in every view."""

import torch

from sen_toolbox.models.preprocessor import PairPreprocessor, erased_rectangles
from sen_toolbox.registry import MODELS

# As timm's, which the release takes.
AREA = (0.02, 1 / 3)


@MODELS.register_module()
class NoisePreprocessor(PairPreprocessor):
    """Fills what random erasing takes with normal noise, pixel by pixel, in further pictures too.

    Args:
        **options: Those of ``PairPreprocessor``.
    """

    def erase(self, data: dict) -> dict:
        """The batch with rectangles of its normalised pictures erased."""
        erased = {}
        for key in [key for key in self.keys if key in data]:
            pictures = data[key].flatten(0, -4)
            inside = erased_rectangles(pictures, self.erasing_prob, AREA)
            noisy = torch.where(inside, torch.randn_like(pictures), pictures)
            erased[key] = noisy.view_as(data[key])
        return {**data, **erased}
