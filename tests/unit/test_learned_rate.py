"""The rate that is learned where no header tells, against the simulator's hidden limit; the clock is moved by hand."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasync_ingest.api.learned_rate import HALF_LIFE_S, START_WITH, Latency
from datasync_ingest.api.pacing import Pacer
from datasync_ingest.simulator.limits import SoftLimit
from datasync_ingest.simulator.options import Options
from tests.model.chains import Clock, Told, run, steady

OK: tuple[int, Mapping[str, str]] = (200, {})
NO: tuple[int, Mapping[str, str]] = (429, {})


def pacer(clock: Clock, seed: int = 1) -> Pacer:
    return Pacer(clock=clock.monotonic, wall=clock.wall, jitter=random.Random(seed).random)


def hidden(options: Options) -> Callable[[float], tuple[int, Mapping[str, str]]]:
    """The simulator's soft limit, as a server of `run`."""
    limit = SoftLimit()
    return lambda now: OK if limit.allows(now, options) else NO


def walk(
    *, rate: int, burst: int, penalty: float, latency_s: float, chains: int, seconds: float, seed: int = 1
) -> tuple[Told, float]:
    """What became of it, and the share of what limit, latency and chains permit that was served."""
    clock = Clock()
    options = Options(feed_rate=rate, feed_burst=burst, feed_penalty=penalty)
    told = run(
        pacer(clock, seed), clock, hidden(options), chains=chains, until_s=seconds, latency=steady(latency_s, seed)
    )
    permitted = min(burst + rate / 60 * seconds, chains / latency_s * seconds)
    return told, told.served / permitted


@pytest.mark.parametrize("chains", [1, 4, 8, 16])
@pytest.mark.parametrize("penalty", [0.0, 5.0])
@pytest.mark.parametrize(("latency_s", "most_refused"), [(0.05, 0.05), (1.0, 0.05), (3.0, 0.06)])
def test_a_hidden_limit_of_40_a_minute_with_a_burst_of_15_is_used(
    chains: int, penalty: float, latency_s: float, most_refused: float
) -> None:
    told, share = walk(rate=40, burst=15, penalty=penalty, latency_s=latency_s, chains=chains, seconds=900)
    assert share >= 0.9
    assert told.refused <= most_refused * len(told.statuses)


@pytest.mark.parametrize("chains", [1, 8])
@pytest.mark.parametrize("burst", [10, 20])
@pytest.mark.parametrize("seed", range(3))
def test_the_first_100_pages_find_a_hidden_limit_of_120_a_minute(chains: int, burst: int, seed: int) -> None:
    clock = Clock()
    began = clock.now
    server = hidden(Options(feed_rate=120, feed_burst=burst, feed_penalty=0))
    run(pacer(clock, seed), clock, server, chains=chains, until_s=600, latency=steady(0.3, seed), pages=100)
    assert (100 - burst) / 2 / (clock.now - began) >= 0.8


@settings(max_examples=60)
@given(
    rate=st.integers(10, 600),
    burst=st.integers(1, 30),
    penalty=st.floats(0, 30),
    latency_s=st.floats(0.05, 3),
    chains=st.integers(1, 16),
    seed=st.integers(0, 99),
)
def test_no_hidden_limit_brings_it_to_a_stand(
    rate: int, burst: int, penalty: float, latency_s: float, chains: int, seed: int
) -> None:
    seconds = max(300.0, 200 * 60 / rate)
    told, share = walk(
        rate=rate, burst=burst, penalty=penalty, latency_s=latency_s, chains=chains, seconds=seconds, seed=seed
    )
    cost_of_a_refusal = penalty * rate / 60 / (burst + penalty * rate / 60)  # of what is permitted meanwhile
    assert share >= (0.25 if burst < 10 else 0.6 - 0.4 * cost_of_a_refusal)
    assert told.refused <= (0.2 if burst < 10 else 0.08) * len(told.statuses) + 2 * chains
    assert told.asked <= 2 * len(told.starts) + chains * (seconds * 4 + 200)


def test_the_many_refusals_of_one_moment_are_one_decrease() -> None:
    clock = Clock()
    subject = pacer(clock)
    for chain in range(8):
        subject.take(chain)
        clock.now += 0.01
        subject.answered({}, clock.now, who=chain)
    assert [subject.take(chain) for chain in range(8)] == [0.0] * 8
    clock.now += 0.5
    rates = []
    for chain in range(8):
        subject.limited({}, clock.now, who=chain)
        rates.append(subject.state()["rate"])
    assert len(set(rates)) == 1


