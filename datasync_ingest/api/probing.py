"""Single questions to the API within a budget of requests, each in its turn of its endpoint's rate limit.

For whoever looks at the API without walking it. Every request counts, those without the key and those that fail too;
when the budget is spent nothing is asked any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..settings import Settings
from ..units import show_seconds
from .client import ApiClient, Ask, Response
from .dates import http_date
from .outcomes import Fault, TooLarge
from .pacing import Pacer
from .rate_headers import EPOCH_MS, EPOCH_S, seconds_left, whole

EVENTS = "/events"  # the window that an ingest uses
UNTOLD_WINDOW_S = 60.0  # as documented, for a server that does not say when its window turns
LONGEST_WAIT_S = 300.0  # for a window; a question that would have to wait longer is left out
_PAUSE_S = 1.0  # before a request that failed is made again


class NotAskedError(Exception):
    """Raised when a question was not asked, or not answered: the budget, a window, a 429, a server in trouble."""


class BudgetSpentError(NotAskedError):
    """Raised when no request is left."""


class AnswerTooLargeError(NotAskedError):
    """Raised when an answer is larger than MAX_PAGE_BYTES: asking again brings the same."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request, and the windows in which it counts. `name` is how it is shown: never with a key in it.

    `retries`: how often it is asked again after a fault.
    """

    name: str
    ask: Ask
    windows: tuple[str, ...] = ()
    retries: int = 2


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer's headers say of its window: `at` is monotonic, `left_s` seconds until it turns, `turn_epoch` that
    moment by the server's clock (epoch seconds).
    """

    limit: int | None
    remaining: int | None
    left_s: float | None
    style: str | None
    at: float
    turn_epoch: float | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether this was the first request of its window."""
        return self.limit is not None and self.remaining == self.limit - 1 and self.left_s is not None


@dataclass(slots=True)
class Skew:
    """Bounds of how far the server's clock is ahead, in seconds; each answer narrows them, by its whole second."""

    lowest: float = float("-inf")
    highest: float = float("inf")

    @property
    def known(self) -> bool:
        """Whether an answer has told; a clock that steps in the middle makes the bounds contradict each other."""
        return float("-inf") < self.lowest <= self.highest < float("inf")

    def narrow(self, date: float, sent: float, received: float) -> None:
        """`date` is the server's, cut to whole seconds; it looked at its clock between `sent` and `received`."""
        self.lowest = max(self.lowest, date - received)
        self.highest = min(self.highest, date + 1 - sent)


@dataclass(slots=True)
class Windows:
    """The pacers by window, and everything that answers said of each."""

    buffer: int
    clock: Callable[[], float]
    pacers: dict[str, Pacer] = field(default_factory=dict)
    told: dict[str, list[Told]] = field(default_factory=dict)

    def pacer(self, window: str) -> Pacer:
        return self.pacers.setdefault(window, Pacer(buffer=self.buffer, clock=self.clock))

    def last(self, window: str) -> Told | None:
        return self.told[window][-1] if self.told.get(window) else None

    def wait_s(self, window: str) -> float:
        """Seconds until a request in this window may start, also where the server does not say when it turns."""
        last = self.last(window)
        wait_s = self.pacer(window).wait_s()
        if last is not None and last.remaining is not None and last.left_s is None and last.remaining <= self.buffer:
            wait_s = max(wait_s, last.at + UNTOLD_WINDOW_S - self.clock())
        return wait_s

    def used(self, window: str) -> int:
        """Requests of the present window that are known to be used up."""
        pacer = self.pacer(window)
        left = pacer.remaining
        limit = pacer.state()["limit"]
        return 0 if left is None or limit is None else max(0, limit - left)

    def answered(self, window: str, headers: Mapping[str, str], at: float) -> None:
        if headers.get("X-Cache", "").upper() == "HIT":
            return
        self.pacer(window).answered(headers, at)
        remaining = whole(headers.get("X-RateLimit-Remaining"))
        if remaining is not None:
            left_s = seconds_left(headers, time.time)
            limit = whole(headers.get("X-RateLimit-Limit"))
            style = _style(headers.get("X-RateLimit-Reset"))
            date = http_date(headers.get("Date"))
            turn = None if date is None or left_s is None else date + left_s
            self.told.setdefault(window, []).append(Told(limit, remaining, left_s, style, at, turn))


