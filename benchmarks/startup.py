"""Start of a process: to the package, to a first training step, to a first evaluation batch.

The reference is what the imports of the libraries alone take. The tiny towers train on a few drawn
people; wall time, since a start waits for the disk.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import Report, alternate, arguments

LIBRARIES = 'import torch, mmengine.runner, open_clip, cv2, PIL'
CONFIG = 'configs/sen/sen_tiny_synthetic.py'
SETUP = """
from mmengine.runner import Runner
from sen_toolbox.config import load_config
config = load_config({config!r}, dict(dataset_type='CUHKPEDES', data_root={root!r},
    num_classes=4, num_workers=0, batch_size=4, log_level='ERROR',
    **{{'pretrained': None, 'train_dataloader.persistent_workers': False}}))
config.load_from = None
config.work_dir = {root!r} + '/work_dir'
runner = Runner.from_cfg(config)
"""
TRAIN = """
runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
batch = next(iter(runner.build_dataloader(runner._train_dataloader)))
runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
"""
EVALUATE = """
runner.model.eval()
runner.model.val_step(next(iter(runner.build_dataloader(runner._val_dataloader))))
"""


def run(code: str) -> None:
    subprocess.run([sys.executable, '-c', code], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    args = arguments(__doc__, repeats=3)
    report = Report('start of a process, wall time')
    loaded = 'import sys, sen_toolbox; sys.exit("torch" in sys.modules)'
    heavy = subprocess.run([sys.executable, '-c', loaded], check=False).returncode
    report.check('import sen_toolbox loads no torch', heavy, 0)
    with tempfile.TemporaryDirectory() as root:
        run(
            'from sen_toolbox.datasets.synthetic import write_synthetic_pedes;'
            f'write_synthetic_pedes({root!r}, num_ids=dict(train=4, val=2, test=2), '
            'images_per_id=2, captions_per_image=2, workers=1)'
        )
        setup = SETUP.format(config=str(Path(CONFIG).resolve()), root=root)
        package, nothing, libraries, train, evaluate = alternate(
            args.repeats,
            lambda: run('import sen_toolbox'),
            lambda: run('pass'),
            lambda: run(LIBRARIES),
            lambda: run(setup + TRAIN),
            lambda: run(setup + EVALUATE),
            clock=time.perf_counter,
        )
    report.add('import sen_toolbox; reference: an empty program', package, nothing, 's')
    report.add('to the first training step; reference: imports alone', train, libraries, 's')
    report.add('to the first evaluation batch; reference: imports alone', evaluate, libraries, 's')
    report.finish(args.json)


if __name__ == '__main__':
    main()
