"""`bin/explore-api` as a subprocess: what it finds is true, its budget is kept, and nothing is answered 429."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from datasync_ingest.simulator.process import SimulatorProcess
from tests.acceptance.test_ingest import require_exact
from tests.harness import API_KEY, Database, Ended, Workplace, until
from tests.terminals import run_typing

Start = Callable[..., SimulatorProcess]


def answers(api: SimulatorProcess) -> int:
    """How many requests the server has answered."""
    return sum(api.counters()["statuses"].values())


def explore(workplace: Workplace, api: SimulatorProcess, *words: str, expect: int = 0) -> tuple[Ended, dict[str, Any]]:
    """The command and its file; no answer may have been a 429, and the budget is what it says."""
    ended = workplace.run("explore-api", "--yes", *words, API_BASE_URL=api.url)
    assert ended.code == expect, ended.err
    found: dict[str, Any] = json.loads((workplace.directory / "exploration.json").read_text(encoding="utf-8"))
    assert api.counters()["statuses_429"] == found["requests"]["answered_429"] == 0
    assert answers(api) == found["requests"]["made"] <= found["requests"]["budget"]
    assert API_KEY not in ended.out + ended.err + json.dumps(found)
    return ended, found


def test_what_the_api_is_like_is_found_out(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=12_000, rate_limit=10, clock_skew=40)
    ended, found = explore(workplace, api)
    assert found["not_reached"] == []
    assert found["manifest"]["name"] == "DataSync Analytics API"
    assert {one["path"]: one["status"] for one in found["endpoints"]} == {
        "/api/v1": 200,
        "/api/v1/events": 200,
        "/internal/stats": 200,
        "/api/v1/sessions": 200,
        "/health": 200,
        "/internal/health": 200,
        "/internal/dashboard/stream-access": 403,
        "/api/v1/events/:id": 200,
        "/api/v1/events/bulk": 200,
        "/api/v1/submissions": 200,
        "/api/v1/metrics": 200,
    }
    limits = {one["window"]: (one["limit"], one["window_s"], one["exact"]) for one in found["rate_limits"]}
    assert limits["/events"] == (10, 60, True)
    assert limits["/events by query key"] == (5, 60, True)
    assert limits["/sessions"] == (40, 60, True)
    assert limits["/metrics"] == (30, 60, True)
    assert {one["style"] for one in found["rate_limits"]} == {"seconds left"}
    assert found["windows_open"] == "with their first request"
    assert found["key_in_query"]["accepted"] is True
    assert found["key_in_query"]["shares_window"] is False
    page = found["page"]
    assert (page["asked"], page["received"], page["capped"], page["envelope"]) == (10_000, 5000, True, "nested")
    assert page["gzip"]
    assert page["wire_bytes"] < page["bytes"] / 3
    assert (found["cache"]["header"], found["cache"]["ttl_s"], found["cache"]["counted"]) == ("HIT", "30", False)
    assert found["cursor"]["form"].startswith("base64url of id, ts, v and exp, without padding")
    assert found["cursor"]["life_s"] == 116
    assert found["cursor"]["life_by_exp_s"] == pytest.approx(116, abs=1.5)
    assert found["cursor"]["renewable"] is True
    assert found["cursor"]["names_the_last_event"] is True
    assert sum(found["timestamps"].values()) == 5000
    assert set(found["timestamps"]) == {"epoch ms, number", "ISO 8601 with Z, 3 decimals"}
    assert {one["name"] for one in found["fields"]} >= {"id", "session.browser", "properties.page", "timestamp"}
    assert {name: one["honoured"] for name, one in found["parameters"].items()} == {
        "since": False,
        "until": False,
        "offset": False,
        "sessionId": True,
    }
    lowest, highest = found["clock_ahead_s"]
    assert lowest <= 40 <= highest <= lowest + 1
    assert found["total"] == {"by_pages": 12_000, "by_stats": 12_000, "agree": True}
    assert found["without_key"].startswith("401 INVALID_API_KEY")
    assert [one["variable"] for one in found["recommended"]] == ["BATCH_SIZE", "RATE_LIMIT_BUFFER"]
    assert {one["way"] for one in found["shortest"]} == {"/events, key in the header", "/events, key in the query"}
    assert "At most 30 requests (--budget), 19 if nothing fails, go to" in ended.err
    assert "It starts" not in ended.err
    assert "the first one with the key starts the key's clock: 3 hours" in ended.err
    assert "largest page    5,000 events (asked for 10,000)" in ended.out
    assert api.counters()["counted"]["events"] <= 10, "one window is enough"


# What the server is like | what is found
OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "pages are refused, not capped": (
        {"page_cap": 1000, "over_cap": "reject", "cursor_style": "padded", "reset_style": "epoch-s"},
        {"size": 1000, "refused": 2000, "renewable": True, "windows": "with their first request"},
    ),
    "signed cursors, flat pages, fixed windows": (
        {
            "cursor_style": "signed",
            "envelope": "flat",
            "total": "off",
            "window_style": "aligned",
            "reset_style": "epoch-ms",
            "gzip": "off",
            "cache_life": 0,
        },
        {"size": 5000, "refused": None, "renewable": None, "windows": "at fixed times"},
    ),
    "a window that does not say when it turns": (
        {"reset_style": "none", "renewed_cursors": "refuse"},
        {"size": 5000, "refused": None, "renewable": False, "windows": None},
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_servers_are_found_out_too(name: str, simulator: Start, workplace: Workplace) -> None:
    server, expected = OTHERS[name]
    api = simulator(events=12_000, rate_limit=15, **server)
    if server.get("window_style") == "aligned":  # two first answers must fall into one minute
        until(lambda: time.time() % 60 < 40, what="a minute that lasts")
    _, found = explore(workplace, api)
    assert found["page"]["received"] == expected["size"]
    assert found["page"].get("refused_limit") == expected["refused"]
    assert found["windows_open"] == expected["windows"]
    assert found.get("cursor", {}).get("renewable") == expected["renewable"]
    limit = next(one for one in found["rate_limits"] if one["window"] == "/events")
    assert limit["limit"] == 15
    assert limit["window_s"] == (None if server["reset_style"] == "none" else 60)
    assert (found["cache"]["header"] == "HIT") is (server.get("cache_life") != 0)


def test_the_feed_is_looked_at_where_it_is_granted(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=12_000, dashboard_needs="origin", feed_since="ignored")
    ended, found = explore(workplace, api)
    assert found["feed"]["granted"] is True
    assert found["feed"]["page"] == 5000
    assert {name: one["honoured"] for name, one in found["feed"]["parameters"].items()} == {
        "since": False,
        "until": True,
    }
    assert "the feed, one chain of pages" in ended.out
    assert found["rate_limits"] == [], "rate_limit=0 is no limit anywhere, and none is made up"
    assert "one by one" in ended.out


def test_a_small_budget_is_kept_and_what_it_did_not_reach_is_said(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=6_000, rate_limit=10)
    ended, found = explore(workplace, api, "--budget", "7")
    assert answers(api) == 7
    assert "too few for everything" in ended.err
    assert {"what": "metrics", "why": "the budget of 7 requests was spent"} in found["not_reached"]
    assert "Not reached" in ended.out


def test_a_server_in_trouble_costs_requests_of_the_budget_and_no_more(simulator: Start, workplace: Workplace) -> None:
    faults = ["502@2", "cut@4", "html@6", "502@8", "502@9", "502@10"]
    api = simulator(events=6_000, fault=faults)
    ended, found = explore(workplace, api, "--budget", "24")
    assert found["page"]["received"] == 5000
    assert len(found["not_reached"]) >= 1
    assert "502" in ended.err


def test_a_small_window_is_waited_for_and_the_wait_is_said(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=6_000, rate_limit=5, rate_window=5)
    ended, found = explore(workplace, api)
    assert found["not_reached"] == []
    assert re.search(r"waiting \d s: the rate limit of /events turns then", ended.err)
    assert api.counters()["most_requests_in_a_window"]["events"] <= 5


def test_an_ingest_goes_on_in_the_window_and_with_the_clock_that_it_left(
    simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=6_000, rate_limit=10, rate_window=6)
    quick = workplace.run("quick-test", "--yes", API_BASE_URL=api.url)
    assert quick.code == 0, quick.out
    began = _clock(workplace)
    ended = workplace.run("explore-api", "--yes", API_BASE_URL=api.url)
    assert "the key's clock runs already" in ended.err
    workplace.ingest("--batch-size", "500", API_BASE_URL=api.url)
    assert api.counters()["statuses_429"] == 0
    assert api.counters()["most_requests_in_a_window"]["events"] <= 10
    assert _clock(workplace) == began
    require_exact(database, api)


def _clock(workplace: Workplace) -> float:
    """When the ledger says that the key was first used."""
    with closing(sqlite3.connect(f"file:{workplace.ledger}?mode=ro", uri=True)) as connection:
        (fact,) = connection.execute("SELECT value FROM facts WHERE name = 'key_first_used'").fetchone()
    (use,) = json.loads(fact)
    return float(use["at"])


def test_write_env_keeps_the_key_and_sets_what_is_recommended(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=6_000, page_cap=2000)
    env = workplace.directory / ".env"
    env.write_text(f"# mine\nTARGET_API_KEY={API_KEY}\nBATCH_SIZE=77 # once\nLOG_FORMAT=text")
    workplace.environment.pop("TARGET_API_KEY")
    ended, _ = explore(workplace, api, "--write-env")
    assert env.read_text() == (
        f"# mine\nTARGET_API_KEY={API_KEY}\nBATCH_SIZE=2000\nLOG_FORMAT=text\nRATE_LIMIT_BUFFER=0\n"
    )
    assert ".env has BATCH_SIZE=2000, RATE_LIMIT_BUFFER=0 now" in ended.err
    ended, found = explore_again(workplace, api)
    assert json.loads(ended.out) == found, "with --json the result is what is in the file"


def explore_again(workplace: Workplace, api: SimulatorProcess) -> tuple[Ended, dict[str, Any]]:
    api.reset_counters()
    return explore(workplace, api, "--json", "--budget", "3")


def test_it_asks_first(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=100)
    refused = run_typing(workplace, "n\n", "explore-api", API_BASE_URL=api.url)
    assert refused.code == 0, refused.err
    assert "Look at the API now?" in refused.err
    assert "No request was made." in refused.err
    nobody = workplace.run("explore-api", API_BASE_URL=api.url)
    assert nobody.code == 2
    assert "say --yes" in nobody.err
    assert answers(api) == 0
    assert not (workplace.directory / "exploration.json").exists()


def test_a_wrong_key_ends_it_with_what_was_found_by_then(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=100)
    workplace.environment["TARGET_API_KEY"] = "wrong"
    ended, found = explore(workplace, api, expect=3)
    assert "Check TARGET_API_KEY" in ended.err
    assert found["manifest"]["name"] == "DataSync Analytics API"
    assert answers(api) == 2


def test_an_api_that_is_not_there_ends_it_before_the_key_is_used(workplace: Workplace) -> None:
    ended = workplace.run("explore-api", "--yes", API_BASE_URL="http://127.0.0.1:9")
    assert ended.code == 3
    assert "Check API_BASE_URL" in ended.err
    assert not (workplace.directory / "exploration.json").exists()
    assert "Traceback" not in ended.err


def test_the_demo_needs_no_key_and_no_consent_and_leaves_the_settings_alone(workplace: Workplace) -> None:
    ended = workplace.run("explore-api", "--demo", "--budget", "3", TARGET_API_KEY="")
    assert ended.code == 0, ended.err
    assert "100,000 events" in ended.out
    refused = workplace.run("explore-api", "--demo", "--write-env")
    assert refused.code == 2
    assert not (workplace.directory / ".env").exists()


def test_an_impossible_budget_is_refused(workplace: Workplace) -> None:
    ended = workplace.run("explore-api", "--yes", "--budget", "0")
    assert ended.code == 2
    assert "1 to 1000" in ended.err


def test_a_stop_during_a_wait_keeps_what_was_found(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=6_000, rate_limit=3, rate_window=200)
    process = workplace.start("explore-api", "--yes", API_BASE_URL=api.url)
    assert process.stderr is not None
    while "waiting" not in (line := process.stderr.readline()):
        assert line
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Stopped by SIGINT" in err
    assert "it was broken off before" in out
    found = json.loads((workplace.directory / "exploration.json").read_text(encoding="utf-8"))
    assert found["page"]["received"] == 5000
