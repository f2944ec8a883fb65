"""One run, in a thread of its own that is never at work at the same time as the test's: real ledger, walks, main loop
and spool between a model of the API and one of the database.

The run stands still in `Pool.receive`, which the main loop calls once for each turn, until it is told what happens
next; a crash is a BaseException there or beside a transaction of the sidecar, after which nothing is written any more.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from datasync_ingest import copying
from datasync_ingest.api.cursors import CursorClock, Renewal
from datasync_ingest.books import Balance, reconcile
from datasync_ingest.copying import Copier
from datasync_ingest.feeding import Feeder
from datasync_ingest.ledger import Ledger, Spool
from datasync_ingest.ledger.sidecar import Sidecar
from datasync_ingest.messages import RawPage, WorkerMessage
from datasync_ingest.meter import Meter
from datasync_ingest.settings import Settings
from datasync_ingest.stopping import Interrupted, StopRequest, Wake
from datasync_ingest.walking import Walking
from tests.model.api import ModelApi, ModelClock
from tests.model.database import ModelDatabase, ModelPool

SOURCE = "http://model/api/v1"
PATIENCE_S = 20.0  # for one turn of the main loop, of milliseconds
Step = Callable[[], list[WorkerMessage] | None]


class Crashed(BaseException):
    """Raised where the process would be gone, and by every transaction of the sidecar after that."""


class Program(threading.Thread):
    """`start` returns when the run stands still or has ended; so does each `step`."""

    def __init__(self, folder: Path, api: ModelApi, database: ModelDatabase, clock: ModelClock) -> None:
        super().__init__(name="program", daemon=True)
        self.balance: Balance | None = None
        self.error: BaseException | None = None
        self.walk: SteppedWalk | None = None
        self.pool = ModelPool(database, self._next_step)
        self.stop: StopRequest | None = None
        self.spooled: Callable[[RawPage], object] = lambda page: page
        self.after_trouble: Callable[[], None] = lambda: None
        self.crash_in: int | None = None  # moments before and after the sidecar's transactions from now
        self._folder, self._api, self._database, self._clock = folder, api, database, clock
        self._steps: queue.Queue[Step] = queue.Queue()
        self._stands: queue.Queue[bool] = queue.Queue()
        self._crashed = False

    # --- for the test's thread ---

    def start(self) -> None:
        super().start()
        self._stands.get(timeout=PATIENCE_S)

    def step(self, step: Step) -> None:
        """Lets one turn of the main loop go on, with what `step` has the workers say."""
        assert self.is_running
        self._steps.put(step)
        if not self._stands.get(timeout=PATIENCE_S):
            self.join()

    @property
    def is_running(self) -> bool:
        return self.balance is None and self.error is None

    @property
    def can_fetch(self) -> bool:
        return self.walk is not None and not self.walk.has_page and not self.walk.ended

    def crash(self) -> None:
        def step() -> None:
            self._crashed = True
            raise Crashed

        self.step(step)

    def fetch(self) -> None:
        assert self.walk is not None
        self.step(self.walk.advance)

    # --- for the run's own thread ---

    def run(self) -> None:
        try:
            self.balance = self._ran()
        except BaseException as error:
            self.error = error
        finally:
            self._stands.put(False)

    def _ran(self) -> Balance:
        settings = Settings(stop_grace=0.0)
        with ExitStack() as opened:
            enter = opened.enter_context
            enter(self._patched())
            ledger = enter(Ledger.open(self._folder, purpose="the model"))
            ending = enter(ledger.run())
            holdings = reconcile(ledger, self._database, SOURCE, adopt=False)  # type: ignore[arg-type]
            fetcher = self._api.new_run()
            unpaced: Any = Unpaced()
            meter = Meter(holdings, fetcher.activity, unpaced, unpaced, total=ledger.fact("total"))
            wake = enter(closing(Wake()))
            self.stop = StopRequest(wake)
            self.stop.defer()
            copier = Copier(
                settings,
                fetcher=fetcher,  # type: ignore[arg-type]
                renewal=Renewal(fetcher, CursorClock(clock=self._clock, wall=self._clock.wall)),
                pool=self.pool,
                ledger=ledger,
                meter=meter,
                display=unpaced,
                stop=self.stop,
                wake=wake,
                in_trouble=lambda: None,
                after_trouble=self.after_trouble,
            )
            enter(closing(copier))
            ledger.spool.retry_poisoned()
            balance = Walking(ledger, self._database, copier, meter).until_balanced()  # type: ignore[arg-type]
            ending.exit_code, ending.sentence = balance.verdict()
            return balance

    @contextmanager
    def _patched(self) -> Iterator[None]:
        """The main loop with the model's clock and with a walk that waits for the test; a sidecar that can crash."""
        feeder = partial(Feeder, clock=self._clock)
        atomic, put = Sidecar.atomic, Spool.put

        @contextmanager
        def crashing(sidecar: Sidecar) -> Iterator[Any]:
            self._moment()
            with atomic(sidecar) as connection:
                yield connection
            self._moment()

        def spooling(spool: Spool, page: RawPage) -> None:
            put(spool, page)
            self.spooled(page)

        with (
            patch.object(copying, "Feeder", feeder),
            patch.object(copying, "WalkThread", self._new_walk),
            patch.object(Sidecar, "atomic", crashing),
            patch.object(Spool, "put", spooling),
        ):
            yield

    def _new_walk(self, pages: Iterator[RawPage], *_: object) -> SteppedWalk:
        self.walk = SteppedWalk(pages, self._clock)
        return self.walk

    def _moment(self) -> None:
        if self.crash_in is not None:
            self._crashed = self._crashed or self.crash_in == 0
            self.crash_in -= 1
        if self._crashed:
            raise Crashed

    def _next_step(self) -> list[WorkerMessage]:
        self._stands.put(True)
        return self._steps.get()() or []


class SteppedWalk:
    """A WalkThread without a thread: it goes on by one page whenever it is told to."""

    def __init__(self, pages: Iterator[RawPage], clock: ModelClock) -> None:
        self._pages = pages
        self._clock = clock
        self._page: RawPage | None = None
        self._since = 0.0
        self._done = False
        self.error: Exception | None = None

    def start(self) -> None:
        """There is nothing to start."""

    def advance(self) -> None:
        try:
            self._page = next(self._pages, None)
            self._done = self._page is None
            self._since = self._clock()
        except Interrupted:
            self._done = True
        except Exception as error:
            self.error, self._done = error, True

    def tend(self) -> None:
        """One chain of pages needs nothing."""

    def halt(self) -> None:
        """It begins nothing new by itself."""

    def wait_for_end(self, timeout_s: float) -> bool:
        del timeout_s
        return True

    @property
    def ended(self) -> bool:
        return self._done and self._page is None

    @property
    def has_page(self) -> bool:
        return self._page is not None

    @property
    def waited_s(self) -> float:
        return self._clock() - self._since if self._page is not None else 0.0

    def take(self) -> RawPage:
        page, self._page = self._page, None
        assert page is not None
        return page


class Unpaced:
    """Stands for the pacer, the key's clock and the display: there is no limit, no end, and nobody to see it."""

    remaining = None

    def seconds_for(self, requests: int) -> float:
        del requests
        return 0.0

    def left_s(self) -> None:
        """The key does not end."""

    def show(self, snapshot: object) -> None:
        """Nobody looks."""


def sigterm(program: Program) -> None:
    """An orderly stop."""

    def step() -> None:
        assert program.stop is not None
        program.stop.received(signal.SIGTERM, None)

    program.step(step)
