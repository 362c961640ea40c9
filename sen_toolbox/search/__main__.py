"""``python -m sen_toolbox.search`` is ``sen-search``."""

import sys

from sen_toolbox.search.cli import main

if __name__ == '__main__':
    sys.exit(main())
