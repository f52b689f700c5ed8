"""python -m miner."""

import sys

from miner.cli import main

if __name__ == "__main__":
    sys.exit(main())