def test_after_a_refusal_one_asks_and_the_others_follow_one_by_one() -> None:
    clock = Clock()
    subject = pacer(clock)
    refused_until = clock.now + 3

    def answer(now: float) -> tuple[int, Mapping[str, str]]:
        return NO if clock.now - 1000 > 1 and now < refused_until else OK

    told = run(subject, clock, answer, chains=16, until_s=30, latency=steady(0.2))
    after = [at for at, _ in told.starts if at > 1002][:8]
    assert min(later - earlier for earlier, later in pairwise(after)) >= 0.3
    assert told.refused <= 20


def test_chains_are_served_in_turn() -> None:
    clock = Clock()
    subject = pacer(clock)
    subject.restore({"rate": 0.5, "ceiling": 0.5}, unseen=0)
    told = run(subject, clock, lambda now: OK, chains=16, until_s=600, latency=steady(0.3))
    turns = Counter(chain for _, chain in told.starts)
    assert max(turns.values()) - min(turns.values()) <= 1
    last: dict[int, float] = {}
    for at, chain in told.starts:
        assert at - last.get(chain, at) < 16 / 0.5 + 5
        last[chain] = at


def test_who_leaves_the_line_holds_nobody_up() -> None:
    clock = Clock()
    subject = pacer(clock)
    subject.restore({"rate": 0.5, "ceiling": 0.5}, unseen=0)
    assert subject.take("first") == 0
    waits = [subject.take(who) for who in ("second", "third")]
    assert 0 < waits[0] <= waits[1]
    subject.leave("second")
    clock.now += 2.01
    assert subject.take("third") == 0


def test_who_does_not_come_back_in_time_holds_nobody_up_and_keeps_its_place() -> None:
    clock = Clock()
    subject = pacer(clock)
    subject.restore({"rate": 0.5, "ceiling": 0.5}, unseen=0)
    assert subject.take("first") == 0
    subject.take("late")
    subject.take("third")
    clock.now += 3
    assert subject.take("third") == 0
    subject.take("fourth")
    clock.now += 1.95
    assert subject.take("late") == 0


def test_a_next_run_starts_at_the_rate_that_was_found() -> None:
    clock = Clock()
    options = Options(feed_rate=40, feed_burst=15, feed_penalty=5)
    server, before = hidden(options), pacer(clock)
    run(before, clock, server, chains=8, until_s=600, latency=steady(1.0))
    after = pacer(clock)
    after.restore(before.state(), unseen=0)
    told = run(after, clock, server, chains=8, until_s=300, latency=steady(1.0))
    assert told.refused <= 4
    assert told.served >= 0.85 * 40 * 5


def test_retry_after_is_waited_for_and_the_rate_is_learned_all_the_same() -> None:
    clock = Clock()
    subject = pacer(clock)
    subject.take()
    clock.now += 0.1
    assert subject.limited({"Retry-After": "20"}, clock.now) == pytest.approx(20)
    assert subject.take() == pytest.approx(20)
    assert subject.state()["rate"] is not None


def test_no_learned_rate_lets_a_cursor_die() -> None:
    clock = Clock()
    subject = pacer(clock)
    for _ in range(30):
        while (wait_s := subject.take()) > 0:
            clock.now += wait_s
        clock.now += 0.01
        assert subject.limited({}, clock.now) <= HALF_LIFE_S
    subject.ask_within(0.5)
    assert subject.take() <= 0.5


def test_what_a_server_sustains_is_told_in_chains() -> None:
    clock = Clock()
    subject = pacer(clock)
    assert subject.sustains is None
    subject.restore({"rate": 0.5, "ceiling": 0.5}, unseen=0)
    assert subject.sustains == 29
    subject.ask_within(10)
    assert subject.sustains == 5
    subject.restore({"rate": 0.001, "ceiling": 0.001}, unseen=0)
    assert subject.sustains == 1


def test_a_server_that_slows_down_under_more_chains_is_asked_less() -> None:
    """It answers four requests a second, and whoever comes more often waits."""
    clock = Clock()
    busy_until = 0.0

    def served(under_way: int) -> float:
        nonlocal busy_until
        busy_until = max(busy_until + 0.25, clock.now + 0.25)
        return busy_until - clock.now

    subject = pacer(clock)
    run(subject, clock, lambda now: OK, chains=1, until_s=10, latency=served)
    told = run(subject, clock, lambda now: OK, chains=16, until_s=300, latency=served)
    assert told.served >= 0.85 * 4 * 300
    assert subject.state()["rate"] is not None


def test_an_even_latency_limits_nothing_however_uneven_single_pages_are() -> None:
    clock = Clock()
    draw = random.Random(3)
    subject = pacer(clock)
    told = run(subject, clock, lambda now: OK, chains=8, until_s=300, latency=lambda _: draw.uniform(1, 3))
    assert subject.state()["rate"] is None
    assert told.served > 8 * 300 / 2.1


