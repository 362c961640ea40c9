"""Every config as it stands but for small encoders, with drawn people that any of them can read."""

import functools
import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image
from tiny_methods import replace_vocabularies, settings, shrink_encoders
from torch.utils.data import DataLoader
from toy_data import ROOT

from sen_toolbox.config import READ_KEYS, load_config
from sen_toolbox.datasets.synthetic import write_synthetic_pedes
from sen_toolbox.models.open_clip_config import open_clip_config

# At least 6 x 4 patches, of which masks of nine tenths leave some to see.
IMAGE_SIZE, CONTEXT_LENGTH, BATCH_SIZE, LEAST_PATCH = (96, 64), 42, 8, 14
# Checkpoints of wide necks would fill a disk, and each part makes the program longer. Of two parts,
# attention to the others would have nothing to choose from.
NECK_LIMITS = dict(width=64, non_local_width=16, part_width=16, middle=16, parts=3, projections=2)
DRAWN = dict(
    num_ids=dict(train=4, val=1, test=3),
    images_per_id=2,
    brief_captions_per_image=0,
    image_size=(64, 32),
    seed=0,
)
REWRITTEN = 'rewritten.json'
# Annotation file, key of the image path, and the folder that paths begin with.
LAYOUTS = [
    ('ICFG-PEDES.json', 'file_path', ''),
    ('data_captions.json', 'img_path', ''),
    ('UFine6926_Annotations.json', 'file_path', 'imgs/'),
]


def write_drawn_people(root: Path) -> Path:
    """Draws people in one folder in the layout of each data set; returns the folder."""
    write_synthetic_pedes(root, **DRAWN, workers=1)
    records = json.loads((root / 'reid_raw.json').read_text())
    for name, key, folder in LAYOUTS:
        renamed = [{**record, key: folder + record['file_path']} for record in records]
        (root / name).write_text(json.dumps(renamed))
    renamed = [
        dict(record, image=f'imgs/{record["file_path"]}', identity=record['id'])
        for record in records
    ]
    (root / 'annotations.json').write_text(json.dumps(renamed))
    write_parts(root, records)
    return root


def write_parts(root: Path, records: list[dict]) -> None:
    """Segmentations, phrases and rewritten captions beside the pictures, for some methods."""
    labels = np.repeat(np.arange(6, dtype=np.uint8), 4)[:, None].repeat(8, axis=1)
    rewritten = [
        {
            **record,
            'diversity_captions': [[[c], ['it is so', 'so it is']] for c in record['captions']],
        }
        for record in records
    ]
    (root / REWRITTEN).write_text(json.dumps(rewritten))
    (root / 'text_attribute_graph').mkdir()
    for record in records:
        path = root / 'segs' / Path(record['file_path']).with_suffix('.png')
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(path)
        name = record['file_path'].replace('/', '-')
        for number, caption in enumerate(record['captions']):
            phrases = [
                {'upperbody': caption.lower().split()},
                {'hat': ['black']},
                {'shoe': ['red']},
            ]
            phrases += [{'lowerbody': ['blue']}, {'backpack': ['bag']}]
            (root / 'text_attribute_graph' / f'{name}-{number}.json').write_text(repr(phrases))


def small_arch(arch: str | dict) -> dict:
    """One narrow layer, with patches of the same size where they are not small themselves."""
    own, small = open_clip_config(arch), open_clip_config('tiny')
    if own['vision_cfg'].get('timm_model_name'):
        # timm's own smallest tower
        small['vision_cfg'] = dict(
            timm_model_name='test_vit', timm_pool='token', timm_proj=None, image_size=160
        )
    else:
        small['vision_cfg'].update(layers=1, width=64)
        if own['vision_cfg']['patch_size'] >= LEAST_PATCH:
            small['vision_cfg']['patch_size'] = own['vision_cfg']['patch_size']
    small['text_cfg'].update(layers=1, width=32, heads=1)
    return {**small, 'embed_dim': 64}


def small_config(path: str, data_root: Path) -> Config:
    """The config at this path below the root, on small encoders and the drawn people."""
    return deepcopy(_small_config(path, data_root))


# Several files of tests ask for that of every config; reading one takes far longer than a copy.
@functools.cache
def _small_config(path: str, data_root: Path) -> Config:
    sizes = dict(
        image_size=IMAGE_SIZE,
        context_length=CONTEXT_LENGTH,
        batch_size=BATCH_SIZE,
        num_workers=0,
        num_classes=DRAWN['num_ids']['train'],
    )
    config = load_config(ROOT / path, dict(sizes, data_root=str(data_root)))
    shrink_encoders(config.model.backbone, small_arch)
    for head in config.model.heads.values():
        for part, name, value in settings(head):
            if name in NECK_LIMITS:
                part[name] = min(value, NECK_LIMITS[name])
    replace_vocabularies(dict(config))
    config.load_from = None
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = config[name].dataset
        if dataset.type == 'SyntheticPedes':
            dataset.update(DRAWN)
        elif dataset.type == 'DrawnWorld':
            dataset.type = 'CUHKPEDES'  # which reads any set in this layout
        for part in (dataset, *dataset.pipeline):
            # None of these needs data of NLTK.
            if part.get('tagger', {}).get('type') == 'NLTKTagger':
                part.tagger = dict(type='RuleTagger')
            if part.get('type') == 'RewrittenCaption':
                part.file = str(data_root / REWRITTEN)
            if 'synonyms' in part:
                part.synonyms = None
    return config


def but_for_the_data_set(config: Config) -> str:
    """What is run of a config, without what names a data set: equal for those that differ in it."""
    return repr(_without_data_set({name: config[name] for name in READ_KEYS & config.keys()}))


def _without_data_set(value: object) -> object:
    if isinstance(value, dict):
        names = value.keys() - {'type', 'split', 'data_root'} if 'data_root' in value else value
        return {name: _without_data_set(value[name]) for name in sorted(names)}
    return [*map(_without_data_set, value)] if isinstance(value, list | tuple) else value


def write_config(config: Config, path: Path) -> None:
    """What ``Config.dump`` writes, without the formatting, which takes as long as a training."""
    rows = (f'{name} = {value!r}\n' for name, value in config.to_dict().items())
    path.write_text(''.join(rows), encoding='utf-8')


def build_loader(config: dict) -> DataLoader:
    """The first epoch of a split."""
    loader = Runner.build_dataloader(config, seed=0)
    loader.dataset.set_epoch(seed=0, epoch=0)
    set_order(loader)
    return loader


def set_order(loader: DataLoader) -> None:
    """Sets the order where a hook does so before each epoch."""
    if hasattr(loader.sampler, 'set_order'):
        loader.sampler.set_order(torch.arange(len(loader.dataset)))
