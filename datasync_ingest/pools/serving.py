"""A worker's process from the inside: pages in, messages out, until it is told to stop or its parent is dead."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection, wait
from multiprocessing.queues import Queue

from ..memory import keep_freed_memory
from ..messages import RawPage, Stop
from ..stopping import SIGNALS


def serve(number: int, orders: Connection, queue: Queue[RawPage | Stop], pipe: Connection) -> None:
    """Returns when it meets STOP, or `orders` ends before it has brought the WorkerOptions.

    Every message is one atomic write (see `worker.failure`): none arrives in half.
    """
    for ignored in SIGNALS:
        signal.signal(ignored, signal.SIG_IGN)  # a process group gets them too; the parent says when to stop
    threading.Thread(target=_leave_with_parent, name="parent watch", daemon=True).start()
    from ..worker import Worker  # in here: the parent, which starts processes as early as it can, need not wait for it

    keep_freed_memory()
    try:
        with orders:
            worker = Worker(number, orders.recv(), pipe.send)
    except EOFError:
        return
    try:
        while not isinstance(item := queue.get(), Stop):
            worker.work(item)
    finally:
        worker.close()


def _leave_with_parent() -> None:
    """Ends this process as soon as the parent is dead, by whatever cause; an open transaction is rolled back.

    A thread, so that it does not matter what the worker waits for: the queue, the database or a full pipe.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a spawned worker watches its parent"
    wait([parent.sentinel])
    os._exit(1)
