"""`bin/ingest`: the run."""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from ..ingest import Intent, run
from ..monitoring import monitoring
from ..output import Output
from ..plan import Rewalk
from ..postgres.writers import DEFAULT_WRITER, WRITERS
from ..progress import STYLES, Display
from ..settings import Settings
from .command import command


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fresh", action="store_true", help="set the sidecar aside and walk everything once more")
    parser.add_argument("--adopt", action="store_true", help="the API moved: go on under its new address")
    parser.add_argument(
        "--rewalk",
        dest="rewalk",
        action="store_const",
        const=Rewalk.ALWAYS,
        default=Rewalk.IF_SHORT,
        help="walk everything once more, even if nothing is missing",
    )
    parser.add_argument(
        "--no-rewalk",
        dest="rewalk",
        action="store_const",
        const=Rewalk.NEVER,
        help="do not walk everything once more, even if events are missing",
    )
    parser.add_argument("--retry-poisoned", action="store_true", help="try pages again that no worker survived")
    parser.add_argument(
        "--retry-rejected", action="store_true", help="read rejected and repaired events once more (after an upgrade)"
    )
    parser.add_argument(
        "--no-renew-cursors",
        dest="renew_cursors",
        action="store_false",
        help="where a cursor has expired, walk from the newest event instead of renewing it",
    )
    parser.add_argument(
        "--writer",
        choices=WRITERS,
        default=DEFAULT_WRITER,
        help=f"how rows reach the table (default: {DEFAULT_WRITER}); copy takes less time, see README",
    )
    parser.add_argument("--progress", choices=STYLES, default="auto", help="how progress is shown (default: auto)")


def _run(options: argparse.Namespace, chosen: Settings, shown: Display, out: Output) -> int:
    with ExitStack() as opened:
        observers = opened.enter_context(monitoring(chosen))
        if options.demo:
            from ..demo import demo_api

            chosen = opened.enter_context(demo_api(chosen))
        intent = Intent(
            fresh=options.fresh,
            adopt=options.adopt,
            retry_poisoned=options.retry_poisoned,
            retry_rejected=options.retry_rejected,
            renew_cursors=options.renew_cursors,
            rewalk=options.rewalk,
            writer=options.writer,
        )
        summary = run(chosen, intent, shown, observers)
        shown.close()
        out.result(summary.text(), summary.as_json())
        summary.balance.require_complete()
        return 0


COMMAND = command(
    "ingest",
    "Copies every event of the API into PostgreSQL. Can be stopped at any moment and started again.",
    "  bin/ingest --demo\n  echo TARGET_API_KEY=... > .env; bin/ingest\n  bin/ingest --batch-size 1000",
    _run,
    _flags,
)
