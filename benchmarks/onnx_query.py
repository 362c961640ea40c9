"""One query and one image at a time: torch eager and its ONNX export, ViT-B/16 or --model FILE."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

# Both on one core; onnxruntime's waiting threads would count as its CPU time.
os.environ['OMP_NUM_THREADS'] = '1'

import numpy as np  # noqa: E402
import torch  # noqa: E402
from common import Report, alternate, arguments  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from sen_toolbox.config import load_config  # noqa: E402
from sen_toolbox.search.model_file import build_towers, describe_model  # noqa: E402
from sen_toolbox.search.onnx_encoder import OnnxEncoder  # noqa: E402
from sen_toolbox.search.onnx_export import TOLERANCE, export_onnx  # noqa: E402
from sen_toolbox.search.towers import TowerEncoder  # noqa: E402

CONFIG = 'configs/sen/sen_vitb_cuhk.py'
# As long as the captions of CUHK-PEDES are on the average.
QUERY = (
    'The man has short dark hair and wears a black jacket over a white shirt, blue jeans and grey '
    'shoes, and carries a backpack.'
)


def random_model(folder: Path) -> Path:
    """A model file of the config's towers with random weights."""
    description = describe_model(load_config(CONFIG), 'random')
    torch.manual_seed(0)
    state = build_towers(description).backbone.state_dict()
    tensors = {key: value.contiguous() for key, value in state.items()}
    path = folder / 'random.safetensors'
    save_file(tensors, path, {'sen_toolbox': json.dumps(description)})
    return path


def difference(one: Callable[[], np.ndarray], other: Callable[[], np.ndarray]) -> float:
    """Largest difference of what two actions give."""
    return float(np.abs(one() - other()).max())


def main() -> None:
    args = arguments(__doc__, repeats=15, model='', int8=False)
    torch.set_num_threads(1)
    report = Report('batch of 1, median CPU milliseconds; ours is onnxruntime')
    with tempfile.TemporaryDirectory() as folder:
        towers = TowerEncoder(args.model or random_model(Path(folder)))
        export_onnx(towers, Path(folder) / 'm.onnx', int8=args.int8)
        exported = OnnxEncoder(Path(folder) / 'm.onnx')
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 3, *towers.image_size), dtype=np.uint8)
    for what, *pair in (
        ('query', lambda: exported.embed_text([QUERY]), lambda: towers.embed_text([QUERY])),
        ('image', lambda: exported.embed_prepared(image), lambda: towers.embed_prepared(image)),
    ):
        report.check(what, difference(*pair), 0.05 if args.int8 else TOLERANCE)
        ours, reference = alternate(args.repeats, *pair)
        report.add(what, 1000 * ours, 1000 * reference, 'CPU ms', goal='1x')
    report.finish(args.json)


if __name__ == '__main__':
    main()
