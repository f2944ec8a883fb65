"""`bin/export-ids`: the file to submit."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from ..export import export_ids
from ..output import Output
from ..progress import Display, export_bar
from ..settings import Settings
from .command import command


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", default="event_ids.txt", metavar="FILE", help="default: event_ids.txt; - is stdout"
    )
    parser.add_argument("--incomplete", action="store_true", help="write what there is, even if events are missing")


def _run(options: argparse.Namespace, chosen: Settings, shown: Display, out: Output) -> int:
    with export_bar(sys.stderr) as bar:
        export = export_ids(chosen, options.output, incomplete=options.incomplete, say=shown.write, shown=bar)
    shown.write(f"{export.ids:,} IDs, {export.size:,} bytes, SHA-256 {export.sha256}: {export.path}")
    if out.as_json and options.output != "-":
        out.result("", asdict(export))
    return 0


COMMAND = command(
    "export-ids",
    "Writes the ID of every event in the table, sorted, one a line: the file to submit.",
    "  bin/export-ids\n  bin/export-ids -o - | head",
    _run,
    _flags,
)
