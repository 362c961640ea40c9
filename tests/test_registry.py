"""A registry finds every part, and imports for one part no other."""

import importlib
import pkgutil
import subprocess
import sys

import pytest
from toy_data import ROOT

import sen_toolbox.registry
from sen_toolbox.registry import DATASETS, IMAGE_ENCODERS, SCOPE, TRANSFORMS, PartRegistry

REGISTRIES = [v for v in vars(sen_toolbox.registry).values() if isinstance(v, PartRegistry)]


@pytest.mark.parametrize(
    'package', ['models', 'models.image_encoders', 'models.text_encoders', 'datasets',
                'datasets.transforms'],
)  # fmt: skip
def test_every_part_of_a_package_is_in_its_table_with_its_module(package):
    package = importlib.import_module(f'{SCOPE}.{package}')
    modules = [f'{package.__name__}.{m.name}' for m in pkgutil.iter_modules(package.__path__)]
    for module in modules:
        importlib.import_module(module)
    there = {
        part.__name__: part.__module__
        for registry in REGISTRIES
        for part in registry.module_dict.values()
        if part.__module__ in modules
    }
    table = {name: f'{package.__name__}.{home}' for name, home in package.HOMES.items()}
    assert {name: table.get(name) for name in there} == there
    for name, home in table.items():
        assert getattr(package, name) is getattr(importlib.import_module(home), name)


def test_a_list_of_all_parts_imports_all():
    code = (
        'from sen_toolbox.registry import IMAGE_ENCODERS as R\n'
        'R.import_from_location()\n'
        'print(*sorted(R.module_dict))\n'
    )
    run = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    table = importlib.import_module('sen_toolbox.models.image_encoders').HOMES
    assert run.stdout.split() == sorted(table), run.stderr


def test_a_part_is_found_with_its_scope_and_among_those_of_the_parent():
    vit = IMAGE_ENCODERS.get('CLIPVisionTransformer')
    assert vit.__name__ == 'CLIPVisionTransformer'
    assert IMAGE_ENCODERS.get('sen_toolbox.CLIPVisionTransformer') is vit
    assert DATASETS.get('ConcatDataset').__module__.startswith('mmengine.')
    assert TRANSFORMS.get('RandomFlip').__module__.startswith('sen_toolbox.')
    assert TRANSFORMS.get('mmengine.RandomFlip').__module__.startswith('mmcv.')


def test_nothing_else_is_found_by_name_alone():
    assert IMAGE_ENCODERS.find('ConcatDataset') is None
    assert DATASETS.find('ConcatDataset') is None
    assert IMAGE_ENCODERS.find('sen_toolbox.CLIPVisionTransformer') is None
    assert IMAGE_ENCODERS.find('os.system') is None
