"""Many chains of pages at once: what is left of a sweep is cut into parts by time, and who is done takes of the rest.

Everything here runs in the main thread; each chain fetches in a thread of its own. What bounds in time mean to the
server is asked while the first parts are on their way already: their pages are held back until it is known.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

from .api.time_bounds import NOT_HEEDED, TimeQuestion, TimeReading, question_about
from .chain import Ask, Chain
from .coverage import Gap
from .errors import CursorExpiredError
from .ledger import Walk
from .messages import PageAddress, PageId, RawPage, TimeBounds
from .part import Part

# Pages that a chain has left before another takes half of them. One is on its way: it must not reach what is taken.
_LEFT_TO_CUT = 2.5
_SHARE = 1.5  # pages a part, at least, when all that there is gets cut
_OLDEST = 1.1  # of what the parts have on the average: how far back the events go is a guess, so it is begun first
_UNTOLD = 3  # pages a chain that a feed without totals is taken to have: what is not there costs a request a part
_SAMPLE = 100  # events that a question is made of where no page is at hand

_log = logging.getLogger(__name__)


class UnsweepableError(Exception):
    """Raised when times do not bound what is read: the walk must be made by one chain of pages."""


class Sweeping:
    """The chains that read the `gaps` of `sweep`; the same verbs as a walk's thread.

    `reading` is what is known of the server's bounds; `learned` is told what is found out of them, `heard` the API's
    total when it was asked for once more. `sustains`: how many chains the server has room for, None: any number.
    """

    def __init__(
        self,
        sweep: Walk,
        gaps: Sequence[Gap],
        chains: Sequence[Chain],
        *,
        reading: TimeReading | None,
        learned: Callable[[TimeReading], None],
        heard: Callable[[int], None],
        sustains: Callable[[], int | None],
    ) -> None:
        self._sweep = sweep
        self._chains = chains
        self._reading = reading
        self._learned = learned
        self._heard = heard
        self._sustains = sustains
        self._open = [Part(gap, reading) for gap in gaps]
        self._cut_unread: list[Part] = []  # when nobody knew what bounds mean: the newest first
        self._question: TimeQuestion | None = None
        self._is_asked = False
        self._everything: int | None = None  # the API's total
        self._page_size = 1
        self._received = 0
        self._is_cut = len(gaps) > 1 or any(gap.until is not None for gap in gaps)
        self._has_looked_at_head = False
        self._halted = False
        self.error: Exception | None = None

    # --- the verbs of a walk's thread ---

    def start(self) -> None:
        if self._reading is not None and not self._reading.can_begin_anywhere:
            self._give_up()  # an earlier run was ended when it had found this out, and before it could act on it
        self.tend()

    @property
    def ended(self) -> bool:
        if not all(chain.is_idle for chain in self._chains):
            return False
        return self._is_ending or not (self._open or self._must_look_at_head)

    @property
    def _must_look_at_head(self) -> bool:
        """Events may have come since it began, and only what is asked for without bounds tells."""
        return self._is_cut and not self._has_looked_at_head

    @property
    def has_page(self) -> bool:
        return any(chain.has_page for chain in self._chains)

    @property
    def waited_s(self) -> float:
        return max((chain.waited_s for chain in self._chains if chain.has_page), default=0.0)

    def take(self) -> RawPage:
        """The page that has waited for longest; its chain goes on. Raises ValueError where none waits."""
        chain = max((chain for chain in self._chains if chain.has_page), key=_waited, default=self._chains[0])
        page = chain.take(self._sweep.walk, self._everything)
        self._page_size = max(self._page_size, page.received)
        self._received += page.received
        self._everything = page.total if page.total is not None else self._everything
        if self._reading is None and self._question is None and not page.ends_walk:
            self._ask_about(page)
        return page

    def halt(self) -> None:
        """Nothing new is begun; what is on its way comes to its end."""
        self._halted = True

    def wait_for_end(self, timeout_s: float) -> bool:
        """Whether no request is under way any more, nor can be: for when the fetchers were stopped."""
        deadline = time.monotonic() + timeout_s
        return all(chain.wait_for_end(max(0.0, deadline - time.monotonic())) for chain in self._chains)

    def tend(self) -> None:
        """Takes note of what chains have come to, and gives work to those that have none."""
        for chain in self._chains:
            chain.look()
            if chain.is_over:
                self._over(chain)
        if not self._is_ending:
            for chain in self._free():
                self._give_work(chain)
        elif all(chain.question is None for chain in self._chains):
            self._leave_the_others()

    @property
    def _is_ending(self) -> bool:
        """Whether nothing new is begun any more."""
        return self._halted or self.error is not None

    # --- what chains come to ---

    def _over(self, chain: Chain) -> None:
        part, question, error = chain.part, chain.question, chain.release()
        expired = isinstance(error, CursorExpiredError)
        if part is not None and part.is_dropped:
            return
        if question is not None and expired:
            question.refused()
        elif error is not None and not (expired and part is not None and part.can_go_on):
            self._fail(chain, error)
        elif part is not None and part.is_read and part in self._cut_unread[:1]:
            self._leave_the_others()
        elif part is not None and (rest := part.rest()) is not None:
            if error is not None:
                _log.info("%s The rest is asked for by its time.", error)
            onward = Part(rest, self._reading, part.left, part.pace_ms)
            self._open.append(onward)
            self._cut_unread[:1] = [onward if part in self._cut_unread[:1] else one for one in self._cut_unread[:1]]

    def _leave_the_others(self) -> None:
        """Drops what was begun before anybody knew where it begins: one has read all of it, or nobody will know."""
        for part in self._cut_unread[1:]:
            part.is_dropped = True
        self._open = [part for part in self._open if not part.is_dropped]
        self._cut_unread = []

    def _fail(self, chain: Chain, error: Exception) -> None:
        if self.error is None:
            self.error = error
            chain.stop()

    # --- who does what next ---

    def _free(self) -> list[Chain]:
        """Idle chains, as far as the server has room for more."""
        idle = [chain for chain in self._chains if chain.is_idle]
        return idle[: max(0, self._room() - (len(self._chains) - len(idle)))]

    def _room(self) -> int:
        """How many chains there may be."""
        sustained = self._sustains()
        return len(self._chains) if sustained is None else min(sustained, len(self._chains))

    def _give_work(self, chain: Chain) -> None:
        if self._reading is None and self._question is not None and not self._is_asked:
            self._is_asked = True
            self._ask(chain, self._question.bounds, self._question.limit, self._answered, self._not_heeded)
        elif (part := self._next_part()) is not None:
            self._open.remove(part)
            chain.read(part, self._sweep)
        elif self._reading is None and self._open and all(chain.is_idle for chain in self._chains):
            self._ask(chain, TimeBounds(), _SAMPLE, self._ask_about, self._not_heeded)
        elif self._reading is not None and self._must_look_at_head and self._is_nearly_done():
            self._has_looked_at_head = True
            self._ask(chain, TimeBounds(), 1, self._seen, lambda: None)

    def _next_part(self) -> Part | None:
        """The largest that nobody reads; where there is none, a piece of the largest that somebody does."""
        if not any(map(self._may_begin, self._open)):
            self._cut()
        return max(filter(self._may_begin, self._open), key=self._left, default=None)

    def _may_begin(self, part: Part) -> bool:
        return part.can_be_given or part in self._cut_unread[1:]

    def _cut(self) -> None:
        """Cuts the largest part of those whose size something tells: the server, or a page of it. The pieces are about
        what each chain has to read still.
        """
        parts = [part for part in self._parts_at_work() if part.received or part.left is not None]
        if not parts or self._cut_unread:
            return
        fair = sum(map(self._left, parts)) / self._room()
        for part in sorted(parts, key=self._left, reverse=True):
            left = self._left(part)
            if left <= _LEFT_TO_CUT * self._page_size:
                return
            ways = min(max(2, round(left / fair)), int(left / _SHARE / self._page_size))
            if borders := part.borders(ways, left):
                self._cut_at(part, borders, left / (len(borders) + 1))
                return

    def _cut_at(self, part: Part, borders: Sequence[int], share: float) -> None:
        self._is_cut = True
        pace_ms = part.pace_ms
        if self._reading is None:
            # What is asked for by `until` alone goes on to the oldest event; `_settle` gives each part its end.
            given = [Part(Gap(None, border), None, share, pace_ms) for border in borders]
            self._cut_unread = [part, *given]
        else:
            narrowed = [part.narrow(border, share) for border in reversed(borders)]
            given = [Part(gap, self._reading, share, pace_ms) for gap in reversed(narrowed)]
        given[-1].expect(_OLDEST * share)
        self._open += given

    def _is_nearly_done(self) -> bool:
        """Whether every chain has its last page on the way."""
        return not self._open and all(self._left(part) <= self._page_size for part in self._parts_at_work())

    def _parts_at_work(self) -> list[Part]:
        return [chain.part for chain in self._chains if chain.part is not None and not chain.part.is_dropped]

    def _left(self, part: Part) -> float:
        """Events; where nothing tells, as many as have been read, and at first enough for all chains."""
        if part.left is not None:
            return part.left
        return float(max(self._received, _UNTOLD * self._page_size * len(self._chains)))

    # --- questions ---

    def _ask(
        self,
        chain: Chain,
        bounds: TimeBounds,
        limit: int,
        answered: Callable[[RawPage], None],
        refused: Callable[[], None],
    ) -> None:
        page = PageId(self._sweep.walk, 0)
        chain.ask(Ask(PageAddress(page, None, None, fresh=True, limit=limit, bounds=bounds), answered, refused))

    def _ask_about(self, page: RawPage) -> None:
        self._question = question_about(page)
        if self._question is None:
            _log.info("the newest events have too few different times to find out what since and until mean to the API")
            self._settle(NOT_HEEDED)

    def _answered(self, answer: RawPage) -> None:
        assert self._question is not None, "an answer has a question"
        reading = self._question.read(answer)
        _log.info("bounds in time, as the API reads them: %s", reading.in_words())
        self._learned(reading)
        self._settle(reading)

    def _not_heeded(self) -> None:
        self._learned(NOT_HEEDED)
        self._settle(NOT_HEEDED)

    def _seen(self, newest: RawPage) -> None:
        """The head as it is now."""
        if newest.total is not None:
            self._heard(newest.total)

    # --- what bounds mean ---

    def _settle(self, reading: TimeReading) -> None:
        self._reading = reading
        if not reading.can_begin_anywhere:
            self._give_up()
            return
        if self._cut_unread:
            self._cut_unread[0].expect(self._cut_unread[1].events)
        for part in [*self._parts_at_work(), *self._open]:
            (part.settle if part in self._cut_unread[1:] else part.know)(reading)
        if self._cut_unread:
            self._cut_unread[-1].since = self._cut_unread[0].since
        for newer, older in pairwise(self._cut_unread):
            assert older.until is not None, "it was cut there"
            newer.since = older.until + 1
        self._cut_unread = []

    def _give_up(self) -> None:
        """Without bounds in time there is nothing to cut."""
        self.error = UnsweepableError("since and until do not bound the events")
        for part in [*self._parts_at_work(), *self._open]:
            part.is_dropped = True
        self._open = []


def _waited(chain: Chain) -> float:
    return chain.waited_s
