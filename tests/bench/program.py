"""The whole program: `bin/ingest` as a process, from its first request to its last commit."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from datasync_ingest.simulator.process import SimulatorProcess
from tests.bench.floors import Result
from tests.bench.watch import Watch
from tests.harness import Database, Workplace, clean_environment


def program(
    place: Workplace, api: SimulatorProcess, database: Database, words: Sequence[str], profile: Path | None = None
) -> Result:
    """`profile`: where py-spy leaves the flame graph of all processes."""
    api.reset_counters()
    command = [sys.executable, "-m", "datasync_ingest", "ingest", "--progress", "lines", *words]
    if profile is not None:
        command = ["py-spy", "record", "--subprocesses", "--output", str(profile), "--", *command]
    began = time.time()
    process = subprocess.Popen(
        command,
        cwd=place.directory,
        env=clean_environment(**place.environment, API_BASE_URL=api.url),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    watch = Watch(process.pid, _postmaster(database))
    with watch if profile is None else nullcontext():
        _, err = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"bin/ingest ended with {process.returncode}: {err[-2000:]}")
    counters = api.counters()
    last = float(database.value("SELECT extract(epoch FROM max(committed_at)) FROM ingested_pages"))
    events = int(database.value("SELECT count(*) FROM ingested_events"))
    first = float(counters["first_request_at"])
    return Result(events, last - first, watch.cpu, watch.peak, counters, launch_s=first - began)


def _postmaster(database: Database) -> int:
    directory = Path(database.value("SELECT current_setting('data_directory')"))
    return int((directory / "postmaster.pid").read_text().splitlines()[0])
