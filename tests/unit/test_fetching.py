"""From an address to a page: dead cursors told from a server in trouble, and pages that fail made smaller.

The server is a list of events behind the fetcher's client; time is a number that every wait moves on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from email.utils import formatdate
from typing import Any

import pytest

from datasync_ingest.api import cursors
from datasync_ingest.api.client import Response
from datasync_ingest.api.endpoints import endpoint_of
from datasync_ingest.api.fetching import PageFetcher
from datasync_ingest.api.outcomes import Fault, Outcome, TooLarge, outcome_of
from datasync_ingest.api.sharing import Shared, with_any_page_size
from datasync_ingest.errors import ApiUnreachableError, CursorExpiredError, EventUnreachableError, NotTheApiError
from datasync_ingest.messages import FEED, PageAddress, PageId, RawPage, RequestEnded, TimeBounds
from datasync_ingest.plan import from_the_start
from datasync_ingest.settings import Secret, Settings
from datasync_ingest.walk import follow

NOW = 1_769_000_000.0
WALK = "7d1f0000"
EVENTS = 40
LIFE_S = 116.0
Misbehaviour = Callable[["Server", int, range, "str | None"], "Response | None"]


class Server:
    """Events 0 (the newest) to EVENTS - 1, `misbehaves` asked first; keeps what it was asked as `limit[@cursor]`."""

    def __init__(self, misbehaves: Misbehaviour | None = None, *, opaque: bool = False) -> None:
        self.now = 0.0
        self.misbehaves = misbehaves
        self.opaque = opaque
        self.asked: list[tuple[int, int | None]] = []
        self.told: list[RequestEnded] = []
        self.fetcher = Fetcher(self)

    def get(self, url: str, parameters: Mapping[str, str], headers: Mapping[str, str]) -> Response:
        limit, cursor = int(parameters["limit"]), parameters.get("cursor")
        start = 0 if cursor is None else self.place(cursor)
        self.asked.append((limit, None if cursor is None else start))
        page = range(start, min(start + limit, EVENTS))
        spoiled = self.misbehaves(self, limit, page, cursor) if self.misbehaves else None
        return spoiled or self.response(200, self.page(page))

    def close(self) -> None:
        pass

    def page(self, page: range) -> bytes:
        more = page.stop < EVENTS
        events = [{"id": f"e{index}", "timestamp": 1_769_000_000_000 - index} for index in page]
        return json.dumps(
            {"data": events, "hasMore": more, "nextCursor": self.cursor(page.stop) if more else None}
        ).encode()

    def cursor(self, place: int) -> str:
        if self.opaque:
            return f"opaque.{place}"
        plain = {"id": f"e{place - 1}", "ts": place, "v": 2, "exp": round((NOW + self.now + LIFE_S) * 1000)}
        return cursors._encoded(json.dumps(plain).encode(), padded=False)

    def place(self, cursor: str) -> int:
        plain = cursors.decode(cursor)
        return int(cursor.split(".")[1]) if plain is None else plain.timestamp_ms

    def dead(self, cursor: str) -> bool:
        plain = cursors.decode(cursor)
        assert plain is not None
        return plain.expires_ms <= (NOW + self.now) * 1000

    def response(self, status: int, body: bytes = b"<html>", **headers: str) -> Response:
        date = formatdate(NOW + self.now, usegmt=True)
        return Response(status, {"Date": date, **headers}, body, self.now, self.now, self.now)

    def walk(self) -> list[RawPage]:
        """From the newest event to the last one, with the fetcher alone."""
        pages: list[RawPage] = []
        cursor: str | None = None
        while not pages or cursor is not None:
            pages.append(self.fetch(cursor, pages[-1] if pages else None))
            cursor = pages[-1].next_cursor
        return pages

    def fetch(self, cursor: str | None, before: RawPage | None = None, limit: int | None = None) -> RawPage:
        sequence, after = (0, None) if before is None else (before.page.sequence + 1, before.last)
        return self.fetcher.fetch(PageAddress(PageId(WALK, sequence), cursor, after, limit=limit))


class Fetcher(PageFetcher):
    """Whose waits pass at once."""

    def __init__(self, server: Server) -> None:
        self.server = server
        super().__init__(
            Settings(batch_size=10),
            clock=lambda: server.now,
            jitter=lambda: 0.0,
            client=server,  # type: ignore[arg-type]
            observe=server.told.append,
        )

    def _wait(self, seconds: float, cause: str, detail: str = "") -> None:
        self.server.now += seconds


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def ids_of(pages: list[RawPage]) -> list[str]:
    return [event["id"] for page in pages for event in json.loads(page.body)["data"]]


ALL = [f"e{index}" for index in range(EVENTS)]

# --- what is told of requests ---


def test_each_request_is_told_with_what_its_answer_was_worth() -> None:
    answers = [
        lambda server, body: server.response(429, **{"Retry-After": "2"}),
        lambda server, body: server.response(503),
        lambda server, body: server.response(200, body[:-5]),
        lambda server, body: server.response(200, b"<html>"),
    ]

    def misbehaves(server: Server, limit: int, page: range, cursor: str | None) -> Response | None:
        return answers.pop(0)(server, server.page(page)) if answers else None

    server = Server(misbehaves)
    server.fetch(None)
    assert [(one.attempt, one.status, one.outcome) for one in server.told] == [
        (1, 429, "limited"),
        (2, 503, "fault"),
        (3, 200, "not whole"),
        (4, 200, "web page"),
        (5, 200, "page"),
    ]
    assert [bool(one.detail) for one in server.told] == [False, True, True, True, False]
    assert server.told[-1].size > 0


def test_a_request_without_an_answer_is_told_without_a_status() -> None:
    failures = [Fault("connection reset")]

    def misbehaves(server: Server, limit: int, page: range, cursor: str | None) -> None:
        if failures:
            raise failures.pop()

    server = Server(misbehaves)
    server.fetch(None)
    assert [(one.status, one.outcome, one.detail) for one in server.told] == [
        (None, "fault", "connection reset"),
        (200, "page", ""),
    ]


def test_a_key_that_is_answered_with_429_alone_ends_the_run() -> None:
    refusal: dict[str, Any] = {"Retry-After": "1"}
    server = Server(lambda server, limit, page, cursor: server.response(429, **refusal))
    with pytest.raises(ApiUnreachableError, match="30 requests in a row"):
        server.fetch(None)
    assert len(server.asked) == 30


# --- page sizes ---


def refuses_above(most: int) -> Misbehaviour:
    def misbehaves(server: Server, limit: int, page: range, cursor: str | None) -> Response | None:
        return server.response(400, b'{"error": "limit too large"}') if limit > most else None

    return misbehaves


def test_a_page_size_that_the_user_chose_is_not_the_next_runs() -> None:
    server = Server()
    server.fetch(None)
    state = server.fetcher.state(settled=True)
    later = PageFetcher(Settings(batch_size=5000), client=server)  # type: ignore[arg-type]
    later.restore(state)
    assert later.limit == 5000


def test_a_page_size_that_the_server_refused_is_remembered_and_said(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(refuses_above(1000))
    server.fetcher.limit = 5000
    server.fetch(None)
    assert [limit for limit, _ in server.asked] == [5000, 2000, 1000]
    later = PageFetcher(Settings(batch_size=5000), client=server)  # type: ignore[arg-type]
    later.restore(server.fetcher.state(settled=True))
    assert later.limit == 1000
    assert "refused more than 1000 events a page before" in caplog.text


def test_a_page_size_that_one_thread_was_refused_is_not_tried_by_its_siblings() -> None:
    server = Server(refuses_above(1000))
    fetcher = server.fetcher
    fetcher.limit = 5000
    sibling = fetcher.sibling()
    server.fetch(None)
    assert sibling.limit == 1000
    assert fetcher._shared.step_down(5000, "400"), "a refusal that comes late, of a size that is in force no more"
    assert sibling.limit == 1000
    sibling.close()
    assert not fetcher._stop.is_set(), "one chain less is not the end of the others"
    sibling.stop()
    assert fetcher._stop.is_set()


def test_what_is_learned_of_the_feed_is_kept_apart_from_what_is_known_of_the_events_endpoint() -> None:
    events = Settings(batch_size=5000)
    feed = Settings(Secret("k"), endpoint=FEED, batch_size=5000)
    first = Shared(events)
    first.pacer.answered({"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "3", "X-RateLimit-Reset": "50"}, 0.0)
    known = first.state(settled=True)
    with closing(endpoint_of(feed)) as endpoint:
        second = Shared(feed, endpoint)
        second.restore(known)
        assert second.pacer.remaining is None
        assert set(known) <= set(Shared(feed, endpoint).state(settled=False)), "also where only the feed was asked"
        assert second.step_down(5000, "400")
        both = json.loads(json.dumps(second.state(settled=False)))
        assert {name: both[name] for name in known} == known
        assert (both["feed"]["refused_above"], both["feed"]["settled"]) == (2000, False)
        third = Shared(feed, endpoint)
        third.restore(both)
        assert third.limit == 2000
        fourth = Shared(feed, endpoint)
        fourth.restore(with_any_page_size(both))
        assert fourth.limit == 5000
    again = Shared(events)
    again.restore(both)
    assert (again.limit, again.state(settled=True)["feed"]) == (5000, both["feed"])


# --- bounds in time ---


@pytest.mark.parametrize(
    ("bounds", "with_cursor", "is_page"),
    [
        (TimeBounds(), False, False),
        (TimeBounds(since=5), False, True),
        (TimeBounds(until=5), False, True),
        (TimeBounds(1, 5), True, False),
    ],
)
def test_out_of_range_is_an_empty_page_where_a_range_was_asked_for_and_nothing_was_read_of_it(
    bounds: TimeBounds, with_cursor: bool, is_page: bool
) -> None:
    server = Server(lambda server, limit, page, cursor: server.response(418, b'{"code": "TEAPOT"}'))
    address = PageAddress(PageId(WALK, 0), server.cursor(10) if with_cursor else None, None, bounds=bounds)
    if is_page:
        page = server.fetcher.fetch(address)
        assert (page.received, page.ends_walk, page.total) == (0, True, 0)
    else:
        with pytest.raises(NotTheApiError, match="418"):
            server.fetcher.fetch(address)


def test_what_lies_below_the_data_is_left_out_before_a_range_is_taken_for_empty() -> None:
    server = Server()
    parameters: list[Mapping[str, str]] = []

    def get(url: str, asked: Mapping[str, str], headers: Mapping[str, str]) -> Response:
        parameters.append(asked)
        return server.response(418) if "since" in asked else Server.get(server, url, asked, headers)

    server.get = get  # type: ignore[method-assign, assignment]
    page = server.fetcher.fetch(PageAddress(PageId(WALK, 0), None, None, bounds=TimeBounds(1, 5)))
    assert page.received == 10
    assert [{"since", "until"} & set(asked) for asked in parameters] == [{"since", "until"}, {"until"}]


def test_bounds_stay_with_the_page_when_it_is_made_smaller() -> None:
    server = Server(lambda server, limit, page, cursor: server.response(500) if limit > 2 else None)
    parameters: list[Mapping[str, str]] = []
    asked = server.get
    server.get = lambda url, given, headers: parameters.append(given) or asked(url, given, headers)  # type: ignore
    page = server.fetcher.fetch(PageAddress(PageId(WALK, 0), None, None, bounds=TimeBounds(7, 9)))
    assert page.received == 2
    assert {(one["since"], one["until"]) for one in parameters} == {("7", "9")}


# --- dead cursors ---


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (400, b'{"code": "CURSOR_EXPIRED"}', Outcome.CURSOR_EXPIRED),
        (400, b'{"code": "INVALID_CURSOR"}', Outcome.CURSOR_EXPIRED),
        (422, b'{"error": {"code": "CURSOR_EXPIRED"}}', Outcome.CURSOR_EXPIRED),
        (502, b'{"code": "CURSOR_EXPIRED"}', Outcome.CURSOR_EXPIRED),
        (410, b"", Outcome.CURSOR_EXPIRED),
        (400, b"", Outcome.LIMIT_REFUSED),
        (502, b"<html>", Outcome.FAULT),
        (200, b'{"code": "CURSOR_EXPIRED"}', Outcome.PAGE),
    ],
)
def test_what_an_answer_says_of_the_cursor(status: int, body: bytes, outcome: Outcome) -> None:
    assert outcome_of(status, body) is outcome


def kills_cursors(status: int) -> Misbehaviour:
    """Dead cursors are answered with a web page, and with nothing that says so."""

    def misbehaves(server: Server, limit: int, page: range, cursor: str | None) -> Response | None:
        return server.response(status) if cursor is not None and server.dead(cursor) else None

    return misbehaves


@pytest.mark.parametrize("status", [200, 502, 503, 500])
def test_a_cursor_past_its_life_that_brings_only_faults_is_expired_when_a_fresh_request_works(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(kills_cursors(status))
    first = server.fetch(None)
    server.now += LIFE_S + 1
    began, server.asked = server.now, []
    with pytest.raises(CursorExpiredError, match="3 times in a row, while a fresh request works"):
        server.fetch(first.next_cursor, first)
    assert server.now - began < 5, "the patience of 15 minutes is not waited out"
    assert [start for _, start in server.asked] == [10, 10, None, 10], "one fresh request, and only after two faults"
    assert "(it costs one)" in caplog.text


def test_faults_of_a_young_cursor_are_the_servers() -> None:
    def misbehaves(server: Server, limit: int, page: range, cursor: str | None) -> Response | None:
        return server.response(502) if cursor is not None and server.now < 60 else None

    server = Server(misbehaves)
    assert ids_of(server.walk()) == ALL
    assert [start for _, start in server.asked].count(None) == 1, "no fresh request was spent"


def test_a_server_that_is_down_is_waited_for_although_the_cursor_is_past_its_life() -> None:
    """Its cursors live on, as they do where nobody enforces their end."""

    def misbehaves(server: Server, limit: int, page: range, cursor: str | None) -> Response | None:
        return server.response(502) if LIFE_S < server.now < LIFE_S + 100 else None

    server = Server(misbehaves)
    first = server.fetch(None)
    server.now += LIFE_S + 1
    assert server.fetch(first.next_cursor, first).received == 10


@pytest.mark.parametrize("skew", [-30.0, 30.0])
def test_the_clocks_of_the_two_machines_may_differ(skew: float, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(kills_cursors(502))
    first = server.fetch(None)
    monkeypatch.setattr("datasync_ingest.api.cursors.time.time", lambda: NOW + server.now - skew)
    server.now += LIFE_S + 1
    with pytest.raises(CursorExpiredError):
        server.fetch(first.next_cursor, first)


def test_an_opaque_cursor_of_this_run_is_in_doubt_after_its_documented_life() -> None:
    def misbehaves(server: Server, limit: int, page: range, cursor: str | None) -> Response | None:
        return server.response(502) if cursor is not None else None

    server = Server(misbehaves, opaque=True)
    first = server.fetch(None)
    with pytest.raises(CursorExpiredError):
        server.fetch(first.next_cursor, first)
    assert LIFE_S <= server.now < 2 * LIFE_S


def test_an_opaque_cursor_of_an_earlier_run_is_in_doubt_at_once() -> None:
    def misbehaves(server: Server, limit: int, page: range, cursor: str | None) -> Response | None:
        return server.response(502) if cursor is not None else None

    server = Server(misbehaves, opaque=True)
    with pytest.raises(CursorExpiredError):
        server.fetch("opaque.10")
    assert server.now < 5


def test_a_cached_answer_to_the_fresh_request_proves_nothing() -> None:
    def misbehaves(server: Server, limit: int, page: range, cursor: str | None) -> Response | None:
        if cursor is not None:
            return server.response(502) if server.now < LIFE_S + 50 else None
        return server.response(200, server.page(page), **{"X-Cache": "HIT"}) if server.now else None

    server = Server(misbehaves)
    first = server.fetch(None)
    server.now += LIFE_S + 1
    assert server.fetch(first.next_cursor, first).received == 10


def test_a_connection_that_breaks_says_nothing_of_the_cursor() -> None:
    def misbehaves(server: Server, limit: int, page: range, cursor: str | None) -> Response | None:
        if cursor is not None and server.now < LIFE_S + 50:
            raise Fault("connection reset")
        return None

    server = Server(misbehaves)
    first = server.fetch(None)
    server.now += LIFE_S + 1
    assert server.fetch(first.next_cursor, first).received == 10
    assert server.asked.count((2, None)) == 0


@pytest.mark.parametrize("status", [400, 502, 200])
def test_a_page_that_is_asked_for_again_is_not_waited_for_where_its_cursor_is_not_taken(status: int) -> None:
    def misbehaves(server: Server, limit: int, page: range, cursor: str | None) -> Response | None:
        return server.response(status, b"") if cursor is not None else None

    server = Server(misbehaves)
    with pytest.raises(CursorExpiredError):
        server.fetch(server.cursor(10), limit=7)
    assert server.now < 5
    assert {limit for limit, start in server.asked if start is not None} == {7}


def test_a_refused_page_that_is_asked_for_again_from_the_newest_event_is_no_loop() -> None:
    def misbehaves(server: Server, limit: int, page: range, cursor: str | None) -> Response | None:
        return server.response(400, b"")

    with pytest.raises(CursorExpiredError):
        Server(misbehaves).fetch(None, limit=7)


def test_gone_without_a_cursor_is_not_an_expiry() -> None:
    def misbehaves(server: Server, limit: int, page: range, cursor: str | None) -> Response | None:
        return server.response(410)

    with pytest.raises(NotTheApiError):
        Server(misbehaves).fetch(None)


def test_the_whole_recovery_goes_on_after_the_page_that_came_again() -> None:
    server = Server(kills_cursors(502))
    pages: list[RawPage] = []
    renewal = cursors.Renewal(server.fetcher, server.fetcher.cursors)
    for page in follow(from_the_start("all"), server.fetcher, renewal):
        pages.append(page)
        server.now += LIFE_S + 1 if page.page.sequence == 1 else 0
    assert ids_of(pages) == ALL
    assert [start for _, start in server.asked] == [None, 10, 20, 20, None, 20, 10, 20, 30]


# --- pages that fail ---


def fails_on(bad: set[int], fault: Fault | None = None, status: int = 500, body: bytes = b"") -> Misbehaviour:
    def misbehaves(server: Server, limit: int, page: range, cursor: str | None) -> Response | None:
        if not bad.intersection(page):
            return None
        if fault is not None:
            raise fault
        return server.response(status, body)

    return misbehaves


@pytest.mark.parametrize(
    ("fault", "status", "body", "said"),
    [
        (TooLarge("the body is larger than MAX_PAGE_BYTES (9)"), 0, b"", "is too large"),
        (None, 500, b"", "cannot serve one event, the one after event e16"),
        (None, 200, b'{"data": [', "cannot serve one event"),
    ],
    ids=["too large", "500", "cut off"],
)
def test_the_one_event_that_fails_is_isolated_and_named(
    fault: Fault | None, status: int, body: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(fails_on({17}, fault, status, body))
    got: list[RawPage] = []
    with pytest.raises(EventUnreachableError, match=said) as raised:
        got.extend(follow(from_the_start("all"), server.fetcher))
    assert raised.value.hint
    assert ids_of(got) == ALL[:17], "everything before it was fetched"
    assert "asking for 5 events in the place of 10" in caplog.text
    assert server.now < 120


def test_pages_have_their_normal_size_again_behind_the_trouble(caplog: pytest.LogCaptureFixture) -> None:
    """Two events that are too large together: no page may hold both."""

    def misbehaves(server: Server, limit: int, page: range, cursor: str | None) -> Response | None:
        if {13, 14} <= set(page):
            raise TooLarge("the body is larger than MAX_PAGE_BYTES (9)")
        return None

    server = Server(misbehaves)
    pages = server.walk()
    assert ids_of(pages) == ALL
    assert all(page.received <= page.limit for page in pages)
    limits = [page.limit for page in pages]
    assert (limits[0], limits[-2:]) == (10, [10, 10])
    assert server.fetcher.limit == 10, "the limit in force shrinks for servers that refuse large ones alone"


def test_three_faults_are_needed_before_a_page_is_made_smaller() -> None:
    left = [2]

    def misbehaves(server: Server, limit: int, page: range, cursor: str | None) -> Response | None:
        left[0] -= 1
        return server.response(500) if left[0] >= 0 else None

    server = Server(misbehaves)
    assert server.fetch(None).limit == 10


@pytest.mark.parametrize(("status", "body"), [(500, b""), (502, b"<html>"), (200, b"<html>"), (200, b'{"data": [')])
def test_a_server_that_is_down_for_ten_minutes_is_waited_for_whatever_it_answers(status: int, body: bytes) -> None:
    def misbehaves(server: Server, limit: int, page: range, cursor: str | None) -> Response | None:
        return server.response(status, body) if len(server.asked) > 1 and server.now < 600 else None

    assert ids_of(Server(misbehaves).walk()) == ALL


def test_a_missing_has_more_is_an_error_and_never_the_end() -> None:
    def misbehaves(server: Server, limit: int, page: range, cursor: str | None) -> Response | None:
        silent = json.loads(server.page(page))
        del silent["hasMore"]
        return server.response(200, json.dumps(silent).encode()) if page.start == 20 else None

    server = Server(misbehaves)
    got: list[RawPage] = []
    with pytest.raises(EventUnreachableError, match="hasMore"):
        got.extend(follow(from_the_start("all"), server.fetcher))
    assert ids_of(got) == ALL[:20]


def test_a_cached_answer_is_no_answer_where_a_fresh_one_with_a_given_limit_is_asked_for() -> None:
    cached = {1}

    def misbehaves(server: Server, limit: int, page: range, cursor: str | None) -> Response | None:
        return server.response(200, server.page(page), **{"X-Cache": "HIT"}) if limit in cached else None

    server = Server(misbehaves)
    address = PageAddress(PageId(WALK, 0), None, None, fresh=True, limit=1)
    assert server.fetcher.fetch(address).received == 2
    assert [limit for limit, _ in server.asked] == [1, 2], "another URL, and never for fewer events"
