"""Show a web page to search the index with.

  sen-search serve
  sen-search serve --port 9000

Describe a person, or add a picture; search by a result, mark right ones to refine. The page needs
no internet and answers this machine only. --host 0.0.0.0 opens it to the network: whoever has the
link that is printed then sees every image of the index, and the connection is not encrypted.
"""

import argparse
import socket
import sys

from sen_toolbox.search.commands.checks import check_index, check_model
from sen_toolbox.search.commands.common import add_search_arguments, note, open_search, say

HELP = 'show a web page to search the index with'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument(
        '--host', default='127.0.0.1', help='address to listen on (default: %(default)s)'
    )
    parser.add_argument(
        '--port', type=_port, default=8765, help='port; 0 for any free (default: %(default)s)'
    )
    add_search_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Serves until it is interrupted; returns the exit code."""
    check_index(args)
    check_model(args)
    search = open_search(args)
    # Says at once if there is no index, or one of another model.
    if not len(search):
        raise FileNotFoundError(
            f'index {args.index} holds nobody: fill it with sen-search index FOLDER'
        )

    from sen_toolbox.search.web.api import SearchApi
    from sen_toolbox.search.web.server import PageServer

    try:
        server = PageServer(SearchApi(search), host=args.host, port=args.port)
    except OSError as error:
        raise OSError(f'cannot listen on {args.host}, port {args.port}: {error}') from error
    with server:
        # Of all addresses of this machine, one that others can open.
        name = socket.gethostname() if args.host in ('0.0.0.0', '::') else args.host
        host = f'[{name}]' if ':' in name else name
        key = '' if server.key is None else f'?key={server.key.secret}'
        say(f'{len(search)} persons: http://{host}:{server.server_port}/{key} (Ctrl-C ends it)')
        sys.stdout.flush()
        if server.key is not None:
            note('warning: whoever has this link, or listens to the network, sees all images')
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            note('sen-search: page closed')
    return 0


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f'{text!r} is not a port, 0 to 65535')
    return int(text)
