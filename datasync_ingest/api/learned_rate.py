"""The rate that a server without rate-limit headers sustains, learned from its refusals and its latency.

Nothing limits until the first refusal (429). From then on requests start one by one, at a rate:

- A refusal of a request that was under way when the rate was last reduced is no news: a burst of them is one decrease.
- The server's burst is used up then, and what it serves from one refusal to the next is what it sustains: that is the
  ceiling. Until it is measured the rate is searched: a multiple of what was served since the first refusal.
- With a ceiling the rate goes a tenth below and comes back along a cubic: fast at first, slow about the ceiling, and
  fast again beyond it, where the server may have become faster: over twice as many answers as have measured it. It
  grows only with answers to requests that had to wait for it.
- A refusal below the ceiling contradicts it, and may be a stray one: the ceiling stays, and the rate is back there, and
  beyond, within a few answers. Only the next refusal measures again; a few answers lower the ceiling a little, many
  lower it to what was measured.
- After a refusal one request at a time asks whether the server is back, in intervals that grow; how long it was away
  after a refusal that was no stray one is remembered, and the next time it is asked a little earlier.
- 503s, where they are many, and a latency of twice the usual reduce the rate likewise, where several requests are under
  way: more of them would bring no more. A single chain has nothing to give.
- Time in which nobody asked, or nobody was answered, says nothing of what the server sustains, and does not count.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from .windows import NEWS_S

HALF_LIFE_S = 58.0  # of a cursor, where nothing tells how long it lives
START_WITH = 8  # requests under way at once at the very start; one more with every second answer
RECENT_S = 60.0
BURST_S = 30.0  # what was served in less time may have been the server's burst, and says nothing of a rate
FIRST = 0.7  # of what was served so
FIRST_PER_S = 1.5  # at least
SEARCH = 2.5  # times what was served a second since the first refusal
FEW = 8  # answers: fewer measure nothing, and a rate that was refused sooner is halved
DECREASE = 0.9
KEPT_BY = 20  # answers: so many count for the ceiling when less is measured, which may be a stray refusal's fault
EASED = 0.75  # what waits at a server that has become slow must go down, too
SETTLED = 32  # answers after a decrease: only then latency and 503s show what it has brought
PLATEAU = 100  # answers until the rate is back at the ceiling, at most
SHORT_PLATEAU = 6  # after a refusal that contradicts the ceiling
PLATEAUS = 2  # for each answer that has measured the ceiling
PLATEAU_S = 600.0  # so long at most, where a low rate has few answers
SHORTEST_PAUSE_S = 0.5
EARLIER = (0.85, 0.95)  # of what the server was away last time
FURTHER = 1.6  # times as long as the server was away so far, it is asked again
LATE = 0.05  # of the time between two requests: what one starts too late, the next makes up for
LOOK_AGAIN_S = 1.0  # the rate may have grown since somebody was told how long to wait
OVERLOADED = 4  # 503s among the last answers
OF_LAST = 16
IDLE_S = 1.0  # with no request under way, past the time for the next one: whoever asks has other things to wait for
SILENCE_S = 10.0  # without an answer that counts, where no refusal is waited out: an outage
TOLD = 3  # refusals in a row that told how long to wait: a server that is away after that does not know


class LearnedRate:
    """Not safe to share between threads. Moments are the monotonic clock's, in seconds; rates are requests a second."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self.rate: float | None = None
        self.ceiling = 0.0  # what the server sustained when it was last measured; 0 while it is searched
        self.half_life_s = HALF_LIFE_S
        self._next_at = 0.0
        self._reduced_at = float("-inf")  # requests that started before are no news
        self._refusals = 0  # in a row, each of a request that was to find out whether the server is back
        self._refused_at = 0.0  # the first of them
        self._away_s = 0.0  # from a refusal until the server was found to be back, last time
        self._counted_from = 0.0  # later by what does not count, see `_skip`
        self._counted = 0  # answers since then
        self._landed_at = 0.0  # the last request, however it ended
        self._heard_at = 0.0  # the last answer that counts, or refusal
        self._skipped_s = 0.0  # since then
        self._plateau = PLATEAU
        self._grown = 0  # answers that made the rate grow since it was last reduced
        self._answers: deque[float] = deque()  # moments, of the last RECENT_S
        self._overloaded: deque[bool] = deque(maxlen=OF_LAST)
        self._latency = Latency()
        self._total = 0

    @property
    def slowest(self) -> float:
        """A cursor dies soon after: no rate is below that."""
        return 1 / self.half_life_s

    def resume(self, rate: float | None, ceiling: float) -> None:
        """Goes on at what an earlier run has learned."""
        usable = rate is not None and math.isfinite(rate) and rate > 0
        self.rate = max(self.slowest, rate) if usable and rate is not None else None
        self.ceiling = max(self.slowest, ceiling) if usable and 0 < ceiling < math.inf else 0.0
        self._plateau = self._longest_plateau()

    def forget(self) -> None:
        """Headers tell: nothing is learned."""
        self.rate, self._refusals = None, 0

    def ask_within(self, seconds: float, now: float) -> None:
        """Nobody waits for longer than that from now on."""
        self.half_life_s = seconds
        self._next_at = min(self._next_at, now + seconds)

    # --- before a request ---

    def wait_s(self, now: float, ahead: int, in_flight: int) -> float:
        """Seconds until a request may start when `ahead` others have come before."""
        if self.rate is None:
            return NEWS_S if in_flight + ahead >= START_WITH + self._total // 2 else 0.0
        wait_s = self._next_at - now + ahead / self.rate
        if self._refusals:
            wait_s = max(wait_s, NEWS_S if in_flight or ahead else 0.0)
        return min(wait_s, LOOK_AGAIN_S) if in_flight or ahead else max(0.0, wait_s)

    def started(self, now: float, in_flight: int) -> None:
        if self.rate is not None:
            if not in_flight and not self._refusals:
                idle_s = now - max(self._landed_at, self._next_at)
                self._skip(idle_s if idle_s > IDLE_S else 0.0)
            self._next_at = max(self._next_at, now - LATE / self.rate) + 1 / self.rate

    # --- after an answer ---

    def landed(self, now: float) -> None:
        """A request is under way no more, whether an answer has come or not."""
        self._landed_at = now

    def served(self, started_at: float, now: float, *, paced: bool) -> None:
        """An answer that was no refusal; `paced`: its request had to wait for the rate."""
        self._heard(now)
        if not self._total:
            self._counted_from = started_at
        self._total += 1
        self._counted += 1
        self._answers.append(now)
        while self._answers[0] < now - RECENT_S:
            self._answers.popleft()
        self._overloaded.append(False)
        if self.rate is None or started_at <= self._reduced_at:
            return
        if self._refusals:
            self._is_back(started_at)
        elif paced:
            self._grow(self.rate, now)

    def refused(self, started_at: float, now: float, retry_after_s: float | None) -> float:
        """A 429. Returns the seconds until somebody may ask again."""
        if self.rate is not None and started_at <= self._reduced_at:
            return max(0.0, self._next_at - now)
        self._heard(now)
        if not self._refusals:
            self._reduce(now)
            self._refused_at = now
        self._refusals += 1
        self._reduced_at = now
        wait_s = retry_after_s or 0.0
        if retry_after_s is None or self._refusals > TOLD:
            wait_s = max(wait_s, self._pause_s(started_at, now))
        self._next_at = now + wait_s
        return wait_s

    def overloaded(self, started_at: float, now: float, in_flight: int) -> None:
        """A 503."""
        self._overloaded.append(True)
        if in_flight and sum(self._overloaded) >= OVERLOADED:
            self._ease(started_at, now)

    def took(self, seconds: float, started_at: float, now: float, in_flight: int) -> None:
        """How long a whole page took."""
        if self._latency.has_doubled(seconds) and in_flight:
            self._ease(started_at, now)

    def _ease(self, started_at: float, now: float) -> None:
        if started_at <= self._reduced_at or self._refusals or (self.rate is not None and self._counted < SETTLED):
            return
        if self.rate is None and len(self._answers) < FEW:
            return
        self._overloaded.clear()
        if self.rate is None:
            measured = len(self._answers) / max(1.0, self._answers[-1] - self._answers[0])
        else:
            measured = min(self.rate, self._counted / max(1.0, now - self._counted_from))
        self.ceiling = max(self.slowest, measured)
        self.rate, self._grown = max(self.slowest, EASED * self.ceiling), 0
        self._plateau = self._longest_plateau()
        self._reduced_at = now
        self._count_from(now)

    # --- inside ---

    def _skip(self, seconds: float) -> None:
        """So much of the time until now does not count."""
        if seconds > 0:
            self._counted_from += seconds
            self._skipped_s += seconds

    def _heard(self, now: float) -> None:
        """An answer or a refusal; while a refusal is waited out, the server itself keeps everybody away."""
        if self.rate is not None and not self._refusals:
            self._skip(now - self._heard_at - self._skipped_s - max(SILENCE_S, 2 / self.rate))
        self._heard_at, self._skipped_s = now, 0.0

    def _longest_plateau(self) -> int:
        return max(2 * SHORT_PLATEAU, min(PLATEAU, int(PLATEAU_S * self.ceiling)))

    def _reduce(self, now: float) -> None:
        self._grown = 0
        if self.rate is None:
            self.rate, self.ceiling = self._first_rate(now), 0.0
            self._count_from(now)
            return
        below = self.rate < self.ceiling
        if below and self._plateau > SHORT_PLATEAU:
            self._plateau = SHORT_PLATEAU
        elif self._counted < FEW:
            self.rate, self.ceiling = self.rate / 2, 0.0
        else:
            self.ceiling = self._measured(now)
            self._plateau = SHORT_PLATEAU if below else min(self._longest_plateau(), PLATEAUS * self._counted)
            self._count_from(now)
        self.rate = max(self.slowest, min(self.rate, DECREASE * self.ceiling) if self.ceiling else self.rate)

    def _measured(self, now: float) -> float:
        """Requests a second since the counting began, and where that is below the ceiling, something between."""
        measured = self._counted / max(1e-3, now - self._counted_from)
        if measured >= self.ceiling:
            return measured
        return (self._counted * measured + KEPT_BY * self.ceiling) / (self._counted + KEPT_BY)

    def _first_rate(self, now: float) -> float:
        """Where the search begins."""
        span_s = max(BURST_S, now - self._answers[0]) if self._answers else BURST_S
        return max(FIRST_PER_S, FIRST * len(self._answers) / span_s)

    def _count_from(self, now: float) -> None:
        self._counted_from, self._counted = now, 0

    def _grow(self, rate: float, now: float) -> None:
        self._grown += 1
        if self.ceiling:
            beyond = (self._grown / self._plateau - 1) ** 3
            self.rate = max(rate, self.ceiling * (1 + (1 - DECREASE) * beyond))
        else:
            self.rate = max(rate, SEARCH * self._counted / max(1e-3, now - self._counted_from))

    def _pause_s(self, started_at: float, now: float) -> float:
        """Before the server is asked whether it is back: no two processes choose the same."""
        assert self.rate is not None
        away_s = started_at - self._refused_at
        if self._refusals == 1:
            least, most = EARLIER
            ask_after_s = self._away_s * (least + (most - least) * self._jitter())
        else:
            ask_after_s = self._away_s if away_s < self._away_s else FURTHER * away_s
        least_s = max(SHORTEST_PAUSE_S, (0.5 + self._jitter()) / self.rate)
        return min(max(self._refused_at + ask_after_s - now, least_s), max(SHORTEST_PAUSE_S, self.half_life_s))

    def _is_back(self, started_at: float) -> None:
        away_s = started_at - self._refused_at
        if self._plateau > SHORT_PLATEAU or away_s < self._away_s:
            self._away_s = away_s
        self._refusals = 0


class Latency:
    """Whether pages take twice what they took at best: means of a few of them, so that one slow page is no news."""

    PAGES = 8
    TIMES = 2.0
    AT_LEAST_S = 0.2

    def __init__(self) -> None:
        self._sum = 0.0
        self._count = 0
        self._usual_s: float | None = None

    def has_doubled(self, seconds: float) -> bool:
        """Once for each time that it does: what is usual is then taken to be more, so that noise ends it."""
        self._sum += seconds
        self._count += 1
        if self._count < self.PAGES:
            return False
        mean_s, self._sum, self._count = self._sum / self._count, 0.0, 0
        if self._usual_s is None or mean_s < self._usual_s:
            self._usual_s = mean_s
        if mean_s < self.TIMES * self._usual_s or mean_s < self._usual_s + self.AT_LEAST_S:
            return False
        self._usual_s *= 1.25
        return True
