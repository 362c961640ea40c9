"""Every config takes a training and an evaluation step, as it stands but for small towers."""

import json

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from test_configs import CONFIGS
from tiny_methods import build_optim_wrapper, shrink_encoders
from toy_data import ROOT

from sen_toolbox.config import load_config
from sen_toolbox.datasets.synthetic import write_synthetic_pedes
from sen_toolbox.models.open_clip_config import open_clip_config
from sen_toolbox.registry import METRICS, MODELS

pytestmark = pytest.mark.slow

# 6 x 4 patches, of which masks of nine tenths leave some to see.
IMAGE_SIZE, BATCH_SIZE = (96, 64), 8
DRAWN = dict(num_ids=dict(train=4, val=1, test=3), images_per_id=2, image_size=(64, 32), seed=0)
# Annotation file, key of the image path, and the folder that paths begin with.
LAYOUTS = [
    ('ICFG-PEDES.json', 'file_path', ''),
    ('data_captions.json', 'img_path', ''),
    ('UFine6926_Annotations.json', 'file_path', 'imgs/'),
]


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    """Drawn people in one folder, which any of the data sets can read."""
    root = tmp_path_factory.mktemp('drawn')
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
    return root


def small_arch(arch):
    """Few narrow layers, with patches of the same size."""
    own, small = open_clip_config(arch), open_clip_config('tiny')
    if own['vision_cfg'].get('timm_model_name'):
        # timm's own smallest tower
        small['vision_cfg'] = dict(
            timm_model_name='test_vit', timm_pool='token', timm_proj=None, image_size=160
        )
    else:
        small['vision_cfg']['patch_size'] = own['vision_cfg']['patch_size']
    return small


def small_config(path, data_root):
    sizes = dict(image_size=IMAGE_SIZE, batch_size=BATCH_SIZE, num_workers=0)
    config = load_config(ROOT / path, dict(sizes, data_root=str(data_root)))
    shrink_encoders(config.model.backbone, small_arch)
    for name in ('train_dataloader', 'test_dataloader'):
        dataset = config[name].dataset
        if dataset.type == 'SyntheticPedes':
            dataset.update(DRAWN)
        if dataset.get('tagger', {}).get('type') == 'NLTKTagger':
            dataset.tagger = dict(type='RuleTagger')  # needs no data of NLTK
    return config


def build_loader(config):
    loader = Runner.build_dataloader(config, seed=0)
    loader.dataset.set_epoch(seed=0, epoch=0)
    return loader


def without_gradient(model):
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [name for name, p in named if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize('path', CONFIGS)
def test_a_config_takes_a_training_and_an_evaluation_step(path, data_root):
    config = small_config(path, data_root)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('sen_toolbox'):
        model = MODELS.build(config.model)
        check_training_step(model.train(), config)
        check_evaluation(model.eval(), config)


def check_training_step(model, config):
    batch = next(iter(build_loader(config.train_dataloader)))
    assert batch['images'].shape == (BATCH_SIZE, 3, *IMAGE_SIZE)
    wrapper = build_optim_wrapper(config, model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    missing = []
    wrapper.optimizer.register_step_pre_hook(lambda *_: missing.append(without_gradient(model)))
    logged = model.train_step(batch, wrapper)
    assert missing == [[]]
    assert logged.keys() >= {'loss', *(f'{name}.loss' for name in model.heads)}
    assert [name for name, value in logged.items() if not value.isfinite()] == []
    groups = wrapper.optimizer.param_groups
    frozen = {p for group in groups if group['lr'] == 0 for p in group['params']}
    for name, parameter in model.named_parameters():
        assert parameter.isfinite().all(), name
        assert torch.equal(parameter, before[name]) == (parameter in frozen), name


@torch.no_grad()
def check_evaluation(model, config):
    loader = build_loader(config.test_dataloader)
    evaluator = Evaluator(METRICS.build(config.test_evaluator))
    for batch in loader:
        evaluator.process(data_samples=model.test_step(batch), data_batch=batch)
    metrics = evaluator.evaluate(len(loader.dataset))
    assert len(loader.dataset) == 6
    assert 0 <= metrics['t2i/R1'] <= 100
    assert 0 <= metrics['i2t/R1'] <= 100
