"""Who may import whom: the rule of docs/design.md, file by file."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = 'sen_toolbox'
FILES = sorted(path.relative_to(ROOT) for path in (ROOT / PACKAGE).rglob('*.py'))
OUTSIDE = ('tools', 'projects', 'configs', 'tests')

# What every layer may import; these import the standard library and one another alone.
BASIC = ('checks', 'io', 'lazy_names', 'messages', 'open_clip_files')

# What each layer may import of the package besides itself and these. The first name that fits a
# file is its layer, so parts stand before the package that holds them.
RULES = {
    **dict.fromkeys(BASIC, ()),
    '__main__': ('search',),
    'registry': (),
    'pictures': (),
    # Whoever lets a user name a model asks here.
    'hub': (),
    'known_models': ('hub',),
    'text.tokens': (),
    'text.tokenizers': ('text.tokens',),
    'text': ('registry',),
    'checkpoint': (),
    'command_line': (),
    'overrides': ('registry',),
    'schedules': (),
    'config': ('checkpoint.registration', 'overrides', 'schedules'),
    'shipped_configs': ('config',),
    'shipped_models': ('inference', 'registry', 'shipped_configs'),
    'distributed': ('registry', 'models.chunking'),
    'seeding': (),
    'allocator': (),
    'provenance': (),
    'signals': (),
    'loops': ('registry', 'seeding'),
    'models.features': (),
    'models.gather': (),
    'models.batch_norm': ('models.gather',),
    'models.wrapping': (),
    'models.chunking': ('models.gather', 'models.wrapping'),
    'models.quick_gelu': (),
    'models.blocks': ('models.quick_gelu',),
    'models.parts': (),
    'models.few_queries': (),
    'models.open_clip_package': (),
    'models.open_clip_config': ('models.blocks', 'models.quick_gelu'),
    'models.openai_weights': ('models.open_clip_package',),
    'models.requests': ('text.tokens',),
    'models.pretrained': ('checkpoint',),
    'models.pretrained_file': ('hub', 'models.open_clip_config', 'models.openai_weights'),
    'models.weights': ('checkpoint', 'models.openai_weights', 'models.pretrained_file'),
    'models.losses': ('registry',),
    'models.necks': (
        'registry',
        'models.features',
        'models.batch_norm',
        'models.blocks',
        'models.few_queries',
        'models.gather',
        'models.parts',
    ),
    **dict.fromkeys(
        ('models.image_encoders', 'models.text_encoders'),
        (
            'registry',
            'checkpoint',
            'text',
            'models.batch_norm',
            'models.blocks',
            'models.features',
            'models.gather',
            'models.open_clip_config',
            'models.open_clip_package',
            'models.parts',
            'models.pretrained',
            'models.requests',
            'models.weights',
        ),
    ),
    'models.backbones': (
        'registry',
        'checkpoint',
        'text.tokens',
        'models.batch_norm',
        'models.features',
        'models.open_clip_config',
        'models.open_clip_package',
        'models.pretrained',
        'models.pretrained_file',
        'models.weights',
    ),
    'models.heads': (
        'registry',
        'text.tokens',
        'models.features',
        'models.gather',
        'models.blocks',
        'models.parts',
    ),
    'models.retriever': (
        'registry',
        'text.tokens',
        'models.blocks',
        'models.features',
        'models.chunking',
        'models.gather',
    ),
    'models.preprocessor': ('registry', 'text.tokens'),
    'models': ('registry',),
    'datasets': ('registry', 'seeding', 'text', 'pictures'),
    'evaluation': ('registry', 'checkpoint', 'provenance', 'text.colours'),
    'optim': ('registry', 'models.wrapping'),
    'visualization': ('text', 'pictures'),
    'hooks': (
        'registry',
        'checkpoint',
        'datasets.samplers',
        'datasets.statistics',
        'models.wrapping',
        'provenance',
        'seeding',
        'signals',
        'text.tokens',
        'visualization',
    ),
    # Of these two a query of an exported model imports no more than it needs.
    'inference.identity': (),
    'inference.unknown_words': ('text.tokens',),
    'inference.used_models': (),
    'inference': ('registry', 'checkpoint', 'config', 'hub', 'text'),
    'search': (
        'checkpoint',
        'evaluation',
        'hub',
        'inference',
        'known_models',
        'pictures',
        'text',
        'visualization',
    ),
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
    allowed = (layer, *RULES[layer], *BASIC, '__version__') if layer else ()
    problems = []
    for line, name in imported_names(ast.parse(source), module, is_package):
        top, _, rest = name.partition('.')
        # A bare `import sen_toolbox` reaches every layer that is loaded.
        foreign = top == PACKAGE and not any(is_within(rest, a) for a in allowed)
        if foreign or top in OUTSIDE:
            problems.append(f'{path}:{line}: {own or PACKAGE} may not import {name}')
    return problems


# What a head may ask of the backbone that it is given; see BACKBONES in registry.py.
BACKBONE = {'encode_image', 'encode_text', 'spec'}
# Folders whose parts know no method; 'clip' is the name of an encoder, too.
NO_METHODS = ('checkpoint', 'visualization')
METHODS = {
    path.name
    for folder in ('configs', 'projects')
    for path in (ROOT / folder).iterdir()
    if (path / 'metafile.yml').exists()
} - {'clip'}


def reaching_heads(source: str, path: str) -> list[str]:
    """Where a head asks a backbone for what no contract names, or any part asks for one head."""
    problems = []
    for node in ast.walk(ast.parse(source)):
        where = f'{path}:{getattr(node, "lineno", 0)}'
        if isinstance(node, ast.Attribute) and getattr(node.value, 'id', None) == 'backbone':
            if 'heads' in Path(path).parts and node.attr not in BACKBONE:
                problems.append(f'{where}: backbone.{node.attr} is in no contract')
        if isinstance(node, ast.Subscript) and getattr(node.value, 'attr', None) == 'heads':
            if isinstance(node.slice, ast.Constant):
                problems.append(f'{where}: reaches for the head {node.slice.value!r}')
    return problems


def method_names(source: str, path: str) -> list[str]:
    """Lines that name a method."""
    pattern = '|'.join(re.escape(name).replace('_', '[-_]') for name in sorted(METHODS))
    return [
        f'{path}:{number}: names a method'
        for number, line in enumerate(source.splitlines(), 1)
        # The toolbox has the name of one of them.
        if re.search(rf'\b({pattern})\b', line, re.IGNORECASE)
    ]


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


def test_no_part_reaches_into_another_by_name():
    assert [p for path in FILES for p in reaching_heads(read(path), str(path))] == []


@pytest.mark.parametrize(
    ('line', 'what'),
    [('backbone.visual.conv1', 'backbone.visual'), ("model.heads['mlm'].neck", "the head 'mlm'")],
)
def test_a_reach_into_another_part_is_found_with_its_file_and_line(line, what):
    [problem] = reaching_heads(f'x = 1\n{line}', f'{PACKAGE}/models/heads/x.py')
    assert problem.startswith(f'{PACKAGE}/models/heads/x.py:2: ')
    assert what in problem
    assert reaching_heads('backbone.encode_text(x); model.heads[name]', 'models/heads/x.py') == []


def test_files_and_pictures_know_no_method():
    assert {'sen', 'irra', 'rde', 'tbps_clip', 'cmpm'} <= METHODS
    files = [path for path in FILES if path.parts[1] in NO_METHODS]
    assert [p for path in files for p in method_names(read(path), str(path))] == []
    assert method_names('# as SEN does\nimport sen_toolbox\nTBPS-CLIP', 'a.py') == [
        'a.py:1: names a method',
        'a.py:3: names a method',
    ]


def test_the_package_never_prints():
    assert [problem for path in FILES for problem in print_calls(read(path), str(path))] == []


# Ids of CLIP's vocabulary: mask, start, end, and their number.
TOKEN_IDS = {49405, 49406, 49407, 49408}


def ids_of_a_vocabulary(source: str, path: str) -> list[str]:
    """Where code knows what only a tokenizer knows: an id, or the end token by its highest id."""
    problems = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and type(node.value) is int and node.value in TOKEN_IDS:
            problems.append(f'{path}:{node.lineno}: {node.value} is an id of a vocabulary')
        elif isinstance(node, ast.Call) and getattr(node.func, 'attr', '') == 'argmax':
            operands = [node.func.value, *node.args]
            names = {
                getattr(part, 'id', getattr(part, 'attr', ''))
                for operand in operands
                for part in ast.walk(operand)
            }
            if any(name == 'ids' or 'token' in name for name in names):
                problems.append(f'{path}:{node.lineno}: argmax of token ids')
    return problems


def test_only_tokenizers_know_ids_of_a_vocabulary():
    files = [
        *FILES,
        *(p.relative_to(ROOT) for n in ('tools', 'projects') for p in (ROOT / n).rglob('*.py')),
    ]
    outside = [
        path
        for path in files
        if Path(PACKAGE, 'text', 'tokenizers') not in path.parents
        and not path.name.startswith('test_')
    ]
    assert len(outside) < len(files)
    assert [p for path in outside for p in ids_of_a_vocabulary(read(path), str(path))] == []


@pytest.mark.parametrize(
    'line', ['tokens.argmax(dim=1)', 'np.argmax(batch.tokens.ids, 1)', 'end = 49407', 'x == 49405']
)
def test_knowledge_of_ids_is_found_with_its_file_and_line(line):
    [problem] = ids_of_a_vocabulary(f'import numpy as np\n{line}', 'a.py')
    assert problem.startswith('a.py:2: ')
    assert ids_of_a_vocabulary('scores.argmax(1)\nx = 49404\nprint("49405")', 'a.py') == []


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


@pytest.mark.parametrize('module', [PACKAGE, *(f'{PACKAGE}.{name}' for name in BASIC)])
def test_importing_the_package_or_a_basic_module_loads_the_standard_library_alone(module):
    # What Python itself loads at its start, from the folder of packages, does not count.
    code = f'import sys; before = set(sys.modules); import {module}; '
    code += 'print(*{name.partition(".")[0] for name in set(sys.modules) - before})'
    run = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0
    assert set(run.stdout.split()) - sys.stdlib_module_names == {PACKAGE}


# What opens a picture or a video by itself: Pillow would take any format, PostScript included.
OPENERS = re.compile(
    r'\b(?:Image|PIL)\.open\(|\bimread\(|\bimdecode\(|\bVideoCapture\(|\bimageio\b|'
    r'\btorchvision\.io\b|\bmmcv\.im'
)
MAY_OPEN = ('sen_toolbox/pictures.py', 'sen_toolbox/search/detection/video.py')


def test_pictures_and_videos_are_opened_in_one_place():
    found = [
        f'{path.relative_to(ROOT)}:{number}: {line.strip()}'
        for folder in (PACKAGE, 'tools', 'projects', 'configs', 'benchmarks')
        for path in sorted((ROOT / folder).rglob('*.py'))
        if str(path.relative_to(ROOT)) not in MAY_OPEN and not path.name.startswith('test_')
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if OPENERS.search(line)
    ]
    assert found == []
