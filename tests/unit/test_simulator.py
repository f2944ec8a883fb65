"""The simulated API without its sockets: what is known of the real one, each sentence a test."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from email.message import Message
from functools import lru_cache
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from datasync_ingest.simulator.answers import Answer, Request
from datasync_ingest.simulator.damage import DAMAGES
from datasync_ingest.simulator.dataset import KINDS, Dataset
from datasync_ingest.simulator.fault_plan import damaged_by
from datasync_ingest.simulator.faults import ANSWER_FAULTS, SUBMISSION_FAULTS
from datasync_ingest.simulator.generation import generate
from datasync_ingest.simulator.options import OptionError, Options, changed
from datasync_ingest.simulator.rendering import Shape
from datasync_ingest.simulator.service import Service

KEY = "demo-key"
EVENTS = 12_000
API = "/api/v1"
PLAIN, JSON = {"Content-Type": "text/plain"}, {"Content-Type": "application/json"}


@lru_cache(maxsize=8)
def dataset(events: int = EVENTS, seed: int = 1, shape: Shape | None = None) -> Dataset:
    return generate(events, seed, shape)


class Api:
    """A service with a clock of its own, asked by method and URL."""

    def __init__(self, **texts: str | list[str]) -> None:
        options = changed(Options(), {"events": str(EVENTS), "rate_limit": "0", **texts}, running=False)
        self.clock = 1_800_000_000.0
        shape = Shape(integer_ids=options.id_style == "int")
        self.service = Service(dataset(options.dataset_size, 1, shape), options, wall=lambda: self.clock)
        self.service.world.origin = "http://api"

    def ask(
        self,
        url: str,
        method: str = "GET",
        body: bytes = b"",
        *,
        key: str | None = KEY,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Answer:
        message = Message()
        for name, text in {**({"X-API-Key": key} if key else {}), **headers}.items():
            message[name] = text
        parts = urlsplit(url)
        return self.service.answer(
            Request(method, parts.path, url, dict(parse_qsl(parts.query)), message, iter([body] if body else []))
        )

    def page(self, endpoint: str = "events", **query: object) -> dict[str, Any]:
        answer = self.ask(url_of(endpoint, query))
        assert answer.status == 200, text_of(answer)
        return json_of(answer)

    def walk(self, endpoint: str = "events", **query: object) -> Iterator[dict[str, Any]]:
        """Every page, by following the cursor."""
        page = self.page(endpoint, **query)
        yield page
        while cursor := (page.get("pagination") or page)["nextCursor"]:
            page = self.page(endpoint, **{**query, "cursor": cursor})
            yield page

    def counters(self) -> dict[str, Any]:
        return json_of(self.ask("/simulator/counters"))

    def token(self) -> dict[str, str]:
        """The headers with which the feed is asked."""
        access = self.access()
        return {access["tokenHeader"]: access["token"]}

    def access(self) -> dict[str, Any]:
        looks = {"Origin": "http://api", "User-Agent": "Mozilla/5.0 (dashboard)"}
        answer = self.ask("/internal/dashboard/stream-access", "POST", headers=looks)
        assert answer.status == 200, text_of(answer)
        return dict(json_of(answer)["streamAccess"])


def url_of(endpoint: str, query: Mapping[str, object]) -> str:
    return f"{API}/{endpoint}?{urlencode(query)}"


def text_of(answer: Answer) -> bytes:
    return b"".join(answer.parts)


def json_of(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text_of(answer))
    return found


def ids_of(pages: Iterator[dict[str, Any]]) -> list[str]:
    return [str(event["id"]) for page in pages for event in page["data"]]


# --- the data ---


def test_the_same_seed_makes_the_same_events_and_another_one_others() -> None:
    again = generate(2_000, 1)
    assert list(dataset(2_000).ids(range(2_000))) == list(again.ids(range(2_000)))
    assert set(dataset(2_000).ids(range(2_000))).isdisjoint(generate(2_000, 2).ids(range(2_000)))


def test_events_are_spread_as_they_were_observed() -> None:
    made = dataset()
    events = [json.loads(made.event(index)) for index in range(len(made))]
    sizes = Counter(event["sessionId"] for event in events)
    assert len(sizes) == EVENTS // 50
    assert all(35 <= size <= 70 for size in sizes.values()), sizes
    assert {event["type"] for event in events} == set(KINDS)
    assert all(event["session"]["id"] == event["sessionId"] for event in events)
    users = {session: {e["userId"] for e in events if e["sessionId"] == session} for session in list(sizes)[:5]}
    assert all(len(found) == 1 for found in users.values())
    kinds = Counter(type(event["timestamp"]) for event in events)
    assert kinds[int] > EVENTS * 0.4
    assert kinds[str] > EVENTS * 0.4


def test_events_come_newest_first_and_runs_of_equal_timestamps_cross_page_borders() -> None:
    made = dataset()
    positions = [made.position(index) for index in range(len(made))]
    assert positions == sorted(positions, reverse=True)
    for size in (100, 777, 1000, 5000):
        borders = range(size, EVENTS, size)
        assert any(made.stamps[border - 1] == made.stamps[border] for border in borders), size


# --- the walk ---


@pytest.mark.parametrize("envelope", ["nested", "flat"])
@pytest.mark.parametrize("limit", [5000, 777, 100])
def test_a_walk_meets_every_event_once_in_order(limit: int, envelope: str) -> None:
    api = Api(envelope=envelope)
    assert ids_of(api.walk(limit=limit)) == list(dataset().ids(range(EVENTS)))
    assert api.counters()["pages_fetched_twice"] == 0


def test_a_walk_over_integer_ids_meets_every_event_once() -> None:
    assert ids_of(Api(id_style="int").walk(limit=777)) == [str(number) for number in range(EVENTS, 0, -1)]


def test_the_documented_envelopes() -> None:
    nested, flat = Api().page(limit=7), Api(envelope="flat", total="off").page(limit=7)
    assert set(nested) == {"data", "pagination", "meta"}
    assert set(nested["pagination"]) == {"limit", "hasMore", "nextCursor", "cursorExpiresIn"}
    assert (nested["pagination"]["limit"], nested["pagination"]["cursorExpiresIn"]) == (7, 116)
    assert (nested["meta"]["total"], nested["meta"]["returned"]) == (EVENTS, 7)
    assert set(flat) == {"data", "hasMore", "nextCursor"}


def test_the_default_limit_is_100_and_more_than_5000_is_capped_or_rejected() -> None:
    assert len(Api().page()["data"]) == 100
    assert len(Api().page(limit=9_999)["data"]) == 5_000
    assert Api(over_cap="reject").ask(url_of("events", {"limit": 9_999})).status == 400


@pytest.mark.parametrize("ignored", ["offset=50", "page=3", "sort=asc", "fields=id", "format=csv", "stream=true"])
def test_some_parameters_are_ignored(ignored: str) -> None:
    assert json_of(Api().ask(f"{API}/events?limit=5&{ignored}"))["data"] == Api().page(limit=5)["data"]


def test_a_session_filter_selects_and_counts() -> None:
    api = Api()
    session = api.page(limit=1)["data"][0]["sessionId"]
    pages = list(api.walk(sessionId=session, limit=10))
    events = [event for page in pages for event in page["data"]]
    assert {event["sessionId"] for event in events} == {session}
    assert pages[0]["meta"]["total"] == len(events) > 10
    assert api.page(sessionId="nobody")["meta"]["total"] == 0


def test_the_head_grows_while_pages_are_served() -> None:
    api = Api(events="5000", grow_per_page="7", grow_at_most="20")
    first = api.page(limit=100)
    assert first["meta"]["total"] == 5_000
    rest = ids_of(api.walk(limit=100, cursor=first["pagination"]["nextCursor"]))
    assert len(rest) == 4_900
    total = api.page(limit=99)["meta"]["total"]
    assert total == 5_020
    assert len(text_of(api.ask("/simulator/ids")).splitlines()) == total


# --- cursors ---


def test_a_cursor_is_unpadded_base64url_of_four_fields_and_expires() -> None:
    api = Api()
    page = api.page(limit=10)
    cursor = page["pagination"]["nextCursor"]
    assert "=" not in cursor
    fields = json.loads(base64.urlsafe_b64decode(cursor + "=="))
    assert fields["id"] == page["data"][-1]["id"]
    assert (fields["v"], fields["exp"]) == (2, (1_800_000_000 + 116) * 1000)
    api.clock += 115
    assert api.page(cursor=cursor, limit=11)
    api.clock += 1
    dead = api.ask(url_of("events", {"cursor": cursor}))
    assert (dead.status, json_of(dead)["code"]) == (400, "CURSOR_EXPIRED")


# What the server is told | cursor | status
DEAD_CURSORS = [
    ({"cursor_expired_status": "410"}, None, 410),
    ({"cursor_expired_status": "502"}, None, 502),
    ({"cursor_expired_status": "200"}, None, 200),
    ({"cursor_style": "padded"}, None, 400),
    ({"cursor_style": "signed"}, None, 400),
    ({}, "garbage", 400),
    ({}, "%%%", 400),
    ({"cursor_invalid_status": "502"}, "garbage", 502),
]


@pytest.mark.parametrize(("texts", "cursor", "status"), DEAD_CURSORS)
def test_a_dead_or_garbled_cursor_is_refused_as_told(texts: dict[str, str], cursor: str | None, status: int) -> None:
    api = Api(cursor_life="10", **texts)
    cursor = cursor or api.page()["pagination"]["nextCursor"]
    api.clock += 11
    dead = api.ask(url_of("events", {"cursor": cursor}))
    assert dead.status == status
    assert (b"<html>" in text_of(dead)) == (status in (200, 502))


@pytest.mark.parametrize("style", ["plain", "padded", "signed"])
def test_cursors_of_every_style_lead_to_every_event(style: str) -> None:
    api = Api(cursor_style=style)
    assert len(set(ids_of(api.walk(limit=1000)))) == EVENTS


def test_a_signed_cursor_cannot_be_renewed() -> None:
    api = Api(cursor_style="signed")
    plain, _, signature = api.page(limit=5)["pagination"]["nextCursor"].partition(".")
    fields = json.loads(base64.urlsafe_b64decode(plain + "=="))
    fields["exp"] += 1
    changed_one = base64.urlsafe_b64encode(json.dumps(fields, separators=(",", ":")).encode()).rstrip(b"=").decode()
    answer = api.ask(url_of("events", {"limit": 5, "cursor": f"{changed_one}.{signature}"}))
    assert (answer.status, json_of(answer)["code"]) == (400, "INVALID_CURSOR")


@pytest.mark.parametrize(("style", "outcome"), [("accept", "next"), ("refuse", 400), ("misplace", "first")])
def test_a_cursor_that_somebody_renewed_is_treated_as_told(style: str, outcome: str | int) -> None:
    api = Api(renewed_cursors=style)
    pages = {"first": api.page(limit=5)}
    cursor = pages["first"]["pagination"]["nextCursor"]
    pages["next"] = api.page(limit=5, cursor=cursor)
    fields = json.loads(base64.urlsafe_b64decode(cursor + "=="))
    fields["exp"] += 1
    renewed = base64.urlsafe_b64encode(json.dumps(fields, separators=(",", ":")).encode()).rstrip(b"=").decode()
    answer = api.ask(url_of("events", {"limit": 5, "cursor": renewed}))
    if isinstance(outcome, int):
        assert answer.status == outcome
    else:
        assert json_of(answer)["data"] == pages[outcome]["data"]


# --- keys ---


def test_a_key_lives_for_three_hours_from_its_first_call_of_any_kind() -> None:
    api = Api()
    api.clock += 50_000
    assert api.ask("/health").status == 200  # this call carries the key
    api.clock += 10_799
    assert api.ask(f"{API}/events").status == 200
    api.clock += 1
    dead = api.ask(f"{API}/events")
    assert (dead.status, json_of(dead)["code"]) == (401, "API_KEY_EXPIRED")


def test_a_wrong_or_missing_key_is_refused_and_starts_no_clock() -> None:
    api = Api(key_refused_status="403")
    assert api.ask(f"{API}/events", key="wrong").status == 403
    assert api.ask(f"{API}/events", key=None).status == 403
    assert api.ask(f"{API}/events?api_key={KEY}", key=None).status == 200


# --- rate limits ---


def test_the_eleventh_request_of_a_minute_is_too_many_and_says_when_to_come_back() -> None:
    api = Api(rate_limit="10")
    lefts = [api.ask(f"{API}/events?limit={n}").headers["X-RateLimit-Remaining"] for n in range(1, 11)]
    assert lefts == [str(left) for left in range(9, -1, -1)]
    api.clock += 20.5
    refused = api.ask(f"{API}/events?limit=11")
    assert refused.status == 429
    assert refused.headers["Retry-After"] == refused.headers["X-RateLimit-Reset"] == "40"
    assert api.ask(f"{API}/sessions").status == 200, "each endpoint has a window of its own"
    api.clock += 39.5
    assert api.ask(f"{API}/events?limit=12").status == 200
    assert api.counters()["most_requests_in_a_window"]["events"] == 11


@pytest.mark.parametrize(
    ("style", "reset"),
    [("delta", "60"), ("epoch-s", "1800000090"), ("epoch-ms", "1800000090000")],
)
def test_the_reset_is_spelled_as_told_and_the_clock_may_be_ahead(style: str, reset: str) -> None:
    answer = Api(rate_limit="10", reset_style=style, clock_skew="30").ask(f"{API}/events")
    assert answer.headers["X-RateLimit-Reset"] == reset
    assert answer.headers["Date"] == "Fri, 15 Jan 2027 08:00:30 GMT"


def test_windows_may_lie_aligned() -> None:
    api = Api(rate_limit="10", window_style="aligned")
    api.clock += 45
    assert api.ask(f"{API}/events").headers["X-RateLimit-Reset"] == "15"


def test_a_key_in_the_url_gets_half_of_the_requests() -> None:
    assert Api(rate_limit="10").ask(f"{API}/events?api_key={KEY}", key=None).headers["X-RateLimit-Limit"] == "5"


def test_the_same_url_is_served_from_the_cache_and_does_not_count() -> None:
    api = Api(rate_limit="10", grow_per_page="1", grow_at_most="20")
    first, second = (api.ask(f"{API}/events?limit=3") for _ in range(2))
    assert (first.headers["X-Cache"], second.headers["X-Cache"]) == ("MISS", "HIT")
    assert second.headers["X-Cache-TTL"] == "30"
    assert json_of(first)["data"] == json_of(second)["data"]
    assert api.counters()["counted"]["events"] == 1
    api.clock += 30
    third = api.ask(f"{API}/events?limit=3")
    assert third.headers["X-Cache"] == "MISS"
    assert json_of(third)["data"] != json_of(first)["data"], "two pages were served, the head has grown"


# --- the other endpoints ---


def test_sessions_are_paginated_and_know_their_number_of_events() -> None:
    api = Api()
    sessions = [session for page in api.walk("sessions", limit=50) for session in page["data"]]
    assert len({session["id"] for session in sessions}) == len(sessions) == EVENTS // 50
    assert sum(session["eventCount"] for session in sessions) == EVENTS
    assert json_of(api.ask(f"{API}/sessions/{sessions[3]['id']}"))["data"] == sessions[3]


def test_single_events_are_found_and_the_bulk_endpoint_is_broken_for_more_than_one() -> None:
    api = Api()
    event = api.page(limit=1)["data"][0]
    assert json_of(api.ask(f"{API}/events/{event['id']}"))["data"] == event
    one = json.dumps({"ids": [event["id"]]}).encode()
    assert json_of(api.ask(f"{API}/events/bulk", "POST", one))["data"] == [event]
    two = json.dumps({"ids": [event["id"]] * 2}).encode()
    assert api.ask(f"{API}/events/bulk", "POST", two).status == 500


# path | status | code, or a piece of the body
PATHS = [
    (f"{API}/nothing", 404, "ENDPOINT_NOT_FOUND"),
    ("/nowhere/api/v1/events", 404, "ENDPOINT_NOT_FOUND"),
    (f"{API}/events/word", 404, "EVENT_NOT_FOUND"),
    (f"{API}/sessions/word", 404, "SESSION_NOT_FOUND"),
    (f"{API}/events?limit=no", 400, "INVALID_LIMIT"),
    (f"{API}/metrics", 200, '{"data":[]}'),
    (API, 200, "DataSync Analytics API"),
    ("/health", 200, "OK"),
    ("/internal/health", 200, "healthy"),
]


@pytest.mark.parametrize(("path", "status", "piece"), PATHS)
def test_a_path_answers_as_documented(path: str, status: int, piece: str) -> None:
    answer = Api().ask(path)
    assert answer.status == status
    assert piece.encode() in text_of(answer)


def test_the_statistics_need_no_key_and_add_up() -> None:
    stats = json_of(Api().ask("/internal/stats", key=None))
    assert sum(stats["eventsByType"].values()) == sum(stats["eventsByDevice"].values()) == EVENTS


# --- the feed ---


def test_stream_access_is_for_what_looks_like_the_dashboard() -> None:
    api = Api(dashboard_needs="origin,user-agent")
    refused = api.ask("/internal/dashboard/stream-access", "POST", headers={"Origin": "http://api"})
    assert (refused.status, json_of(refused)["code"]) == (403, "DASHBOARD_REQUIRED")
    access = api.access()
    assert set(access) == {"endpoint", "token", "expiresIn", "tokenHeader"}
    assert access["expiresIn"] == 300


def feed(api: Api, headers: Mapping[str, str], **query: object) -> Answer:
    return api.ask(f"{api.access()['endpoint']}?{urlencode(query)}", headers=headers)


def test_the_feed_serves_the_same_events_with_numbers_for_timestamps_until_the_token_ends() -> None:
    api = Api()
    headers = api.token()
    events = json_of(feed(api, headers, limit=5000))["data"]
    plain = api.page(limit=5000)["data"]
    assert [event["id"] for event in events] == [event["id"] for event in plain]
    assert [event["timestamp"] for event in events] == list(dataset().stamps[:5000])
    assert [{**event, "timestamp": 0} for event in events] == [{**event, "timestamp": 0} for event in plain]
    api.clock += 300
    dead = feed(api, headers)
    assert (dead.status, json_of(dead)["code"]) == (403, "INVALID_STREAM_TOKEN")


@pytest.mark.parametrize("since_style", ["inclusive", "exclusive", "ignored"])
@pytest.mark.parametrize("until_style", ["inclusive", "exclusive", "ignored"])
def test_the_feed_has_bounds_as_told(since_style: str, until_style: str) -> None:
    api = Api(feed_since=since_style, feed_until=until_style)
    stamps = dataset().stamps
    until, since = stamps[2_000], stamps[4_000]
    page = json_of(feed(api, api.token(), since=since, until=until, limit=5000))
    low = {"inclusive": since, "exclusive": since + 1, "ignored": 0}[since_style]
    high = {"inclusive": until, "exclusive": until - 1, "ignored": 2 * until}[until_style]
    assert page["meta"]["total"] == sum(1 for stamp in stamps if low <= stamp <= high)
    assert page["data"][0]["timestamp"] == max(stamp for stamp in stamps if stamp <= high)


def test_a_query_outside_of_the_data_is_answered_with_418_or_an_empty_page() -> None:
    api, other = Api(), Api(out_of_range="empty")
    assert feed(api, api.token(), until=5).status == 418
    assert json_of(feed(other, other.token(), until=5))["data"] == []


def test_the_feed_has_a_soft_limit_for_everybody_and_no_headers() -> None:
    api = Api(feed_rate="3", feed_penalty="5")
    headers = api.token()
    answers = [feed(api, headers, limit=n) for n in range(1, 6)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert not any("RateLimit" in name or name == "Retry-After" for answer in answers for name in answer.headers)
    api.clock += 5
    assert feed(api, headers, limit=9).status == 200


def test_the_feeds_limit_can_be_a_bucket_that_fills_and_goes_for_events_as_well() -> None:
    api = Api(rate_limit="0", feed_rate="60", feed_burst="2", feed_penalty="0", feed_limit_for_events="on")
    asked = [api.ask(f"{API}/events?limit={n}").status for n in range(1, 4)]
    assert asked == [200, 200, 429]
    api.clock += 1
    assert feed(api, api.token(), limit=7).status == 200
    assert api.ask(f"{API}/events?limit=8").status == 429


# --- submissions ---


def test_there_are_five_submissions_and_a_failed_one_counts() -> None:
    api = Api()
    url = f"{API}/submissions?github_repo=https://example.org/repo"
    bad = api.ask(f"{API}/submissions", "POST", b"a\nb\n", headers=PLAIN)
    assert bad.status == 400
    good = json_of(api.ask(url, "POST", b"a\nb\n\nc", headers=PLAIN))["data"]
    assert (good["eventCount"], good["submissionNumber"], good["remainingSubmissions"]) == (3, 2, 3)
    body = json.dumps({"ids": "a\nb", "githubRepoUrl": "https://example.org/repo"}).encode()
    by_json = json_of(api.ask(f"{API}/submissions", "POST", body, headers=JSON))["data"]
    assert by_json["eventCount"] == 2
    statuses = [api.ask(url, "POST", b"a", headers=PLAIN).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert len(json_of(api.ask(f"{API}/submissions"))["data"]) == 4


def posted(api: Api, headers: Mapping[str, str] = PLAIN) -> Answer:
    return api.ask(f"{API}/submissions?github_repo=https://example.org/repo", "POST", b"a\nb\n", headers=headers)


@pytest.mark.parametrize(
    ("fault", "status", "tries_left", "accepted"),
    [
        ("none", 200, 4, 1),
        ("cut", 0, 4, 0),
        ("413", 413, 5, 0),
        ("413-app", 413, 4, 0),
        ("429", 429, 5, 0),
        ("500", 500, 4, 0),
        ("502", 502, 4, 1),
        ("lost", 200, 4, 1),
        ("html", 200, 4, 1),
        ("unsuccessful", 200, 4, 0),
        ("miscounted", 200, 4, 1),
        ("slow", 200, 4, 1),
    ],
)
def test_a_submission_that_fails_costs_a_try_where_it_reached_the_application(
    fault: str, status: int, tries_left: int, accepted: int
) -> None:
    api = Api(submission_fault=fault)
    answer = posted(api)
    assert answer.status == status
    assert answer.silent == (fault in ("cut", "lost"))
    assert answer.early == (fault == "413")
    assert answer.delay_s == (30 if fault == "slow" else 0)
    listed = json_of(api.ask(f"{API}/submissions"))
    assert (listed["remainingSubmissions"], len(listed["data"])) == (tries_left, accepted)
    assert api.counters()["requests"]["submit"] == 1


def test_every_fault_of_a_submission_has_its_test() -> None:
    (mark,) = test_a_submission_that_fails_costs_a_try_where_it_reached_the_application.pytestmark  # type: ignore[attr-defined]
    assert [row[0] for row in mark.args[1]] == list(SUBMISSION_FAULTS)


def test_a_submission_that_breaks_off_costs_a_try_and_is_not_accepted() -> None:
    api = Api()
    answer = posted(api, {**PLAIN, "Content-Length": "5"})
    assert (answer.status, json_of(answer)["code"]) == (400, "REQUEST_ABORTED")
    listed = json_of(api.ask(f"{API}/submissions"))
    assert (listed["remainingSubmissions"], listed["data"]) == (4, [])


def test_the_list_of_submissions_may_not_tell_how_many_are_left() -> None:
    api = Api(submissions_tell_left="off")
    assert posted(api).status == 200
    assert "remainingSubmissions" not in json_of(api.ask(f"{API}/submissions"))


# --- faults ---


@pytest.mark.parametrize("fault", ANSWER_FAULTS)
def test_a_fault_falls_on_its_request_is_announced_and_gone_at_the_next(fault: str) -> None:
    api = Api(fault=[f"{fault}@2"])
    clean = [answer_of(api, number) for number in range(3)]
    assert "X-Chaos-Applied" not in clean[0].headers
    assert clean[1].headers["X-Chaos-Applied"] == fault
    assert "X-Chaos-Applied" not in clean[2].headers
    assert api.counters()["faults"] == {fault: 1}


def answer_of(api: Api, number: int) -> Answer:
    cursor = api_cursor()
    return api.ask(url_of("events", {"limit": 50 + number, "cursor": cursor}))


@lru_cache(maxsize=1)
def api_cursor() -> str:
    return str(Api(cursor_life="100000").page(limit=100)["pagination"]["nextCursor"])


def test_damaged_events_are_the_same_whenever_they_are_served() -> None:
    api = Api(fault=["wrong-type=0.2", "missing-field=0.2"], cache_life="0")
    first, second = (json_of(api.ask(f"{API}/events?limit=200"))["data"] for _ in range(2))
    assert first == second != Api().page(limit=200)["data"]


def test_a_damaged_event_is_the_same_on_another_page_and_is_told_by_the_control_endpoint() -> None:
    api = Api(fault=["bad-timestamp=0.2", "invalid-utf8=0.1"], cache_life="0")
    body = bytes(b"".join(api.ask(f"{API}/events?limit=200").parts))
    told = [json.loads(line) for line in b"".join(api.ask("/simulator/damaged").parts).splitlines()]
    served = {line["id"] for line in told if line["text"].encode("latin-1") in body}
    assert len(served) > 20
    assert served == {line["id"] for line in told}, "as /events spells it, among others as the feed does"
    api.ask(f"{API}/events?limit=100")
    assert [json.loads(line) for line in b"".join(api.ask("/simulator/damaged").parts).splitlines()] == told


def test_options_that_the_dataset_depends_on_cannot_be_changed_and_others_can() -> None:
    api = Api()
    assert api.ask("/simulator/options", "POST", b'{"events": "5"}').status == 400
    assert api.ask("/simulator/options", "POST", b'{"page_cap": "5"}').status == 200
    assert len(api.page(limit=100)["data"]) == 5


@pytest.mark.parametrize("rule", ["nothing=0.5", "502", "502=2", "502@x", "502@"])
def test_a_rule_that_makes_no_sense_is_refused(rule: str) -> None:
    with pytest.raises(OptionError):
        changed(Options(), {"fault": [rule]}, running=True)


def test_an_event_may_have_every_damage_at_once() -> None:
    names = [name for name in DAMAGES if name not in ("deep", "long-string")]
    text = damaged_by(b'{"id":"a","timestamp":5,"name":"n"}', names[::-1], 7, 3)
    assert b"NaN" in text
    assert b"schemaVersion" in text
