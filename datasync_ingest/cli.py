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
from .log_lines import as_json, stamp
from .output import Output
from .progress import display, logging_to
from .redaction import mask, without_secrets
from .settings import Settings

_UNEXPECTED = "unexpected error: "
_A_BUG = (
    "This is a bug. What was committed stays, and the same command goes on from there. Please report it with the output"
    " of the same command with --debug."
)


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
        shown = display(options.progress, log_format=chosen.log_format)
        try:
            with logging_to(shown, chosen, debug=options.debug):
                out = Output(
                    as_json=options.json,
                    colour=settings.wants_colour() and sys.stdout.isatty(),
                    mask=partial(without_secrets, settings=chosen),
                )
                return called.run(options, chosen, shown, out)
        finally:
            shown.close()
    except IngestError as error:
        _tell(error, chosen, debug=options.debug)
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output has left: `bin/export-ids -o - | head`
        _discard_stdout()
        return 128 + signal.SIGPIPE
    except Exception as error:
        bug = IngestError(f"{_UNEXPECTED}{type(error).__name__}: {error}", hint=_A_BUG)
        _tell(bug, chosen, debug=options.debug)
        return bug.exit_code


def _tell(error: IngestError, chosen: Settings | None, *, debug: bool) -> None:
    """The ending's sentence, in the format of the log."""
    message, hint, trace = (mask(text, chosen) for text in (str(error), error.hint, traceback.format_exc()))
    if chosen is not None and chosen.log_format == "json":
        level = "warning" if isinstance(error, StoppedError) else "error"
        line = {**stamp("cli", message, level=level), "hint": hint, "exit_code": error.exit_code}
        print(as_json(line | ({"traceback": trace} if debug else {})), file=sys.stderr)
        return
    if debug:
        print(trace, file=sys.stderr)
    kind = "" if isinstance(error, StoppedError) or message.startswith(_UNEXPECTED) else "error: "
    print(f"{kind}{message}" + (f"\n{hint}" if hint else ""), file=sys.stderr)


def _discard_stdout() -> None:
    """So that the interpreter does not fail once more when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
