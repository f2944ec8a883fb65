"""The default pool: a bounded multiprocessing queue of raw pages and N spawned workers; no death of a worker ends it.

A worker loads for 0.2 s before it can work, on another core than the parent, which loads too: so workers are spawned
before anything is known of the run, and get what they need to know when it is.

A worker that died or hung takes its crew with it: queue and workers are thrown away and made anew, and the pages that
have no receipt are given out again in their order. One whose commit took place and whose receipt was lost is then found
in `ingested_pages`, and nothing else happens. What is judged is in `deaths`, what is thrown away in `crew`.
"""

from __future__ import annotations

import logging
import time

from ..errors import WorkerDiedError
from ..messages import Failure, PageId, Poisoned, RawPage, Receipt, Started, WorkerMessage, WorkerOptions
from .crew import Crew, Member
from .deaths import POISONED_AT, Death, Deaths, ending
from .listening import ListeningClock

PAGES_QUEUED_PER_WORKER = 2  # one to work on at once when a page is done, one for the fetch that is late

# Without a word for this long, in seconds, a worker hangs. One that waits for the database says so every 15 s (see
# `worker`); the longest silence of a sound one is the decoding of the largest page. Longer than the database's lock
# timeout (60 s) and its idle-in-transaction timeout (120 s), after which it has taken back what the worker held.
HANG_S = 180.0

_MEMORY_HINT = (
    "Run the same command again: it goes on from the last committed page. If the system is short of"
    " memory, set a smaller BATCH_SIZE or WORKER_CONCURRENCY."
)

_log = logging.getLogger(__name__)


