"""The connection to a Dask cluster: an event loop in a thread of its own, which tells what happens there.

    submit (see `dask_delivery`) --> scheduler --> worker --log_event--> scheduler --> Said; then Ended

What a worker says and what becomes of its task come over one connection, in their order: a page's receipt is told
before its task has ended.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import re
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import dask
from distributed import Client
from tornado.httpclient import AsyncHTTPClient

from ..errors import SchedulerAwayError
from ..messages import RawPage
from .dask_delivery import Delivery
from .dask_words import Away, Ended, Left, Lost, Said, Staff, Word
from .dask_worker import RESOURCE, Call, Terms, call_for, clear

_LOOK_S = 0.25  # between two looks at the connection, of which nobody tells that it was lost
_REFRESH_S = 10.0  # between two questions for the workers where nothing tells of a change
_ANSWER_S = 10.0  # that a scheduler may take for an answer
_LINK_S = 2.0  # for a dashboard to answer, without which the run begins as well
_END_S = 2.0  # that the thread may take to end when all that it waits for is cancelled
_DASKS = r"(distributed|dask|tornado)(\.|$)"
_WHERE = re.compile(r"^in <[^>]*>: ")  # of Dask's own sentence: the object that could not connect
_WITHOUT_BOKEH = b"dask needs bokeh"
_OF_WORKERS = ("add-worker", "remove-worker", "worker-status-change", "retire-workers")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """What a scheduler says of itself: where its dashboard is, if it has one, and the staff that it begins with."""

    dashboard: str | None
    staff: Staff


class Cluster:
    """One client of a scheduler. `tell` is called in the loop's thread and must return at once.

    The methods are for one other thread. After `open` has raised, and after `close`, there is no thread.
    """

    def __init__(self, address: str, terms: Terms, tell: Callable[[Word], None]) -> None:
        self._address = address
        self._terms = terms
        self._tell = tell
        self._opened: Future[Opened] = Future()
        self._thread = threading.Thread(target=self._run_loop, name="dask client", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self._changed: asyncio.Event | None = None
        self._client: Client | None = None
        self._scheduler = ""  # its identity: one that was restarted has another
        self._patience_s = 0.0
        self._delivery: Delivery | None = None

    def open(self, patience_s: float) -> Opened:
        """Connects; a connection that is lost later is made again for as long. Raises SchedulerAwayError."""
        self._patience_s = patience_s
        _speak_through_us()
        warnings.filterwarnings("ignore", module=_DASKS)
        dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 GiB"})  # a page may have 64 MiB
        self._thread.start()
        while True:
            with suppress(NotYet):
                return self._opened.result(timeout=0.1)  # in between, a signal may raise what it stands for

    def submit(self, attempt: int, page: RawPage, order: int) -> None:
        """Gives a page to a worker that takes some, those of lower order first. What comes of it is told."""
        call = call_for(self._terms, page, attempt)
        self._soon(lambda: self._submit(attempt, call, order))

    def forget(self, attempts: Iterable[int]) -> None:
        """Nothing more is told of them; one that has not been begun will not be."""
        chosen = list(attempts)
        self._soon(lambda: self._forget(chosen))

    def shun(self, worker: str) -> None:
        """It gets no page any more."""
        self._soon(lambda: self._delivery.shun(worker) if self._delivery is not None else None)

    def close(self, workers: Iterable[str], grace_s: float) -> None:
        """Takes the run's desk from these workers, as far as that can be done in `grace_s`, and leaves. Idempotent."""
        if not self._thread.is_alive():
            return
        with suppress(Exception):  # a scheduler that is gone, or does not answer
            self._call(self._leave(list(workers)), grace_s)
        self._soon(lambda: self._ending.set() if self._ending is not None else None)
        self._thread.join(_END_S + grace_s)
        if self._thread.is_alive():
            _log.warning("the connection to the Dask scheduler does not end")

    def _soon(self, call: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop has ended
            if self._loop is not None:
                self._loop.call_soon_threadsafe(call)

    def _call(self, asked: Coroutine[Any, Any, None], timeout_s: float) -> None:
        assert self._loop is not None, "a thread that lives has one"
        asyncio.run_coroutine_threadsafe(asyncio.wait_for(asked, timeout_s), self._loop).result(timeout_s + 1)

    # --- in the loop's thread ---

    def _run_loop(self) -> None:
        try:
            asyncio.run(self._live())
        except Exception as error:
            _log.debug("the Dask client ended", exc_info=True)
            if not self._opened.done():
                self._opened.set_exception(_unreachable(self._address, error))
            else:
                self._tell(Lost(f"{type(error).__name__}: {error}"))

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending, self._changed = asyncio.Event(), asyncio.Event()
        connecting = asyncio.ensure_future(self._connected())
        ending = asyncio.ensure_future(self._ending.wait())
        await asyncio.wait([connecting, ending], return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done():
            connecting.cancel()
            await asyncio.wait([connecting], timeout=_END_S)
            return
        client = connecting.result()
        watching = [asyncio.ensure_future(self._watch(client)), asyncio.ensure_future(self._follow(client))]
        try:
            await ending
        finally:
            for task in watching:
                task.cancel()
            if self._delivery is not None:
                self._delivery.forget_all()
            with suppress(Exception):
                for topic in (self._terms.desk, "all"):
                    client.unsubscribe_topic(topic)  # or the scheduler tells one who has left that somebody has left
                await asyncio.wait_for(client.close(), _END_S)

    async def _connected(self) -> Client:
        client = await Client(self._address, asynchronous=True, timeout=self._patience_s, name="datasync_ingest")
        self._client = client
        self._delivery = Delivery(client, lambda *how: self._tell(Ended(*how)))
        client.subscribe_topic(self._terms.desk, self._heard)
        client.subscribe_topic("all", self._of_cluster)
        found = await client.scheduler.identity(n_workers=-1)
        self._scheduler = found["id"]
        link = client.dashboard_link if "dashboard" in found["services"] else None
        shown = link if link is not None and await shows(link) else None
        self._opened.set_result(Opened(shown, self._known_staff(found)))
        return client

    async def _watch(self, client: Client) -> None:
        """Tells when the connection is lost and made again, and when it is lost for good."""
        was_away = False
        while client.status != "closed":
            await asyncio.sleep(_LOOK_S)
            is_away = client.status != "running"
            if is_away != was_away:
                self._tell(Away(is_away))
                if not is_away and self._changed is not None:
                    self._changed.set()  # it may be another one
            was_away = is_away
        self._tell(Lost(f"it has not answered for {self._patience_s:.0f} s"))

    async def _follow(self, client: Client) -> None:
        """Tells of every change of the staff, and of a scheduler that is not the one it was."""
        assert self._changed is not None, "made before"
        while True:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _REFRESH_S)
            self._changed.clear()
            try:
                found = await asyncio.wait_for(client.scheduler.identity(n_workers=-1), _ANSWER_S)
            except (OSError, asyncio.TimeoutError, AttributeError):  # the client notices; closed, it has no scheduler
                continue
            if found["id"] != self._scheduler:
                self._tell(Lost("it was restarted"))
                return
            self._tell(self._known_staff(found))

    def _submit(self, attempt: int, call: Call, order: int) -> None:
        if self._delivery is None or self._client is None or self._client.status not in ("running", "connecting"):
            return  # `_watch` tells
        self._delivery.submit(attempt, call, order)

    def _forget(self, attempts: Iterable[int]) -> None:
        if self._delivery is not None:
            self._delivery.forget(attempts)

    def _known_staff(self, found: Mapping[str, Any]) -> Staff:
        staff = _staff(found)
        if self._delivery is not None:
            self._delivery.staff(staff.workers, found["workers"])
        return staff

    async def _leave(self, workers: list[str]) -> None:
        client = self._client
        if client is None or client.status != "running":
            return
        if self._delivery is not None:
            self._delivery.forget_all()
        if workers:
            await client.run(clear, self._terms.desk, workers=workers, on_error="ignore")

    def _heard(self, event: tuple[float, Mapping[str, Any]]) -> None:
        said = event[1]
        self._tell(Said(int(said["attempt"]), str(said["worker"]), pickle.loads(said["message"])))

    def _of_cluster(self, event: tuple[float, Mapping[str, Any]]) -> None:
        assert self._changed is not None, "made before"
        what = event[1]
        if what.get("action") in _OF_WORKERS:
            self._changed.set()
        if what.get("action") == "remove-worker":
            self._tell(Left(str(what["worker"]), bool(what["expected"])))
            if self._delivery is not None:
                self._delivery.left(str(what["worker"]))


def _staff(found: Mapping[str, Any]) -> Staff:
    living = {address: one for address, one in found["workers"].items() if one["status"] in ("running", "init")}
    ours = frozenset(address for address, one in living.items() if one["resources"].get(RESOURCE, 0) >= 1)
    return Staff(ours, len(living) - len(ours))


async def shows(link: str) -> bool:
    """Whether there is a dashboard: a scheduler without Bokeh names an address, too, and serves a page that says so."""
    try:
        page = await AsyncHTTPClient().fetch(
            link, request_timeout=_LINK_S, connect_timeout=_LINK_S, validate_cert=False
        )
    except Exception:  # whatever it is, nobody should be sent there
        return False
    return _WITHOUT_BOKEH not in page.body.lower()


def _unreachable(address: str, error: Exception) -> SchedulerAwayError:
    text = str(error.__cause__ or error) or type(error).__name__
    cause = _WHERE.sub("", text.splitlines()[0]).rstrip(".")
    return SchedulerAwayError(
        f"No Dask scheduler answers at {address}: {cause}.",
        hint="Start one with bin/scheduler, or mend --scheduler (DASK_SCHEDULER_ADDRESS), then run the same command"
        " again. A cluster with TLS needs tls:// in the address and Dask's settings for it.",
    )


class _Relay(logging.Handler):
    """What Dask logs is for those who want details: what it means for a run, the pool says."""

    def emit(self, record: logging.LogRecord) -> None:
        _log.debug("dask: %s: %s", record.levelname.lower(), record.getMessage())


def _speak_through_us() -> None:
    """By itself Dask writes lines and tracebacks to stderr, over our progress line."""
    for name in [name for name in logging.root.manager.loggerDict if name.startswith(("distributed.", "tornado."))]:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    for name in ("distributed", "tornado"):
        logging.getLogger(name).handlers[:] = [_Relay()]
        logging.getLogger(name).propagate = False
