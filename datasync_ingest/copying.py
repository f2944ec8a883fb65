"""The main loop: pages from the walk's thread into the pool, receipts from the pool into the ledger."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from . import errors
from .api.fetching import PageFetcher
from .api.time_bounds import TimeReading
from .asking import Question
from .chain import Chain
from .coverage import Gap, gaps
from .errors import ConfigurationError, IngestError, StoppedError, WorkerFailedError
from .feeding import Feeder
from .ledger import Ledger, Walk
from .log_lines import about, note
from .messages import Failure, Poisoned, RawPage, Receipt, Unstaffed, Waiting, WorkerMessage
from .meter import Meter
from .observing import NOBODY, Observer
from .plan import FINISHED, Plan, extent_of
from .pools import Pool
from .progress import Display
from .settings import Settings
from .stopping import StopRequest, Wake
from .sweeping import Sweeping
from .walk import Renews, follow
from .walk_thread import WalkThread

TICK_S = 0.25  # how often the progress line is refreshed
FETCHING_FACT = "fetching"
READING_FACT = "time bounds"
_END_GRACE_S = 5.0  # for workers that have nothing left to do
_LAST_REQUEST_GRACE_S = 0.2  # for the walk to see that it is over

_log = logging.getLogger(__name__)


class Fetching(Protocol):
    """What fetches pages beside the main loop: a walk's one thread, or the many of a sweep."""

    error: Exception | None

    @property
    def ended(self) -> bool: ...
    @property
    def has_page(self) -> bool: ...
    @property
    def waited_s(self) -> float: ...
    def start(self) -> None: ...
    def tend(self) -> None: ...
    def take(self) -> RawPage: ...
    def halt(self) -> None: ...
    def wait_for_end(self, timeout_s: float) -> bool: ...


