"""`bin/simulate-api`: the options as flags, and the server until it is stopped."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from .. import __version__
from .damage import DAMAGES
from .faults import ANSWER_FAULTS, SUBMISSION_FAULTS
from .generation import generate
from .options import ON_OFF, OptionError, Options, changed, option_fields
from .rendering import FIELDS, Shape
from .resources import API
from .server import Server
from .service import Service

USAGE = 2  # exit code
READY = "The API is at "  # the line on stdout that tells that it answers begins so


def main(argv: Sequence[str]) -> int:
    """Serves until SIGINT or SIGTERM, or until stdin ends with --until-stdin-ends; returns the exit code."""
    parser = _parser()
    words = parser.parse_args(argv)
    texts = {entry.name: text for entry in option_fields() if (text := getattr(words, entry.name)) is not None}
    try:
        options = changed(Options(), texts, running=False)
        shape = _shape(options)
    except OptionError as error:
        parser.error(str(error))
    service = Service(generate(options.dataset_size, options.seed, shape), options)
    try:
        server = Server(service, options.host, options.port)
    except OSError as error:
        print(
            f"error: {options.host}:{options.port} cannot be listened on: {error.strerror}.\n"
            "Choose another --port (0 takes a free one) or --host.",
            file=sys.stderr,
        )
        return USAGE
    with server:
        _stop_by(server, until_stdin_ends=words.until_stdin_ends)
        url = f"{server.origin}{API}"
        print(json.dumps({"url": url}) if words.json else f"{READY}{url}", flush=True)
        server.serve_forever(poll_interval=0.1)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bin/simulate-api",
        description="The DataSync Analytics API's stand-in: a real HTTP server with its behaviours and faults.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for entry in option_fields():
        parser.add_argument(
            "--" + entry.name.replace("_", "-"),
            metavar="VALUE",
            action="append" if entry.name == "fault" else "store",
            help=f"{entry.metadata['help']} (default: {_shown(entry.default)})",
        )
    parser.add_argument("--version", action="version", version=f"datasync_ingest {__version__}")
    parser.add_argument("--json", action="store_true", help="say where the API is as one JSON object")
    parser.add_argument("--until-stdin-ends", action="store_true", help="stop when standard input is closed")
    return parser


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return ON_OFF[not default]
    if isinstance(default, (frozenset, tuple)):
        return ",".join(sorted(map(str, default))) or "none"
    return f"{default:g}" if isinstance(default, float) else str(default)


def _epilog() -> str:
    faults = [f"  {name:<20} {text}" for name, text in ANSWER_FAULTS.items()]
    submissions = [f"  {name:<20} {text}" for name, text in SUBMISSION_FAULTS.items()]
    damages = [f"  {name}" for name in DAMAGES]
    return "\n".join(
        [
            "faults of an answer:",
            *faults,
            "faults of single events:",
            *damages,
            "faults of submissions:",
            *submissions,
            "",
            "control, without a key: GET /simulator/counters, /simulator/ids, /simulator/events, /simulator/damaged;",
            'POST /simulator/reset, /simulator/options with {"name": "value"} for an option that can change by then.',
            "",
            "examples:",
            "  bin/simulate-api --events 3000000 --api-key my-key",
            "  bin/simulate-api --rate-limit 0 --fault 502=0.05 --fault cut@3 --fault nul=0.001",
            "  TARGET_API_KEY=demo-key API_BASE_URL=http://127.0.0.1:8080 bin/ingest",
        ]
    )


def _shape(options: Options) -> Shape:
    unknown = options.omit - set(FIELDS)
    if unknown:
        raise OptionError(f"omit: {', '.join(sorted(unknown))} cannot be left out; known: {', '.join(FIELDS)}")
    return Shape(options.id_style == "int", options.timestamp_field, options.omit)


def _stop_by(server: Server, *, until_stdin_ends: bool) -> None:
    """`shutdown` waits for the loop that the main thread is in, so another thread calls it."""
    asked = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        asked.set()

    def shut_down() -> None:
        asked.wait()
        server.shutdown()

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, stop)
    threading.Thread(target=shut_down, daemon=True).start()
    if until_stdin_ends:
        threading.Thread(target=_wait_for_the_end_of_stdin, args=(asked,), daemon=True).start()


def _wait_for_the_end_of_stdin(asked: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    asked.set()
