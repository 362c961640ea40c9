"""torchvision's detectors, with weights from a local file."""

import os
import pickle
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import detection, get_model, list_models

from sen_toolbox.io import file_sha256
from sen_toolbox.search.detection.boxes import Detection, area, clip_box

# The class "person" of COCO, in all of torchvision's weights.
PERSON = 1
MIN_SCORE = 0.5
MAX_RATIO = 50
# Like its larger twin in all but the size of its input.
TWINS = ('fasterrcnn_mobilenet_v3_large_320_fpn',)
# torchvision trained and runs these with frozen batch norms without epsilon.
NO_EPSILON = (
    'fasterrcnn_resnet50_fpn',
    'keypointrcnn_resnet50_fpn',
    'maskrcnn_resnet50_fpn',
    'retinanet_resnet50_fpn',
)
COUNTER = '.num_batches_tracked'


class TorchvisionDetector:
    """A detector of ``torchvision.models.detection``, recognised by the names of its weights.

    Args:
        path: State dict as torchvision publishes it.
        device: Where to compute.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds anything else.
    """

    def __init__(self, path: str | os.PathLike, *, device: str = 'cpu') -> None:
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f'there is no file {path} with the weights of a detector: give "hog", which needs '
                'none, or weights of torchvision.models.detection that you have downloaded'
            )
        arch, self._model = _load(path)
        self._model.to(device).eval()
        self._device = device
        self.name = f'{arch} {file_sha256(path)}'

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> list[Detection]:
        """The people in an RGB image (H, W, 3) uint8."""
        rows, columns = image.shape[:2]
        # Reduced to the size that the detector takes, such an image has no pixels left.
        if max(rows, columns) > MAX_RATIO * min(rows, columns):
            return []
        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        [output] = self._model([pixels.to(self._device).float() / 255])
        wanted = (output['labels'] == PERSON) & (output['scores'] >= MIN_SCORE)
        boxes, scores = (output[key][wanted].tolist() for key in ('boxes', 'scores'))
        found = [
            Detection(clip_box(box, (rows, columns)), score)
            for box, score in zip(boxes, scores, strict=True)
        ]
        return [one for one in found if area(one.box)]


def _load(path: Path) -> tuple[str, nn.Module]:
    refusal = ValueError(
        f'{path} does not hold the weights of a detector of torchvision.models.detection'
    )
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
    # What a damaged file raises depends on where the damage is.
    except (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise refusal from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise refusal
    shapes = {key: value.shape for key, value in state.items() if not key.endswith(COUNTER)}
    for arch in list_models(module=detection):
        if arch in TWINS:
            continue
        with torch.device('meta'):
            expected = _build(arch).state_dict()
        if shapes == {k: v.shape for k, v in expected.items() if not k.endswith(COUNTER)}:
            break
    else:
        raise refusal
    model = _build(arch)
    # Frozen batch norms do not count batches; only training reads the count.
    model.load_state_dict(state, strict=False)
    for module in model.modules():
        if arch in NO_EPSILON and isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
    return arch, model


def _build(arch: str) -> nn.Module:
    return get_model(arch, weights=None, weights_backbone=None)
