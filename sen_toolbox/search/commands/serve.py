"""Show a web page to search the index with.

  sen-search serve
  sen-search serve --port 9000

Describe a person, or add a picture; search by a result, mark right ones to refine. The page needs
no internet and answers this machine only. --host 0.0.0.0 opens it to the network: whoever has the
link that is printed then sees every image of the index, and the connection is not encrypted.
sen-search query on the same index asks it, too, while it runs.
"""

import argparse
import signal
import socket
import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from sen_toolbox.messages import error_line
from sen_toolbox.search.commands.checks import check_index, check_model
from sen_toolbox.search.commands.common import add_search_arguments, note, open_search, say

if TYPE_CHECKING:
    from sen_toolbox.search.web.server import PageServer

# Addresses to listen on that this machine reaches by a loopback address, and whether by IPv6's.
LOOPBACK = {'127.0.0.1': False, '0.0.0.0': False, '::1': True, '::': True}
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
    # Imported here because it loads what makes keys, which a wrong command line does without.
    from sen_toolbox.search.running.served import served_by

    # Before the model is read: one that is replaced meanwhile is not what it is taken for.
    served = served_by(args)
    search = open_search(args)
    # Says at once if there is no index, or one of another model.
    if not len(search):
        raise FileNotFoundError(
            f'index {args.index} holds nobody: fill it with sen-search index FOLDER'
        )

    import secrets

    from sen_toolbox.search.web.api import SearchApi
    from sen_toolbox.search.web.own_queries import OwnQueries
    from sen_toolbox.search.web.server import PageServer

    api, secret = SearchApi(search), secrets.token_urlsafe(32)
    own = None if served is None else OwnQueries(api, secret, served)
    try:
        server = PageServer(api, host=args.host, port=args.port, own=own)
    except OSError as error:
        raise OSError(f'cannot listen on {args.host}, port {args.port}: {error}') from error
    with server, ExitStack() as at_end:
        if threading.current_thread() is threading.main_thread():
            # A service manager ends it so.
            before = signal.signal(signal.SIGTERM, signal.default_int_handler)
            at_end.callback(signal.signal, signal.SIGTERM, before)
        if served is not None:
            _announce(args.index, server, secret, served, at_end)
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


def _announce(
    index: str, server: 'PageServer', secret: str, served: dict[str, Any], at_end: ExitStack
) -> None:
    """Tells the queries of this user where the server is, until the end."""
    from sen_toolbox.search.running.notice import Notice, announced

    ipv6 = LOOPBACK.get(server.server_address[0])
    if ipv6 is None:
        return
    notice = Notice(server.server_port, ipv6, secret, served)
    try:
        at_end.enter_context(announced(index, notice))
    except (OSError, ValueError, RuntimeError) as error:
        note(f'note: sen-search query will load its own model: {error_line(error)}')


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f'{text!r} is not a port, 0 to 65535')
    return int(text)
