"""The command line: a command's name and argv in, an exit code out; an exception becomes a sentence on the way."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial

from . import settings
from .commands import MODULES, Command, command
from .errors import ConfigurationError, IngestError, StoppedError
from .output import Output
from .progress import display, logging_to, mask
from .settings import Settings


def main(argv: Sequence[str] | None = None) -> int:
    """`COMMAND ...`; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] not in ENTRY_POINTS:
        print(f"usage: python -m datasync_ingest {{{','.join(ENTRY_POINTS)}}} ...", file=sys.stderr)
        return ConfigurationError.exit_code
    return ENTRY_POINTS[words[0]](words[1:])


def simulate_api(argv: Sequence[str] | None = None) -> int:
    """`bin/simulate-api` reads no setting of ours."""
    from .simulator.cli import main as simulator_main

    return simulator_main(list(sys.argv[1:] if argv is None else argv))


def _call(name: str, argv: Sequence[str] | None = None) -> int:
    chosen = command(name)
    return _guarded(chosen.parse(argv), chosen)


EntryPoint = Callable[[Sequence[str] | None], int]
ENTRY_POINTS: dict[str, EntryPoint] = {**{name: partial(_call, name) for name in MODULES}, "simulate-api": simulate_api}


def __getattr__(name: str) -> EntryPoint:
    """The entry points of setup.cfg: `export_ids` is `bin/export-ids`."""
    try:
        return ENTRY_POINTS[name.replace("_", "-")]
    except KeyError:
        raise AttributeError(name) from None


def _guarded(options: argparse.Namespace, called: Command) -> int:
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
                out = Output(
                    as_json=options.json,
                    colour=settings.wants_colour() and sys.stdout.isatty(),
                    mask=partial(mask, settings=chosen),
                )
                return called.run(options, chosen, shown, out)
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
