"""The command: floors and program in turn, medians and ratios, as text or as JSON."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasync_ingest.postgres.embedded import embedded_postgres
from datasync_ingest.postgres.writers import WRITERS
from datasync_ingest.simulator.process import SimulatorProcess
from tests.bench.floors import PAGES, Result, bodies, download_floor, floor, ready_made_pages
from tests.bench.program import program
from tests.bench.stages import stages
from tests.harness import API_KEY, Workplace, new_database

WORKERS = 2
STAGE_PAGES = 20
Say = Callable[[str], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the measurements; 0 unless something could not be measured."""
    parser = argparse.ArgumentParser(prog="bin/bench", description=__doc__)
    parser.add_argument("--events", type=int, default=300_000, help="events a round (default: 300000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of floors and program (default: 3)")
    parser.add_argument("--workers", type=int, default=WORKERS, help="connections and worker processes (default: 2)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--profile", metavar="FILE", help="leave a flame graph (SVG) of one more run, by py-spy")
    options = parser.parse_args(argv)
    profile = None if options.profile is None else Path(options.profile).absolute()
    measured = measure(options.events, options.rounds, options.workers, profile, _say)
    sys.stdout.write((json.dumps(measured, indent=2) if options.json else text(measured)) + "\n")
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def measure(events: int, rounds: int, workers: int, profile: Path | None, say: Say) -> dict[str, Any]:
    """Floor and program in turn for each writer, so that a machine that slows down slows both."""
    simulated = {"events": events, "api-key": API_KEY, "rate-limit": 0, "gzip": "off"}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        with embedded_postgres(root / "postgres", say=say) as server, SimulatorProcess(simulated) as api:
            bench = _Bench(root, server, api, events, workers)
            for number in range(rounds):
                bench.round(number)
                say(f"round {number + 1} of {rounds}: {bench.latest()}")
            found = bench.medians() | {"events": events, "rounds": rounds, "workers": workers}
            with new_database(server, "stages") as database:
                found["stages"] = stages(bodies(api, API_KEY, STAGE_PAGES), database.conninfo)
            if profile is not None:
                bench.program("profile", next(iter(WRITERS)), profile)
                say(f"the flame graph is {profile}")
    return found


class _Bench:
    def __init__(self, root: Path, server: str, api: SimulatorProcess, events: int, workers: int) -> None:
        self._root = root
        self._server = server
        self._api = api
        self._events = events
        self._workers = workers
        self._pages = ready_made_pages(api, API_KEY)
        self._results: dict[str, list[Result]] = {}

    def round(self, number: int) -> None:
        for writer in WRITERS:
            with new_database(self._server, f"floor_{writer}_{number}") as database:
                result = floor(database, self._pages, self._events, writer, self._workers)
                self._results.setdefault(f"{writer}: floor", []).append(result)
            self._results.setdefault(f"{writer}: program", []).append(self.program(f"{writer}_{number}", writer))
        result = download_floor(self._api, API_KEY, min(self._events, PAGES * 5000), 1)
        self._results.setdefault("download", []).append(result)

    def program(self, name: str, writer: str, profile: Path | None = None) -> Result:
        directory = self._root / name
        directory.mkdir()
        with new_database(self._server, f"program_{name}") as database:
            place = Workplace(directory, {"TARGET_API_KEY": API_KEY, "DATABASE_URL": database.conninfo})
            words = ("--worker-concurrency", str(self._workers), "--writer", writer)
            return program(place, self._api, database, words, profile)

    def latest(self) -> str:
        return ", ".join(f"{name} {found[-1].rate:,.0f} events/s" for name, found in self._results.items())

    def medians(self) -> dict[str, Any]:
        found = {writer: self._of(writer) for writer in WRITERS}
        return {"download_events_per_s": _median(self._results["download"]), **found}

    def _of(self, writer: str) -> dict[str, Any]:
        floors, programs = (self._results[f"{writer}: {kind}"] for kind in ("floor", "program"))
        last = programs[-1]
        return {
            "floor_events_per_s": _median(floors),
            "program_events_per_s": _median(programs),
            "ratio": statistics.median(ours.rate / most.rate for ours, most in zip(programs, floors, strict=True)),
            "cpu_s_per_million_events": {name: cpu / last.events * 1e6 for name, cpu in last.cpu.items()},
            "peak_mib": {
                name: max(run.peak[name] for run in programs if name in run.peak) / 2**20 for name in last.peak
            },
        }


def _median(results: Sequence[Result]) -> float:
    return statistics.median(result.rate for result in results)


def text(measured: dict[str, Any]) -> str:
    """The same numbers for a person."""
    lines = [
        f"{measured['events']:,} events a round, {measured['workers']} workers on {os.cpu_count()} cores, medians of"
        f" {measured['rounds']} rounds"
    ]
    for writer in WRITERS:
        found = measured[writer]
        lines += [
            f"--writer {writer}",
            f"  floor: ready-made rows     {found['floor_events_per_s']:>10,.0f} events/s",
            f"  program: whole bin/ingest  {found['program_events_per_s']:>10,.0f} events/s",
            f"  ratio                      {found['ratio']:>10.2f}",
            *(_process(found, name) for name in found["cpu_s_per_million_events"]),
        ]
    first, second = (measured[writer]["program_events_per_s"] for writer in list(WRITERS)[:2])
    lines.append(f"copy is {second / first:.2f} times as fast as execute_values")
    lines.append(f"download of pages alone, one chain  {measured['download_events_per_s']:>10,.0f} events/s")
    lines.append("CPU seconds per million events by stage, each by itself")
    lines += [f"  {name:<22} {seconds:6.2f}" for name, seconds in measured["stages"].items()]
    return "\n".join(lines)


def _process(found: dict[str, Any], name: str) -> str:
    peak = found["peak_mib"].get(name)
    memory = "" if peak is None else f", peak memory {peak:6.0f} MiB"
    return f"  {name:<9} {found['cpu_s_per_million_events'][name]:6.2f} CPU s per million events{memory}"


if __name__ == "__main__":
    sys.exit(main())
