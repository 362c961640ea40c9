"""Who may import whom: the rule of docs/design.md, file by file."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = 'sen_toolbox'
FILES = sorted(path.relative_to(ROOT) for path in (ROOT / PACKAGE).rglob('*.py'))
OUTSIDE = ('tools', 'projects', 'configs', 'tests')

# What each layer may import of the package besides itself. The first name that fits a file is its
# layer, so parts stand before the package that holds them.
RULES = {
    'registry': (),
    'checkpoint': (),
    'command_line': (),
    'overrides': ('registry',),
    'config': ('overrides',),
    'distributed': ('registry', 'models.chunking'),
    'seeding': (),
    'allocator': (),
    'provenance': (),
    'loops': ('registry', 'seeding'),
    'models.features': (),
    'models.gather': (),
    'models.batch_norm': ('models.gather',),
    'models.chunking': ('models.gather',),
    'models.blocks': (),
    'models.losses': ('registry',),
    'models.necks': (
        'registry',
        'models.features',
        'models.batch_norm',
        'models.blocks',
        'models.gather',
    ),
    'models.backbones': ('registry', 'models.features', 'models.blocks', 'checkpoint'),
    'models.heads': ('registry', 'models.features', 'models.gather', 'models.blocks'),
    'models.retriever': (
        'registry',
        'models.blocks',
        'models.features',
        'models.chunking',
        'models.gather',
    ),
    'models.preprocessor': ('registry',),
    'models': ('registry',),
    'datasets': ('registry', 'seeding'),
    'evaluation': ('registry', 'provenance'),
    'optim': ('registry',),
    'visualization': (),
    'hooks': (
        'registry',
        'checkpoint',
        'datasets.statistics',
        'provenance',
        'seeding',
        'visualization',
    ),
    'search': ('registry', 'checkpoint', 'config', 'datasets', 'evaluation', 'visualization'),
}


def is_within(name: str, layer: str) -> bool:
    return f'{name}.'.startswith(f'{layer}.')


def imported_names(tree: ast.AST, module: str, is_package: bool) -> list[tuple[int, str]]:
    """Line and full name of everything that a module imports, in functions too."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                parts = module.split('.')
                parts = parts[: len(parts) - node.level + is_package]
                base = '.'.join([*parts, base] if base else parts)
            found += [(node.lineno, f'{base}.{alias.name}') for alias in node.names]
    return found


def import_violations(source: str, path: str) -> list[str]:
    """``file:line: what is wrong`` for each import that breaks the rule."""
    parts = Path(path).with_suffix('').parts
    is_package = parts[-1] == '__init__'
    module = '.'.join(parts[:-1] if is_package else parts)
    own = module.removeprefix(PACKAGE).removeprefix('.')
    layer = next((layer for layer in RULES if is_within(own, layer)), None)
    if own and layer is None:
        return [f'{path}:1: {own} is in no layer; give it a rule']
    allowed = (layer, *RULES[layer]) if layer else ()
    problems = []
    for line, name in imported_names(ast.parse(source), module, is_package):
        top, _, rest = name.partition('.')
        # A bare `import sen_toolbox` reaches every layer that is loaded.
        foreign = top == PACKAGE and not any(is_within(rest, a) for a in allowed)
        if foreign or top in OUTSIDE:
            problems.append(f'{path}:{line}: {own or PACKAGE} may not import {name}')
    return problems


def print_calls(source: str, path: str) -> list[str]:
    return [
        f'{path}:{node.lineno}: print'
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and getattr(node.func, 'id', None) == 'print'
    ]


def read(path: Path) -> str:
    return (ROOT / path).read_text(encoding='utf-8')


def test_every_import_follows_the_rule():
    assert len(FILES) > 30
    assert [problem for path in FILES for problem in import_violations(read(path), str(path))] == []


def test_the_package_never_prints():
    assert [problem for path in FILES for problem in print_calls(read(path), str(path))] == []


@pytest.mark.parametrize(
    ('path', 'line', 'name'),
    [
        ('models/losses/x.py', 'from sen_toolbox.models.features import A', 'models.features.A'),
        ('models/losses/x.py', 'from ..features import A', 'models.features.A'),
        ('models/heads/x.py', 'from sen_toolbox.models.losses import A', 'models.losses.A'),
        ('models/heads/x.py', 'from sen_toolbox.models import losses', 'models.losses'),
        (
            'models/heads/__init__.py',
            'from ..necks.restoration import A',
            'models.necks.restoration.A',
        ),
        ('models/necks/x.py', 'from sen_toolbox.checkpoint import A', 'checkpoint.A'),
        ('models/retriever.py', 'from .heads import A', 'models.heads.A'),
        ('models/x.py', 'from sen_toolbox.datasets import A', 'datasets.A'),
        ('models/backbones/x.py', 'import sen_toolbox.datasets.pedes', 'datasets.pedes'),
        ('datasets/x.py', 'from sen_toolbox.models import A', 'models.A'),
        ('evaluation/x.py', 'from sen_toolbox.datasets import A', 'datasets.A'),
        ('hooks/x.py', 'from sen_toolbox.datasets.pedes import A', 'datasets.pedes.A'),
        ('search/x.py', 'from sen_toolbox.models.retriever import A', 'models.retriever.A'),
        ('registry.py', 'from . import models', 'models'),
        ('__init__.py', 'from .registry import A', 'registry.A'),
    ],
)
def test_an_import_of_another_layer_is_found_with_its_file_and_line(path, line, name):
    source = f'import torch\n\n\ndef f():\n    {line}\n'
    [problem] = import_violations(source, f'sen_toolbox/{path}')
    assert problem.startswith(f'sen_toolbox/{path}:5: ')
    assert problem.endswith(f'may not import sen_toolbox.{name}')


@pytest.mark.parametrize('line', ['import tools.train', 'from projects.x import y'])
def test_imports_of_tools_and_projects_are_found(line):
    [problem] = import_violations(line, 'sen_toolbox/search/x.py')
    assert problem.startswith('sen_toolbox/search/x.py:1: search.x may not import')


def test_a_new_module_needs_a_rule():
    [problem] = import_violations('', 'sen_toolbox/utils.py')
    assert problem == 'sen_toolbox/utils.py:1: utils is in no layer; give it a rule'


def test_a_layer_may_import_itself_and_what_its_rule_names():
    source = 'from .identity import A\nfrom sen_toolbox.registry import HEADS\n'
    assert import_violations(source, 'sen_toolbox/models/heads/x.py') == []
    # A name that only begins like a layer is another one.
    assert len(import_violations('import sen_toolbox.registry_two', 'sen_toolbox/optim/x.py')) == 1


def test_a_print_is_found_with_its_file_and_line():
    assert print_calls('x = 1\nprint(x)', 'a.py') == ['a.py:2: print']


def test_importing_the_package_loads_no_heavy_library():
    code = 'import sys, sen_toolbox; print(*{"torch", "open_clip", "mmengine"} & set(sys.modules))'
    run = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stdout.strip()) == (0, '')
