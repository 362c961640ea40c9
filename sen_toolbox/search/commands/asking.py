"""Has a running server answer a query, where one can."""

import argparse
import base64
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from sen_toolbox.io import read_regular
from sen_toolbox.search.running.notice import read_notice
from sen_toolbox.search.running.served import served_by

if TYPE_CHECKING:
    from sen_toolbox.search.result import Result

# Bytes of a picture that is sent; in base64 and with a description it is below the server's limit.
LARGEST_PICTURE = 1_400_000


def ask_server(args: argparse.Namespace) -> tuple[list['Result'], list[str]] | None:
    """What the query finds, and the remarks on it, as a server tells them.

    Returns:
        None if no server of this user serves what is asked for, or it does not answer.
    """
    notice = read_notice(args.index)
    if notice is None:
        return None
    # What is wrong is told by the search of this process.
    with suppress(OSError, ValueError, KeyError, TypeError):
        served = served_by(args)
        if served is None or notice.served != served:
            return None
        picture = read_regular(args.image, LARGEST_PICTURE) if args.image is not None else None
        # Imported here because most queries find no server.
        from sen_toolbox.search.result import Result
        from sen_toolbox.search.running.asking import ask

        asked = dict(
            text=args.text,
            picture=None if picture is None else base64.b64encode(picture).decode(),
            k=args.k,
            within=None if args.within is None else os.path.abspath(args.within),
            approximate=args.approximate,
            rerank=args.rerank,
        )
        if (found := ask(notice, served, asked)) is not None:
            return [Result(**row) for row in found['results']], found['remarks']
    return None
