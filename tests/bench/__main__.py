"""The command: rounds of floor and program in turn, medians, ratios, as text or as JSON."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasync_ingest.postgres.embedded import embedded_postgres
from datasync_ingest.postgres.writers import WRITERS
from datasync_ingest.simulator.process import SimulatorProcess
from tests.bench.measure import Result, floor, program, ready_made_pages, work_directory
from tests.harness import API_KEY, Workplace, new_database

WORKERS = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the measurements; 0 unless something could not be measured."""
    parser = argparse.ArgumentParser(prog="bin/bench", description=__doc__)
    parser.add_argument("--events", type=int, default=300_000, help="events a round (default: 300000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of floor and program (default: 3)")
    parser.add_argument("--workers", type=int, default=WORKERS, help="connections and worker processes (default: 2)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args(argv)
    measured = measure(options.events, options.rounds, options.workers, _say)
    sys.stdout.write((json.dumps(measured, indent=2) if options.json else text(measured)) + "\n")
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def measure(events: int, rounds: int, workers: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Floor and program in turn for each writer, so that a machine that slows down slows both."""
    simulated = {"events": events, "api-key": API_KEY, "rate-limit": 0, "gzip": "off"}
    results: dict[str, dict[str, list[Result]]] = {writer: {"floor": [], "program": []} for writer in WRITERS}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        with embedded_postgres(root / "postgres", say=say) as server, SimulatorProcess(simulated) as api:
            pages = ready_made_pages(api, API_KEY)
            for number in range(rounds):
                for writer in WRITERS:
                    name = f"{writer}_{number}"
                    with new_database(server, f"floor_{name}") as database:
                        results[writer]["floor"].append(floor(database, pages, events, writer, workers))
                    with new_database(server, f"program_{name}") as database:
                        place = Workplace(
                            work_directory(root, name),
                            {"TARGET_API_KEY": API_KEY, "DATABASE_URL": database.conninfo},
                        )
                        flags = ("--worker-concurrency", str(workers), "--writer", writer)
                        results[writer]["program"].append(program(place, api, database, *flags))
                    say(f"round {number + 1} of {rounds}, {writer}: {_pair(results[writer])}")
    return {writer: _medians(found) for writer, found in results.items()} | {"events": events, "rounds": rounds}


def _pair(found: dict[str, list[Result]]) -> str:
    return ", ".join(f"{name} {runs[-1].rate:,.0f} events/s" for name, runs in found.items())


def _medians(found: dict[str, list[Result]]) -> dict[str, Any]:
    ratios = [ours.rate / most.rate for ours, most in zip(found["program"], found["floor"], strict=True)]
    last = found["program"][-1]
    return {
        "floor_events_per_s": statistics.median(run.rate for run in found["floor"]),
        "program_events_per_s": statistics.median(run.rate for run in found["program"]),
        "ratio": statistics.median(ratios),
        "cpu_s_per_million_events": {name: cpu / last.events * 1e6 for name, cpu in last.cpu.items()},
        "peak_mib": {
            name: max(run.peak[name] for run in found["program"] if name in run.peak) / 2**20 for name in last.peak
        },
    }


def text(measured: dict[str, Any]) -> str:
    """The same numbers for a person."""
    lines = [f"{measured['events']:,} events a round, medians of {measured['rounds']} rounds"]
    for writer in WRITERS:
        found = measured[writer]
        lines += [
            f"{writer}",
            f"  floor: ready-made tuples   {found['floor_events_per_s']:>10,.0f} events/s",
            f"  program: whole bin/ingest  {found['program_events_per_s']:>10,.0f} events/s",
            f"  ratio                      {found['ratio']:>10.2f}",
        ]
        for name, seconds in found["cpu_s_per_million_events"].items():
            peak = found["peak_mib"][name]
            lines.append(f"  {name:<9} {seconds:6.2f} CPU s per million events, peak memory {peak:6.0f} MiB")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
