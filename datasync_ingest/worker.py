"""The life of one page: decode, write, commit, receipt. Knows no kind of queue and no process."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from .errors import IngestError
from .events import decode_page
from .messages import Failure, RawPage, Receipt, Started, Waiting, WorkerMessage
from .postgres.pages import PageStore
from .postgres.writers import WRITERS
from .settings import Secret


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """All that a worker needs to know; crosses to its process once, by pickling, never by argv or environment."""

    conninfo: Secret
    writer: str
    db_patience_s: float


class Worker:
    """Works off one page at a time. `report` is told of every step; each page ends in a Receipt or a Failure."""

    def __init__(self, number: int, options: WorkerOptions, report: Callable[[WorkerMessage], None]) -> None:
        self._number = number
        self._report = report
        self._store = PageStore(
            options.conninfo.reveal(),
            insert=WRITERS[options.writer],
            patience_s=options.db_patience_s,
            application_name=f"datasync_ingest worker {number}",
        )

    def work(self, page: RawPage) -> None:
        """Never raises but for what stops a process (KeyboardInterrupt, SystemExit)."""
        self._report(Started(page.page, self._number))
        try:
            self._report(self._receipt(page))
        except Exception as error:
            self._report(failure(error, page, self._number))

    def close(self) -> None:
        self._store.close()

    def _receipt(self, page: RawPage) -> Receipt:
        began = time.perf_counter()
        decoded = decode_page(page.body)
        decoded_at = time.perf_counter()
        written = self._store.commit(page, decoded, waiting=lambda cause: self._waiting(page, cause))
        ended = time.perf_counter()
        return Receipt(
            page.page, self._number, written.counts, written.repeated, decoded_at - began, ended - decoded_at
        )

    def _waiting(self, page: RawPage, cause: str) -> None:
        self._report(Waiting(page.page, self._number, cause))


def failure(error: Exception, page: RawPage | None, worker: int) -> Failure:
    """The value for an exception, which itself could not cross a process."""
    return Failure(
        page=None if page is None else page.page,
        worker=worker,
        error=type(error).__name__,
        message=str(error),
        hint=error.hint if isinstance(error, IngestError) else "",
        traceback="".join(traceback.format_exception(error)),
    )
