"""Builds the package; what it is and needs stands in pyproject.toml.

A wheel also holds the configs, the tools and model-index.yml, where OpenMIM looks for them:
in ``sen_toolbox/.mim``. In an editable installation they stay where they are.
"""

from pathlib import Path
from shutil import copy2, copytree, ignore_patterns

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithConfigs(build_py):
    """Adds ``.mim`` to what is built."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, 'sen_toolbox', '.mim')
        for folder in ('configs', 'tools'):
            unwanted = ignore_patterns('__pycache__')
            copytree(ROOT / folder, target / folder, ignore=unwanted, dirs_exist_ok=True)
        copy2(ROOT / 'model-index.yml', target)


setup(cmdclass={'build_py': BuildWithConfigs})
