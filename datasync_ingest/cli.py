"""The commands: reads argv, calls the library, turns an exception into a sentence and an exit code."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from . import __version__, settings
from .errors import ConfigurationError, IngestError, StoppedError
from .plan import Rewalk
from .progress import STYLES, Display, display, export_bar, logging_to, mask
from .settings import Settings

EXIT_CODES = """\
exit codes: 0 complete; 1 unexpected error; 2 usage, configuration or disk; 3 the API; 4 the database;
5 incomplete; 6 another run is active; 129, 130, 143 stopped by SIGHUP, SIGINT, SIGTERM.
Everything but 0, 1 and 2 can be resumed by the same command."""

_Command = Callable[[argparse.Namespace, Settings, Display], int]


def main(argv: Sequence[str] | None = None) -> int:
    """`COMMAND ...`; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    commands = {"ingest": ingest, "export-ids": export_ids, "psql": psql, "simulate-api": simulate_api}
    if not words or words[0] not in commands:
        print(f"usage: python -m datasync_ingest {{{','.join(commands)}}} ...", file=sys.stderr)
        return ConfigurationError.exit_code
    return commands[words[0]](words[1:])


def ingest(argv: Sequence[str] | None = None) -> int:
    """`bin/ingest`."""
    parser = _parser(
        "ingest",
        "Copies every event of the API into PostgreSQL. Can be stopped at any moment and started again.",
        "examples:\n  bin/ingest --demo\n  echo TARGET_API_KEY=... > .env; bin/ingest\n  bin/ingest --batch-size 1000",
    )
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
    parser.add_argument("--progress", choices=STYLES, default="auto", help="how progress is shown (default: auto)")
    return _run(parser, argv, _ingest)


def export_ids(argv: Sequence[str] | None = None) -> int:
    """`bin/export-ids`."""
    parser = _parser(
        "export-ids",
        "Writes the ID of every event in the table, sorted, one a line: the file to submit.",
        "examples:\n  bin/export-ids\n  bin/export-ids -o - | head",
    )
    parser.add_argument(
        "-o", "--output", default="event_ids.txt", metavar="FILE", help="default: event_ids.txt; - is stdout"
    )
    parser.add_argument("--incomplete", action="store_true", help="write what there is, even if events are missing")
    return _run(parser, argv, _export_ids)


def psql(argv: Sequence[str] | None = None) -> int:
    """`bin/psql`: every argument but `--demo` and `--data-dir` is psql's own."""
    parser = argparse.ArgumentParser(
        prog="bin/psql",
        description="Opens psql on the events: on the embedded PostgreSQL, or on the database that DATABASE_URL names.",
        epilog='examples:\n  bin/psql\n  bin/psql -c "SELECT type, count(*) FROM ingested_events GROUP BY type"',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--demo", action="store_true", help="the demo's database")
    parser.add_argument("--data-dir", metavar="DIR", help="DATA_DIR of the run")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(progress="lines")
    words = list(sys.argv[1:] if argv is None else argv)
    options, own = parser.parse_known_args(words)
    options.psql_arguments = own
    return _guarded(options, _psql)


def simulate_api(argv: Sequence[str] | None = None) -> int:
    """`bin/simulate-api`."""
    from .simulator.cli import main as simulator_main

    return simulator_main(list(sys.argv[1:] if argv is None else argv))


def _ingest(options: argparse.Namespace, chosen: Settings, shown: Display) -> int:
    from .ingest import Intent, run

    with ExitStack() as opened:
        if options.demo:
            from .demo import demo_api

            chosen = opened.enter_context(demo_api(chosen))
        intent = Intent(
            fresh=options.fresh,
            adopt=options.adopt,
            retry_poisoned=options.retry_poisoned,
            retry_rejected=options.retry_rejected,
            renew_cursors=options.renew_cursors,
            rewalk=options.rewalk,
        )
        summary = run(chosen, intent, shown)
    shown.close()
    print(summary.text())
    summary.balance.require_complete()
    return 0


def _export_ids(options: argparse.Namespace, chosen: Settings, shown: Display) -> int:
    from .export import export_ids as write_ids

    with export_bar(sys.stderr) as bar:
        export = write_ids(chosen, options.output, incomplete=options.incomplete, say=shown.write, shown=bar)
    shown.write(f"{export.ids:,} IDs, {export.size:,} bytes, SHA-256 {export.sha256}: {export.path}")
    return 0


def _psql(options: argparse.Namespace, chosen: Settings, shown: Display) -> int:
    from .psql import psql as run_psql

    return run_psql(chosen, options.psql_arguments, say=shown.write)


def _parser(name: str, description: str, examples: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"bin/{name}",
        description=description,
        epilog=f"{_variables()}\n\n{examples}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"datasync_ingest {__version__}")
    parser.add_argument("--demo", action="store_true", help="use the API's simulator and a data directory of its own")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(progress="auto")
    for entry in settings.setting_fields():
        shown = entry.metadata["shown_default"]
        shown = shown() if callable(shown) else shown
        parser.add_argument(
            settings.flag_of(entry),
            dest=entry.name,
            metavar="VALUE",
            help=f"{entry.metadata['help']} ({entry.metadata['variable']}; default: {shown})",
        )
    return parser


def _variables() -> str:
    return (
        "environment, or lines of .env in the working directory:\n"
        "  TARGET_API_KEY        the API key (or TARGET_API_KEY_FILE, a file that holds it); no flag takes it\n"
        "  DATABASE_URL          the PostgreSQL to use (or PGHOST, PGSERVICE, PGDATABASE); none: the embedded one\n"
        "  and the variable named with each flag above; a flag wins over the environment, that over .env"
    )


def _run(parser: argparse.ArgumentParser, argv: Sequence[str] | None, command: _Command) -> int:
    return _guarded(parser.parse_args(None if argv is None else list(argv)), command)


def _guarded(options: argparse.Namespace, command: _Command) -> int:
    """The one place where an exception becomes a sentence and an exit code."""
    chosen: Settings | None = None
    try:
        flags = {entry.name: getattr(options, entry.name, None) for entry in settings.setting_fields()}
        chosen = settings.load(flags, demo=options.demo)
        if options.demo:
            settings.forget_libpq_environment()
        shown = display(options.progress)
        try:
            with logging_to(shown, chosen, debug=options.debug):
                return command(options, chosen, shown)
        finally:
            shown.close()
    except IngestError as error:
        kind = "" if isinstance(error, StoppedError) else "error: "
        _tell(f"{kind}{error}" + (f"\n{error.hint}" if error.hint else ""), chosen, debug=options.debug)
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output has left: `bin/export-ids -o - | head`
        _discard_stdout()
        return 128 + signal.SIGPIPE
    except Exception as error:
        _tell(
            f"unexpected error: {type(error).__name__}: {error}\nThis is a bug. What was committed stays, and the same"
            " command goes on from there. Please report it with the output of the same command with --debug.",
            chosen,
            debug=options.debug,
        )
        return 1


def _tell(text: str, chosen: Settings | None, *, debug: bool) -> None:
    if debug:
        print(mask(traceback.format_exc(), chosen), file=sys.stderr)
    print(mask(text, chosen), file=sys.stderr)


def _discard_stdout() -> None:
    """So that the interpreter does not fail once more when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
