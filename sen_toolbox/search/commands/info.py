"""Show what an index holds: its model, its size, and each folder of images.

  sen-search info
  sen-search info --index people_index

Of each folder it says how many persons and files are indexed, in which way, and how many files are
gone or could not be read. Entries of files that are gone are removed by sen-search index with the
folder, or, if that is gone too, by sen-search remove. No model is needed.
"""

import argparse

from sen_toolbox.search.commands.common import add_index_arguments, say

HELP = 'show what an index holds'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    add_index_arguments(parser.add_argument_group('index'))


def run(args: argparse.Namespace) -> int:
    """Prints; returns the exit code."""
    from sen_toolbox.search.contents import folder_contents
    from sen_toolbox.search.index import open_index
    from sen_toolbox.search.index_folder import crops_folder

    index = open_index(args.index, uri=args.uri)
    folders = folder_contents(index)
    files = sum(held.files for held in folders.values())
    say(f'{args.index}: {len(index)} persons of {files} files')
    say(f'model: {index.model}')
    crops = [path.stat().st_size for path in crops_folder(args.index).glob('*/*/*.jpg')]
    details = dict(index.details())
    if crops:
        details['crops'] = f'{len(crops)} files, {sum(crops) / 1e6:.2f} MB'
    for name, value in details.items():
        say(f'{name}: {value}')
    for path, held in folders.items():
        parts = [f'{held.persons} persons of {held.files} files']
        parts += [f'{count} as {way}' for way, count in held.ways.items()]
        parts += [f'{held.skipped} could not be read'] if held.skipped else []
        parts += [f'{held.missing} are gone'] if held.missing else []
        say(f'{path}: {"; ".join(parts)}')
    return 0
