"""A registry finds every part, and imports for one part no other."""

import importlib
import pkgutil
import sys

import pytest

import sen_toolbox.registry
from sen_toolbox.registry import DATASETS, IMAGE_ENCODERS, SCOPE, TRANSFORMS, PartRegistry

SHAPES = PartRegistry('shape', scope='tests_of_shapes', locations=['shapes'])
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


@pytest.fixture
def shapes(tmp_path, monkeypatch):
    """A registry of two parts, each in a module of its own; and which modules were imported."""
    (tmp_path / 'shapes').mkdir()
    (tmp_path / 'shapes' / '__init__.py').write_text(
        "HOMES = {'Circle': 'round', 'Square': 'angular'}\n"
    )
    for home, name in (('round', 'Circle'), ('angular', 'Square')):
        (tmp_path / 'shapes' / f'{home}.py').write_text(
            f'from test_registry import SHAPES\n\n\nclass {name}:\n    pass\n\n\n'
            f'SHAPES.register_module(module={name})\n'
        )
    monkeypatch.syspath_prepend(tmp_path)
    SHAPES.module_dict.clear()
    SHAPES._imported = False
    yield lambda: {name.partition('.')[2] for name in sys.modules if name.startswith('shapes.')}
    for name in [name for name in sys.modules if name.partition('.')[0] == 'shapes']:
        del sys.modules[name]


def test_for_one_part_no_other_is_imported(shapes):
    assert SHAPES.get('Circle').__module__ == 'shapes.round'
    assert isinstance(SHAPES.build(dict(type='tests_of_shapes.Circle')), SHAPES.find('Circle'))
    assert SHAPES.find('Triangle') is None
    assert shapes() == {'round'}
    assert SHAPES.get('Square').__module__ == 'shapes.angular'


def test_for_a_list_of_all_parts_all_are_imported(shapes):
    SHAPES.import_from_location()
    assert set(SHAPES.module_dict) == {'Circle', 'Square'}
    assert shapes() == {'round', 'angular'}


def test_what_is_not_in_the_table_is_looked_for_among_all(shapes):
    # MMEngine asks the parents and, for a name with a dot, other packages.
    assert SHAPES.get('collections.OrderedDict').__name__ == 'OrderedDict'
    assert shapes() == {'round', 'angular'}


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
