"""Makes the pages of the site that are not files of docs/, and lists all of them.

Called by MkDocs (mkdocs.yml). The README becomes the home page, the README of each method a page of
it, each notebook a page, each package a page of the API. Links between files of the repository
become links between pages; other files that are linked to are copied beside the pages. Nothing is
written into the repository.
"""

import json
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
# Pages of docs/ in the order of the site; one that is missing is left out.
GUIDE = {
    'Start': ['get_started.md'],
    'Data': ['data.md'],
    'Train': ['train.md', 'distributed.md', 'checkpoints.md'],
    'Evaluate': ['evaluate.md', 'results.md', 'model_zoo.md', 'benchmarks.md'],
    'Search': ['search.md', 'scale.md', 'security.md'],
}
EXTEND = ['adding.md', 'design.md']
HELP = ['troubleshooting.md']
# Packages of the API with what a reader looks for there.
API = {
    'search': 'Search',
    'inference': 'Inference',
    'models': 'Models',
    'datasets': 'Data sets',
    'evaluation': 'Evaluation',
    'hooks': 'Hooks',
    'optim': 'Optimisers',
    'text': 'Text',
    'checkpoint': 'Checkpoints',
    'visualization': 'Pictures',
}
# Code, in which a bracket is not a link, or the target of a link.
CODE_OR_LINK = re.compile(r'```.*?```|``[^`]*``|`[^`]*`|\]\(([^)\s#]*)(#[^)\s]*)?\)', re.DOTALL)


def method_pages() -> dict[str, str]:
    """The page of each method, of the example and of the template, by its README."""
    found = sorted([*ROOT.glob('configs/*/README.md'), *ROOT.glob('projects/*/README.md')])
    return {path.relative_to(ROOT).as_posix(): f'methods/{path.parent.name}.md' for path in found}


def notebook_pages() -> dict[str, str]:
    """The page of each notebook."""
    found = sorted(ROOT.glob('docs/notebooks/*.ipynb'))
    return {path.relative_to(ROOT).as_posix(): f'notebooks/{path.stem}.md' for path in found}


# Every page that is made of a file outside of docs/ or of another kind, by that file.
MADE = {
    'README.md': 'index.md',
    'projects/README.md': 'methods/projects.md',
    'CONTRIBUTING.md': 'contributing.md',
    'CHANGELOG.md': 'changelog.md',
    **method_pages(),
    **notebook_pages(),
}


def page_of(path: str) -> str | None:
    """The page of a file or folder of the repository, or where a file is copied to; else None."""
    if (ROOT / path).is_dir():
        path = posixpath.join(path, 'README.md')
    if path in MADE:
        return MADE[path]
    if not (ROOT / path).is_file():
        return None
    if path.startswith('docs/'):
        return path.removeprefix('docs/')
    # With this end a browser shows a text and does not offer to keep it.
    return f'files/{path}.txt'


def rewritten(text: str, source: str, page: str) -> tuple[str, dict[str, str]]:
    """A text with links between pages, and the files that have to be copied for them.

    Args:
        text: Markdown.
        source: The file of the repository that it is of.
        page: The page that it becomes.
    """
    copied = {}

    def replace(match: re.Match) -> str:
        target, anchor = match[1], match[2] or ''
        if not target or re.match(r'[a-z]+:', target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        found = page_of(path)
        if found is None:
            # Told by MkDocs as a link that leads nowhere.
            return match[0]
        if found.startswith('files/'):
            copied[found] = path
        return f']({posixpath.relpath(found, posixpath.dirname(page) or ".")}{anchor})'

    return CODE_OR_LINK.sub(replace, text), copied


def notebook_text(path: Path) -> str:
    """A notebook as Markdown."""
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    parts = []
    for cell in cells:
        text = ''.join(cell['source'])
        parts.append(f'```python\n{text}\n```' if cell['cell_type'] == 'code' else text)
    # Not in Markdown, where it would become a link to this page.
    link = f'<a href="{path.name}" download>This page as a notebook</a>'
    return '\n\n'.join([*parts, link])


def text_of(source: str) -> str:
    """A file of the repository as Markdown."""
    path = ROOT / source
    return notebook_text(path) if path.suffix == '.ipynb' else path.read_text(encoding='utf-8')


def api_text(package: str, title: str) -> str:
    """The page of a package: each of its modules that says something."""
    folder = ROOT / 'sen_toolbox' / package
    modules = [
        path.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.')
        for path in sorted(folder.rglob('*.py'))
        if not path.name.startswith('_')
    ]
    return '\n\n'.join([f'# {title}', f'`sen_toolbox.{package}`', *(f'::: {m}' for m in modules)])


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists the pages."""
    there = {section: [n for n in names if page_is_there(n)] for section, names in GUIDE.items()}
    methods = [page for path, page in MADE.items() if path.startswith(('configs/', 'projects/'))]
    notebooks = [page for page in MADE.values() if page.startswith('notebooks/')]
    extend = [name for name in EXTEND if page_is_there(name)]
    config.nav = [
        {'Home': 'index.md'},
        *({section: names} for section, names in there.items()),
        {'Methods': methods},
        {'Extend': [*extend, *notebooks, 'contributing.md']},
        {'Help': [*(name for name in HELP if page_is_there(name)), 'changelog.md']},
        {'API': [{title: f'api/{package}.md'} for package, title in API.items()]},
    ]
    return config


def page_is_there(name: str) -> bool:
    """Whether docs/ has a page."""
    return (ROOT / 'docs' / name).is_file()


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made, and what they link to."""
    copied = {}
    for file in files.documentation_pages():
        source = f'docs/{file.src_uri}'
        copied |= rewritten(text_of(source), source, file.src_uri)[1]
    for source, page in MADE.items():
        text, linked = rewritten(text_of(source), source, page)
        copied |= linked
        files.append(File.generated(config, page, content=text))
    for package, title in API.items():
        files.append(File.generated(config, f'api/{package}.md', content=api_text(package, title)))
    for page, source in copied.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Makes the links of docs/ links between pages."""
    name = page.file.src_uri
    if page.file.generated_by is not None:
        return markdown
    return rewritten(markdown, f'docs/{name}', name)[0]


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Takes the names of Sphinx's roles away, with which docstrings mark what is code."""
    return re.sub(r':(?:func|class|meth|mod|math):(?=<code>)', '', html)
