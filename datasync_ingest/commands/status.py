"""`bin/status`: how the ingest stands, also while it runs."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from contextlib import ExitStack, closing

from .. import settings
from ..errors import StoppedError
from ..output import Block, Output
from ..progress import Display
from ..settings import Settings
from ..status.looking import database_name, look, table_of
from ..status.state import Status
from ..status.text import lines
from ..status.watching import PATIENCE_S, TableWatch
from ..stopping import Wake, stop_on_signals
from ..units import parse_seconds
from .command import command

_WATCH_S = 2.0
_SHORTEST_WATCH_S = 0.2


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--watch",
        nargs="?",
        type=_interval,
        const=_WATCH_S,
        metavar="SECONDS",
        help=f"again and again, until Ctrl-C (default: every {_WATCH_S:.0f} s): in place on a terminal, a block or a"
        " line of --json each time elsewhere; the table is counted again at most for a twentieth of the time",
    )
    parser.add_argument(
        "--start-database",
        action="store_true",
        help="start the embedded PostgreSQL for the numbers of the table, where no run uses it, and stop it again",
    )


def _interval(text: str) -> float:
    try:
        seconds = parse_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None
    if seconds < _SHORTEST_WATCH_S:
        raise argparse.ArgumentTypeError(f"{text!r} is shorter than {_SHORTEST_WATCH_S} s")
    return seconds


def _run(options: argparse.Namespace, chosen: Settings, shown: Display, out: Output) -> int:
    with ExitStack() as opened:
        wake = opened.enter_context(closing(Wake()))
        opened.enter_context(stop_on_signals(wake))
        seen = opened.enter_context(table_of(chosen, start=options.start_database, say=shown.write))
        watch = TableWatch(seen, name=database_name(chosen))
        if options.watch is not None:
            return _watch(chosen, watch, options.watch, out)
        status = look(chosen, watch.table(PATIENCE_S))
        out.result(out.lines(lines(status)), status.as_json())
        return status.error.exit_code if status.error is not None else 0


def _watch(chosen: Settings, watch: TableWatch, interval_s: float, out: Output) -> int:
    """Ends by a signal."""
    in_place = sys.stdout.isatty() and settings.terminal_obeys() and not out.as_json
    block = Block(out, shutil.get_terminal_size) if in_place else None
    try:
        while True:
            due_at = time.monotonic() + interval_s
            _show(look(chosen, watch.table(min(1.0, interval_s / 2))), out, block)
            time.sleep(max(0.0, due_at - time.monotonic()))
    except StoppedError as stopped:  # that is how it ends
        if block is not None:
            out.line("")  # the terminal has written ^C there
        return stopped.exit_code


def _show(status: Status, out: Output, block: Block | None) -> None:
    if out.as_json:
        out.line(json.dumps(status.as_json(), default=str))
        return
    head = ("", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.at)))
    if block is not None:
        block.draw([head, *lines(status)])
    else:
        out.line(out.lines([head, *lines(status), ("", "")]))


COMMAND = command(
    "status",
    "Says how the ingest stands, also while it runs, and never gets in its way: progress, pages, spool, key and last"
    "\nrun by the sidecar; events by type and day, rejects and repairs by the database. Counting 3,000,000 events takes"
    "\nthe database 2 to 3 s of one core; after 20 s the status says what it has by then. Exit code 0: all of it could"
    "\nbe read, however the ingest stands; 2: not the sidecar; 4: not the database.",
    "  bin/status\n  bin/status --watch\n  bin/status --json | jq .progress\n  bin/status --demo --start-database",
    _run,
    _flags,
)
