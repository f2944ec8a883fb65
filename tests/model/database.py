"""PostgreSQL as two dictionaries, and the pool of workers as a list of pages that somebody else takes from."""

from __future__ import annotations

import json
from collections.abc import Callable

from datasync_ingest.messages import (
    CompletedPage,
    Counts,
    PageId,
    Poisoned,
    RawPage,
    Receipt,
    WorkerMessage,
    WorkerOptions,
)
from datasync_ingest.postgres.preparing import SourceIdentity
from datasync_ingest.postgres.source import Holdings

CAPACITY = 4  # pages


class ModelDatabase:
    """Has the methods that the run uses of a SourceDatabase, and the one of a PageStore."""

    def __init__(self) -> None:
        self.schema = "public"
        self.events: set[str] = set()
        self.committed: dict[PageId, CompletedPage] = {}
        self._source: str | None = None

    def commit(self, page: RawPage) -> Receipt:
        """As `PageStore.commit` does: all of the page or nothing, once, whoever asks again."""
        before = self.committed.get(page.page)
        if before is not None and (before.received, before.first, before.last) == (
            page.received,
            page.first,
            page.last,
        ):
            return Receipt(page.page, 0, before.counts, True, 0.0, 0.0)
        ids = json.loads(page.body)
        new = set(ids) - self.events
        counts = Counts(len(ids), len(new), len(ids) - len(new))
        self.events |= new
        if before is not None:
            if not new and before.received > page.received:
                return Receipt(page.page, 0, counts, True, 0.0, 0.0)
            theirs = min(before.counts.inserted, counts.already_there)
            counts = Counts(len(ids), len(new) + theirs, counts.already_there - theirs)
        self.committed[page.page] = CompletedPage.of(page, counts=counts)
        return Receipt(page.page, 0, counts, False, 0.0, 0.0)

    def prepare(self, source: str) -> SourceIdentity:
        self._source = self._source or source
        return SourceIdentity(self._source, "the-only-database")

    def identity(self) -> SourceIdentity | None:
        return None if self._source is None else SourceIdentity(self._source, "the-only-database")

    def pages(self) -> list[CompletedPage]:
        return list(self.committed.values())

    def holdings(self) -> Holdings:
        return Holdings(len(self.events), 0)


class ModelPool:
    """A `Pool` whose workers do what they are told; `next_step` is called for each `receive`, and may do that."""

    def __init__(self, database: ModelDatabase, next_step: Callable[[], list[WorkerMessage]]) -> None:
        self.held: list[RawPage] = []
        self.answers: list[Receipt] = []
        self._database = database
        self._next_step = next_step

    @property
    def room(self) -> int:
        return CAPACITY - self.pages

    @property
    def pages(self) -> int:
        return len(self.held) + len(self.answers)

    @property
    def workers(self) -> int:
        return 0

    @property
    def pids(self) -> tuple[int, ...]:
        return ()

    def prepare(self) -> None:
        """There is nothing to prepare."""

    def start(self, options: WorkerOptions) -> None:
        """There is nothing to start."""

    def put(self, page: RawPage) -> None:
        assert self.room > 0
        self.held.append(page)

    def receive(self, timeout_s: float, wake: int | None = None) -> list[WorkerMessage]:
        del timeout_s, wake
        return self._next_step()

    def stop(self, grace_s: float) -> list[WorkerMessage]:
        """Without grace, pages that no worker has committed are thrown away."""
        if grace_s:
            while self.held:
                self.commit(0)
        self.held.clear()
        said: list[WorkerMessage] = [*self.answers]
        self.answers.clear()
        return said

    # --- what workers do ---

    def commit(self, index: int) -> None:
        self.answers.append(self._database.commit(self.held.pop(index)))

    def commit_and_die(self, index: int) -> None:
        """The page stays where it is: nobody has heard of its commit."""
        self._database.commit(self.held[index])

    def answer(self, index: int) -> list[WorkerMessage]:
        return [self.answers.pop(index)]

    def poison(self, index: int) -> list[WorkerMessage]:
        return [Poisoned(self.held.pop(index).page, 2, "killed by the test")]
