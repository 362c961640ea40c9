"""Every config composes and builds; misspelt names are refused and the right ones are told."""

import functools
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from small_configs import set_order
from tiny import as_tokens, build_optimizer
from tiny_methods import replace_vocabularies

from sen_toolbox.config import load_config
from sen_toolbox.registry import (
    DATASETS,
    HOOKS,
    METRICS,
    MODELS,
    PARAM_SCHEDULERS,
)

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ('configs/*/*.py', 'projects/*/configs/*.py')
    for path in ROOT.glob(pattern)
    if '_base_' not in path.parts and path.name != 'official.py'
)
SEN = 'configs/sen/sen_vitb_cuhk.py'
DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def load(path, overrides=None):
    config = load_config(ROOT / path, overrides) if overrides else deepcopy(load_plain(path))
    replace_vocabularies(dict(config))
    return config


@functools.cache
def load_plain(path):
    """The config as it stands, for several tests."""
    return load_config(ROOT / path)


def build_model(config):
    """The model without memory for its weights; ViT-L has 400 million."""
    with torch.device('meta'):
        return MODELS.build(config.model)


def strings(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


class ManyPersons(torch.utils.data.Dataset):
    """Stands for any training split in a sampler's eyes: 300 persons with two captions each."""

    def __len__(self):
        return 600

    def get_data_info(self, index):
        return dict(person_id=index // 2, img_path=f'{index}.jpg')

    def __getitem__(self, index):
        return dict(
            images=torch.zeros(3, 4, 2, dtype=torch.uint8),
            tokens=as_tokens(torch.zeros(1, 5, dtype=torch.long)),
            per_image=dict(person_ids=index // 2, labels=index // 2),
            per_caption={},
        )


def test_there_are_configs():
    assert SEN in CONFIGS
    assert len(CONFIGS) >= 8
    assert {path.split('/')[1] for path in CONFIGS} >= {'sen', 'clip', 'cmpm', 'template'}
    found = [
        path
        for path in (ROOT / 'configs').rglob('*.py')
        if '_base_' not in path.parts and path.name != 'official.py'
    ]
    assert len(found) == len([path for path in CONFIGS if path.startswith('configs/')])


@pytest.mark.parametrize('path', CONFIGS)
def test_every_value_is_resolved(path):
    assert [text for text in strings(dict(load(path))) if text.startswith('$')] == []


@pytest.mark.parametrize('path', CONFIGS)
def test_the_model_and_its_optimiser_build_with_the_configured_number_of_classes(path):
    config = load(path, {'num_classes': 37})
    model = build_model(config)
    assert model.backbone.spec.image.image_size == tuple(config.image_size)
    found = [head.num_classes for head in model.heads.values() if hasattr(head, 'num_classes')]
    asked = [head for head in config.model.heads.values() if 'num_classes' in head]
    assert found == [37] * len(asked)
    assert found or path.split('/')[1] != 'sen'
    wrapper = config.optim_wrapper
    wrapper.optimizer.pop('fused', None)  # refused for weights without memory
    optimizer = build_optimizer(wrapper, model)
    held = sum(len(group['params']) for group in optimizer.param_groups)
    assert held == sum(parameter.requires_grad for parameter in model.parameters())
    for scheduler in config.param_scheduler:
        scheduler = dict(scheduler)
        scheduler.pop('convert_to_iter_based', None)  # needs the length of an epoch
        PARAM_SCHEDULERS.build(scheduler, default_args=dict(optimizer=optimizer))


@pytest.mark.slow
@pytest.mark.parametrize('path', CONFIGS)
def test_datasets_at_one_root_samplers_hooks_and_evaluators_build(path):
    config = load(path, {'num_workers': 0, 'data_root': 'elsewhere'})
    with DefaultScope.overwrite_default_scope('sen_toolbox'):
        for name in DATALOADERS:
            loader = config[name]
            assert loader.dataset.data_root == 'elsewhere'
            dataset = DATASETS.build({**loader.dataset, 'lazy_init': True})
            assert len(dataset.pipeline.transforms) == len(loader.dataset.pipeline) >= 4
            built = Runner.build_dataloader({**loader, 'dataset': ManyPersons()}, seed=0)
            set_order(built)
            batch = next(iter(built))
            assert len(batch['images']) == config.batch_size == len(batch['tokens'])
        for hook in [*config.default_hooks.values(), *config.custom_hooks]:
            HOOKS.build(hook)
        METRICS.build(config.val_evaluator)
        METRICS.build(config.test_evaluator)


@pytest.mark.parametrize('path', [path for path in CONFIGS if '_vitl_' in path])
def test_vit_l_sees_27_x_9_patches_and_images_of_378_x_126(path):
    config = load(path)
    spec = build_model(config).backbone.spec
    assert (spec.image.grid, spec.image.patch_size, spec.embed_dim) == ((27, 9), 14, 768)
    for name in DATALOADERS:
        [resize] = [t for t in config[name].dataset.pipeline if t['type'] == 'ResizeImage']
        assert tuple(resize['size']) == (378, 126)


def test_vit_b_sees_24_x_8_patches():
    spec = build_model(load(SEN)).backbone.spec
    assert (spec.image.grid, spec.image.patch_size, spec.embed_dim) == ((24, 8), 16, 512)


def test_without_worker_processes_none_are_kept():
    assert load(SEN).train_dataloader.persistent_workers
    assert not load(SEN, {'num_workers': 0}).train_dataloader.persistent_workers


def test_an_override_may_index_a_list_or_a_tuple():
    config = load(SEN, {'train_dataloader.dataset.pipeline.2.prob': 0.25})
    assert config.train_dataloader.dataset.pipeline[2].prob == 0.25
    assert config.train_dataloader.dataset.pipeline[2].type == 'RandomFlip'
    assert load(SEN, {'param_scheduler.0.end': 3}).param_scheduler[0].end == 3
    assert load(SEN, {'image_size.0': 192}).model.backbone.image.image_size == (192, 128)


@pytest.mark.parametrize(
    ('key', 'message'),
    [
        ('dta_root', r"override 'dta_root': unknown key 'dta_root'; did you mean data_root"),
        ('model.heads.sdm.los.type', r"unknown key 'los'; did you mean loss"),
        ('model.heads.sdm.loss.temprature', r"unknown key 'temprature'; did you mean temperature"),
        ('model.heads.qqq', r"unknown key 'qqq'; known are \['identity', 'restoration'"),
        ('param_scheduler.2.end', r"unknown key '2'; known are \['0', '1'\]"),
        ('param_scheduler.-1.end', r"unknown key '-1'"),
        ('batch_size.x', r"unknown key 'x'; known are \[\]"),
    ],
)
def test_an_override_of_a_key_that_does_not_exist_is_refused(key, message):
    with pytest.raises(KeyError, match=message):
        load(SEN, {key: 1})


def child(tmp_path, text):
    path = tmp_path / 'child_of_sen.py'
    path.write_text(f"_base_ = '{ROOT / SEN}'\n{text}\n")
    return path


def test_a_misspelt_top_level_key_is_refused_with_its_file(tmp_path):
    path = child(tmp_path, 'max_epoch = 3')
    with pytest.raises(KeyError, match=r"child_of_sen.py: unknown key 'max_epoch'.*max_epochs"):
        load_config(path)


def test_a_config_may_have_variables_of_its_own(tmp_path):
    config = load_config(child(tmp_path, '_factor = 3\nmax_epochs = 10 * _factor'))
    assert config.train_cfg.max_epochs == 30


def test_a_misspelt_name_of_a_shared_value_is_refused_with_its_place(tmp_path):
    text = "model = dict(heads=dict(identity=dict(num_classes='$num_clases')))"
    with pytest.raises(
        KeyError, match=r"model.heads.identity.num_classes: unknown key 'num_clases'.*num_classes"
    ):
        load_config(child(tmp_path, text))


def test_a_config_may_share_values_of_its_own(tmp_path):
    text = "margin = 0.1\nmodel = dict(heads=dict(triplet=dict(loss=dict(margin='$margin'))))"
    assert load_config(child(tmp_path, text)).model.heads.triplet.loss.margin == 0.1
    config = load_config(child(tmp_path, text), {'margin': 0.2})
    assert config.model.heads.triplet.loss.margin == config.margin == 0.2


def test_a_shared_dict_is_resolved_and_copied_for_each_use(tmp_path):
    text = """
tokenizer = dict(type='CLIPTokenizer', context_length='$context_length', pieces=['$image_size'])
model = dict(heads=dict(a=dict(tokenizer='$tokenizer'), b=['$tokenizer', '$tokenizer']))
"""
    config = load_config(child(tmp_path, text), {'context_length': 40})
    heads = config.model.heads
    uses = [heads.a.tokenizer, *heads.b, config.tokenizer]
    for use in uses:
        assert use == dict(type='CLIPTokenizer', context_length=40, pieces=[(384, 128)])
    uses[0].pieces.append(1)
    assert [len(use.pieces) for use in uses] == [2, 1, 1, 1]


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ("one = '$one'", r"one: values refer to each other in a circle, '\$one' to '\$one'"),
        (
            "one = dict(x=['$two'])\ntwo = '$three'\nthree = dict(y='$one')",
            r"one.x.0.y: .* in a circle, '\$one' to '\$two' to '\$three' to '\$one'",
        ),
        ("model = dict(heads='$model')", r"in a circle, '\$model' to '\$model'"),
    ],
)
def test_values_that_refer_to_each_other_in_a_circle_are_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load_config(child(tmp_path, text))


def test_a_base_may_refer_to_a_value_in_what_the_config_replaces(tmp_path):
    text = 'crop_padding = 3\ntrain_dataloader = dict(dataset=dict(pipeline=[]))'
    assert load_config(child(tmp_path, text)).crop_padding == 3


def test_official_is_a_plain_value_that_any_config_may_have(tmp_path):
    assert load_config(child(tmp_path, "official = 'projects.mine'")).official == 'projects.mine'


def test_a_config_that_mmengine_wrote_loads_again_and_says_what_it_no_longer_shares(tmp_path):
    config = load(SEN)
    config.dump(tmp_path / 'dumped.py')
    again = load_config(tmp_path / 'dumped.py')
    assert again.to_dict() == config.to_dict()
    changed = load_config(tmp_path / 'dumped.py', {'train_dataloader.batch_size': 4})
    assert changed.train_dataloader.batch_size == 4
    for key in ('batch_size', 'image_size.0'):
        message = f"override '{key}': .*dumped.py was written with its values filled in"
        with pytest.raises(KeyError, match=message):
            load_config(tmp_path / 'dumped.py', {key: 4})


def depth(path):
    """How many files a config is from its farthest base."""
    bases = Config._get_base_files(str(path))
    return max((1 + depth(path.parent / base) for base in bases), default=0)


@pytest.mark.parametrize('path', CONFIGS)
def test_no_base_is_more_than_three_files_away(path):
    assert 1 <= depth(ROOT / path) <= 3


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('loss=dict(temprature=1)', r"SDMLoss.*unexpected keyword argument 'temprature'"),
        ('los=dict()', r"MatchingHead.*unexpected keyword argument 'los'"),
    ],
)
def test_a_misspelt_key_of_a_part_is_named_with_the_part(tmp_path, text, message):
    config = load_config(child(tmp_path, f'model = dict(heads=dict(sdm=dict({text})))'))
    with pytest.raises(TypeError, match=message):
        build_model(config)


def test_a_misspelt_type_is_named(tmp_path):
    text = "model = dict(heads=dict(sdm=dict(loss=dict(type='SMDLoss'))))"
    with pytest.raises(KeyError, match="model.heads.sdm.loss.type: .*'SMDLoss'.* mean SDMLoss"):
        load_config(child(tmp_path, text))


def test_a_type_that_is_not_looked_up_in_a_registry_may_be_any(tmp_path):
    ops = "dict(type='TorchvisionOps', ops=[dict(type='RandomInvert')])"
    text = f"model = dict(heads=dict(own=dict(type='package.Head', step={ops})))"
    assert load_config(child(tmp_path, text)).model.heads.own.type == 'package.Head'


def test_a_loss_in_the_place_of_a_head_is_refused(tmp_path):
    text = "model = dict(heads=dict(sdm=dict(_delete_=True, type='SDMLoss')))"
    with pytest.raises(KeyError, match='SDMLoss is not in the .*head'):
        build_model(load_config(child(tmp_path, text)))


def test_an_absent_config_is_named():
    with pytest.raises(FileNotFoundError, match='there is no config nowhere.py'):
        load_config('nowhere.py')
