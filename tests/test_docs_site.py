"""What the site is made of: links of the repository become links between pages."""

import importlib.util
import re

import pytest
from toy_data import ROOT

pytest.importorskip('mkdocs', reason='the extra docs is not installed')


@pytest.fixture(scope='module')
def pages():
    spec = importlib.util.spec_from_file_location('pages', ROOT / 'docs' / 'hooks' / 'pages.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ('text', 'source', 'page', 'expected', 'copied'),
    [
        ('[a](docs/data.md#x)', 'README.md', 'index.md', '[a](data.md#x)', {}),
        ('[a](../configs/sen)', 'docs/data.md', 'data.md', '[a](methods/sen.md)', {}),
        ('[a](../irra/README.md)', 'configs/sen/README.md', 'methods/sen.md', '[a](irra.md)', {}),
        ('![a](docs/images/map.png)', 'README.md', 'index.md', '![a](images/map.png)', {}),
        (
            '[a](official.py)',
            'configs/sen/README.md',
            'methods/sen.md',
            '[a](../files/configs/sen/official.py.txt)',
            {'files/configs/sen/official.py.txt': 'configs/sen/official.py'},
        ),
        ('[a](https://x.org/y)', 'README.md', 'index.md', '[a](https://x.org/y)', {}),
        ('`[a](README.md)`', 'docs/data.md', 'data.md', '`[a](README.md)`', {}),
        # MkDocs says that these lead nowhere.
        ('[a](nothing.md)', 'docs/data.md', 'data.md', '[a](nothing.md)', {}),
    ],
)
def test_a_link_leads_to_the_page_of_its_file(pages, text, source, page, expected, copied):
    assert pages.rewritten(text, source, page) == (expected, copied)


def test_every_document_and_method_has_a_page_in_the_list(pages):
    config = pages.on_config(type('Config', (), {})())
    listed = set(re.findall(r"'([\w/]+\.md)'", repr(config.nav)))
    documents = {path.relative_to(ROOT / 'docs').as_posix() for path in ROOT.glob('docs/*.md')}
    assert documents <= listed
    assert {'index.md', 'methods/sen.md', 'methods/cmpm.md', 'api/search.md'} <= listed
    made = [
        path for path in ROOT.glob('*/*/README.md') if path.parts[-3] in ('configs', 'projects')
    ]
    assert len([page for page in listed if page.startswith('methods/')]) == len(made) + 1
