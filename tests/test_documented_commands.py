"""Every command, option and override in the documents is one that the tools and configs take."""

import contextlib
import functools
import importlib.util
import io
import re
import shlex
import sys
from pathlib import Path

import pytest
from test_configs import SEN, load_plain
from toy_data import ROOT

from sen_toolbox.config import load_config
from sen_toolbox.search.cli import COMMANDS, make_parser

DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in (
        'README.md',
        'CONTRIBUTING.md',
        'docs/**/*.md',
        'configs/*/README.md',
        'projects/**/README.md',
    )
    for path in ROOT.glob(pattern)
)
TOOLS = sorted(
    path.stem
    for path in (ROOT / 'tools').glob('*.py')
    if 'def parse_args' in path.read_text(encoding='utf-8')
)
# What a reader puts a config of his own in the place of.
PLACEHOLDERS = {
    'CONFIG': SEN,
    'CONFIGS': SEN,
    'configs/sen/my_persons.py': 'configs/sen/sen_vitb_custom.py',
    'projects/mine/configs/mine.py': SEN,
}
# The tool that a launcher starts, and which of the launcher's arguments are its own.
LAUNCHERS = {
    'dist_train.sh': ('train', (1,)),
    'dist_test.sh': ('test', (2,)),
    'slurm_train.sh': ('train', (0, 1)),
}
# Options of the IRRA release, which a ledger of deviations quotes.
OPTIONS_OF_RELEASES = {'--loss_names', '--img_aug'}
OVERRIDE = re.compile(r'[a-z_]\w*(\.\w+)*=\S+')


def quoted(document):
    """The texts in code blocks of a shell, line by line, and in inline code, in order."""
    text = (ROOT / document).read_text(encoding='utf-8')
    for block, span in re.findall(r'```(\w*\n.*?)```|`([^`]+)`', text, re.DOTALL):
        if block.startswith('bash\n'):
            yield from block.removeprefix('bash\n').replace('\\\n', ' ').splitlines()
        elif span:
            yield ' '.join(span.split())


def is_command(text):
    return re.match(r'([A-Z_]+=\S+ )*(python|bash|make) \S|(tools/\w+\.py|sen-search) \S', text)


def is_override(text):
    words = text.removeprefix('--cfg-options ').split()
    named = text.startswith('--cfg-options ') or any('.' in word.split('=')[0] for word in words)
    return named and all(OVERRIDE.fullmatch(word) for word in words)


def find(kind):
    return [(document, text) for document in DOCUMENTS for text in quoted(document) if kind(text)]


def words_of(command):
    words = shlex.split(command, comments=True)
    while re.fullmatch(r'[A-Z_]+=\S+', words[0]):
        words.pop(0)
    return [PLACEHOLDERS.get(word, word) for word in words if word != 'python']


@functools.cache
def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'path', [str(ROOT / 'tools'), *sys.path])  # as for a script there
        spec.loader.exec_module(module)
    return module


def tool_and_arguments(words):
    """The tool that a command runs, or None if it runs something else, and its arguments."""
    if words[0] == 'bash' and (name := Path(words[1]).name) in LAUNCHERS:
        started, own = LAUNCHERS[name]
        return started, [word for place, word in enumerate(words[2:]) if place not in own]
    path = Path(words[0])
    return (path.stem if path.parent == Path('tools') else None), words[1:]


def configs_of(args):
    """The config files that a tool's arguments name; a shell expands the asterisks."""
    given = getattr(args, 'configs', None) or [getattr(args, 'config', None)]
    patterns = [text for text in given if text is not None]
    found = [sorted(str(p.relative_to(ROOT)) for p in ROOT.glob(text)) for text in patterns]
    assert all(found), f'one of {patterns} is not there'
    return [path for paths in found for path in paths]


def config_before(document, text):
    """The config of the last command before a text in a document; SEN's without any."""
    config = SEN
    for earlier in quoted(document):
        if earlier == text:
            break
        if is_command(earlier):
            name, arguments = tool_and_arguments(words_of(earlier))
            if name:
                config = next(iter(configs_of(tool(name).parse_args(arguments))), config)
    return config


@functools.cache
def help_texts():
    """What all tools, benchmarks' siblings and subcommands print when they are asked for help."""
    parsers = [tool(name).parse_args for name in TOOLS]
    parsers += [
        lambda given, name=name: make_parser().parse_args([name, *given]) for name in COMMANDS
    ]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for parse in parsers:
            with contextlib.suppress(SystemExit):
                parse(['--help'])
    return printed.getvalue()


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_there_are_documents_and_commands():
    assert {'README.md', 'docs/train.md', 'projects/cmpm/README.md'} <= set(DOCUMENTS)
    assert len(TOOLS) > 15
    assert len(find(is_command)) > 80
    assert len(find(is_override)) > 15


@pytest.mark.parametrize(('document', 'command'), find(is_command))
def test_a_documented_command_is_one_that_the_tool_takes(document, command):
    words = words_of(command)
    if words[0] == 'sen-search':
        assert make_parser().parse_args(words[1:]).run
        return
    if words[0] == 'make':
        assert f'\n{words[1]}:' in (ROOT / 'Makefile').read_text(encoding='utf-8')
        return
    name, arguments = tool_and_arguments(words)
    if name:
        args = tool(name).parse_args(arguments)
        for path in configs_of(args):
            options = getattr(args, 'cfg_options', None)
            assert load_config(path, options) if options else load_plain(path)
    elif words[0] not in ('-m', 'bash'):
        assert (ROOT / words[0]).is_file()


@pytest.mark.parametrize(('document', 'text'), find(is_override))
def test_a_documented_override_is_one_that_the_config_takes(document, text):
    options = text.removeprefix('--cfg-options ').split()
    path = config_before(document, text)
    args = tool('train').parse_args([path, '--cfg-options', *options])
    assert set(args.cfg_options) == {option.split('=')[0] for option in options}
    load_config(path, args.cfg_options)


@pytest.mark.parametrize('document', DOCUMENTS)
def test_a_documented_option_is_one_of_some_tool(document):
    options = {text.split()[0] for text in quoted(document) if text.startswith('--')}
    known = set(re.findall(r'--[\w-]+', help_texts())) | OPTIONS_OF_RELEASES
    assert sorted(options - known) == []


@pytest.mark.parametrize(
    ('text', 'command', 'override'),
    [
        ('python tools/train.py CONFIG', True, False),
        ('NNODES=2 bash tools/dist_train.sh CONFIG 8', True, False),
        ('tools/test.py CONFIG CHECKPOINT', True, False),
        ('tools/test.py', False, False),
        ('sen-search serve', True, False),
        ('sen-search', False, False),
        ('--cfg-options batch_size=64', False, True),
        ('max_epochs=2 param_scheduler.0.end=5', False, True),
        ('batch_size=64', False, False),
        ("guide='image'", False, False),
        ('tools/video_queries.json', False, False),
    ],
)
def test_commands_and_overrides_are_told_from_other_code(text, command, override):
    assert bool(is_command(text)) == command
    assert bool(is_override(text)) == override


def test_a_command_is_split_as_a_shell_splits_it():
    words = words_of('GPUS=16 bash tools/slurm_train.sh P J CONFIG --amp  # = "one"')
    assert words == ['bash', 'tools/slurm_train.sh', 'P', 'J', SEN, '--amp']
    assert tool_and_arguments(words) == ('train', [SEN, '--amp'])
