"""The pacer, against a server's window that is modelled exactly and a clock that is moved by hand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasync_ingest.api.pacing import RETRY_AFTER_FLOOR_S, Pacer
from datasync_ingest.api.rate_headers import RETRY_AFTER_CAP_S
from datasync_ingest.api.windows import MARGIN_S
from tests.model.chains import Clock, run, steady


class Server:
    """A fixed window that its first request opens; headers in one of three styles, its clock `skew` off."""

    def __init__(
        self,
        clock: Clock,
        *,
        limit: int = 10,
        window_s: float = 5.0,
        style: str = "delta",
        skew: float = 0.0,
        down: bool = False,
    ) -> None:
        self.clock = clock
        self.limit = limit
        self.window_s = window_s
        self.style = style
        self.skew = skew
        self.rounded = math.floor if down else math.ceil
        self.turn_at = -math.inf
        self.used = 0
        self.refused = 0

    def request(self) -> tuple[int, dict[str, str]]:
        now = self.clock.now
        if now >= self.turn_at:
            self.turn_at, self.used = now + self.window_s, 0
        self.used += 1
        status = 200 if self.used <= self.limit else 429
        self.refused += status == 429
        left = self.turn_at - now
        wall_turn = self.clock.wall() + left + self.skew
        reset = {
            "delta": str(self.rounded(left)),
            "epoch-s": str(self.rounded(wall_turn)),
            "epoch-ms": str(math.ceil(wall_turn * 1000)),
        }[self.style]
        headers = {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(max(0, self.limit - self.used)),
            "X-RateLimit-Reset": reset,
            "Date": formatdate(self.clock.wall() + self.skew, usegmt=True),
        }
        if status == 429:
            headers["Retry-After"] = str(math.ceil(left))
        return status, headers


def pacer(clock: Clock, **options: int) -> Pacer:
    return Pacer(clock=clock.monotonic, wall=clock.wall, jitter=lambda: 0.5, **options)


def ask(subject: Pacer, server: Server, *, latency_s: float = 0.01) -> int:
    """One request as the fetcher makes it; returns its status."""
    clock = server.clock
    while (wait_s := subject.take()) > 0:
        clock.now += wait_s
    clock.now += latency_s / 2
    status, headers = server.request()
    clock.now += latency_s / 2
    if status == 429:
        subject.limited(headers, clock.now)
    else:
        subject.answered(headers, clock.now)
    return status


def test_every_request_of_every_window_is_used_and_none_is_refused() -> None:
    clock = Clock()
    server, subject = Server(clock), pacer(clock)
    began = clock.now
    statuses = [ask(subject, server) for _ in range(60)]
    assert statuses == [200] * 60
    assert clock.now - began <= 25.0 * 1.01 + 10 * 0.01


@pytest.mark.parametrize("style", ["delta", "epoch-s", "epoch-ms"])
@pytest.mark.parametrize("skew", [-30.0, 0.0, 30.0])
@pytest.mark.parametrize("latency_s", [0.001, 0.2, 0.9])
def test_no_request_is_refused_whatever_the_reset_style_and_the_clocks(
    style: str, skew: float, latency_s: float
) -> None:
    clock = Clock()
    server, subject = Server(clock, style=style, skew=skew), pacer(clock)
    for _ in range(60):
        ask(subject, server, latency_s=latency_s)
    assert server.refused == 0


@pytest.mark.parametrize("style", ["delta", "epoch-s", "epoch-ms"])
@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("skew", [-30.2, 0.0, 30.6])
@pytest.mark.parametrize("latency_s", [0.02, 0.2])
def test_after_a_first_window_each_turn_is_known_to_some_milliseconds(
    style: str, down: bool, skew: float, latency_s: float
) -> None:
    clock = Clock()
    server, subject = Server(clock, style=style, skew=skew, down=down), pacer(clock)
    begun = []
    for number in range(70):
        ask(subject, server, latency_s=latency_s)
        if number % 10 == 0:
            begun.append(clock.now)
    assert server.refused == 0
    assert begun[1] - begun[0] <= (7.1 if style == "epoch-s" else 6.1 if style == "epoch-ms" else 5.03)
    assert begun[6] - begun[2] <= 4 * 5.03


@pytest.mark.parametrize("chains", [1, 4, 16, 64])
@pytest.mark.parametrize("latency_s", [0.05, 0.9])
def test_many_chains_use_every_request_of_every_window_and_none_is_refused(chains: int, latency_s: float) -> None:
    clock = Clock()
    server, subject = Server(clock), pacer(clock)
    told = run(subject, clock, lambda now: server.request(), chains=chains, until_s=52, latency=steady(latency_s))
    assert server.refused == 0
    if chains >= 4:
        assert told.served >= 100
    turns = Counter(chain for _, chain in told.starts)
    assert max(turns.values()) - min(turns.values()) <= 5


@given(
    limit=st.integers(1, 50),
    window_s=st.integers(1, 120),
    latencies=st.lists(st.floats(0.0, 5.0), min_size=1, max_size=120),
    style=st.sampled_from(["delta", "epoch-s", "epoch-ms"]),
    skew=st.floats(-3600, 3600),
    start=st.floats(0, 1),
)
def test_no_request_is_ever_refused(
    limit: int, window_s: int, latencies: list[float], style: str, skew: float, start: float
) -> None:
    clock = Clock()
    clock.now += start
    server, subject = Server(clock, limit=limit, window_s=window_s, style=style, skew=skew), pacer(clock)
    for latency_s in latencies:
        ask(subject, server, latency_s=latency_s)
    fall = any(
        latencies[number] < min(latencies[:number]) - spread(latencies[max(0, number - 20) : number])
        for number in range(10, len(latencies))
    )
    assert server.refused <= fall, "one request that overtakes all that went before is early once"


def spread(latencies: Sequence[float]) -> float:
    return max(latencies) - min(latencies)


@pytest.mark.parametrize(("buffer", "used"), [(0, 10), (3, 7), (9, 1), (50, 1)])
def test_the_buffer_is_left_unused_but_one_request_always_goes(buffer: int, used: int) -> None:
    clock = Clock()
    server, subject = Server(clock), pacer(clock, buffer=buffer)
    for _ in range(used):
        assert subject.wait_s() == 0
        ask(subject, server)
    assert subject.wait_s() > 4


def test_a_restart_inside_a_spent_window_waits_for_its_turn() -> None:
    clock = Clock()
    server, subject = Server(clock), pacer(clock)
    for _ in range(10):
        ask(subject, server)
    restarted = pacer(clock)
    clock.now += 1.0
    restarted.restore(subject.state(), unseen=1)
    assert 3.5 < restarted.wait_s() < 4.1
    assert ask(restarted, server) == 200


def test_a_request_that_was_not_recorded_before_a_kill_is_allowed_for() -> None:
    clock = Clock()
    server, subject = Server(clock), pacer(clock)
    for _ in range(9):
        ask(subject, server)
    saved = subject.state()
    server.request()  # went out, and the process was killed before its answer came
    restarted = pacer(clock)
    restarted.restore(saved, unseen=1)
    assert ask(restarted, server) == 200


def test_a_clock_that_was_set_back_does_not_make_the_wait_longer_than_a_window() -> None:
    clock = Clock()
    server, subject = Server(clock), pacer(clock)
    for _ in range(10):
        ask(subject, server)
    saved = subject.state() | {"turn_at": clock.wall() + 86_400}
    restarted = pacer(clock)
    restarted.restore(saved, unseen=0)
    assert restarted.wait_s() <= 5.1


@pytest.mark.parametrize(
    ("headers", "expected_s"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0"}, RETRY_AFTER_FLOOR_S),
        ({"Retry-After": "86400"}, RETRY_AFTER_CAP_S),
        ({"Retry-After": formatdate(1000 + 9, usegmt=True), "Date": formatdate(1000, usegmt=True)}, 9.0),
        ({"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "4"}, 4.0 + MARGIN_S),
        (
            {"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "4", "Retry-After": "8"},
            8.0,
        ),
    ],
    ids=["seconds", "floored", "capped", "date", "reset header", "retry-after wins"],
)
def test_a_429_says_how_long_to_wait(headers: dict[str, str], expected_s: float) -> None:
    clock = Clock()
    subject = pacer(clock)
    limited_once = dict(headers)
    limited_once.setdefault("X-RateLimit-Limit", "10")
    limited_once.setdefault("X-RateLimit-Remaining", "0")
    limited_once.setdefault("X-RateLimit-Reset", "1")
    subject.started()
    assert subject.limited(limited_once, clock.now) == pytest.approx(expected_s)
    assert subject.wait_s() == pytest.approx(expected_s)


def test_a_server_that_rounds_its_reset_down_refuses_once_at_most() -> None:
    clock = Clock()
    subject = pacer(clock)
    server = Server(clock, window_s=4.7)

    def rounded_down() -> int:
        while (wait_s := subject.take()) > 0:
            clock.now += wait_s
        status, headers = server.request()
        headers["X-RateLimit-Reset"] = str(math.floor(server.turn_at - clock.now))
        headers.pop("Retry-After", None)
        (subject.limited if status == 429 else subject.answered)(headers, clock.now)
        return status

    statuses = [rounded_down() for _ in range(100)]
    assert statuses.count(429) <= 2


def test_a_restart_goes_on_waiting_as_a_429_without_rate_headers_said() -> None:
    clock = Clock()
    before = pacer(clock)
    before.started()
    before.limited({"Retry-After": "40"}, clock.now)
    after = pacer(clock)
    clock.now += 10
    after.restore(before.state(), unseen=0)
    assert after.wait_s() == pytest.approx(30)


def test_a_cached_answer_says_nothing_about_the_window() -> None:
    clock = Clock()
    subject = pacer(clock)
    subject.started()
    subject.answered(
        {"X-Cache": "HIT", "X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "60"},
        clock.now,
    )
    assert subject.wait_s() == 0


@pytest.mark.parametrize("broken", ["", "soon", "-1", "nan", "inf", "1e400", "99999999999999999"])
def test_unreadable_headers_are_no_headers(broken: str) -> None:
    clock = Clock()
    subject = pacer(clock)
    subject.started()
    subject.answered({"X-RateLimit-Remaining": broken, "X-RateLimit-Reset": broken, "Date": broken}, clock.now)
    assert subject.wait_s() == 0


@pytest.mark.parametrize(("requests", "seconds"), [(0, 0.0), (7, 0.0), (8, 5.0), (17, 5.0), (18, 10.0)])
def test_the_time_for_more_requests_knows_the_windows(requests: int, seconds: float) -> None:
    clock = Clock()
    server, subject = Server(clock), pacer(clock)
    for _ in range(3):
        ask(subject, server, latency_s=0.0)
    assert subject.seconds_for(requests) == pytest.approx(seconds, abs=0.1)
