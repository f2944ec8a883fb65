"""The life of one page: decode, write, commit, receipt. Knows no kind of queue and no process."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable

from .errors import IngestError
from .events import DecodedPage, decode_page
from .messages import Failure, RawPage, Receipt, Started, Waiting, WorkerMessage, WorkerOptions
from .patience import signs_of_life
from .postgres.pages import PageStore, Written
from .postgres.writers import WRITERS

_MESSAGE_BYTES = 1_000  # of an exception's text
_TRACEBACK_BYTES = 2_000  # its end, where the cause stands


class Worker:
    """Works off one page at a time. `report` is told of every step; each page ends in a Receipt or a Failure."""

    def __init__(self, number: int, options: WorkerOptions, report: Callable[[WorkerMessage], None]) -> None:
        self._number = number
        self._options = options
        self._to_report = report
        self._reporting = threading.Lock()  # the signs of life come from a thread of their own
        self._store = PageStore(
            options.conninfo.reveal(),
            schema=options.schema,
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
        written = self._commit(page, decoded)
        ended = time.perf_counter()
        return Receipt(
            page.page, self._number, written.counts, written.repeated, decoded_at - began, ended - decoded_at
        )

    def _commit(self, page: RawPage, decoded: DecodedPage) -> Written:
        with signs_of_life(
            self._options.sign_of_life_s,
            self._options.db_patience_s,
            still=lambda cause: self._report(Waiting(page.page, self._number, cause)),
            over=lambda error: self._report(failure(error, page, self._number)),
        ) as waiting:
            return self._store.commit(page, decoded, waiting=waiting)

    def _report(self, message: WorkerMessage) -> None:
        with self._reporting:
            self._to_report(message)


def failure(error: Exception, page: RawPage | None, worker: int) -> Failure:
    """The value for an exception, which itself could not cross a process.

    Small enough to go through a pipe in one piece (4,096 bytes on Linux): a worker that is killed or stopped in the
    middle of a longer message would leave half of it, and the parent waiting for the rest.
    """
    return Failure(
        page=None if page is None else page.page,
        worker=worker,
        error=type(error).__name__,
        message=_cut(str(error), keep=slice(0, _MESSAGE_BYTES)),
        hint=error.hint if isinstance(error, IngestError) else "",
        traceback=_cut("".join(traceback.format_exception(error)), keep=slice(-_TRACEBACK_BYTES, None)),
    )


def _cut(text: str, *, keep: slice) -> str:
    return text.encode(errors="replace")[keep].decode(errors="ignore")
