"""`bin/ingest` and `bin/export-ids` as subprocesses against the simulator and a real PostgreSQL."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import pytest
import requests

from datasync_ingest.simulator.process import SimulatorProcess
from tests.harness import API_KEY, Database, Workplace

Start = Callable[..., SimulatorProcess]


def require_exact(database: Database, api: SimulatorProcess) -> None:
    """Nothing missing, nothing twice, and the books balanced, by page and as a whole."""
    truth = sorted(api.ids())
    assert database.ids() == truth
    unbalanced = "SELECT count(*) FROM ingested_pages WHERE received <> inserted + already_there + rejected"
    assert database.value(unbalanced) == 0
    assert database.value("SELECT sum(inserted) FROM ingested_pages") == len(truth)


# What the server does differently | what the user sets | events
VARIANTS: dict[str, tuple[dict[str, Any], list[str], int]] = {
    "5000 a page": ({}, [], 30_000),
    "777 a page": ({}, ["--batch-size", "777"], 12_000),
    "100 a page": ({}, ["--batch-size", "100", "--worker-concurrency", "2"], 4_000),
    "one page": ({}, [], 50),
    "two workers": ({}, ["--worker-concurrency", "2"], 12_000),
    "flat envelope": ({"envelope": "flat"}, [], 12_000),
    "without a total": ({"envelope": "flat", "total": "off"}, [], 12_000),
    "no gzip": ({"gzip": "off"}, [], 12_000),
    "seconds left": ({"rate_limit": 5, "rate_window": 1, "reset_style": "delta"}, ["--batch-size", "1000"], 12_000),
    "epoch s, clock ahead": (
        {"rate_limit": 5, "rate_window": 1, "reset_style": "epoch-s", "clock_skew": 30},
        ["--batch-size", "1000"],
        12_000,
    ),
    "epoch s, clock behind": (
        {"rate_limit": 5, "rate_window": 1, "reset_style": "epoch-s", "clock_skew": -30},
        ["--batch-size", "1000"],
        12_000,
    ),
    "epoch ms, clock ahead": (
        {"rate_limit": 5, "rate_window": 1, "reset_style": "epoch-ms", "clock_skew": 30},
        ["--batch-size", "1000"],
        12_000,
    ),
    "epoch ms, clock behind": (
        {"rate_limit": 5, "rate_window": 1, "reset_style": "epoch-ms", "clock_skew": -30},
        ["--batch-size", "1000"],
        12_000,
    ),
    "larger pages are capped": ({"page_cap": 1000}, [], 12_000),
    "integer ids": ({"id_style": "int"}, [], 12_000),
    "ts for timestamp": ({"timestamp_field": "ts"}, [], 12_000),
    "no session": ({"omit": "session"}, [], 6_000),
    "hardly any field": ({"omit": "session,properties,name,userId,timestamp"}, [], 6_000),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_event_arrives_once(
    name: str, simulator: Start, workplace: Workplace, database: Database, scale: int
) -> None:
    server, flags, events = VARIANTS[name]
    api = simulator(events=events * scale, **server)
    ended = workplace.ingest(*flags, timeout_s=100.0 * scale, API_BASE_URL=api.url)
    assert "Complete." in ended.out
    require_exact(database, api)
    assert workplace.exported_ids() == database.ids()
    assert api.counters()["statuses_429"] == 0


def test_every_request_of_every_window_is_used_and_none_is_one_too_many(
    simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=1_500, rate_limit=10, rate_window=5)  # ten requests take 0.2 s, on a busy machine 3 s
    workplace.ingest("--batch-size", "50", API_BASE_URL=api.url)
    counters = api.counters()
    assert counters["statuses_429"] == 0
    assert counters["most_requests_in_a_window"]["events"] == 10
    assert counters["windows"]["events"] == 3
    require_exact(database, api)


def test_a_run_makes_all_its_requests_over_one_connection(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=2_000, rate_limit=0)
    workplace.ingest("--batch-size", "100", API_BASE_URL=api.url)
    counters = api.counters()
    assert counters["requests"]["events"] == 20
    assert counters["connections"] == 1


def test_a_server_that_refuses_large_pages_is_asked_for_smaller_ones(
    simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=6_000, page_cap=1000, over_cap="reject")
    ended = workplace.ingest(API_BASE_URL=api.url)
    assert re.search(r"refuses 5000 events a page .*: asking for 2000", ended.err)
    assert "asking for 1000" in ended.err
    require_exact(database, api)


def test_a_second_run_says_that_everything_is_there_and_costs_one_request(
    simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=12_000)
    workplace.ingest(API_BASE_URL=api.url)
    before = api.counters()["counted"]["events"]
    ended = workplace.ingest(API_BASE_URL=api.url)
    assert "Complete." in ended.out
    assert api.counters()["counted"]["events"] == before + 1
    require_exact(database, api)


def test_new_events_at_the_head_are_added_by_the_next_run(
    simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=12_000, grow_per_page=7)
    workplace.ingest("--batch-size", "1000", API_BASE_URL=api.url, expect=None)
    api.options(grow_per_page=0)
    workplace.ingest("--batch-size", "1000", API_BASE_URL=api.url)
    require_exact(database, api)


def test_events_that_come_while_new_ones_are_read_are_read_next_and_not_taken_for_missing(
    simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=1_000, grow_per_page=30, cache_life=0)
    flags = ("--batch-size", "100")
    ended = workplace.ingest(*flags, API_BASE_URL=api.url)
    assert "Complete." in ended.out
    assert api.counters()["counted"]["events"] == 10 + 4 + 2 + 1, "each time what has come in the meantime"
    api.options(grow_per_page=500)
    assert requests.get(f"{api.url}/events?limit=1", headers={"X-API-Key": API_KEY}, timeout=10).ok
    api.options(grow_per_page=30)
    before = api.counters()["counted"]["events"]
    workplace.ingest(*flags, API_BASE_URL=api.url)
    assert api.counters()["counted"]["events"] - before < 12, "no walk over everything"
    api.options(grow_per_page=0)
    workplace.ingest(*flags, API_BASE_URL=api.url)
    require_exact(database, api)


@pytest.mark.long
def test_a_shortfall_is_walked_for_once_and_then_only_when_asked_for(
    simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=1_000, overcount=5, cache_life=0)

    def run(*words: str, expect: int = 5) -> tuple[int, str]:
        before = api.counters()["counted"]["events"]
        ended = workplace.ingest("--batch-size", "100", *words, API_BASE_URL=api.url, expect=expect)
        return api.counters()["counted"]["events"] - before, ended.err

    requests, err = run()
    assert requests == 10 + 1, "everything, and what is new since"
    assert "5 events are missing: the API has 1,005, the table 1,000 and 0 were rejected" in err
    requests, err = run("--no-rewalk")
    assert requests == 1
    requests, err = run()
    assert "this costs about 11 requests; --no-rewalk leaves it out" in err
    assert requests == 1 + 10
    assert "--rewalk walks once more" in err
    requests, err = run()
    assert requests == 1, "a walk that brought nothing is not made again unasked"
    assert "--rewalk walks once more" in err
    assert run("--rewalk")[0] == 1 + 10
    api.options(overcount=0)
    assert run(expect=0)[0] == 1
    require_exact(database, api)
    api.options(overcount=5)
    assert run()[0] == 1 + 10, "as many are missing as once before, and it may be for another reason"


def test_progress_lines_and_the_summary_have_their_documented_form(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=6_000, rate_limit=2, rate_window=6)
    ended = workplace.ingest("--batch-size", "2000", API_BASE_URL=api.url)
    assert re.search(r"^Progress: [\d,]+ events \| [\d,]+ events/sec \| Requests: \d+$", ended.err, re.MULTILINE)
    for row in (
        r"events received +6,000",
        r"inserted +6,000",
        r"already there +0",
        r"rejected +0",
        r"in the table +6,000",
        r"total by the API +6,000",
        r"pages +3",
        r"requests +3 +\(0 retries, 0 answered 429\)",
        r"time of the walk .*rate limit",
    ):
        assert re.search(row, ended.out), (row, ended.out)
    assert "bin/export-ids" in ended.out
    assert "bin/psql" in ended.out


def test_the_export_is_sorted_digested_and_entered_in_the_ledger(
    simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=6_000)
    workplace.ingest(API_BASE_URL=api.url)
    ended = workplace.run("export-ids")
    assert ended.code == 0
    content = (workplace.directory / "event_ids.txt").read_bytes()
    assert content == "".join(f"{one}\n" for one in sorted(api.ids())).encode()
    digest = hashlib.sha256(content).hexdigest()
    assert f"6,000 IDs, {len(content):,} bytes, SHA-256 {digest}" in ended.err
    assert ended.out == ""
    assert [path.name for path in workplace.directory.iterdir() if "event_ids" in path.name] == ["event_ids.txt"]


def test_ids_are_exported_exactly_as_they_were_spelled(
    workplace: Workplace, simulator: Start, database: Database
) -> None:
    api = simulator(events=50)
    workplace.ingest(API_BASE_URL=api.url)
    odd = ["back\\slash", "two\\\\slashes", "\\N", "ünïcode ✓", "with space", "'quote'", "\\t", "%s"]
    for one in odd:
        database.query("INSERT INTO ingested_events (id) VALUES (%s)", one)
    assert workplace.exported_ids() == sorted([*api.ids(), *odd], key=lambda one: one.encode())


def test_an_incomplete_table_is_not_exported_unless_asked_for(
    simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=6_000)
    workplace.ingest(API_BASE_URL=api.url)
    database.query("DELETE FROM ingested_events WHERE id IN (SELECT id FROM ingested_events LIMIT 5)")
    ended = workplace.run("export-ids")
    assert ended.code == 5
    assert "5,995 events and the API has 6,000: 5 are missing" in ended.err
    assert not (workplace.directory / "event_ids.txt").exists()
    ended = workplace.run("export-ids", "--incomplete")
    assert ended.code == 0
    assert len((workplace.directory / "event_ids.txt").read_text().splitlines()) == 5_995


@pytest.mark.parametrize(
    "fault",
    ["missing-field", "null-field", "wrong-type", "unknown-field", "bad-timestamp", "nul", "repeat-event"],
)
def test_damaged_events_still_arrive_with_their_ids(
    fault: str, simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=6_000, fault=[f"{fault}=0.05"])
    workplace.ingest("--batch-size", "500", API_BASE_URL=api.url)
    truth = sorted(api.ids())
    rejected = database.value("SELECT count(*) FROM rejected_events")
    assert len(database.ids()) + rejected == len(truth)
    assert set(database.ids()) <= set(truth)
    ended = workplace.run("export-ids")
    assert ended.code == (5 if rejected else 0)
    assert ("bin/ingest cannot bring them" in ended.err) == (rejected > 0)


@pytest.mark.parametrize(
    "fault",
    [
        *("500", "502", "503", "504", "429", "429-no-retry-after", "429-http-date"),
        *("reset", "cut", "html", "no-cursor", "empty", "repeat-cursor"),
    ],
)
def test_a_fault_of_the_server_costs_a_retry_and_no_event(
    fault: str, simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=6_000, fault=[f"{fault}@1", f"{fault}@4"], rate_limit=1_000, rate_window=1)
    ended = workplace.ingest("--batch-size", "1000", API_BASE_URL=api.url)
    assert "Complete." in ended.out
    require_exact(database, api)
    assert re.search(r"\(2 retries, 0 answered 429\)|\(0 retries, 2 answered 429\)", ended.out), ended.out


def test_no_secret_appears_in_any_output(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=500)
    ended = workplace.ingest("--debug", API_BASE_URL=api.url)
    refused = workplace.ingest("--debug", API_BASE_URL=api.url, TARGET_API_KEY="another-secret", expect=None)
    for text in (ended.out, ended.err, refused.out, refused.err):
        assert API_KEY not in text
        assert "another-secret" not in text
