"""What a command is, and the part of its command line that all commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from .. import __version__, conversions, settings
from ..output import Output
from ..progress import Display
from ..settings import Settings

EXIT_CODES = """\
exit codes: 0 complete; 1 unexpected error; 2 usage, configuration or disk; 3 the API; 4 the database;
5 incomplete; 6 another run is active; 129, 130, 143 stopped by SIGHUP, SIGINT, SIGTERM.
Everything but 0, 1 and 2 can be resumed by the same command."""

VARIABLES = """\
environment, or lines of .env in the working directory:
  TARGET_API_KEY        the API key (or TARGET_API_KEY_FILE, a file that holds it); no flag takes it
  TARGET_STREAM_TOKEN   a token for the feed, taken from the dashboard, with --target-stream-path; no flag takes it
  DATABASE_URL          the PostgreSQL to use (or PGHOST, PGSERVICE, PGDATABASE); none: the embedded one
  NO_COLOR              any text: no colours
  and the variable named with each flag above; a flag wins over the environment, that over .env"""


class Run(Protocol):
    """Does the work; returns the exit code, or raises an IngestError."""

    def __call__(self, options: argparse.Namespace, chosen: Settings, shown: Display, out: Output, /) -> int: ...


@dataclass(frozen=True, slots=True)
class Command:
    """`parse` makes the options of argv; `run` does what they say."""

    parse: Callable[[Sequence[str] | None], argparse.Namespace]
    run: Run


def no_flags(parser: argparse.ArgumentParser) -> None:
    """None of its own."""
    del parser


def command(
    name: str, description: str, examples: str, run: Run, flags: Callable[[argparse.ArgumentParser], None] = no_flags
) -> Command:
    """A command with the flags that all have, one for each setting, and those that `flags` adds."""

    def parse(argv: Sequence[str] | None) -> argparse.Namespace:
        parser = _parser(name, description, examples)
        flags(parser)
        return parser.parse_args(None if argv is None else list(argv))

    return Command(parse, run)


def _parser(name: str, description: str, examples: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"bin/{name}",
        description=description,
        epilog=f"{VARIABLES}\n\nexamples:\n{examples}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"datasync_ingest {__version__}")
    parser.add_argument("--demo", action="store_true", help="use the API's simulator and a data directory of its own")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.add_argument("--json", action="store_true", help="the result on stdout is one JSON object")
    parser.set_defaults(progress="auto")
    for entry in settings.setting_fields():
        shown = entry.metadata["shown_default"]
        shown = conversions.shown(shown() if callable(shown) else shown)
        parser.add_argument(
            settings.flag_of(entry),
            dest=entry.name,
            metavar="VALUE",
            help=f"{entry.metadata['help']} ({entry.metadata['variable']}; default: {shown})",
        )
    return parser
