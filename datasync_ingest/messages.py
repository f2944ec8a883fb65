"""All that crosses a process or a thread: plain frozen values that know which page they are about.

    api --RawPage--> walk --RawPage--> pool --RawPage--> worker --Receipt | Failure--> ledger, progress

Exceptions never cross (not all of them survive pickling): a `Failure` does.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from .secret import Secret

K = TypeVar("K", bound="KnownPage")

# The endpoints of the API that serve pages of all events. Each has cursors of its own.
EVENTS = "events"
FEED = "feed"


@dataclass(frozen=True, slots=True)
class PageId:
    """Which page: the `sequence`-th (from 0) of the walk with this UUID. The same in logs, errors and tables."""

    walk: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.walk[:8]}/{self.sequence}"


@dataclass(frozen=True, slots=True)
class Position:
    """Where an event stands in the API's order (newest first by timestamp, then id).

    `timestamp_ms` is epoch milliseconds, None where the event has no readable timestamp.
    """

    timestamp_ms: int | None
    event_id: str

    def to_text(self) -> str:
        """The form in which both ledgers keep it: `1769541612369:<id>`, `-:<id>` without a timestamp."""
        return f"{'-' if self.timestamp_ms is None else self.timestamp_ms}:{self.event_id}"

    @classmethod
    def from_text(cls, text: str) -> Position:
        timestamp, _, event_id = text.partition(":")
        return cls(None if timestamp == "-" else int(timestamp), event_id)


@dataclass(frozen=True, slots=True)
class TimeBounds:
    """The parameters `since` and `until` of a request, epoch milliseconds, as they are sent; None: not sent.

    Whether an event at just that millisecond is meant is the server's to say.
    """

    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a sweep (its walk's UUID) that one chain of pages reads: the events between two times.

    Epoch milliseconds, both inclusive; None: open at that end, to the oldest or the newest event.
    """

    sweep: str
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class PageAddress:
    """Which page is wanted: its identity, the cursor to ask with, and the last position of the page before.

    `bounds` are asked for along with the cursor, of an endpoint that knows them. `seen`: the cursors that the walk has
    met, none of which may come again. `fresh`: a page out of the server's cache, which may be 30 s old, will not do.
    `limit`: the page is known, and asked for once more with exactly this limit, by a cursor that the server may refuse.
    """

    page: PageId
    cursor: str | None
    after: Position | None
    seen: Set[str] = frozenset()
    fresh: bool = False
    limit: int | None = None
    bounds: TimeBounds = TimeBounds()


@dataclass(frozen=True, slots=True)
class RawPage:
    """One whole page as the API served it; `body` is the inflated JSON.

    `cursor` is what it was asked with (None: from the newest event), `after` the last position of the page before,
    `total` what the API says it has in all. `ends_walk`: the walk needs no page beyond this one. `window` is None for
    a page that belongs to no sweep.
    """

    page: PageId
    cursor: str | None
    next_cursor: str | None
    ends_walk: bool
    limit: int
    received: int
    after: Position | None
    first: Position | None
    last: Position | None
    total: int | None
    request_id: str | None
    body: bytes = field(repr=False)
    window: Window | None = None


class Fetches(Protocol):
    """Whoever turns an address into a whole page."""

    def fetch(self, address: PageAddress) -> RawPage: ...


@dataclass(frozen=True, slots=True)
class Counts:
    """The books of a page: received = inserted + already_there + rejected; `repaired` counts among the first two."""

    received: int = 0
    inserted: int = 0
    already_there: int = 0
    rejected: int = 0
    repaired: int = 0

    @property
    def balanced(self) -> bool:
        return self.received == self.inserted + self.already_there + self.rejected

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.received + other.received,
            self.inserted + other.inserted,
            self.already_there + other.already_there,
            self.rejected + other.rejected,
            self.repaired + other.repaired,
        )


@dataclass(frozen=True, slots=True)
class KnownPage:
    """A page that need not be fetched again: it is in the database, or in the spool on its way there."""

    page: PageId
    cursor: str | None
    next_cursor: str | None
    ends_walk: bool
    limit: int
    received: int
    after: Position | None
    first: Position | None
    last: Position | None
    window: Window | None = field(default=None, kw_only=True)

    @classmethod
    def of(cls: type[K], page: RawPage, **more: Any) -> K:
        """What is kept of a page that was fetched; `more` are the fields that only a subclass has."""
        facts = (page.page, page.cursor, page.next_cursor, page.ends_walk, page.limit, page.received)
        return cls(*facts, page.after, page.first, page.last, window=page.window, **more)


class PageFacts(Protocol):
    """What is known of any page that was fetched, whatever became of it since."""

    @property
    def page(self) -> PageId: ...
    @property
    def cursor(self) -> str | None: ...
    @property
    def limit(self) -> int: ...
    @property
    def received(self) -> int: ...
    @property
    def after(self) -> Position | None: ...
    @property
    def first(self) -> Position | None: ...
    @property
    def last(self) -> Position | None: ...


@dataclass(frozen=True, slots=True)
class CompletedPage(KnownPage):
    """A page that is durably in the database, as the sidecar and `ingested_pages` know it."""

    counts: Counts


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """One request to the API, and what came of it.

    `at` is when it was sent, epoch seconds; `seconds` until its body was whole, or it failed. `status` is None where no
    answer came; `size` is the inflated body's, in bytes. `attempt` counts the requests for this page from 1. `outcome`
    is a word: `page`, `limited` (429), `probe`, or why it was no use; `detail` a sentence, empty for a page.
    """

    page: PageId
    attempt: int
    at: float
    seconds: float
    status: int | None
    outcome: str
    size: int = 0
    cached: bool = False
    request_id: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """All that a worker needs to know; crosses to its process once, by pickling, never by argv or environment.

    `database_id`: of the schema that the pages go to, for workers that find their way to it themselves.
    """

    conninfo: Secret
    writer: str
    db_patience_s: float
    schema: str
    database_id: str = ""
    sign_of_life_s: float = 15.0  # as often as the growing wait for a database that is away says something


@dataclass(frozen=True, slots=True)
class Started:
    """A worker says which page it is about to touch, so that its death counts against that page alone."""

    page: PageId
    worker: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """A page is durably in the database. `repeated`: it was before; the counts are the ones stored then."""

    page: PageId
    worker: int
    counts: Counts
    repeated: bool
    decode_s: float
    write_s: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """A worker waits for something outside of it (`cause`, a sentence) before it can go on with the page."""

    page: PageId
    worker: int
    cause: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A worker gave up on a page: the name of the error class, its sentence, hint and traceback."""

    page: PageId | None
    worker: int
    error: str
    message: str
    hint: str
    traceback: str = field(repr=False, default="")


@dataclass(frozen=True, slots=True)
class Poisoned:
    """The pool took a page out: its worker died or hung each of `deaths` times, the last time with no other at work.

    Said by the pool for the workers that could not. `how`: what the last death was, a sentence without its full stop.
    """

    page: PageId
    deaths: int
    how: str


@dataclass(frozen=True, slots=True)
class Unstaffed:
    """The pool has nobody to give a page to, and says why and what to do (`cause`); empty: it has somebody again."""

    cause: str
    page: PageId | None = None


WorkerMessage = Started | Receipt | Waiting | Failure | Poisoned | Unstaffed


@dataclass(frozen=True, slots=True)
class Stop:
    """Travels down the same queue as the pages: what was put before it is worked off first."""


STOP = Stop()
