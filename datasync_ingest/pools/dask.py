"""The pool on a Dask cluster: pages go to its workers as futures, bounded in number and in bytes.

Who works on what decides the scheduler, which moves the pages of a worker that is lost to others. What is told of that
is judged here: a page whose worker dies again and again is tried alone, and then taken out (see `deaths`). An attempt
that ends without a word is made again; one that has committed after all is found in `ingested_pages`.
"""

from __future__ import annotations

import logging
import uuid
from collections import deque
from collections.abc import Iterable
from multiprocessing.connection import wait
from time import monotonic

from ..errors import (
    ConfigurationError,
    IngestError,
    NoWorkerError,
    SchedulerLostError,
    WorkerDiedError,
    WorkerRefusedError,
)
from ..messages import Failure, PageId, Poisoned, RawPage, Receipt, Started, Unstaffed, WorkerMessage, WorkerOptions
from ..stopping import Wake
from ..worker import failure
from .dask_words import Away, Ended, Left, Lost, Said, Staff, Word
from .deaths import POISONED_AT, Deaths
from .listening import ListeningClock

try:
    from .dask_cluster import Cluster
    from .dask_worker import Terms
except ImportError as error:
    raise ConfigurationError(
        f"--pool dask needs Dask, which is not installed here: {error}.",
        hint="Install the extra: pip install 'datasync_ingest[dask]'. In a checkout, bin/ingest does so by itself.",
    ) from error

PAGES_PER_WORKER = 3  # one at work, one that has arrived, one on its way
PAGES_BYTES = 256 * 2**20  # in the scheduler's memory and the workers' together, but for one page
PATIENCE_S = 30.0  # for a scheduler, when the run begins and when its connection is lost
_END_S = 2.0  # to take leave of the workers
_LOST_AT = 5  # attempts at a page that ended without a word, which happens when a connection is lost

# Of the scheduler's own, by its settings (allowed-failures, no-workers-timeout): a page is given out again.
_NOBODYS_FAULT = ("KilledWorker", "NoWorkerError", "NoValidWorkerError")

_log = logging.getLogger(__name__)


