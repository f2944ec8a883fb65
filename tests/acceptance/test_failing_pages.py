"""Pages that are too large, or that the server fails on: smaller ones are asked for, and memory stays small."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from datasync_ingest.simulator.process import SimulatorProcess
from tests.acceptance.test_ingest import require_exact
from tests.harness import Database, Workplace, until

Start = Callable[..., SimulatorProcess]
MOST_MEMORY_MB = 500


def peak_memory_mb(process: subprocess.Popen[str]) -> float:
    """The most that the process has had in memory so far; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak of a process on Linux alone")
@pytest.mark.parametrize("fault", ["bomb", "huge", "long-string"])
def test_a_body_that_is_far_too_large_costs_little_memory_and_no_event(
    fault: str, simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=6_000, fault=[f"{fault}@1", f"{fault}@4"])
    process = workplace.start("ingest", "--batch-size", "1000", API_BASE_URL=api.url)
    peaks = [0.0]

    def ended() -> bool:
        peaks.append(peak_memory_mb(process))
        return process.poll() is not None

    until(ended, timeout_s=100, what="the end of the run")
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "Complete." in out
    assert max(peaks) < MOST_MEMORY_MB
    assert ("asking for 500 events in the place of 1000" in err) == (fault != "long-string")
    require_exact(database, api)


def test_pages_larger_than_a_small_max_page_bytes_are_halved_until_they_fit(
    simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=3_000)
    ended = workplace.ingest("--batch-size", "1000", "--max-page-bytes", "100kB", API_BASE_URL=api.url)
    assert "larger than MAX_PAGE_BYTES (100000); asking for 500 events in the place of 1000" in ended.err
    require_exact(database, api)


def test_one_event_larger_than_max_page_bytes_is_isolated_and_named_and_more_bytes_help(
    simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=400, fault=["deep=0.005"])  # 200 kB for two events of 400
    flags = ("--batch-size", "100")
    ended = workplace.ingest(*flags, "--max-page-bytes", "100kB", API_BASE_URL=api.url, expect=3)
    assert "One event, the one after event " in ended.err
    assert "Set a larger MAX_PAGE_BYTES" in ended.err
    before = database.ids()
    assert before
    assert before == sorted(api.ids()[: len(before)]), "everything before it is there"
    workplace.ingest(*flags, API_BASE_URL=api.url)
    assert database.ids() == sorted(api.ids())


@pytest.mark.parametrize("fault", ["500", "cut", "no-has-more"])
def test_a_page_that_fails_three_times_in_a_row_is_asked_for_with_half_the_limit(
    fault: str, simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=6_000, fault=[f"{fault}@{request}" for request in (2, 3, 4)])
    ended = workplace.ingest("--batch-size", "1000", API_BASE_URL=api.url)
    assert "asking for 500 events in the place of 1000" in ended.err
    assert "asking for 250" not in ended.err
    require_exact(database, api)
    assert api.counters()["pages"] == 7, "5 whole pages, and one in halves"


def test_a_page_that_does_not_say_whether_there_is_more_is_never_the_last(
    simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=6_000, fault=["no-has-more@2", "no-has-more@6"])
    ended = workplace.ingest("--batch-size", "1000", API_BASE_URL=api.url)
    assert "no hasMore" in ended.err
    require_exact(database, api)
