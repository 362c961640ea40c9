"""Forget what the index holds of some folders or files, whether they are still there or not.

  sen-search remove photos/2019                    all entries of files below this folder
  sen-search remove /mnt/old/crops camera.mp4

The images and videos themselves stay; the crops that were cut out of them are deleted. To forget
single files of a folder that is still there, delete them and index the folder again. What the
index holds is listed by sen-search info. No model is needed.
"""

import argparse

from sen_toolbox.search.commands.common import add_index_arguments, say

HELP = 'forget what the index holds of some folders or files'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument(
        'sources', nargs='+', metavar='PATH', help='folder or file, which may be gone'
    )
    add_index_arguments(parser.add_argument_group('index'))


def run(args: argparse.Namespace) -> int:
    """Removes; returns the exit code."""
    from sen_toolbox.search.index import open_index
    from sen_toolbox.search.index_folder import crops_folder
    from sen_toolbox.search.removal import remove_sources

    index = open_index(args.index, uri=args.uri)
    removed = remove_sources(index, crops_folder(args.index), args.sources)
    say(
        f'{removed.persons} persons of {removed.files} files removed; '
        f'{args.index} holds {len(index)} persons'
    )
    return 0
