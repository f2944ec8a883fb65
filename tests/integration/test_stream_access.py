"""The feed's token over real HTTP: how it is asked for, shared and renewed, and what the user hears of each refusal."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from datasync_ingest.api.endpoints import FeedEndpoint, OwnFeedEndpoint, endpoint_of
from datasync_ingest.api.fetching import PageFetcher
from datasync_ingest.api.outcomes import NoAccess
from datasync_ingest.api.stream_access import REFUSALS, StreamAccess
from datasync_ingest.conversions import API_PATH
from datasync_ingest.errors import (
    ApiError,
    ApiUnreachableError,
    KeyRefusedError,
    NotTheApiError,
    StreamRefusedError,
)
from datasync_ingest.messages import FEED, PageAddress, PageId, RawPage, TimeBounds
from datasync_ingest.settings import Secret, Settings
from datasync_ingest.simulator.process import SimulatorProcess
from datasync_ingest.stopping import Interrupted
from tests.harness import API_KEY, until

Start = Callable[..., SimulatorProcess]
ACCESS = "/internal/dashboard/stream-access"
PATH = "/api/v1/events/d4ta/x7k9/feed"


def settings_for(url: str, **changes: Any) -> Settings:
    chosen: dict[str, Any] = {"endpoint": FEED, "batch_size": 500, "api_patience": 0.3, **changes}
    return Settings(Secret(API_KEY), api_base_url=f"{url.removesuffix(API_PATH)}{API_PATH}", **chosen)


def feed_fetcher(settings: Settings) -> PageFetcher:
    return PageFetcher(settings, endpoint=endpoint_of(settings), jitter=lambda: 0.0)


def walked(fetcher: PageFetcher, walk: str = "a", bounds: TimeBounds = TimeBounds()) -> list[RawPage]:  # noqa: B008
    pages: list[RawPage] = []
    while not pages or not pages[-1].ends_walk:
        cursor, after = (pages[-1].next_cursor, pages[-1].last) if pages else (None, None)
        pages.append(fetcher.fetch(PageAddress(PageId(walk, len(pages)), cursor, after, bounds=bounds)))
    return pages


def events_of(pages: list[RawPage]) -> list[dict[str, Any]]:
    return [event for page in pages for event in json.loads(page.body)["data"]]


# --- against the simulator ---


def test_the_feed_is_walked_with_a_token_that_is_asked_for_once(simulator: Start) -> None:
    api = simulator(events=2_000, dashboard_needs="origin")
    with closing(feed_fetcher(settings_for(api.url))) as fetcher:
        assert [event["id"] for event in events_of(walked(fetcher))] == api.ids()
    assert api.counters()["requests"] == {"events": 0, "stream-access": 1, "feed": 4}


def test_a_user_agent_that_the_user_sets_is_the_one_that_is_sent(simulator: Start) -> None:
    api = simulator(events=10)
    with closing(feed_fetcher(settings_for(api.url, user_agent="Mozilla/5.0 (mine)"))) as fetcher:
        assert len(walked(fetcher)) == 1


def test_a_refused_program_is_told_what_it_asked_with_and_how_to_go_on(simulator: Start) -> None:
    api = simulator(events=10)
    with closing(feed_fetcher(settings_for(api.url))) as fetcher, pytest.raises(StreamRefusedError) as caught:
        walked(fetcher)
    assert caught.value.exit_code == 3
    sentence = str(caught.value)
    assert f"403 DASHBOARD_REQUIRED (stream access is for the dashboard) to POST {ACCESS}" in sentence
    assert f"Origin: {api.url.removesuffix(API_PATH)} and User-Agent: datasync_ingest/" in sentence
    for way in ("TARGET_USER_AGENT", "TARGET_STREAM_TOKEN", "TARGET_STREAM_PATH", "--source events"):
        assert way in caught.value.hint
    assert api.counters()["requests"] == {"events": 0, "stream-access": 1}, "a refusal is not asked for twice"


def test_a_wrong_key_is_the_keys_error(simulator: Start) -> None:
    api = simulator(events=10, dashboard_needs="origin", key_refused_status=403)
    settings = Settings(Secret("another"), api_base_url=api.url, endpoint=FEED)
    with closing(feed_fetcher(settings)) as fetcher, pytest.raises(KeyRefusedError, match="INVALID_API_KEY"):
        walked(fetcher)


def test_a_key_that_dies_in_mid_walk_costs_no_token(simulator: Start) -> None:
    api = simulator(events=1_000, dashboard_needs="origin")
    with closing(feed_fetcher(settings_for(api.url))) as fetcher:
        first = fetcher.fetch(PageAddress(PageId("a", 0), None, None))
        api.options(key_life=0)
        with pytest.raises(KeyRefusedError, match="API_KEY_EXPIRED"):
            fetcher.fetch(PageAddress(PageId("a", 1), first.next_cursor, first.last))
    assert api.counters()["requests"]["stream-access"] == 1


def test_siblings_in_threads_share_one_refresh_of_a_token_that_dies(simulator: Start) -> None:
    """It does not say how long it lives; a page takes 0.1 s."""
    life_s = 0.4
    api = simulator(events=3_000, dashboard_needs="origin", token_life=life_s, feed_latency_ms=100, feed_rate=0)
    with closing(feed_fetcher(settings_for(api.url))) as first, closing(first.sibling()) as second:
        found: list[list[RawPage]] = []
        begin = threading.Barrier(2)

        def walk(fetcher: PageFetcher, name: str) -> None:
            begin.wait()
            found.append(walked(fetcher, name))

        threads = [threading.Thread(target=walk, args=pair) for pair in ((first, "a"), (second, "b"))]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took_s = time.monotonic() - began
        assert [[event["id"] for event in events_of(pages)] for pages in found] == [api.ids()] * 2
        assert first.activity.counts["requests"] >= 6
        assert second.activity.counts["requests"] >= 6
    counters = api.counters()
    refreshes = counters["requests"]["stream-access"] - 1
    assert 1 <= refreshes <= took_s / life_s, "one for each token that died"
    assert 1 <= counters["statuses"]["403"] <= 2 * refreshes, "each chain may have met each dead token once"


def test_a_token_is_renewed_before_its_end_and_none_is_refused(simulator: Start) -> None:
    api = simulator(events=2_500, dashboard_needs="origin", token_life=1, feed_latency_ms=150)
    with closing(feed_fetcher(settings_for(api.url))) as fetcher:
        assert len(walked(fetcher)) == 5
    counters = api.counters()
    assert counters["requests"]["stream-access"] == 2
    assert "403" not in counters["statuses"]


@pytest.mark.parametrize("since", ["inclusive", "exclusive", "ignored"])
@pytest.mark.parametrize("until_", ["inclusive", "exclusive", "ignored"])
def test_bounds_go_out_with_every_page_and_mean_what_the_server_takes_them_for(since: str, until_: str) -> None:
    with SimulatorProcess(
        {"api-key": API_KEY, "events": 400, "dashboard-needs": "origin", "feed-since": since, "feed-until": until_}
    ) as api:
        events = api.events()
        stamps = [stamp for event in events if isinstance(stamp := event["timestamp"], int)]
        low, high = stamps[len(stamps) * 3 // 4], stamps[len(stamps) // 4]
        with closing(feed_fetcher(settings_for(api.url, batch_size=50))) as fetcher:
            pages = walked(fetcher, bounds=TimeBounds(low, high))
        found = [event["timestamp"] for event in events_of(pages)]
        assert len(pages) > 1
        assert (low in found) is (since != "exclusive")
        assert (high in found) is (until_ != "exclusive")
        assert (min(found) < low, max(found) > high) == (since == "ignored", until_ == "ignored")


@pytest.mark.parametrize("answer", ["418", "empty"])
def test_a_range_without_data_is_an_empty_page_that_ends_the_walk(simulator: Start, answer: str) -> None:
    api = simulator(events=100, dashboard_needs="origin", out_of_range=answer)
    with closing(feed_fetcher(settings_for(api.url))) as fetcher:
        (page,) = walked(fetcher, bounds=TimeBounds(until=1_000))
        assert (page.received, page.total, page.ends_walk, page.next_cursor) == (0, 0, True, None)
        assert json.loads(page.body)["data"] == []


def test_a_user_s_own_token_is_used_until_it_dies(simulator: Start) -> None:
    api = simulator(events=1_000, dashboard_needs="origin", token_life=100)
    with closing(StreamAccess(settings_for(api.url))) as access:
        token = access.current()
    own = settings_for(api.url, stream_token=token.text, stream_path=urlsplit(token.url).path)
    with closing(feed_fetcher(own)) as fetcher:
        assert len(walked(fetcher)) == 2
        assert api.counters()["requests"]["stream-access"] == 1
    dead = settings_for(api.url, stream_token=Secret("deadbeefdeadbeef"), stream_path=own.stream_path)
    with closing(feed_fetcher(dead)) as fetcher, pytest.raises(StreamRefusedError) as caught:
        walked(fetcher)
    assert "refuses TARGET_STREAM_TOKEN: it answered 403 INVALID_STREAM_TOKEN" in str(caught.value)
    assert "it goes on from here" in caught.value.hint
    elsewhere = settings_for(api.url, stream_token=token.text, stream_path="/api/v1/nothing")
    with closing(feed_fetcher(elsewhere)) as fetcher, pytest.raises(NotTheApiError, match="is not the feed") as lost:
        walked(fetcher)
    assert "TARGET_STREAM_PATH" in lost.value.hint


# --- against a server that misbehaves ---


class Site:
    """Answers stream access and the feed as the test says; counts what it was asked."""

    def __init__(self) -> None:
        self.access: Callable[[int], tuple[int, Any]] = lambda count: (200, granted(f"token-{count}"))
        self.feed: Callable[[str], tuple[int, Any]] = lambda token: (200, {"data": [], "hasMore": False})
        self.asked = 0
        self.tokens: list[str] = []
        self.seen: list[dict[str, str]] = []

    def answer(self, path: str, headers: dict[str, str]) -> tuple[int, Any]:
        self.seen.append(headers)
        if path == ACCESS:
            self.asked += 1
            return self.access(self.asked)
        self.tokens.append(headers.get("x-stream-token", ""))
        return self.feed(self.tokens[-1])


def granted(token: str, **changes: Any) -> dict[str, Any]:
    access = {"endpoint": PATH, "token": token, "expiresIn": 300, "tokenHeader": "X-Stream-Token", **changes}
    return {"streamAccess": access}


@contextmanager
def serving(site: Site) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, body = site.answer(self.path.split("?")[0], {k.lower(): v for k, v in self.headers.items()})
            text = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def refusal(code: str = "INVALID_STREAM_TOKEN") -> dict[str, str]:
    return {"error": "refused", "code": code}


def test_faults_of_stream_access_are_sat_out() -> None:
    site = Site()
    site.access = lambda count: [(502, b"<html>"), (429, b"")][count - 1] if count < 3 else (200, granted("t"))
    with serving(site) as url, closing(feed_fetcher(settings_for(url, api_patience=30.0))) as fetcher:
        assert walked(fetcher)[0].received == 0
    assert site.asked == 3
    assert site.tokens == ["t"], "none of these questions was asked of the feed"


def test_patience_ends_with_an_error_that_names_stream_access() -> None:
    site = Site()
    site.access = lambda _: (502, b"<html>")
    with (
        serving(site) as url,
        closing(feed_fetcher(settings_for(url))) as fetcher,
        pytest.raises(ApiUnreachableError, match=f"No page from {url}{ACCESS} .* stream access: the server answ"),
    ):
        walked(fetcher)


def test_a_stop_ends_the_waiting_for_stream_access() -> None:
    site = Site()
    site.access = lambda _: (502, b"<html>")
    with serving(site) as url, closing(feed_fetcher(settings_for(url, api_patience=60.0))) as fetcher:

        def walk() -> None:
            with pytest.raises(Interrupted):
                walked(fetcher)

        thread = threading.Thread(target=walk)
        thread.start()
        until(lambda: site.asked)
        fetcher.sibling().stop()
        thread.join(5)
        assert not thread.is_alive()


def test_a_fresh_token_that_is_refused_again_ends_the_run_and_is_not_shown() -> None:
    site = Site()
    site.feed = lambda token: (403, {"error": f"no such token {token}", "code": "INVALID_STREAM_TOKEN"})
    with (
        serving(site) as url,
        closing(feed_fetcher(settings_for(url))) as fetcher,
        pytest.raises(StreamRefusedError, match="refuses tokens that are fresh, 2 in a row") as caught,
    ):
        walked(fetcher)
    assert site.tokens == ["token-1", "token-2"]
    assert "token-2" not in str(caught.value)
    assert len(site.tokens) == REFUSALS


def test_a_feed_that_has_moved_is_followed_to_its_new_path() -> None:
    site = Site()
    site.feed = lambda token: (404, refusal("ENDPOINT_NOT_FOUND")) if token == "token-1" else (200, page_of_nothing())
    with serving(site) as url, closing(feed_fetcher(settings_for(url))) as fetcher:
        assert len(walked(fetcher)) == 1
    assert site.tokens == ["token-1", "token-2"]


def page_of_nothing() -> dict[str, Any]:
    return {"data": [], "hasMore": False}


@pytest.mark.parametrize(
    ("status", "body", "error", "sentence"),
    [
        (404, refusal("ENDPOINT_NOT_FOUND"), StreamRefusedError, "This API has no stream access"),
        (401, refusal("INVALID_API_KEY"), KeyRefusedError, "refuses the key: it answered 401"),
        (400, refusal("BAD_ORIGIN"), StreamRefusedError, "gives no stream access to this program: it answered 400"),
        (302, b"", StreamRefusedError, "gives no stream access to this program: it answered 302"),
        (200, granted("t", endpoint="http://elsewhere.example/feed"), StreamRefusedError, "leads to something else"),
        (200, granted("t", endpoint="//elsewhere.example/feed"), StreamRefusedError, "leads to something else"),
        (200, granted("t", endpoint="@elsewhere.example/feed"), StreamRefusedError, "leads to something else"),
        (200, granted("t", endpoint="/feed\\..\r\nX: y"), StreamRefusedError, "leads to something else"),
        (200, granted("two words"), ApiUnreachableError, "holds no path and token"),
        (200, granted("t", tokenHeader="X: y"), ApiUnreachableError, "names no header"),
        (200, b"<html>", ApiUnreachableError, "holds no path and token"),
        (200, b"[]", ApiUnreachableError, "holds no path and token"),
    ],
)
def test_every_other_answer_to_the_question_for_access_is_an_error_with_a_name(
    status: int, body: Any, error: type[ApiError], sentence: str
) -> None:
    site = Site()
    site.access = lambda _: (status, body)
    with (
        serving(site) as url,
        closing(feed_fetcher(settings_for(url, api_patience=0.0))) as fetcher,
        pytest.raises(error, match=sentence) as caught,
    ):
        walked(fetcher)
    assert caught.value.hint
    assert site.tokens == [], "nothing goes to a place that is not the API's"


def test_the_header_of_the_token_is_the_one_that_the_answer_names() -> None:
    site = Site()
    site.access = lambda _: (200, granted("t", tokenHeader="X-Other", expiresIn=None))
    with serving(site) as url, closing(feed_fetcher(settings_for(url))) as fetcher:
        walked(fetcher)
    asked, fed = site.seen
    assert asked["origin"] == url
    assert "x-other" not in asked
    assert (fed["x-other"], fed["x-api-key"]) == ("t", API_KEY)


# --- its clock ---


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_token_that_runs_out_is_used_while_its_renewal_fails_and_not_asked_for_all_the_time() -> None:
    site, clock = Site(), Clock()
    with serving(site) as url, closing(StreamAccess(settings_for(url), clock=clock)) as access:
        assert access.current().number == 1
        clock.now += 269
        assert access.current().number == 1
        site.access = lambda _: (502, b"")
        clock.now += 2  # less than a tenth of 300 s is left
        assert access.current().number == 1
        assert access.current().number == 1
        assert site.asked == 2, "no second question within 5 s"
        clock.now += 6
        assert access.current().number == 1
        assert site.asked == 3
        clock.now += 24
        with pytest.raises(NoAccess, match="stream access: the server answered 502"):
            access.current()
        with pytest.raises(NoAccess):
            access.current()
        assert site.asked == 4, "nor within 0.4 s when none is left"
        site.access = lambda count: (200, granted(f"token-{count}"))
        clock.now += 2
        assert access.current().number == 2


def test_while_one_thread_asks_the_others_use_the_old_token() -> None:
    site, clock = Site(), Clock()
    answer = threading.Event()
    with serving(site) as url, closing(StreamAccess(settings_for(url), clock=clock)) as access:
        access.current()
        clock.now += 295

        def slow(count: int) -> tuple[int, Any]:
            answer.wait(10)
            return 200, granted(f"token-{count}")

        site.access = slow
        thread = threading.Thread(target=access.current)
        thread.start()
        until(lambda: site.asked == 2)
        assert access.current().number == 1
        answer.set()
        thread.join()
        assert access.current().number == 2
    assert site.asked == 2


def test_threads_that_wait_for_one_question_share_its_failure() -> None:
    site = Site()
    answer = threading.Event()

    def slow(_: int) -> tuple[int, Any]:
        answer.wait(10)
        return 403, refusal("DASHBOARD_REQUIRED")

    site.access = slow
    caught: list[StreamRefusedError] = []
    with serving(site) as url, closing(StreamAccess(settings_for(url))) as access:

        def ask() -> None:
            with pytest.raises(StreamRefusedError) as found:
                access.current()
            caught.append(found.value)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: site.asked)
        answer.set()
        for thread in threads:
            thread.join()
    assert site.asked == 1
    assert len({id(error) for error in caught}) == len({(str(error), error.hint) for error in caught}) * 4 == 4


def test_a_token_that_another_thread_has_replaced_is_refused_without_a_consequence() -> None:
    site = Site()
    with serving(site) as url, closing(FeedEndpoint(settings_for(url))) as endpoint:
        stream = endpoint._stream
        old = stream.current().number
        stream.refused(old, "403")
        new = stream.current().number
        for _ in range(REFUSALS):
            stream.refused(old, "403")
        assert stream.current().number == new
        stream.accepted(new)
        stream.refused(new, "403")
        assert stream.current().number == new + 1
    assert site.asked == 3


def test_no_token_is_in_what_prints() -> None:
    settings = settings_for("http://host", stream_token=Secret("deadbeef"), stream_path=PATH)
    endpoint = OwnFeedEndpoint(settings)
    assert "deadbeef" in settings.secrets
    assert "deadbeef" not in f"{settings!r} {endpoint.access()!r}"
