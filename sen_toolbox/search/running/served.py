"""What decides the results of a query beside the query: the same here and at a server, or not."""

import argparse
import os
from pathlib import Path
from typing import Any

from sen_toolbox import __version__
from sen_toolbox.inference.loading import SHIPPED_MODEL
from sen_toolbox.search.index_folder import DATABASE

# A model that is whole in one file; a config and an imported module have parts elsewhere.
WHOLE = ('.safetensors', '.onnx')


def served_by(args: argparse.Namespace) -> dict[str, Any] | None:
    """Version, index, model and device of a command line, as JSON values.

    Files are told apart as the file system does it, not by their content: a model has hundreds of
    megabytes. An index may change meanwhile, which every search looks at by itself.

    Returns:
        None for what every process opens by itself: an index in a database, and a model that is
        not whole in a file.

    Raises:
        OSError: If a file is missing.
    """
    model = Path(args.model or SHIPPED_MODEL)
    if args.uri or args.imports or args.checkpoint or model.suffix not in WHOLE:
        return None
    database, weights = os.stat(os.path.join(args.index, DATABASE)), os.stat(model)
    return dict(
        version=__version__,
        index=os.path.abspath(args.index),
        database=[database.st_dev, database.st_ino],
        model=[weights.st_dev, weights.st_ino, weights.st_size, weights.st_mtime_ns],
        device=args.device,
    )