def test_the_many_503s_of_an_overloaded_server_reduce_the_rate_and_a_few_do_not() -> None:
    clock = Clock()
    draw = random.Random(4)
    few, many = pacer(clock), pacer(clock)
    run(few, clock, lambda now: (503 if draw.random() < 0.03 else 200, {}), chains=8, until_s=20, latency=steady(0.5))
    run(many, clock, lambda now: (503 if draw.random() < 0.5 else 200, {}), chains=8, until_s=20, latency=steady(0.5))
    assert few.state()["rate"] is None
    assert many.state()["rate"] is not None


def test_a_single_chain_is_not_slowed_down_by_what_it_cannot_change() -> None:
    clock = Clock()
    subject = pacer(clock)
    run(subject, clock, lambda now: (503, {}), chains=1, until_s=20, latency=steady(0.5))
    run(subject, clock, lambda now: OK, chains=1, until_s=60, latency=lambda _: 0.2 + (clock.now % 60) / 10)
    assert subject.state()["rate"] is None


def test_a_start_asks_with_one_and_then_with_a_few() -> None:
    clock = Clock()
    subject = pacer(clock)
    assert [subject.take(chain) == 0 for chain in range(3)] == [True, False, False]
    clock.now += 0.3
    subject.answered({}, clock.now, who=0)
    taken = sum(subject.take(chain) == 0 for chain in range(30))
    assert taken == START_WITH


def test_latency_has_doubled_once_for_each_time_that_it_does() -> None:
    latency = Latency()
    assert not any(latency.has_doubled(1.0) for _ in range(40))
    assert sum(latency.has_doubled(2.2) for _ in range(40)) == 1


FREE = None
TWO_A_SECOND = Options(feed_rate=120, feed_burst=20, feed_penalty=0)
LESS = Options(feed_rate=40, feed_burst=15, feed_penalty=0)


class Hiccups:
    """A server that now and then refuses without a reason: `strays` in a row, after so many seconds."""

    def __init__(self, limit: Options | None, status: int, plan: list[tuple[float, int]]) -> None:
        self.server = (lambda now: OK) if limit is None else hidden(limit)
        self.status = status
        self.plan = plan
        self.left = 0

    def answer(self, now: float) -> tuple[int, Mapping[str, str]]:
        if self.plan and now >= self.plan[0][0]:
            self.left = self.plan.pop(0)[1]
        if self.left:
            self.left -= 1
            return self.status, {}
        return self.server(now)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("limit", "per_s"), [(FREE, 8.0), (TWO_A_SECOND, 2.0), (LESS, 0.667)], ids=["8", "2", "0.67"])
@pytest.mark.parametrize(
    "strays", [[(0, 1)], [(0, 5)], [(0, 1), (3, 1)], [(0, 2), (8, 2)], [(0, 1), (4, 1), (8, 1), (12, 1)]], ids=str
)
def test_stray_refusals_are_made_up_for_within_a_minute(
    strays: list[tuple[float, int]], limit: Options | None, per_s: float, status: int
) -> None:
    """What they cost is what the server serves in a minute at most, of the three that follow."""
    clock = Clock()
    subject = pacer(clock)
    server = Hiccups(limit, status, [(clock.now + 200 + at, count) for at, count in strays])
    run(subject, clock, server.answer, chains=8, until_s=200, latency=steady(0.95))
    told = run(subject, clock, server.answer, chains=8, until_s=180, latency=steady(0.95))
    assert told.served >= (180 - 60) * per_s


@pytest.mark.parametrize("limit", [FREE, TWO_A_SECOND, LESS], ids=["free", "2", "0.67"])
def test_one_stray_refusal_in_fifty_does_not_starve_a_run(limit: Options | None) -> None:
    clock = Clock()
    draw = random.Random(6)
    server = Hiccups(limit, 429, []).server
    told = run(
        pacer(clock),
        clock,
        lambda now: NO if draw.random() < 0.02 else server(now),
        chains=8,
        until_s=600,
        latency=steady(1.0),
    )
    permitted = 8.0 if limit is None else limit.feed_rate / 60
    assert told.served >= 0.35 * permitted * 600


def test_a_refusal_that_was_no_fault_of_the_rates_is_forgotten_soon() -> None:
    clock = Clock()
    subject = pacer(clock)
    refusals = iter([NO])
    run(subject, clock, lambda now: OK, chains=1, until_s=6, latency=steady(0.1))
    run(subject, clock, lambda now: next(refusals, OK), chains=1, until_s=60, latency=steady(0.1))
    told = run(subject, clock, lambda now: OK, chains=1, until_s=60, latency=steady(0.1))
    assert told.served > 0.9 * 60 / 0.11


def test_503s_before_anything_was_served_measure_nothing() -> None:
    clock = Clock()
    subject = pacer(clock)
    up_at = clock.now + 5
    told = run(
        subject,
        clock,
        lambda now: OK if now >= up_at else (503, {}),
        chains=8,
        until_s=120,
        latency=steady(0.5),
    )
    assert told.served >= 0.9 * 115 * 8 / 0.53


