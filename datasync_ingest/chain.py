"""One of the chains of a sweep: a fetcher that reads one part after another, or asks a question, in a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from .activity import Activity
from .ledger import Walk
from .messages import Fetches, PageAddress, RawPage
from .part import Part
from .stopping import Wake
from .walk import follow
from .walk_thread import WalkThread


class ChainFetcher(Fetches, Protocol):
    """A fetcher that one thread uses; `stop` stops those of all chains."""

    @property
    def activity(self) -> Activity: ...
    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Ask:
    """A question of one request; `answered` is told its page, `refused` that the server does not take it."""

    address: PageAddress
    answered: Callable[[RawPage], None]
    refused: Callable[[], None]


class Chain:
    """Idle, or at work on a part or a question; `look` and `release` are for the main thread, as all the rest."""

    def __init__(self, fetcher: ChainFetcher, wake: Wake) -> None:
        self._fetcher = fetcher
        self._wake = wake
        self._thread: WalkThread | None = None
        self.part: Part | None = None
        self.question: Ask | None = None

    @property
    def is_idle(self) -> bool:
        return self._thread is None

    @property
    def is_over(self) -> bool:
        return self._thread is not None and self._thread.ended

    @property
    def has_page(self) -> bool:
        """Whether a page of its part waits to be taken."""
        return self.part is not None and self.part.can_be_given and self._waiting is not None

    @property
    def waited_s(self) -> float:
        """How long its page has waited."""
        return 0.0 if self._thread is None else self._thread.waited_s

    def read(self, part: Part, sweep: Walk) -> None:
        """Begins to read a part of the sweep."""
        self.part = part
        self._begin(follow(part.plan(sweep), self._fetcher, extent=part))

    def ask(self, question: Ask) -> None:
        self.question = question
        self._begin(self._answers(question))

    def take(self, sweep: str, everything: int | None) -> RawPage:
        """The page that waits, as one of its part; the chain goes on. Raises ValueError where none waits."""
        if self._thread is None or self.part is None or self._waiting is None:
            raise ValueError("no page waits")
        page = self.part.noted(self._waiting, sweep, everything)
        self._thread.take()
        return page

    def look(self) -> None:
        """Passes an answer on, and throws a page away that nobody wants any more."""
        if self._thread is None or self._waiting is None:
            return
        if self.question is not None:
            self.question.answered(self._thread.take())
        elif self.part is not None and self.part.is_dropped:
            self._thread.take()

    def release(self) -> Exception | None:
        """Makes a chain that is over idle; returns what ended it, None where nothing was left or it was stopped."""
        assert self._thread is not None, "it is over"
        error, self._thread, self.part, self.question = self._thread.error, None, None, None
        return error

    def stop(self) -> None:
        """Stops all chains."""
        self._fetcher.stop()

    def wait_for_end(self, timeout_s: float) -> bool:
        """Whether no request is under way any more, nor can be: for when the fetchers were stopped."""
        return self._thread is None or self._thread.wait_for_end(timeout_s)

    def _begin(self, pages: Iterator[RawPage]) -> None:
        self._thread = WalkThread(pages, self._fetcher.activity, self._wake)
        self._thread.start()

    def _answers(self, question: Ask) -> Iterator[RawPage]:
        yield self._fetcher.fetch(question.address)

    @property
    def _waiting(self) -> RawPage | None:
        return None if self._thread is None else self._thread.page
