"""Questions within a budget and in their windows' turns, with a scripted server and a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from datasync_ingest.api.client import ApiClient, Ask, Response
from datasync_ingest.api.limits import RateLimit, opening, rate_limits
from datasync_ingest.api.outcomes import Fault, TooLarge
from datasync_ingest.api.probing import (
    EVENTS,
    AnswerTooLargeError,
    BudgetSpentError,
    NotAskedError,
    Prober,
    Question,
    Told,
)
from datasync_ingest.settings import Secret, Settings

Answer = Response | Fault


def response(status: int = 200, **headers: str) -> Response:
    named = {f"X-RateLimit-{name.capitalize()}": text for name, text in headers.items()}
    return Response(status, named, b"{}", 0.0, 0.0, 0.0)


@dataclass
class Scripted:
    """A server that gives what `answer` gives, and a clock that only waits move."""

    answer: Callable[[Ask], Answer]
    now: float = 1000.0
    asked: list[Ask] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    kept: list[Mapping[str, Any]] = field(default_factory=list)
    keyed: int = 0

    def send(self, ask: Ask) -> Response:
        self.asked.append(ask)
        found = self.answer(ask)
        if isinstance(found, Fault):
            raise found
        return Response(found.status, found.headers, found.body, self.now, self.now, self.now)

    def prober(self, budget: int = 10) -> Prober:
        def sleep(seconds: float) -> None:
            self.now += seconds

        def first_keyed() -> None:
            self.keyed += 1

        return Prober(
            Settings(Secret("a-key")),
            budget,
            say=self.said.append,
            first_keyed=first_keyed,
            events_asked=self.kept.append,
            client=cast(ApiClient, self),
            clock=lambda: self.now,
            sleep=sleep,
        )


def question(*windows: str, keyed: bool = True, retries: int = 2) -> Question:
    return Question("GET it", Ask("http://127.0.0.1/it", keyed=keyed), windows, retries)


def test_the_budget_is_never_exceeded_whatever_the_server_does() -> None:
    server = Scripted(lambda _: Fault("broke off"))
    prober = server.prober(budget=5)
    for _ in range(4):
        with pytest.raises(NotAskedError):
            prober.ask(question(EVENTS))
    assert len(server.asked) == prober.spent == 5
    with pytest.raises(BudgetSpentError):
        prober.ask(question(keyed=False))
    assert len(server.asked) == 5


def test_a_server_in_trouble_is_asked_again_and_a_refusal_is_an_answer() -> None:
    answers: Iterator[Answer] = iter([response(502), Fault("reset"), response(404)])
    server = Scripted(lambda _: next(answers))
    assert server.prober().ask(question()).status == 404
    assert len(server.asked) == 3


def test_an_answer_that_is_too_large_is_not_asked_for_again() -> None:
    server = Scripted(lambda _: TooLarge("the body is larger"))
    with pytest.raises(AnswerTooLargeError):
        server.prober().ask(question())
    assert len(server.asked) == 1


def test_the_keys_clock_begins_with_the_first_request_that_has_it() -> None:
    server = Scripted(lambda _: response())
    prober = server.prober()
    prober.ask(question(keyed=False))
    assert server.keyed == 0
    prober.ask(question(EVENTS, keyed=False))  # a key in the query
    prober.ask(question())
    assert server.keyed == 1
    assert (prober.spent, prober.keyless) == (3, 1)


def test_a_spent_window_is_waited_for_and_the_wait_is_said() -> None:
    left = iter([1, 0, 2])
    server = Scripted(lambda _: response(limit="3", remaining=str(next(left)), reset="7"))
    prober = server.prober()
    for _ in range(3):
        prober.ask(question(EVENTS))
    assert server.now == pytest.approx(1007, abs=0.1)
    assert any("waiting 8 s" in line and EVENTS in line for line in server.said)


def test_a_window_that_does_not_say_when_it_turns_is_given_a_minute() -> None:
    left = iter([0, 2])
    server = Scripted(lambda _: response(limit="3", remaining=str(next(left))))
    prober = server.prober()
    prober.ask(question(EVENTS))
    prober.ask(question(EVENTS))
    assert server.now == pytest.approx(1060, abs=0.1)


def test_a_window_that_turns_in_an_hour_is_not_waited_for() -> None:
    server = Scripted(lambda _: response(limit="3", remaining="0", reset="3000"))
    prober = server.prober()
    prober.ask(question(EVENTS))
    with pytest.raises(NotAskedError, match="turns in"):
        prober.ask(question(EVENTS))
    assert len(server.asked) == 1
    assert prober.ask(question("/metrics")).status == 200, "another window has its own turn"


def test_a_429_is_not_asked_again_and_its_window_is_closed() -> None:
    server = Scripted(lambda _: response(429, limit="3", remaining="0", reset="5"))
    prober = server.prober()
    with pytest.raises(NotAskedError, match="429"):
        prober.ask(question(EVENTS))
    assert len(server.asked) == prober.limited == 1
    assert prober.windows.wait_s(EVENTS) > 4


def test_what_the_next_run_must_know_is_kept_before_and_after_each_request() -> None:
    server = Scripted(lambda _: response(limit="3", remaining="2", reset="5"))
    prober = server.prober()
    prober.ask(question(EVENTS))
    prober.ask(question("/metrics"))
    assert [kept["remaining"] for kept in server.kept] == [None, 2]
    prober.ask(question(EVENTS))
    assert [kept["remaining"] for kept in server.kept][2:] == [1, 2]


def test_the_servers_clock_is_known_to_what_all_answers_allow() -> None:
    prober = Scripted(lambda _: response()).prober()
    prober.skew.narrow(1000, 996.1, 996.2)
    prober.skew.narrow(1001, 996.9, 996.95)
    assert prober.skew.known
    assert (prober.skew.lowest, prober.skew.highest) == pytest.approx((4.05, 4.9))


def told(at: float, left_s: float | None, remaining: int = 9, turn_epoch: float | None = None) -> Told:
    return Told(10, remaining, left_s, "seconds left", at, turn_epoch)


@pytest.mark.parametrize(
    ("answers", "opens", "length", "exact"),
    [
        ([told(0, 60), told(3, 60)], "with their first request", 60, True),
        ([told(0, 59), told(3, 59)], "with their first request", 60, True),
        ([told(0, 4.99), told(3, 4.98)], "with their first request", 5, True),
        ([told(0, 60), told(1, 60)], None, 60, True),
        ([told(0, 37, turn_epoch=6000), told(3, 34, turn_epoch=6000)], "at fixed times", 60, False),
        ([told(0, 9, turn_epoch=6010), told(3, 6, turn_epoch=6010)], "at fixed times", 10, False),
        ([told(0, 9, remaining=5, turn_epoch=6007)], None, 60, False),
        ([told(0, 90, remaining=5, turn_epoch=6007)], None, 90, False),
        ([told(0, None)], None, None, False),
    ],
)
def test_how_windows_open_and_how_long_they_are(
    answers: list[Told], opens: str | None, length: float | None, exact: bool
) -> None:
    by_window = {f"/{number}": [one] for number, one in enumerate(answers)}
    assert opening(by_window) == opens
    assert rate_limits(by_window)[0] == RateLimit("/0", 10, length, exact, "seconds left")
