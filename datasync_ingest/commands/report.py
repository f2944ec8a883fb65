"""`bin/report`: runs and their events on one HTML page."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from ..output import Output
from ..progress import Display
from ..report.gathering import Choice
from ..report.making import make_report
from ..settings import Settings
from ..units import parse_count, show_bytes
from .command import command

_MOST_RUNS = 10**6


def _number(text: str) -> int:
    try:
        return parse_count(text, lowest=1, highest=_MOST_RUNS)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None


def _flags(parser: argparse.ArgumentParser) -> None:
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--run", type=_number, action="append", default=[], metavar="N", help="this run; can be repeated"
    )
    chosen.add_argument("--last", type=_number, default=1, metavar="N", help="the last N runs (default: 1)")
    chosen.add_argument("--all", action="store_true", help="all runs")
    parser.add_argument(
        "-o", "--output", default="report.html", metavar="FILE", help="default: report.html; - is stdout"
    )
    parser.add_argument(
        "others",
        nargs="*",
        type=Path,
        metavar="DIRECTORY",
        help="other data directories, whose last run (or --last, --all) stands beside",
    )


def _run(options: argparse.Namespace, chosen: Settings, shown: Display, out: Output) -> int:
    choice = Choice(options.run, None if options.all else options.last)
    made = make_report(chosen, choice, options.others, options.output, say=shown.write)
    if made.trouble:
        shown.write(f"Without events, rejects and repairs: {made.trouble}")
    shown.write(f"{', '.join(made.runs)}: {show_bytes(made.size)} in {made.path}")
    if out.as_json and options.output != "-":
        out.result("", asdict(made))
    return 0


COMMAND = command(
    "report",
    "Makes one HTML page of a run, or of several side by side: throughput, where the time went, latencies,\n"
    "faults and how each ended, rejects with examples, the books, events by day, type, device and browser.\n"
    "The page loads nothing from anywhere. It can be made while a run is active.",
    "  bin/report\n  bin/report --all -o all.html\n  bin/report --run 2 --run 3\n  bin/report other/data",
    _run,
    _flags,
)
