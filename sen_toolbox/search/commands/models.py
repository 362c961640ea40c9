"""List models to search with: shipped ones, those in the cache, and some that are known to fit.

  sen-search models
  sen-search index crops/ --model open_clip:ViT-B-16/openai

What is known to fit is downloaded at its first use. COCO is the percentage of sentences about
photos whose photo comes first, as open_clip's authors measured it: it compares models with each
other, and says nothing of people. The last column tells what of a picture a model sees: of a tall
crop the middle square, or all of it, squashed. Any other name and tag of open_clip, and
hf-hub:ORG/NAME, are taken, too.
"""

import argparse

from sen_toolbox.inference.loading import SHIPPED_MODEL
from sen_toolbox.known_models import KNOWN, cache_folder, cached_models
from sen_toolbox.search.commands.common import say

HELP = 'list models to search with'
WIDTH = max(len(model.name) for model in KNOWN)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds no arguments."""


def run(args: argparse.Namespace) -> int:
    """Prints; returns the exit code."""
    say('shipped, used without --model:')
    size = SHIPPED_MODEL.stat().st_size / 1e6
    say(f'  {SHIPPED_MODEL.stem}  {size:.1f} MB, has seen drawn people only')
    cached = cached_models()
    say(f'in the cache {cache_folder()}:')
    for name, size in cached.items():
        say(f'  {name:<{WIDTH}}  {size / 1e6:6.0f} MB')
    if not cached:
        say('  none')
    say('known to fit, downloaded at the first use:')
    say(f'  {"name":<{WIDTH}}  {"parameters":>10}  {"licence":<10}  {"COCO":>4}  sees')
    for model in KNOWN:
        coco = '-' if model.coco is None else f'{model.coco:.1f}'
        say(
            f'  {model.name:<{WIDTH}}  {model.parameters:>8} M  {model.licence:<10}  {coco:>4}  '
            f'{model.view}'
        )
    return 0
