"""``python -m lmmcl``: the command line."""

import sys

from lmmcl.cli import main

if __name__ == "__main__":
    sys.exit(main())