@pytest.mark.parametrize("away_s", [60, 900])
def test_an_outage_says_nothing_of_what_the_server_sustains(away_s: float) -> None:
    clock = Clock()
    subject, server = pacer(clock), hidden(TWO_A_SECOND)
    run(subject, clock, server, chains=8, until_s=300, latency=steady(0.5))
    clock.now += away_s
    back = iter([NO, NO])
    told = run(subject, clock, lambda now: next(back, None) or server(now), chains=8, until_s=180, latency=steady(0.5))
    assert told.served >= 0.9 * 2 * 180


def test_pages_that_wait_for_the_database_say_nothing_of_what_the_server_sustains() -> None:
    clock = Clock()
    subject = pacer(clock)
    subject.restore({"rate": 1.8, "ceiling": 2.0}, unseen=0)
    for _ in range(60):
        while (wait_s := subject.take()) > 0:
            clock.now += wait_s
        clock.now += 0.5
        subject.answered({}, clock.now)
        clock.now += 9.5
    for _ in range(2):
        while (wait_s := subject.take()) > 0:
            clock.now += wait_s
        clock.now += 0.5
        subject.limited({}, clock.now)
        clock.now += 1
        while (wait_s := subject.take()) > 0:
            clock.now += wait_s
        clock.now += 0.5
        subject.answered({}, clock.now)
    assert subject.state()["ceiling"] >= 1.0


@pytest.mark.parametrize("rate", [1 / HALF_LIFE_S, 1e-12])
def test_a_very_low_rate_is_left_within_the_hour(rate: float) -> None:
    clock = Clock()
    subject = pacer(clock)
    subject.restore({"rate": rate, "ceiling": rate}, unseen=0)
    run(subject, clock, lambda now: OK, chains=8, until_s=3600, latency=steady(0.5))
    assert subject.state()["rate"] >= 1


@pytest.mark.parametrize(
    "saved",
    [
        {"rate": 0.0},
        {"rate": -1.0},
        {"rate": float("nan"), "ceiling": float("inf")},
        {"rate": float("inf")},
        {"rate": "2"},
        {"rate": 2.0, "ceiling": -1.0},
        {"limit": "ten", "remaining": [], "turn_at": {}, "window_s": True},
        {"limit": 0, "remaining": 0, "window_s": 0},
        {"a_name_of_another_version": 1},
    ],
    ids=str,
)
def test_whatever_the_sidecar_holds_a_run_finds_its_rate(saved: dict[str, object]) -> None:
    clock = Clock()
    subject = pacer(clock)
    subject.restore(saved, unseen=0)
    server = hidden(TWO_A_SECOND)
    run(subject, clock, server, chains=2, until_s=240, latency=steady(0.5))
    told = run(subject, clock, server, chains=2, until_s=60, latency=steady(0.5))
    assert told.served >= 0.8 * 2 * 60


def test_a_server_that_tells_of_no_window_any_more_has_its_rate_learned() -> None:
    clock = Clock()
    subject = pacer(clock)
    subject.restore({"limit": 10, "remaining": 0, "turn_at": clock.wall() - 60, "window_s": 60.0}, unseen=1)
    told = run(subject, clock, hidden(LESS), chains=8, until_s=600, latency=steady(0.5))
    assert told.served >= 0.9 * (40 * 10 + 15)
    assert told.refused <= 0.06 * len(told.statuses)


def turns(subject: Pacer, clock: Clock, headers: Mapping[str, str], count: int) -> list[float]:
    """How long each of so many refusals keeps whoever asks away, all told."""
    waits = []
    for _ in range(count):
        clock.now += 0.1
        subject.limited(headers, clock.now)
        refused_at = clock.now
        while (wait_s := subject.take()) > 0:
            clock.now += wait_s
        waits.append(clock.now - refused_at)
    return waits


def test_refusals_that_tell_nothing_are_sat_out_ever_longer_where_answers_tell_of_a_window() -> None:
    clock = Clock()
    subject = pacer(clock)
    subject.take()
    told = {"X-RateLimit-Limit": "1", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "60"}
    subject.answered(told, clock.now)
    clock.now += subject.take()
    assert subject.take() == 0
    waits = turns(subject, clock, {}, 29)
    assert waits[0] == pytest.approx(0.5, abs=0.1)
    assert max(waits) <= HALF_LIFE_S + 1
    assert sum(waits) >= 900


def test_a_retry_after_that_is_wrong_again_and_again_is_not_all_that_is_waited() -> None:
    clock = Clock()
    subject = pacer(clock)
    subject.take()
    waits = turns(subject, clock, {"Retry-After": "1"}, 29)
    assert waits[:3] == [pytest.approx(1, abs=0.01)] * 3
    assert sum(waits) >= 900
