"""Cursors that die: between two runs, in mid-run, at once; with the clocks of the two machines apart."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from datasync_ingest.simulator.process import SimulatorProcess
from tests.acceptance.test_ingest import require_exact
from tests.acceptance.test_stopping import start_and_wait
from tests.harness import Database, Ended, Workplace, until

Start = Callable[..., SimulatorProcess]

BATCH = ("--batch-size", "250")
RENEWED = "the walk goes on with the cursor that came with it"
FROM_THE_START = "walking once more from the newest event"
LATER_S = 600.0


def stopped_in_mid_walk(workplace: Workplace, api: SimulatorProcess, *, pages: int = 5) -> int:
    """Ends a first run in order; returns how many pages it has fetched, all of which are completed."""
    process = start_and_wait(workplace, pages, api, *BATCH)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    return int(api.counters()["pages"])


def resumed_later(workplace: Workplace, api: SimulatorProcess, *words: str, skew: float = 0.0) -> Ended:
    """The next run, when every cursor has died: the API's clock has gone on meanwhile."""
    api.options(clock_skew=skew + LATER_S)
    return workplace.ingest(*BATCH, *words, API_BASE_URL=api.url)


def pass_s(seconds: float) -> None:
    """Lets a cursor die of age: of all that a test can wait for, only time itself has no event."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() >= end, what="the end of a cursor's life")


# what the API does | how far its clock is ahead in the first run
RENEWALS: dict[str, tuple[dict[str, Any], float]] = {
    "400": ({}, 0),
    "400, clock ahead": ({}, 30),
    "400, clock behind": ({}, -30),
    "410": ({"cursor_expired_status": 410}, 0),
    "502": ({"cursor_expired_status": 502}, 0),
    "502, clock ahead": ({"cursor_expired_status": 502}, 30),
    "502, clock behind": ({"cursor_expired_status": 502}, -30),
    "a web page": ({"cursor_expired_status": 200}, 0),
    "padded cursors": ({"cursor_style": "padded"}, 0),
    "integer ids": ({"id_style": "int"}, 0),
    "flat envelope": ({"envelope": "flat"}, 0),
    "new events meanwhile": ({"grow_per_page": 7}, 0),
}


@pytest.mark.parametrize("name", RENEWALS)
def test_a_cursor_that_died_between_two_runs_is_renewed_at_the_cost_of_one_page(
    name: str, simulator: Start, workplace: Workplace, database: Database
) -> None:
    server, skew = RENEWALS[name]
    api = simulator(events=6_000, latency_ms=20, clock_skew=skew, **server)
    stopped_in_mid_walk(workplace, api)
    began = time.monotonic()
    ended = resumed_later(workplace, api, skew=skew)
    assert RENEWED in ended.err
    assert FROM_THE_START not in ended.err
    assert time.monotonic() - began < 30, "a dead cursor is not waited for"
    if server.get("grow_per_page"):
        api.options(grow_per_page=0)
        workplace.ingest(*BATCH, API_BASE_URL=api.url)
    else:
        assert api.counters()["pages_fetched_twice"] <= 1
    require_exact(database, api)


# what the API does | flags of the run | what the log says of the renewal
DROPPED: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "refused": ({"renewed_cursors": "refuse"}, [], "The renewal is dropped"),
    "refused by 502": ({"renewed_cursors": "refuse", "cursor_invalid_status": 502}, [], "The renewal is dropped"),
    "dead by 502, refused by 502": (
        {"renewed_cursors": "refuse", "cursor_invalid_status": 502, "cursor_expired_status": 502},
        [],
        "The renewal is dropped",
    ),
    "answered from another place": ({"renewed_cursors": "misplace"}, [], "is not what it was"),
    "signed": ({"cursor_style": "signed"}, [], "is opaque"),
    "signed, dead by 502": ({"cursor_style": "signed", "cursor_expired_status": 502}, [], "is opaque"),
    "not wanted": ({}, ["--no-renew-cursors"], ""),
}


@pytest.mark.parametrize("name", DROPPED)
def test_a_cursor_that_cannot_be_renewed_costs_a_walk_from_the_start_and_no_event(
    name: str, simulator: Start, workplace: Workplace, database: Database
) -> None:
    server, flags, said = DROPPED[name]
    api = simulator(events=6_000, latency_ms=20, **server)
    before = stopped_in_mid_walk(workplace, api)
    began = time.monotonic()
    ended = resumed_later(workplace, api, *flags)
    assert said in ended.err
    assert f"{FROM_THE_START}. {before} pages are fetched again" in ended.err
    assert RENEWED not in ended.err
    assert time.monotonic() - began < 40, "a dead cursor is not waited for"
    require_exact(database, api)
    assert before <= api.counters()["pages_fetched_twice"] <= before + 1


def test_a_run_whose_first_page_is_all_that_is_known_goes_on_after_it(
    simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=2_000, rate_limit=1, rate_window=5)
    assert stopped_in_mid_walk(workplace, api, pages=1) == 1
    api.options(rate_limit=0)
    ended = resumed_later(workplace, api)
    assert "once more, from the newest event, to go on after it" in ended.err
    assert RENEWED in ended.err
    require_exact(database, api)


@pytest.mark.parametrize("status", [400, 502])
def test_a_process_that_stood_still_for_longer_than_a_cursor_lives_goes_on(
    status: int, simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=10_000, latency_ms=20, cursor_life=3, cursor_expired_status=status)
    process = start_and_wait(workplace, 5, api, *BATCH)
    process.send_signal(signal.SIGSTOP)
    pass_s(4.0)
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert RENEWED in err
    assert FROM_THE_START not in err
    require_exact(database, api)


def test_cursors_that_live_for_two_seconds_are_renewed_after_three(
    simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=6_000, latency_ms=20, cursor_life=2)
    stopped_in_mid_walk(workplace, api)
    pass_s(3.0)
    ended = workplace.ingest(*BATCH, API_BASE_URL=api.url)
    assert RENEWED in ended.err
    assert FROM_THE_START not in ended.err
    require_exact(database, api)


@pytest.mark.parametrize("cache_life", [0, 30])
@pytest.mark.parametrize("status", [400, 502])
def test_cursors_that_are_born_dead_end_the_run_with_a_name_and_no_loop(
    status: int, cache_life: int, simulator: Start, workplace: Workplace
) -> None:
    api = simulator(events=6_000, latency_ms=20, cursor_life=0.001, cache_life=cache_life, cursor_expired_status=status)
    ended = workplace.ingest(*BATCH, API_BASE_URL=api.url, expect=3)
    assert "this time the walk came no further" in ended.err
    assert "set a smaller BATCH_SIZE" in ended.err
    assert api.counters()["requests"]["events"] <= 30
