"""What is wrong with a command line, told before a model is loaded, which takes seconds."""

import argparse
import os
from collections.abc import Sequence

from sen_toolbox.hub import check_architecture, check_hub_name, is_hub_name
from sen_toolbox.search.index_folder import DATABASE
from sen_toolbox.search.suffixes import is_video


def check_model(args: argparse.Namespace) -> None:
    """Refuses a model that is not there, and a checkpoint without its config.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is a checkpoint alone, or a name of a model has another form or is
            none of open_clip's.
    """
    if args.checkpoint and not args.model:
        raise ValueError(
            f'--checkpoint {args.checkpoint} needs its config: --model CONFIG.py; a model file, '
            'which tools/publish_model.py makes of both, is given by --model alone'
        )
    for path in (args.model, args.checkpoint):
        if is_hub_name(path):
            check_hub_name(path)
        elif path is not None and not os.path.exists(path):
            raise FileNotFoundError(f'there is no model file {path}')
    # A module may add models to open_clip.
    if is_hub_name(args.model) and not args.imports:
        check_architecture(args.model)


def check_index(args: argparse.Namespace) -> None:
    """Refuses a folder without an index; one in a database is looked for by its client.

    Raises:
        FileNotFoundError: If there is no index.
    """
    if args.uri is None and not os.path.lexists(os.path.join(args.index, DATABASE)):
        raise FileNotFoundError(
            f'there is no index {args.index}: make it with sen-search index FOLDER'
        )


def check_sources(sources: Sequence[str], detect: str | None) -> None:
    """Refuses what cannot be indexed whatever the model is.

    Raises:
        FileNotFoundError: If a source does not exist.
        ValueError: If a folder is in the place of a detector, or a video is to be indexed as a
            picture.
    """
    if detect is not None and os.path.isdir(detect):
        raise ValueError(
            f'--detect took the folder {detect} for a detector: write it last, as in '
            f'sen-search index {detect} --detect'
        )
    for source in sources:
        if not os.path.exists(source):
            raise FileNotFoundError(f'there is no folder {os.path.abspath(source)}')
        if detect is None and is_video(source) and os.path.isfile(source):
            raise ValueError(f'{source} is a video: add --detect to cut the people out of it')
