"""Case `speed`: an API without limits. Floors and program in turn for each writer, and the CPU of each stage."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from datasync_ingest.postgres.writers import WRITERS
from datasync_ingest.simulator.process import SimulatorProcess
from tests.bench.bench import Bench
from tests.bench.floors import PAGES, Result, bodies, download_floor, feed_floor, floor, ready_made_pages
from tests.bench.stages import stages
from tests.harness import API_KEY, new_database

CHAINS = 8  # of the feed's floor
_STAGE_PAGES = 20
_DOWNLOADS = ("/events, 1 chain", f"feed, {CHAINS} chains")


def measure(bench: Bench) -> dict[str, Any]:
    """In turn, so that a machine that slows down slows both."""
    results: dict[str, list[Result]] = {}
    with bench.api(bench.events, dashboard_needs="origin", feed_rate=0) as api:
        pages = ready_made_pages(api, API_KEY)
        for number in range(bench.rounds):
            for name, result in _round(bench, api, pages).items():
                results.setdefault(name, []).append(result)
            latest = ", ".join(f"{name} {found[-1].rate:,.0f} events/s" for name, found in results.items())
            bench.say(f"round {number + 1} of {bench.rounds}: {latest}")
        with new_database(bench.server, "stages") as database:
            found_stages = stages(api, bodies(api, API_KEY, _STAGE_PAGES), database)
        if bench.profile is not None:
            bench.program(api, profile=bench.profile)
            bench.say(f"the flame graph is {bench.profile}")
    return {
        "events": bench.events,
        "rounds": bench.rounds,
        "download_events_per_s": {name: _median(results[name]) for name in _DOWNLOADS},
        "writers": {writer: _of(results, writer) for writer in WRITERS},
        "stages": found_stages,
    }


def _round(bench: Bench, api: SimulatorProcess, pages: Sequence[Any]) -> dict[str, Result]:
    found: dict[str, Result] = {}
    for writer in WRITERS:
        with new_database(bench.server, f"floor_{writer}") as database:
            found[f"{writer}: floor"] = floor(database, pages, bench.events, writer, bench.workers)
        found[f"{writer}: program"] = bench.program(api, "--writer", writer)
    single, several = _DOWNLOADS
    found[single] = download_floor(api, API_KEY, min(bench.events, PAGES * 5000))
    found[several] = feed_floor(api, API_KEY, bench.events, CHAINS)
    return found


def _of(results: dict[str, list[Result]], writer: str) -> dict[str, Any]:
    floors, programs = (results[f"{writer}: {kind}"] for kind in ("floor", "program"))
    last = programs[-1]
    return {
        "floor_events_per_s": _median(floors),
        "program_events_per_s": _median(programs),
        "ratio": statistics.median(ours.rate / most.rate for ours, most in zip(programs, floors, strict=True)),
        "cpu_s_per_million_events": {name: cpu / last.events * 1e6 for name, cpu in last.cpu.items()},
        "peak_mib": {name: max(run.peak.get(name, 0) for run in programs) / 2**20 for name in last.peak},
    }


def _median(results: Sequence[Result]) -> float:
    return statistics.median(result.rate for result in results)


def text(found: dict[str, Any]) -> list[str]:
    """The same numbers for a person."""
    lines = [f"{found['events']:,} events a round, medians of {found['rounds']} rounds"]
    for writer, numbers in found["writers"].items():
        lines += [
            f"--writer {writer}",
            f"  floor: ready-made rows     {numbers['floor_events_per_s']:>10,.0f} events/s",
            f"  program: whole bin/ingest  {numbers['program_events_per_s']:>10,.0f} events/s",
            f"  ratio                      {numbers['ratio']:>10.2f}",
            *(_process(numbers, name) for name in numbers["cpu_s_per_million_events"]),
        ]
    first, second = (found["writers"][writer]["program_events_per_s"] for writer in list(WRITERS)[:2])
    lines.append(f"copy is {second / first:.2f} times as fast as execute_values")
    lines.append("pages downloaded and thrown away")
    lines += [f"  {name:<26} {rate:>10,.0f} events/s" for name, rate in found["download_events_per_s"].items()]
    lines.append("CPU seconds per million events by stage, each by itself")
    lines += [f"  {name:<22} {seconds:6.2f}" for name, seconds in found["stages"].items()]
    return lines


def _process(numbers: dict[str, Any], name: str) -> str:
    peak = numbers["peak_mib"].get(name)
    memory = "" if peak is None else f", peak memory {peak:6.0f} MiB"
    return f"  {name:<9} {numbers['cpu_s_per_million_events'][name]:6.2f} CPU s per million events{memory}"