class Prober:
    """Asks, waits and counts. `say` is told of every wait and, unless `quiet`, of every request.

    `first_keyed` is called before the first request with the key, `events_asked` before and after each in the window of
    /events, with what the next run must know of it; what they raise ends the looking.
    """

    def __init__(
        self,
        settings: Settings,
        budget: int,
        *,
        say: Callable[[str], None],
        first_keyed: Callable[[], None],
        events_asked: Callable[[Mapping[str, Any]], None],
        saved: Mapping[str, Any] | None = None,
        quiet: bool = False,
        client: ApiClient | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.budget = budget
        self.spent = 0
        self.keyless = 0
        self.limited = 0
        self.skew = Skew()
        self.windows = Windows(settings.rate_limit_buffer, clock)
        if saved is not None:
            self.windows.pacer(EVENTS).restore(saved["pacer"], unseen=0 if saved["settled"] else 1)
        self._client = client or ApiClient(settings, clock=clock)
        self._say = say
        self._quiet = quiet
        self._first_keyed: Callable[[], None] | None = first_keyed
        self._events_asked = events_asked
        self._clock = clock
        self._sleep = sleep

    @property
    def left(self) -> int:
        return self.budget - self.spent

    @property
    def now(self) -> float:
        """The clock of `Told.at`."""
        return self._clock()

    def close(self) -> None:
        self._client.close()

    def ask(self, question: Question) -> Response:
        """Any answer but a fault of the server's (5xx) or a 429. Raises NotAskedError."""
        for retry in range(question.retries + 1):
            if retry:
                self._sleep(_PAUSE_S)
            trouble, response = self._once(question)
            if response is not None:
                return response
        raise NotAskedError(trouble)

    def pause(self, seconds: float, why: str) -> None:
        """Waits, and says so."""
        if seconds > 0:
            self._say(f"waiting {show_seconds(seconds)}: {why}")
            self._sleep(seconds)

    def fresh(self, window: str, *, used: int, why: str) -> None:
        """Returns when no more than `used` requests of the present window are used up. Raises NotAskedError."""
        turn_at = self.windows.pacer(window).state()["turn_at"]
        if self.windows.used(window) > used and turn_at is not None:
            self._refuse_long(turn_at - time.time())
            self.pause(turn_at - time.time(), why)

    def _once(self, question: Question) -> tuple[str, Response | None]:
        """One request. The second is None where it may be made again, and the first says why."""
        self._await_turn(question)
        if self.left <= 0:
            raise BudgetSpentError(f"the budget of {self.budget} requests was spent")
        self._count(question)
        try:
            sent = time.time()
            response = self._client.send(question.ask)
        except Fault as fault:
            self._tell(question, str(fault))
            if isinstance(fault, TooLarge):
                raise AnswerTooLargeError(str(fault)) from None
            return str(fault), None
        took_ms = (response.read_at - response.sent_at) * 1000
        self._tell(question, f"{response.status} in {took_ms:,.0f} ms")
        self._learn(question, response, sent)
        return f"the server answered {response.status}", None if response.status >= 500 else response

    def _tell(self, question: Question, what: str) -> None:
        if not self._quiet:
            self._say(f"{self.spent}/{self.budget} {question.name}: {what}")

    def _count(self, question: Question) -> None:
        """Before the request goes out, so that a death in the middle of it leaves it counted."""
        keyed = question.ask.keyed or bool(question.windows)
        if keyed and self._first_keyed is not None:
            self._first_keyed()
            self._first_keyed = None
        for window in question.windows:
            self.windows.pacer(window).started()
        self._keep(question)
        self.spent += 1
        self.keyless += not keyed

    def _learn(self, question: Question, response: Response, sent: float) -> None:
        """What the headers say; of several windows they speak of the first. Raises NotAskedError for a 429."""
        date = http_date(response.header("Date"))
        if date is not None and (response.header("X-Cache") or "").upper() != "HIT":
            self.skew.narrow(date, sent, sent + response.received_at - response.sent_at)
        if response.status == 429:
            self._too_many(question, response)
        for window in question.windows[:1]:
            self.windows.answered(window, response.headers, response.received_at)
        self._keep(question)

    def _too_many(self, question: Question, response: Response) -> None:
        self.limited += 1
        for window in question.windows:
            self.windows.pacer(window).limited(response.headers, response.received_at)
        self._keep(question)
        raise NotAskedError("the server answered 429: somebody else uses this key, or its limit is not what it tells")

    def _keep(self, question: Question) -> None:
        if EVENTS in question.windows:
            self._events_asked(self.windows.pacer(EVENTS).state())

    def _await_turn(self, question: Question) -> None:
        for window in question.windows:
            wait_s = self.windows.wait_s(window)
            self._refuse_long(wait_s)
            if wait_s > 0 and self.left > 0:
                self.pause(wait_s, f"the rate limit of {window} turns then")

    def _refuse_long(self, wait_s: float) -> None:
        if wait_s > LONGEST_WAIT_S:
            raise NotAskedError(f"its window turns in {show_seconds(wait_s)} only")


def _style(reset: str | None) -> str | None:
    try:
        value = float(reset or "")
    except ValueError:
        return None
    if value < EPOCH_S:
        return "seconds left"
    return "epoch seconds" if value < EPOCH_MS else "epoch milliseconds"
