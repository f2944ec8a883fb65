"""`bin/explore-api`: says what it will spend, asks, looks, and writes down what it found."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from ..env_file import put
from ..errors import ConfigurationError, IngestError
from ..exploration import DEFAULT_BUDGET, PLANNED, Exploration
from ..exploration.showing import text
from ..files import whole_file
from ..output import Output, require_consent
from ..progress import Display
from ..redaction import without_secrets
from ..settings import Settings
from ..stopping import Wake, stop_on_signals
from ..units import parse_count, show_seconds
from .command import command


def _budget(typed: str) -> int:
    try:
        return parse_count(typed, lowest=1, highest=1000)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{typed!r} {error}") from None


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="look without asking")
    parser.add_argument(
        "--budget",
        type=_budget,
        default=DEFAULT_BUDGET,
        metavar="N",
        help=f"requests at most, those without the key too (default: {DEFAULT_BUDGET})",
    )
    parser.add_argument("-o", "--output", default="exploration.json", metavar="FILE", help="default: exploration.json")
    parser.add_argument("--write-env", action="store_true", help="put the recommended settings into .env")


def _run(options: argparse.Namespace, chosen: Settings, shown: Display, out: Output) -> int:
    if options.demo and options.write_env:
        raise ConfigurationError("--write-env goes with your own API: what the demo shows is not for your .env.")
    with ExitStack() as opened:
        opened.enter_context(stop_on_signals(opened.enter_context(closing(Wake()))))
        if options.demo:
            from ..demo import demo_api

            chosen = opened.enter_context(demo_api(chosen))
        exploration = opened.enter_context(closing(Exploration(chosen, options.budget, say=shown.write)))
        shown.write(_announcement(exploration, options.budget, chosen))
        if not require_consent("Look at the API now?", given=options.yes or options.demo):
            shown.write("No request was made.")
            return 0
        ended = _broken_off(exploration)
        report = json.loads(without_secrets(json.dumps(exploration.report()), chosen))
        if not report["requests"]["made"] or not report["endpoints"]:
            raise ended or AssertionError("a question was asked")
        _keep(options, report, shown)
        out.result(text(report, out.styled), report)
        if ended is not None:
            raise ended
        if options.write_env:
            _write_env(exploration, shown)
    return 0


def _broken_off(exploration: Exploration) -> IngestError | None:
    """What ended the looking before its end: what was found by then is worth a report all the same."""
    try:
        exploration.run()
    except IngestError as error:
        return error
    return None


def _announcement(exploration: Exploration, budget: int, settings: Settings) -> str:
    left_s = exploration.key_left_s()
    clock = (
        "the first one with the key starts the key's clock: 3 hours from then on (90 minutes with some keys)"
        if left_s is None
        else f"the key's clock runs already: it ends in {show_seconds(left_s)}"
    )
    planned = f"{PLANNED} if nothing fails" if budget >= PLANNED else f"too few for everything, which takes {PLANNED}"
    return f"At most {budget} requests (--budget), {planned}, go to {settings.api_base_url}; {clock}."


def _keep(options: argparse.Namespace, report: dict[str, Any], shown: Display) -> None:
    with whole_file(Path(options.output), room="100 kB") as file:
        file.write(json.dumps(report, indent=2, ensure_ascii=False).encode() + b"\n")
    shown.write(f"Everything that was found is in {options.output}.")


def _write_env(exploration: Exploration, shown: Display) -> None:
    values = {one.variable: one.value for one in exploration.recommended()}
    put(Path(".env"), values)
    shown.write(
        f".env has {', '.join(f'{name}={value}' for name, value in values.items())} now; the rest is as before."
    )


COMMAND = command(
    "explore-api",
    "Finds out what the API serves, how fast, and what to set by it, within a budget of requests and without a 429.",
    "  bin/explore-api\n  bin/explore-api --yes --budget 12 --write-env\n  bin/explore-api --demo",
    _run,
    _flags,
)
