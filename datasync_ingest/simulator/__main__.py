"""`python -m datasync_ingest.simulator [options]`: the same as `bin/simulate-api`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
