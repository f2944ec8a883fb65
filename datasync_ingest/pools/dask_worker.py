"""What runs inside a Dask worker: one run's desk in it, with a connection to PostgreSQL of its own.

A page travels as the pickle of a call: what reads the pickle makes the call. So the scheduler, which unpickles every
graph to send its tasks on, sees `pickle.loads` and bytes, and needs neither this package nor what it is built on. The
body comes straight from the run (see `dask_delivery`), or goes beside the pickle (https://peps.python.org/pep-0574/).

Nothing secret comes along: where the database is says the worker's own environment.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import threading
from dataclasses import dataclass, replace
from typing import Any

from distributed import Worker as DaskWorker
from distributed import WorkerPlugin, get_worker
from tornado.ioloop import PeriodicCallback

from .. import __version__
from ..credentials import passwords_in
from ..errors import WorkerRefusedError
from ..memory import keep_freed_memory
from ..messages import Failure, RawPage, Waiting, WorkerMessage, WorkerOptions
from ..postgres.source import SourceDatabase
from ..secret import Secret
from ..settings import handed_down
from ..worker import Worker
from .dask_bodies import drop, take
from .listening import ListeningClock

RESOURCE = "datasync_ingest"  # of which a worker that is meant for this program has 1: one page at a time
LOOK_S = 15.0  # between two looks at a desk
IDLE_S = 120.0  # without a page, after which a desk is cleared: its run was killed, or waits for the API
# Without a word in the middle of a page, after which a worker hangs; see `processes`. It ends itself, its nanny starts
# another one.
HANG_S = 180.0

_log = logging.getLogger(__name__)


class AbandonedError(Exception):
    """Raised when nobody wants the page any more on which a worker is at work."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a run asks of its workers. `options` come without the conninfo."""

    run: str
    options: WorkerOptions

    @classmethod
    def of(cls, run: str, options: WorkerOptions) -> Terms:
        return cls(run, replace(options, conninfo=Secret("")))

    @property
    def desk(self) -> str:
        """The name of the run's plugin, and of the topic on which its workers speak."""
        return f"datasync_ingest-{self.run}"


@dataclass(frozen=True, slots=True)
class Body:
    """Bytes that a pickle need not hold; where it is read they are plain bytes.

    Not a buffer there, which would save another 2 ms: a scheduler that collected garbage with some in it crashed.
    """

    content: bytes

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return bytes, (pickle.PickleBuffer(self.content),)


@dataclass(frozen=True, slots=True)
class Call:
    """What `pickle.loads` must be given in a worker so that a page is worked off there: a pickle, and a buffer with the
    body; or another pickle alone, where the worker has the body under `name`.
    """

    name: str
    with_body: bytes
    without_body: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class _Work:
    terms: bytes
    body: bytes | None

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return work, (__version__, self.terms, None if self.body is None else pickle.PickleBuffer(self.body))


def call_for(terms: Terms, page: RawPage, attempt: int) -> Call:
    what = pickle.dumps((terms, replace(page, body=b""), attempt))
    return Call(
        _name(terms, page, attempt),
        pickle.dumps(_Work(what, page.body), protocol=5, buffer_callback=lambda _: None),
        pickle.dumps(_Work(what, None)),
        page.body,
    )


def _name(terms: Terms, page: RawPage, attempt: int) -> str:
    return f"{terms.desk}-{page.page.walk}-{page.page.sequence}-{attempt}"


def work(version: str, terms: bytes, body: bytes | memoryview | None) -> None:
    """The life of one page in this worker; what there is to say is said on the run's topic.

    `terms` are read only after the version is known to be the same. Raises WorkerRefusedError where this worker is not
    for this run, what a DatabaseError says where its database cannot be reached at all, and BodyElsewhereError.
    """
    worker = get_worker()
    if version != __version__:
        raise WorkerRefusedError(
            f"The worker {worker.address} has version {__version__} of this program, and the run has {version}.",
            hint="Install the same version in both places; with docker, the same image.",
        )
    what, page, attempt = pickle.loads(terms)
    whole = replace(page, body=take(worker, _name(what, page, attempt)) if body is None else bytes(body))
    _desk(worker, what).work(whole, attempt)


async def clear(desk: str, dask_worker: DaskWorker) -> None:
    """Takes a run's desk away. For `Client.run`."""
    drop(dask_worker, desk)
    if desk in dask_worker.plugins:
        await dask_worker.plugin_remove(desk)


