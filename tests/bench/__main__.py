"""Measures speed and memory: floors and program in turn, medians and ratios, as text or as JSON."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datasync_ingest.postgres.embedded import embedded_postgres
from tests.bench import cluster, export, feed, limit, namespaces, sizing, speed
from tests.bench.bench import Bench
from tests.run import with_caches


class Case(NamedTuple):
    """`about` is its line of --help; `holds` whether what was found is as it must be, where that is a question."""

    measure: Callable[[Bench], dict[str, Any]]
    text: Callable[[dict[str, Any]], list[str]]
    about: str
    by_default: bool = True
    holds: Callable[[dict[str, Any]], bool] = lambda _: True


CASES = {
    "speed": Case(speed.measure, speed.text, "an API without limits: floors, program, stages; 2 minutes"),
    "limit": Case(limit.measure, limit.text, "10 requests per 5 s, small and whole pages; 1 minute"),
    "feed": Case(feed.measure, feed.text, "the feed, 1.5 s a page, 1 to 16 chains; 5 minutes"),
    "export": Case(export.measure, export.text, "bin/export-ids of 3,000,000 ids beside psql's \\copy; 1 minute"),
    "cluster": Case(cluster.measure, cluster.text, "CPU over processes and over Dask; 5 minutes", by_default=False),
    "sizing": Case(
        sizing.measure,
        sizing.text,
        "the model of README's Sizing, its constants and tables; 8 minutes",
        by_default=False,
        holds=sizing.holds,
    ),
    "namespaces": Case(
        namespaces.measure,
        namespaces.text,
        "a cluster in network namespaces (Linux, root), struck and cut; 10 minutes",
        by_default=False,
        holds=namespaces.holds,
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the measurements; 0 unless something could not be measured or does not hold, 130 after Ctrl-C."""
    options = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what was started
    _compile_once()
    try:
        found = _measured(_chosen(options.case), options)
    except KeyboardInterrupt:
        _say("stopped: nothing of this is left")
        return 130
    sys.stdout.write((json.dumps(found, indent=2) if options.json else text(found)) + "\n")
    return 0 if all(CASES[name].holds(found[name]) for name in CASES if name in found) else 1


def _compile_once() -> None:
    """As it is for a user: a program that compiles itself at every start is another one."""
    environment = with_caches(os.environ, Path(sys.prefix) / "caches")
    os.environ.clear()
    os.environ.update(environment)


def _measured(names: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {"workers": options.workers, "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        with embedded_postgres(root / "postgres", say=_say) as server:
            profile = None if options.profile is None else Path(options.profile).absolute()
            bench = Bench(
                root, server, _say, options.events, options.rounds, options.workers, options.chain_pages, profile
            )
            for name in names:
                _say(f"case {name}: {CASES[name].about}")
                found[name] = CASES[name].measure(bench)
    return found


def _chosen(names: Sequence[str] | None) -> list[str]:
    return list(dict.fromkeys(names or (name for name, case in CASES.items() if case.by_default)))


def _parser() -> argparse.ArgumentParser:
    shown = {name: name if case.by_default else f"({name})" for name, case in CASES.items()}
    cases = "\n".join(f"  {shown[name]:<12} {case.about}" for name, case in CASES.items())
    parser = argparse.ArgumentParser(
        prog="bin/bench",
        description=__doc__,
        epilog=f"cases, those in brackets only where --case says so:\n{cases}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--case", action="append", choices=CASES, help="measure this one; can be repeated")
    parser.add_argument("--events", type=_number, default=300_000, help="speed, namespaces: events (default: 300000)")
    parser.add_argument("--rounds", type=_number, default=3, help="speed, cluster, sizing: rounds (default: 3)")
    parser.add_argument("--workers", type=_number, default=2, help="connections and processes (default: 2)")
    parser.add_argument("--chain-pages", type=_number, help="feed: pages for each chain (default: 10 to 40)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--profile", metavar="FILE", help="speed: leave a flame graph (SVG) of one more run, by py-spy")
    return parser


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def text(found: dict[str, Any]) -> str:
    """The same numbers for a person."""
    lines = [f"{found['workers']} workers on {found['cores']} cores"]
    for name in CASES:
        if name in found:
            lines += ["", f"== {name}", *CASES[name].text(found[name])]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
