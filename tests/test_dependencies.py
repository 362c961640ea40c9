"""What the code imports and reads is what pyproject.toml declares."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import sen_toolbox

ROOT = Path(__file__).parents[1]
FOLDERS = ('sen_toolbox', 'tools', 'projects')


def normal(name):
    """The form of a distribution's name that the index compares."""
    return re.sub('[-_.]+', '-', name).lower()


def project():
    """What pyproject.toml says."""
    return tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))


def declared():
    options = project()['project']
    lines = [*options['dependencies'], *sum(options['optional-dependencies'].values(), [])]
    return {normal(re.match('[A-Za-z0-9._-]+', line)[0]) for line in lines}


def imported(path):
    """Top names of the packages that a file imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition('.')[0]


def test_every_imported_package_is_declared():
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob('*.py')]
    files = [path for path in files if not path.name.startswith('test_')]
    # Tools import each other by their plain names.
    own = {*FOLDERS, *(path.stem for path in files if path.parent == ROOT / 'tools')}
    foreign = {
        name: path
        for path in files
        for name in imported(path)
        if name not in sys.stdlib_module_names and name not in own
    }
    assert {'torch', 'tokenizers', 'ftfy', 'yaml', 'tqdm', 'numpy'} <= set(foreign)
    made_by, known = packages_distributions(), declared()
    undeclared = {
        name: str(path)
        for name, path in foreign.items()
        # A package that is not installed is told by its own name.
        if not known & {normal(maker) for maker in made_by.get(name, [name])}
    }
    assert undeclared == {}


def test_every_file_that_is_not_code_is_installed():
    setuptools = project()['tool']['setuptools']
    packed = {
        path
        for package, patterns in setuptools['package-data'].items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split('.')).glob(pattern)
    }
    files = {path for path in (ROOT / 'sen_toolbox').rglob('*') if path.is_file()}
    data = {p for p in files if p.suffix not in ('.py', '.pyc')}
    assert {path.name for path in data} >= {'tiny.safetensors', 'tiny.json', 'index.html'}
    assert packed == data


def test_the_index_for_openmim_lists_the_metafiles_of_the_core():
    text = (ROOT / 'model-index.yml').read_text(encoding='utf-8')
    listed = [ROOT / path for path in re.findall(r'- (\S+)', text)]
    assert listed == sorted(ROOT.glob('configs/*/metafile.yml'))


def test_releases_are_told_alike_everywhere():
    version = sen_toolbox.__version__
    changes = (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8')
    citation = (ROOT / 'CITATION.cff').read_text(encoding='utf-8')
    assert re.search(r'^## (\S+)', changes, re.MULTILINE)[1] == version
    assert re.search(r'^version: (\S+)', citation, re.MULTILINE)[1] == version
