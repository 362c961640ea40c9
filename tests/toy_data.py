"""A small data set in the published layouts, a small SEN for it, and ways to run the tools."""

import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

from mmengine.logging import MessageHub, MMLogger
from mmengine.utils import get_git_hash
from mmengine.utils.dl_utils import collect_env
from mmengine.visualization import Visualizer
from PIL import Image, ImageDraw

from sen_toolbox.provenance import git_commit

ROOT = Path(__file__).parents[1]
COLOURS = ['red', 'green', 'blue', 'yellow', 'purple', 'orange', 'black', 'white']
# Annotation file, key of the image path, splits.
LAYOUTS = {
    'CUHKPEDES': ('reid_raw.json', 'file_path', ('train', 'val', 'test')),
    'ICFGPEDES': ('ICFG-PEDES.json', 'file_path', ('train', 'test')),
    'RSTPReid': ('data_captions.json', 'img_path', ('train', 'val', 'test')),
}
NUM_CLASSES = 12

TOY_CONFIG = """
_base_ = '{base}'
data_root = '{data_root}'
dataset_type = '{dataset_type}'
num_classes = {num_classes}
batch_size = 8
num_workers = 0
max_epochs = 2
param_scheduler = [dict(type='CosineAnnealingLR', end='$max_epochs')]
image_size = (64, 32)
context_length = 24
pretrained = None
clip_arch = dict(
    _delete_=True,
    embed_dim=64,
    quick_gelu=True,
    vision_cfg=dict(layers=1, width=64, patch_size=16),
    text_cfg=dict(layers=1, width=64, heads=1, context_length=24, vocab_size=49408))
train_dataloader = dict(dataset=dict(tagger=dict(type='RuleTagger')))
val_dataloader = dict(dataset=dict(split='{val_split}'))
"""


def toy_records(layout: str = 'CUHKPEDES', images_per_id: int = 2) -> list[dict]:
    """Annotations: ``NUM_CLASSES`` training ids (with gaps between), 4 ids in the other splits.

    The last image of each split is left out, so that no number of images is even.
    """
    _, path_key, splits = LAYOUTS[layout]
    records = []
    for number, split in enumerate(splits):
        for person in range(NUM_CLASSES if split == 'train' else 4):
            upper, lower = COLOURS[person % 8], COLOURS[(person + 1 + person // 8) % 8]
            pid = 1000 * number + 3 * person
            for view in range(images_per_id):
                captions = [
                    f'A person with a {upper} shirt and {lower} trousers, view {view}.',
                    f'Someone wears {lower} trousers below a {upper} top.',
                ]
                path = f'{split}/{pid:04d}_{view}.jpg'
                record = {'split': split, path_key: path, 'id': pid, 'captions': captions}
                records.append({**record, '_colours': (upper, lower)})
        records.pop()
    return records


def write_toy_data(
    root: Path, layout: str = 'CUHKPEDES', records: list[dict] | None = None
) -> Path:
    """Draws the images of ``records`` and writes the annotation file; returns ``root``."""
    name, path_key, _ = LAYOUTS[layout]
    records = toy_records(layout) if records is None else records
    for record in records:
        path = root / 'imgs' / record[path_key]
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.new('RGB', (30, 70), 'grey')
        draw = ImageDraw.Draw(image)
        upper, lower = record['_colours']
        draw.rectangle((8, 12, 22, 38), fill=upper)
        draw.rectangle((9, 39, 21, 66), fill=lower)
        image.save(path, quality=90)
    shown = [{k: v for k, v in record.items() if k != '_colours'} for record in records]
    (root / name).write_text(json.dumps(shown), encoding='utf-8')
    return root


def write_toy_config(path: Path, data_root: Path, layout: str = 'CUHKPEDES') -> Path:
    """Writes SEN's config for CUHK-PEDES with other sizes, data and tagger."""
    splits = LAYOUTS[layout][2]
    text = TOY_CONFIG.format(
        base=ROOT / 'configs/sen/sen_vitb_cuhk.py',
        data_root=data_root,
        dataset_type=layout,
        num_classes=NUM_CLASSES,
        val_split='val' if 'val' in splits else 'test',
    )
    path.write_text(text, encoding='utf-8')
    return path


def tool(name: str) -> ModuleType:
    """The module tools/``name``.py."""
    spec = importlib.util.spec_from_file_location(name, ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_tool(name: str, *arguments: object) -> None:
    """Runs tools/``name``.py in this process, on the CPU."""
    module = tool(name)
    argv = [f'{name}.py', *map(str, arguments)]
    # MMEngine names them by the second; a run that begins in that of another would go on with its
    # numbers, as no process of a user does.
    for kind in (MessageHub, MMLogger, Visualizer):
        kind._instance_dict.clear()
    with (
        mock.patch.object(sys, 'argv', argv),
        mock.patch('mmengine.device.utils.DEVICE', 'cpu'),
        # MMEngine formats the config seven times per run; that takes longer than many a training.
        mock.patch('mmengine.config.config.FormatCode', lambda text, **_: (text, False)),
        # The machine, the commit of the code, and the figure of a run, on which nothing is drawn.
        mock.patch('mmengine.runner.runner.collect_env', lambda: _environment().copy()),
        mock.patch.object(Visualizer, '_initialize_fig', lambda *_: _figure()),
        mock.patch('mmengine.runner.runner.get_git_hash', _git_hash),
        mock.patch('mmengine.hooks.runtime_info_hook.get_git_hash', _git_hash),
        mock.patch('sen_toolbox.hooks.provenance.git_commit', _git_commit),
        mock.patch('sen_toolbox.evaluation.results.git_commit', _git_commit),
    ):
        module.main()


_environment = functools.cache(collect_env)
_git_hash, _git_commit = functools.cache(get_git_hash), functools.cache(git_commit)
_initialize_fig = Visualizer._initialize_fig


@functools.cache
def _figure() -> tuple:
    return _initialize_fig(None, dict(frameon=False))


def start(*command: object, cwd: Path) -> subprocess.CompletedProcess:
    """Runs a command as a user would, on the CPU; its output holds errors too."""
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    env = {**os.environ, 'PATH': path, 'PYTHONPATH': str(ROOT), 'CUDA_VISIBLE_DEVICES': ''}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={'OMP_NUM_THREADS': '1', **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