def _desk(worker: DaskWorker, terms: Terms) -> Desk:
    desk = worker.plugins.get(terms.desk)
    if desk is None:
        desk = Desk(worker, terms)
        adding = worker.plugin_add(plugin=desk, name=terms.desk)
        asyncio.run_coroutine_threadsafe(adding, worker.loop.asyncio_loop).result()
    assert isinstance(desk, Desk), "the name is ours"
    return desk


class Desk(WorkerPlugin):  # type: ignore[misc]  # which mypy does not read
    """A run's place in a worker process; works off one page at a time."""

    def __init__(self, worker: DaskWorker, terms: Terms) -> None:
        """Raises WorkerRefusedError where the worker's environment names no database."""
        keep_freed_memory()
        self._dask = worker
        self._terms = terms
        conninfo = handed_down()
        if conninfo is None:
            raise WorkerRefusedError(
                f"The worker {worker.address} knows no database: neither DATABASE_URL nor PGHOST, PGSERVICE or"
                " PGDATABASE is set in its environment.",
                hint="Put the DATABASE_URL of the run into the environment, or into .env, from which you start"
                " bin/worker.",
            )
        self._conninfo = conninfo
        self._worker = Worker(os.getpid(), replace(terms.options, conninfo=conninfo), self._report)
        self._one_at_a_time = threading.Lock()
        self._admitted = False
        self._cleared = False
        self._attempt: int | None = None
        self._key: object = None
        self._thread = 0  # the one that works, and may be told to stop: the signs of life come from another
        self._clock = ListeningClock()
        self._heard_at = self._clock.now
        self._looking: PeriodicCallback | None = None

    def setup(self, worker: DaskWorker) -> None:
        """See `WorkerPlugin`; `worker` is the one that it was made for."""
        del worker
        self._looking = PeriodicCallback(self._look, LOOK_S * 1000)
        self._looking.start()

    def teardown(self, worker: DaskWorker) -> None:
        """A page that is under way is not committed any more, unless its COMMIT is on its way."""
        del worker
        self._cleared = True
        if self._looking is not None:
            self._looking.stop()
        self._worker.close()

    def work(self, page: RawPage, attempt: int) -> None:
        """See `Worker.work`."""
        with self._one_at_a_time:
            self._attempt, self._heard_at = attempt, self._clock.now
            self._key, self._thread = self._dask.get_current_task(), threading.get_ident()
            try:
                if not self._admitted:
                    self._require_database(page)
                    self._admitted = True
                self._worker.work(page)
            finally:
                self._attempt, self._heard_at = None, self._clock.now

    def _require_database(self, page: RawPage) -> None:
        with SourceDatabase(
            self._conninfo.reveal(),
            schema=self._terms.options.schema,
            patience_s=self._terms.options.db_patience_s,
            waiting=lambda cause: self._report(Waiting(page.page, os.getpid(), cause)),
        ) as database:
            found = database.found()
        ours = self._terms.options.database_id
        if found.database_id != ours:
            raise WorkerRefusedError(
                f"The worker {self._dask.address} writes into another database than the run:"
                f" {found.where} {found.described}, and the run's has the database id {ours}.",
                hint="Give the worker the DATABASE_URL of the run, in its environment or its .env, and start it again.",
            )

    def _report(self, message: WorkerMessage) -> None:
        self._heard_at = self._clock.now
        if isinstance(message, Failure):
            if self._is_abandoned:  # by then it fails for lack of a connection, or as an AbandonedError
                return
            message = self._without_secrets(message)
        said = {"attempt": self._attempt, "worker": self._dask.address, "message": pickle.dumps(message)}
        self._dask.log_event(self._terms.desk, said)
        if isinstance(message, Waiting) and threading.get_ident() == self._thread and self._is_abandoned:
            raise AbandonedError

    @property
    def _is_abandoned(self) -> bool:
        """Whether the run is over, or has given the page to somebody else."""
        task = self._dask.state.tasks.get(self._key)
        return self._cleared or task is None or task.state in ("cancelled", "released", "forgotten")

    def _without_secrets(self, failure: Failure) -> Failure:
        """The run can mask its own secrets alone."""
        texts = [failure.message, failure.traceback]
        for secret in (self._conninfo.reveal(), *passwords_in(self._conninfo.reveal())):
            texts = [text.replace(secret, "***") for text in texts]
        return replace(failure, message=texts[0], traceback=texts[1])

    async def _look(self) -> None:
        self._clock.advance(LOOK_S)
        silent_s = self._clock.now - self._heard_at
        if self._attempt is not None and silent_s > HANG_S:
            _log.error("a page has been at work for %.0f s without a word: this worker ends itself", silent_s)
            os._exit(1)
        if self._attempt is None and silent_s > IDLE_S:
            await self._dask.plugin_remove(self._terms.desk)
