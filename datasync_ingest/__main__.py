"""`python -m datasync_ingest COMMAND ...`: the same commands as `bin/COMMAND`."""

import sys

if __name__ == "__main__":  # workers import this module again when they are spawned
    from datasync_ingest import cli

    sys.exit(cli.main())
