"""`bin/psql`: every argument but our own few is psql's."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..output import Output
from ..progress import Display
from ..psql import psql
from ..settings import Settings
from .command import Command


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bin/psql",
        description="Opens psql on the events: on the embedded PostgreSQL, or on the database that DATABASE_URL names.",
        epilog='examples:\n  bin/psql\n  bin/psql -c "SELECT type, count(*) FROM ingested_events GROUP BY type"',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--demo", action="store_true", help="the demo's database")
    parser.add_argument("--data-dir", metavar="DIR", help="DATA_DIR of the run")
    parser.add_argument("--schema", metavar="NAME", help="DB_SCHEMA of the run: it comes first in the search path")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(progress="lines", json=False)
    options, own = parser.parse_known_args(list(sys.argv[1:] if argv is None else argv))
    options.psql_arguments = own
    return options


def _run(options: argparse.Namespace, chosen: Settings, shown: Display, out: Output) -> int:
    del out
    return psql(chosen, options.psql_arguments, say=shown.write)


COMMAND = Command(_parse, _run)
