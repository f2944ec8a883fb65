"""A crew: one queue of pages and the worker processes on it, made together and thrown away together.

The queue is shared, and a process killed while it reads can take the queue's lock with it or leave half a page behind:
so a crew is never mended. Nothing comes back over a shared queue: each worker has a pipe of its own, whose messages are
small, and its death shows on its sentinel. Another pipe brings it what it needs to know, once.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import Queue

from ..messages import STOP, PageId, RawPage, Stop, WorkerMessage, WorkerOptions
from ..stopping import signals_held
from .serving import serve

# Of the queue's pipe, where the system lets it be changed (Linux): a page of 1.7 MB goes through in 7 pieces and not in
# 27. Measured, both ends together: 0.9 to 1.0 ms of CPU a page for 1.7 to 2.0; with 512 KiB it is as much as before.
_PIPE_BYTES = 1 << 18
_KILL_S = 5.0  # how long the kernel may take to end a process that was killed

# Stated, and not left to the platform: forked children would share the parent's connections, locks and threads.
_CONTEXT = multiprocessing.get_context("spawn")


@dataclass(slots=True)
class Member:
    """A worker as the parent sees it; `page` is the one that it announced last and has not ended.

    `orders`: takes its options, once. `heard_at`: when it said something last, or was born, on the clock of whoever
    made it.
    """

    process: SpawnProcess
    pipe: Connection
    orders: Connection
    heard_at: float
    page: PageId | None = None

    def read(self) -> list[WorkerMessage]:
        """All that is in the pipe, never blocking; nothing after its end."""
        messages: list[WorkerMessage] = []
        with suppress(EOFError, OSError):
            while self.pipe.poll():
                messages.append(self.pipe.recv())
        return messages

    @property
    def alive(self) -> bool:
        return self.process.is_alive()


def page_queue(capacity: int) -> Queue[RawPage | Stop]:
    """A queue for pages, of which it holds `capacity`."""
    with signals_held():  # the first queue of a process starts multiprocessing's resource tracker
        queue: Queue[RawPage | Stop] = _CONTEXT.Queue(capacity)
    queue._ignore_epipe = True  # type: ignore[attr-defined]  # see Crew._close_queue
    _widen(queue._writer.fileno())  # type: ignore[attr-defined]
    return queue


class Crew:
    """Has no members until `hire`, which load until `instruct` puts them to work, and none after `close`."""

    def __init__(self, capacity: int) -> None:
        """`capacity`: how many items its queue holds beside the pages in its members' hands."""
        self._queue = page_queue(capacity)
        self.members: list[Member] = []

    def hire(self, workers: int, now: float) -> None:
        """Starts that many members. Raises OSError where the system has no room for them."""
        with signals_held():  # a member is born with them blocked, so that none reaches it before it ignores them
            for number in range(workers):
                self.members.append(self._member(number, now))

    def instruct(self, options: WorkerOptions) -> None:
        """Once. Of a member that is dead, its sentinel will tell."""
        for member in self.members:
            with member.orders, suppress(OSError):
                member.orders.send(options)

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of those that live."""
        return tuple(member.process.pid for member in self.members if member.alive and member.process.pid is not None)

    def put(self, item: RawPage | Stop) -> None:
        """Never blocks below the capacity."""
        self._queue.put(item)

    def wait(self, timeout_s: float, wake: int | None) -> list[Member]:
        """Waits for a word, a death or `wake`; returns the members that are dead."""
        handles: list[Connection | int] = [member.pipe for member in self.members]
        handles += [member.process.sentinel for member in self.members]
        if wake is not None:
            handles.append(wake)
        ready = wait(handles, timeout_s)
        dead = [member for member in self.members if member.process.sentinel in ready]
        for member in dead:
            member.process.join(_KILL_S)  # its sentinel falls a moment before its exit code is there
        return dead

    def dismiss(self) -> None:
        """Every member leaves when it has worked off what was put before, or at once where it has no orders."""
        for member in self.members:
            member.orders.close()
            self._queue.put(STOP)

    def wait_for_leaving(self, deadline: float) -> bool:
        """Waits a moment; whether the pipes shall be read and the wait go on, until all left or `deadline` is over."""
        living = [member.process.sentinel for member in self.members if member.alive]
        left_s = deadline - time.monotonic()
        if not living or left_s <= 0:
            return False
        wait(living, min(0.05, left_s))
        return True

    def kill(self) -> bool:
        """Ends all members at once, stopped ones too; their transactions are rolled back. Whether all are dead."""
        for member in self.members:
            member.process.kill()
        for member in self.members:
            member.process.join(_KILL_S)
        return not any(member.alive for member in self.members)

    def close(self) -> None:
        """After `kill`, and after the last reading of the pipes: a pipe closed earlier would break a receipt."""
        all_dead = not any(member.alive for member in self.members)
        for member in self.members:
            member.pipe.close()
            member.orders.close()
            with suppress(ValueError):  # the kernel has not ended it in all that time; init will see to it
                member.process.close()
        self.members = []
        self._close_queue(wait=all_dead)

    def _close_queue(self, *, wait: bool) -> None:
        """As `concurrent.futures` closes its queue when a process of it has died.

        The feeder thread may stand in the middle of a page that nobody will read: `Queue.close` would leave it there
        for ever, with two file descriptors. When the last reader is closed it gets EPIPE and ends.
        """
        self._queue._reader.close()  # type: ignore[attr-defined]
        self._queue.close()
        if not wait:  # a reader that could not be ended keeps the feeder thread where it is
            self._queue.cancel_join_thread()
            return
        self._queue.join_thread()
        self._queue._writer.close()  # type: ignore[attr-defined]

    def _member(self, number: int, now: float) -> Member:
        receiving, sending = _CONTEXT.Pipe(duplex=False)
        ordered, orders = _CONTEXT.Pipe(duplex=False)
        process = _CONTEXT.Process(
            target=serve,
            args=(number, ordered, self._queue, sending),
            name=f"worker {number}",
            daemon=True,
        )
        try:
            process.start()
        except OSError:
            receiving.close()
            orders.close()
            raise
        finally:
            sending.close()  # so that the worker's death reads as the end of the pipe
            ordered.close()
        return Member(process, receiving, orders, now)


def _widen(pipe: int) -> None:
    """As it is where the system has no larger one left for this user, or none at all."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