class ProcessPool:
    """See `Pool`."""

    def __init__(self, workers: int, *, hang_s: float = HANG_S) -> None:
        self._options: WorkerOptions | None = None
        self._workers = workers
        self._hang_s = hang_s
        self._capacity = workers * (1 + PAGES_QUEUED_PER_WORKER)
        self._crew: Crew | None = None
        self._unreceipted: dict[PageId, RawPage] = {}  # in the order in which they were put
        self._alone: PageId | None = None  # the one page that is given out, while there is a suspect
        self._deaths = Deaths()
        self._clock = ListeningClock()
        self._moved_at = 0.0  # the last word of any worker, or when a page began to wait for one
        self._outbox: list[WorkerMessage] = []

    @property
    def room(self) -> int:
        return self._capacity - len(self._unreceipted)

    @property
    def pages(self) -> int:
        return len(self._unreceipted)

    @property
    def workers(self) -> int:
        return len(self.pids)

    @property
    def pids(self) -> tuple[int, ...]:
        return () if self._crew is None else self._crew.pids

    def prepare(self) -> None:
        self._hire(self._workers)

    def start(self, options: WorkerOptions) -> None:
        self._options = options
        self._put_to_work(self._crew or self._hire(self._workers))

    def put(self, page: RawPage) -> None:
        if self.room <= 0:
            raise ValueError("the pool is full")
        crew = self._working
        if crew is not None and not self._pages_wait(crew):
            self._moved_at = self._clock.now
        self._unreceipted[page.page] = page
        if crew is not None and self._alone is None:
            crew.put(page)

    def receive(self, timeout_s: float, wake: int | None = None) -> list[WorkerMessage]:
        crew = self._working
        if crew is None:
            raise ValueError("the pool has not been started, or has ended")
        timeout_s = min(timeout_s, self._hang_s)
        dead = crew.wait(timeout_s, wake)
        self._clock.advance(timeout_s)
        self._hear(crew)
        if ended := [(member, ending(member.process.exitcode)) for member in dead] or self._silent(crew):
            self._start_afresh(crew, ended)
        elif self._alone is not None and self._alone not in self._unreceipted:
            self._end(crew)
            self._go_on()
        return self._taken()

    def stop(self, grace_s: float) -> list[WorkerMessage]:
        # Order: the message to stop goes down the queue behind the pages; who has not met it when the grace is over is
        # killed (its transaction is rolled back by the database); only then are pipes and queue closed.
        deadline = time.monotonic() + grace_s
        crew = self._crew
        if crew is not None:
            crew.dismiss()
            while crew.wait_for_leaving(deadline):
                self._hear(crew)
            self._end(crew)
        return self._taken()

    def _hear(self, crew: Crew) -> None:
        """Takes what the workers said to the outbox; never blocks."""
        for member in crew.members:
            for message in member.read():
                self._outbox.append(message)
                member.heard_at = self._moved_at = self._clock.now
                self._note(member, message)

    def _note(self, member: Member, message: WorkerMessage) -> None:
        if isinstance(message, Started):
            member.page = message.page
        elif isinstance(message, (Receipt, Failure)):
            member.page = None
            if message.page is not None:
                self._unreceipted.pop(message.page, None)
                self._deaths.done(message.page)

    def _silent(self, crew: Crew) -> list[tuple[Member, str]]:
        """The workers that hang: those with a page, or else those that do not take one, as one of them has the queue's
        lock and is stopped, or never came to life."""
        latest = self._clock.now - self._hang_s
        said_nothing = f"has said nothing for {self._hang_s:.0f} s"
        if hung := [member for member in crew.members if member.page is not None and member.heard_at <= latest]:
            return [(member, said_nothing) for member in hung]
        if self._moved_at > latest or not self._pages_wait(crew):
            return []
        return [(member, said_nothing) for member in crew.members if member.page is None]

    def _pages_wait(self, crew: Crew) -> bool:
        """Whether there are pages in the queue that no worker has announced."""
        given = len(self._unreceipted) if self._alone is None else 1
        return given > sum(member.page is not None for member in crew.members)

    def _start_afresh(self, crew: Crew, ended: list[tuple[Member, str]]) -> None:
        """Replaces a crew of which these have died or hung; the others are killed, which counts against no page.

        Raises WorkerDiedError where that leads nowhere.
        """
        all_dead = self._end(crew)
        self._deaths.restart()
        deaths = [Death(member.process.name, member.page, how) for member, how in ended]  # after their last messages
        what = ", ".join(str(death) for death in deaths)
        if not all_dead:
            raise WorkerDiedError(f"{what}, and a worker could not be ended.", hint=_MEMORY_HINT)
        if times := self._deaths.enough:
            raise WorkerDiedError(
                f"Workers died {times} times in a row without finishing one page; the last: {what}.", hint=_MEMORY_HINT
            )
        for death in deaths:
            self._count(death)
        self._go_on()
        _log.warning("%s: workers start afresh%s", what, self._given_out())

    def _count(self, death: Death) -> None:
        if death.page is None:
            return
        times = self._deaths.count(death.page)
        if times >= POISONED_AT:
            del self._unreceipted[death.page]
            self._outbox.append(Poisoned(death.page, times, str(death)))

    @property
    def _working(self) -> Crew | None:
        """The crew, once it has its orders."""
        return None if self._options is None else self._crew

    def _go_on(self) -> None:
        """A new crew for what has no receipt: for the suspect alone as long as there is one."""
        self._alone = self._deaths.suspect(self._unreceipted)
        self._put_to_work(self._hire(self._workers if self._alone is None else 1))

    def _hire(self, workers: int) -> Crew:
        """Raises WorkerDiedError where the system has no room for a process."""
        try:
            self._crew = crew = Crew(self._capacity + 2 * self._workers)  # room for a STOP and a loss for each
            crew.hire(workers, self._clock.now)
        except OSError as error:
            raise WorkerDiedError(f"No worker could be started: {error}.", hint=_MEMORY_HINT) from error
        return crew

    def _put_to_work(self, crew: Crew) -> None:
        assert self._options is not None, "put to work after the start"
        self._moved_at = self._clock.now
        crew.instruct(self._options)
        for page in list(self._unreceipted) if self._alone is None else [self._alone]:
            crew.put(self._unreceipted[page])

    def _given_out(self) -> str:
        if self._alone is not None:
            return f", page {self._alone} is tried alone"
        return f", {self.pages} pages are given out again" if self._unreceipted else ""

    def _end(self, crew: Crew) -> bool:
        """Ends a crew after its last messages; whether all of it is dead."""
        all_dead = crew.kill()
        self._hear(crew)
        crew.close()
        self._crew = None
        return all_dead

    def _taken(self) -> list[WorkerMessage]:
        taken, self._outbox = self._outbox, []
        return taken