class DaskPool:
    """See `Pool`."""

    def __init__(self, scheduler: str, *, patience_s: float = PATIENCE_S) -> None:
        self._scheduler = scheduler
        self._patience_s = patience_s
        self._worker_patience_s = 0.0
        self._wake = Wake()
        self._words: deque[Word] = deque()
        self._cluster: Cluster | None = None
        self._staff = Staff(frozenset(), 0)
        self._seen: set[str] = set()  # workers that have a desk of this run
        self._unfit: set[str] = set()  # workers that cannot work for this run
        self._held: dict[PageId, RawPage] = {}  # in the order in which they were put
        self._orders: dict[PageId, int] = {}
        self._put = 0
        self._attempts = 0
        self._under_way: dict[int, PageId] = {}
        self._at_work: dict[PageId, str] = {}
        self._lost: dict[PageId, int] = {}
        self._alone: PageId | None = None
        self._deaths = Deaths()
        self._clock = ListeningClock()
        self._unstaffed_since: float | None = None
        self._lacking = ""
        self._is_away = False
        self._outbox: list[WorkerMessage] = []

    @property
    def room(self) -> int:
        if sum(len(page.body) for page in self._held.values()) >= PAGES_BYTES:
            return 0
        return max(0, self.workers * PAGES_PER_WORKER - len(self._held))

    @property
    def pages(self) -> int:
        return len(self._held)

    @property
    def workers(self) -> int:
        return len(self._staff.workers - self._unfit)

    @property
    def pids(self) -> tuple[int, ...]:
        return ()

    def prepare(self) -> None:
        """The workers are somebody else's."""

    def start(self, options: WorkerOptions) -> None:
        self._worker_patience_s = options.db_patience_s
        self._cluster = Cluster(self._scheduler, Terms.of(uuid.uuid4().hex, options), self._hear)
        opened = self._cluster.open(min(self._patience_s, options.db_patience_s))
        self._staff = opened.staff
        where = f"; its dashboard: {opened.dashboard}" if opened.dashboard else ", no dashboard that answers"
        _log.info("the cluster of %s has %d workers for us%s", self._scheduler, self.workers, where)

    def put(self, page: RawPage) -> None:
        if self.room <= 0:
            raise ValueError("the pool is full")
        self._put += 1
        self._held[page.page], self._orders[page.page] = page, self._put
        self._give_out()

    def receive(self, timeout_s: float, wake: int | None = None) -> list[WorkerMessage]:
        if self._cluster is None:
            raise ValueError("the pool has not been started, or has ended")
        self._listen(timeout_s, wake)
        self._look_for_staff()
        self._give_out()
        return self._taken()

    def stop(self, grace_s: float) -> list[WorkerMessage]:
        deadline = monotonic() + grace_s
        cluster = self._cluster
        if cluster is not None:
            try:
                while self._under_way and (left_s := deadline - monotonic()) > 0:
                    self._listen(left_s, None)
            except IngestError as error:
                _log.debug("not waited for: %s", error)
            cluster.forget(list(self._under_way))
            cluster.close(self._seen & self._staff.workers, _END_S)
            self._cluster = None
            self._hear_receipts()
            self._held.clear()
        self._wake.close()
        return self._taken()

    def _hear(self, word: Word) -> None:
        """In the cluster's thread."""
        self._words.append(word)
        self._wake.ring()

    def _listen(self, timeout_s: float, wake: int | None) -> None:
        """Waits for a word and takes in all there are. Raises SchedulerLostError, WorkerDiedError."""
        if not self._words:
            wait([self._wake.fileno(), *([] if wake is None else [wake])], timeout_s)
        self._clock.advance(timeout_s)
        self._wake.clear()
        while self._words:
            self._take_in(self._words.popleft())

    def _take_in(self, word: Word) -> None:
        if isinstance(word, Said):
            self._said(word)
        elif isinstance(word, Ended):
            self._ended(word)
        elif isinstance(word, Left):
            self._left(word)
        elif isinstance(word, Staff):
            self._staff = word
        elif isinstance(word, Away):
            self._is_away = word.is_away
        elif isinstance(word, Lost):
            raise SchedulerLostError(
                f"The Dask scheduler at {self._scheduler} is lost: {word.why}.",
                hint="What was committed stays. Start the scheduler and the workers, then run the same command again.",
            )

    def _said(self, word: Said) -> None:
        message, page = word.message, word.message.page
        self._seen.add(word.worker)
        if page is None or page not in self._held:
            return
        if isinstance(message, Receipt):  # of whichever attempt: it is there
            self._done(page, message)
        elif self._under_way.get(word.attempt) != page:
            return
        elif isinstance(message, Failure):
            if self._at_work.get(page) == word.worker:  # one that has left fails because it leaves
                self._done(page, message)
        else:
            if isinstance(message, Started):
                self._at_work[page] = word.worker
            self._outbox.append(message)

    def _ended(self, word: Ended) -> None:
        page = self._under_way.pop(word.attempt, None)
        if page is None:
            return
        worker = self._at_work.pop(page, None)
        error = None if word.error is None else _named(word.error)
        if isinstance(error, WorkerRefusedError) and self._goes_on_without(word.worker, error):
            _log.debug("page %s is given to another worker", page)
        elif error is not None and type(error).__name__ not in _NOBODYS_FAULT:
            self._done(page, failure(error, self._held[page], 0))
        elif error is not None and worker is not None:
            self._died(page, worker)
        else:
            self._lost[page] = self._lost.get(page, 0) + 1
            _log.debug("attempt %d at page %s ended without a word", word.attempt, page)
            if word.finished and self._lost[page] >= _LOST_AT:
                raise WorkerDiedError(f"The workers' words about page {page} do not arrive.")

    def _goes_on_without(self, worker: str | None, error: WorkerRefusedError) -> bool:
        """Whether there are other workers than this one, which cannot work for this run."""
        if worker is None or self._cluster is None:
            return False
        if worker not in self._unfit:
            self._unfit.add(worker)
            self._cluster.shun(worker)
            if self.workers:
                _log.warning("%s The run goes on without it. %s", error, error.hint)
        return self.workers > 0

    def _left(self, word: Left) -> None:
        self._seen.discard(word.worker)
        for page in [page for page, worker in self._at_work.items() if worker == word.worker]:
            del self._at_work[page]
            if word.expected:
                _log.info("worker %s has left: page %s is given out again", word.worker, page)
            else:
                self._died(page, word.worker)

    def _died(self, page: PageId, worker: str) -> None:
        """Raises WorkerDiedError where one page after the other has killed its workers."""
        how = f"worker {worker} was lost at work on page {page}"
        if self._alone == page:
            self._deaths.restart()
            if times := self._deaths.enough:
                raise WorkerDiedError(
                    f"{times} pages in a row were each more than their workers survived; the last: {how}.",
                    hint="See what ends the workers (memory?), then run the same command again.",
                )
        times = self._deaths.count(page)
        if times >= POISONED_AT:
            self._recall(page)
            self._done(page, Poisoned(page, times, how), survived=False)
            _log.warning("%s", how)
        elif self._deaths.suspect([page]) is not None:
            self._recall(page)
            _log.warning("%s: it is tried alone", how)
        else:
            _log.warning("%s: it is given out again", how)

    def _done(self, page: PageId, message: WorkerMessage, *, survived: bool = True) -> None:
        self._outbox.append(message)
        self._under_way = {attempt: given for attempt, given in self._under_way.items() if given != page}
        self._at_work.pop(page, None)
        del self._held[page], self._orders[page]
        self._lost.pop(page, None)
        if survived:
            self._deaths.done(page)

    def _recall(self, page: PageId) -> None:
        """Nobody who has not begun with it shall, and what they say of it counts no more, but for a receipt."""
        recalled = [attempt for attempt, given in self._under_way.items() if given == page]
        for attempt in recalled:
            del self._under_way[attempt]
        self._at_work.pop(page, None)
        if recalled and self._cluster is not None:
            self._cluster.forget(recalled)

    def _give_out(self) -> None:
        """Every page that nobody has; while there is a suspect, that one alone."""
        given = set(self._under_way.values())
        self._alone = self._deaths.suspect(self._held)
        if self._alone is None:
            self._submit(page for page in self._held if page not in given)
        elif not given:
            self._submit([self._alone])

    def _submit(self, pages: Iterable[PageId]) -> None:
        assert self._cluster is not None, "given out between start and stop"
        for page in pages:
            self._attempts += 1
            self._under_way[self._attempts] = page
            self._cluster.submit(self._attempts, self._held[page], self._orders[page])

    def _look_for_staff(self) -> None:
        """Says when there is nobody, and when there is somebody again. Raises NoWorkerError after the patience."""
        cause = self._lack()
        if cause != self._lacking:
            self._lacking = cause
            self._outbox.append(Unstaffed(cause))
        if self.workers:
            self._unstaffed_since = None
        elif self._unstaffed_since is None:
            self._unstaffed_since = self._clock.now
        elif self._clock.now - self._unstaffed_since > self._worker_patience_s:
            raise NoWorkerError(
                f"The cluster of {self._scheduler} has had no worker for this program for"
                f" {self._worker_patience_s:.0f} s (DB_PATIENCE).",
                hint=f"Start workers with bin/worker --scheduler {self._scheduler}, then run the same command again.",
            )

    def _lack(self) -> str:
        """Why no page can be given out, and what to do; empty where one can."""
        if self._is_away:
            return f"the Dask scheduler at {self._scheduler} does not answer"
        if self.workers:
            return ""
        others = f", {self._staff.others} others were not started by bin/worker" if self._staff.others else ""
        return f"no worker on the cluster{others}: start one with bin/worker --scheduler {self._scheduler}"

    def _hear_receipts(self) -> None:
        while self._words:
            word = self._words.popleft()
            if isinstance(word, Said) and isinstance(word.message, Receipt):
                self._said(word)

    def _taken(self) -> list[WorkerMessage]:
        taken, self._outbox = self._outbox, []
        return taken


def _named(error: BaseException) -> Exception:
    """The error of ours for one that a task has raised before a line of ours ran in it; or that error itself."""
    if isinstance(error, (ImportError, AttributeError)):
        return WorkerRefusedError(
            f"A worker of the cluster cannot run this program: {type(error).__name__}: {error}.",
            hint="Start workers with bin/worker, from the same version of this program.",
        )
    return error if isinstance(error, Exception) else RuntimeError(str(error))
