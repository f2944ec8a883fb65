"""`bin/ingest --source feed` as a subprocess: granted, refused, and on from one endpoint to the other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from datasync_ingest.simulator.process import SimulatorProcess
from tests.acceptance.test_ingest import require_exact
from tests.harness import Database, Workplace, until

Start = Callable[..., SimulatorProcess]


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
    require_exact(workplace, database, api)


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
    require_exact(workplace, database, api)
    assert "SOURCE=feed" in ended.err
    assert "stream access for 5 min 00 s: the feed is /api/v1/events/" in ended.err
    token = hashlib.sha256(b"token 1 0").hexdigest()  # the simulator's first
    assert token not in ended.out + ended.err
    assert not any(token.encode() in path.read_bytes() for path in workplace.ledger.parent.glob("ledger.sqlite3*"))
    counters = api.counters()
    assert counters["pages_fetched_twice"] == 0
    assert (counters["requests"]["events"], counters["requests"]["feed"]) == (3, 3)
    assert counters["requests"]["stream-access"] == 1
    assert counters["statuses_429"] == 0