class Copier:
    """Moves values between rooms that its caller opened and will close; `close` ends what it has begun itself.

    `after_trouble` may block: it is called in a thread of its own, and what it raises ends the run. Only an end for
    another reason leaves a call behind.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        fetcher: PageFetcher,
        renewal: Renews | None,
        chains: Sequence[Chain] = (),
        pool: Pool,
        ledger: Ledger,
        meter: Meter,
        display: Display,
        stop: StopRequest,
        wake: Wake,
        in_trouble: Callable[[], None],
        after_trouble: Callable[[], None],
        observer: Observer = NOBODY,
    ) -> None:
        self._stop_grace_s = settings.stop_grace
        self._fetcher = fetcher
        self._renewal = renewal
        self._chains = chains
        self._pool = pool
        self._ledger = ledger
        self._meter = meter
        self._display = display
        self._stop = stop
        self._wake = wake
        self._in_trouble = in_trouble
        self._after_trouble = Question(after_trouble)
        self._observer = observer
        self._feeder = Feeder(
            pool,
            ledger.spool,
            spool_limit=settings.spool_limit,
            longest_wait_s=settings.cursor_refresh_threshold,
        )
        self._walk: Fetching | None = None
        self._remembered: dict[str, Any] = {}
        self._show_at = 0.0

    def follow(self, plan: Plan) -> None:
        """Returns when the walk is at its end, and every page of it and of the spool is durably in the database and in
        the ledger.

        A page that no worker survived is set aside in the spool. Raises what ended the walk (its pages are committed
        first), what a worker or `after_trouble` failed with, or StoppedError.
        """
        pages = follow(plan, self._fetcher, self._renewal)
        self._work_off(WalkThread(pages, self._fetcher.activity, self._wake))
        self._ledger.end(plan.walk.walk, FINISHED)

    def sweep(self, walk: Walk) -> None:
        """The same for a sweep, which is read by all chains. Raises UnsweepableError where times do not bound it."""
        found = self._gaps(walk)
        while True:
            self._work_off(self._sweeping(walk, found))
            before, found = found, self._gaps(walk)
            if not found or list(map(_times, found)) == list(map(_times, before)):
                break
        if found:
            _log.warning("%d stretches of time cannot be read to their end: the books tell what is missing", len(found))
        self._ledger.end(walk.walk, FINISHED)

    def _gaps(self, walk: Walk) -> list[Gap]:
        return gaps(self._ledger.swept(walk.walk), extent_of(walk))

    def _sweeping(self, walk: Walk, found: Sequence[Gap]) -> Sweeping:
        kept = self._ledger.fact(READING_FACT)
        return Sweeping(
            walk,
            found,
            self._chains,
            reading=None if kept is None else TimeReading.from_json(kept),
            learned=lambda reading: self._ledger.keep(**{READING_FACT: reading.as_json()}),
            heard=self._meter.heard,
            sustains=lambda: self._fetcher.pacer.sustains,
        )

    def _work_off(self, walk: Fetching) -> None:
        self._walk = walk
        walk.start()
        stop_at: float | None = None
        while not (walk.ended and self._feeder.idle and not self._after_trouble.is_open):
            if self._stop and stop_at is None:
                stop_at = self._begin_to_stop()
            if stop_at is not None and (self._stop.urgent or time.monotonic() > stop_at):
                break
            self._step(walk)
        self._show()
        if self._stop:
            raise self._stop.error(self._meter.snapshot(0, 0).standing())
        if walk.error is not None:
            raise walk.error

    def close(self) -> None:
        """Stops fetching and the workers; receipts on their way are entered, pages without one spooled. Idempotent."""
        self._fetcher.stop()
        self._feeder.stopping = True
        for message in self._pool.stop(_END_GRACE_S if self._feeder.idle else 0.0):
            if isinstance(message, Receipt):
                self._received(message)
        self._spool_rest()
        self._remember(settled=self._walk is None or self._walk.wait_for_end(_LAST_REQUEST_GRACE_S))

    def _spool_rest(self) -> None:
        """What was fetched need not be fetched again; where even that fails, it will be."""
        try:
            count = self._feeder.spool_rest()
            while self._walk is not None and self._walk.has_page:
                self._ledger.spool.put(self._walk.take())
                count += 1
        except ConfigurationError as error:
            _log.warning("pages that were fetched are lost and will be fetched again: %s", error)
        else:
            if count:
                _log.info("%d fetched pages were put into the spool; the next run writes them", count)

    def _step(self, walk: Fetching) -> None:
        with suppress(StoppedError):  # it has seen the stop that this loop sees, too: first the grace
            self._after_trouble.look()
        self._feeder.refill()
        walk.tend()
        while walk.has_page and self._feeder.takes(walk.waited_s):
            self._remember(settled=False)  # before the next request: after a kill at most that one is not recorded
            page = walk.take()
            self._meter.fetched(page)
            self._feeder.accept(page)
        for message in self._pool.receive(TICK_S, wake=self._wake.fileno()):
            with about(page=message.page):
                self._handle(message)
        self._wake.clear()
        if time.monotonic() >= self._show_at:
            self._show_at = time.monotonic() + TICK_S
            self._show()

    def _show(self) -> None:
        pool = self._pool
        snapshot = self._meter.snapshot(pool.pages, self._feeder.waiting, pool.workers, pool.pids)
        self._display.show(snapshot)
        self._observer.shown(snapshot)
        self._remember(settled=False)

    def _remember(self, *, settled: bool) -> None:
        """Puts down what the next run needs of the rate limit, when it has changed."""
        facts = {FETCHING_FACT: self._fetcher.state(settled=settled), "total": self._meter.total}
        if facts != self._remembered:
            self._ledger.keep(**facts)
            self._remembered = facts

    def _begin_to_stop(self) -> float:
        self._fetcher.stop()
        if self._walk is not None:
            self._walk.halt()
        self._feeder.stopping = True
        if self._pool.pages:
            _log.info("stopping: committing %d pages that are under way", self._pool.pages)
        return time.monotonic() + self._stop_grace_s

    def _handle(self, message: WorkerMessage) -> None:
        if isinstance(message, Receipt):
            if self._meter.database_trouble and not self._stop:
                self._after_trouble.put()
            self._received(message)
        elif isinstance(message, Waiting):
            if message.cause != self._meter.database_trouble:
                _log.warning("page %s: %s", message.page, message.cause)
            self._meter.database_trouble = message.cause
            self._in_trouble()
        elif isinstance(message, Unstaffed):
            if message.cause and message.cause != self._meter.pool_trouble:
                _log.warning("%s", message.cause)
            self._meter.pool_trouble = message.cause
        elif isinstance(message, Poisoned):
            self._set_aside(message)
        elif isinstance(message, Failure):
            raise _error(message)

    def _set_aside(self, message: Poisoned) -> None:
        page = self._feeder.received(message.page)
        assert page is not None, "a page is held from its fetch until its end"
        note(request_id=page.request_id)
        self._ledger.spool.set_aside(page, f"{message.deaths} workers died over it: {message.how}")
        _log.error("page %s is set aside: %d workers died over it, %s", message.page, message.deaths, message.how)

    def _received(self, receipt: Receipt) -> None:
        page = self._feeder.received(receipt.page)
        if page is not None and self._ledger.complete(page, receipt):
            self._meter.committed(receipt)
            self._observer.committed(page, receipt)


def _error(failure: Failure) -> IngestError:
    """The exception that a worker's failure was, as far as it has a name of ours."""
    known = getattr(errors, failure.error, None)
    if isinstance(known, type) and issubclass(known, IngestError):
        return known(failure.message, failure.hint)
    _log.debug("%s", failure.traceback)
    return WorkerFailedError(
        f"Worker {failure.worker} failed on page {failure.page}: {failure.error}: {failure.message}",
        hint="This is a bug: run again with --debug and report what it prints. What was committed stays.",
    )


def _times(gap: Gap) -> tuple[int | None, int | None]:
    return gap.since, gap.until
