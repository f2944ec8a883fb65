"""`bin/ingest --source feed` as a subprocess: granted, refused, and on from one endpoint to the other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import requests

from datasync_ingest.simulator.process import SimulatorProcess
from tests.acceptance.test_ingest import require_exact
from tests.harness import API_KEY, Database, Workplace, kill, until

Start = Callable[..., SimulatorProcess]
AT_THE_WALKS_END = """
    SELECT count(*) FROM ingested_events WHERE occurred_at = 'epoch'::timestamptz + interval '1 ms' * (
        SELECT split_part(last_position, ':', 1)::bigint FROM ingested_pages WHERE sweep IS NULL AND sequence = 2
    )
"""
OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def test_a_refused_run_says_how_to_go_on_and_goes_on_by_the_public_endpoint(
    simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=3_000)
    refused = workplace.ingest("--source", "feed", expect=3, API_BASE_URL=api.url)
    assert "error: The API gives no stream access to this program: it answered 403 DASHBOARD_REQUIRED" in refused.err
    assert "--source events" in refused.err
    assert "Traceback" not in refused.err
    looked = workplace.run("quick-test", "--yes", API_BASE_URL=api.url)
    assert looked.code == 0, "what a run with the feed has left is no hindrance"
    workplace.ingest(API_BASE_URL=api.url)
    require_exact(database, api)


def test_quick_test_asks_for_stream_access_where_the_feed_is_the_source(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=100, dashboard_needs="origin")
    workplace.environment.update(API_BASE_URL=api.url, SOURCE="feed")
    granted = workplace.run("quick-test", "--yes")
    assert granted.code == 0, granted.out
    assert "ok   feed: granted for 5 min 00 s: /api/v1/events/" in granted.out
    api.options(dashboard_needs="origin,user-agent")
    refused = workplace.run("quick-test", "--yes")
    assert refused.code == 3
    assert "FAIL feed: The API gives no stream access to this program" in refused.out
    path = "/api/v1/events/53e0/d9a5/feed"
    dead = workplace.run("quick-test", "--yes", TARGET_STREAM_TOKEN="deadbeefdeadbeef", TARGET_STREAM_PATH=path)
    assert dead.code == 3
    assert "FAIL feed: The feed refuses TARGET_STREAM_TOKEN: it answered 403 INVALID_STREAM_TOKEN" in dead.out
    assert "deadbeef" not in dead.out + dead.err


def test_a_walk_that_the_public_endpoint_began_goes_on_by_the_feed_whose_token_is_kept_nowhere(
    simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=6_000, rate_limit=3, dashboard_needs="origin", feed_rate=0)
    workplace.environment.update(API_BASE_URL=api.url, BATCH_SIZE="1000")
    begun = workplace.start("ingest")
    until(lambda: workplace.completed_pages() == 3, what="three pages, after which the window is used up")
    begun.terminate()
    _, err = begun.communicate(timeout=30)
    assert begun.returncode == 143, err
    ended = workplace.ingest("--source", "feed", "--debug")
    require_exact(database, api)
    assert "SOURCE=feed" in ended.err
    assert "stream access for 5 min 00 s: the feed is /api/v1/events/" in ended.err
    token = hashlib.sha256(b"token 1 0").hexdigest()  # the simulator's first
    assert token not in ended.out + ended.err
    assert not any(token.encode() in path.read_bytes() for path in workplace.ledger.parent.glob("ledger.sqlite3*"))
    counters = api.counters()
    assert counters["requests"]["events"] == 3
    assert counters["requests"]["feed"] <= 9, "two to find out what bounds in time mean, the pages, a look at the head"
    again = database.value(AT_THE_WALKS_END)
    assert database.value("SELECT sum(already_there) FROM ingested_pages") <= again, "the walk's last millisecond"
    assert counters["requests"]["stream-access"] == 1
    assert counters["statuses_429"] == 0


def feed_of(simulator: Start, workplace: Workplace, **options: Any) -> SimulatorProcess:
    api = simulator(**{"dashboard_needs": "origin", "feed_rate": 0, **options})
    workplace.environment.update(API_BASE_URL=api.url, SOURCE="feed", BATCH_SIZE="500", WORKER_CONCURRENCY="2")
    return api


@pytest.mark.parametrize(
    "differs",
    [
        {"feed_since": "exclusive", "feed_until": "inclusive"},
        {"feed_since": "ignored", "out_of_range": "empty"},
        {"feed_until": "ignored"},
        {"total": "off"},
        {"token_life": 2, "feed_latency_ms": 150},
    ],
    ids=str,
)
def test_eight_chains_read_every_event_whatever_bounds_mean(
    differs: dict[str, Any], simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = feed_of(simulator, workplace, events=15_000, **differs)
    ended = workplace.ingest()
    require_exact(database, api)
    if differs.get("feed_until") == "ignored":
        assert "one chain of pages reads all of them" in ended.err
    else:
        assert database.value("SELECT count(DISTINCT walk) FROM ingested_pages") >= 4


@pytest.mark.parametrize("is_lost", [False, True], ids=["with its sidecar", "the sidecar is lost too"])
def test_a_run_of_eight_chains_that_was_killed_fetches_only_what_was_under_way_again(
    is_lost: bool, simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = feed_of(simulator, workplace, events=30_000, feed_latency_ms=100)
    begun = workplace.start("ingest")
    until(lambda: workplace.completed_pages() >= 20, what="20 pages")
    kill(begun)
    until(lambda: database.value(OTHERS) == 0, what="the end of the workers")
    if is_lost:
        workplace.ledger.unlink()
    committed = database.value("SELECT count(*) FROM ingested_pages")
    workplace.ingest()
    require_exact(database, api)
    in_queue = 2 * 2 + 2  # of two workers
    assert committed >= 20
    asked = api.counters()["requests"]["feed"]
    assert asked <= 60 + 8 + in_queue + 24, "each stretch that is left ends with a page that is not full"
    again = database.value("SELECT sum(already_there) FROM ingested_pages")
    passed = 2 * 500  # pages that were on their way when what they reach was given to another chain
    assert again <= 8 + passed, "what was committed is not fetched again, but for a millisecond a chain"


def test_events_that_come_meanwhile_and_later_are_read_by_chains_as_well(
    simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = feed_of(simulator, workplace, events=5_000, grow_per_page=2, grow_at_most=9_000)
    workplace.ingest()
    assert database.value("SELECT count(*) FROM ingested_events") > 5_000
    api.options(grow_per_page=4_000)
    requests.get(f"{api.url}/events?limit=1", headers={"X-API-Key": API_KEY}, timeout=30).raise_for_status()
    api.options(grow_per_page=0)
    before = database.value("SELECT count(*) FROM ingested_pages")
    workplace.ingest()
    require_exact(database, api)
    assert database.value("SELECT count(*) FROM ingested_pages") - before <= 8 + 8, "what is old is not read again"
