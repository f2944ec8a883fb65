"""How a worker that waits for the database shows that it does not hang, and when it has waited for long enough.

PostgreSQL's own timeouts end a wait for a lock, not one for a disk that does not answer or a frozen server.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .errors import DatabaseUnreachableError


@contextmanager
def signs_of_life(
    interval_s: float,
    patience_s: float,
    *,
    still: Callable[[str], None],
    over: Callable[[Exception], None],
) -> Iterator[Callable[[str], None]]:
    """While the block runs, `still` is told a cause every `interval_s`, from a thread of its own.

    The block calls what it is given with causes of its own, which go the same way. After `patience_s` without one of
    these `over` is told, once, of a DatabaseUnreachableError, and the thread ends. Nothing is told after the block.
    """
    ended = threading.Event()
    moved_at = [time.monotonic()]

    def watch() -> None:
        while not ended.wait(interval_s):
            if time.monotonic() - moved_at[0] > patience_s:
                over(_given_up(patience_s))
                return
            still(f"the database has not answered for {interval_s:.0f} s and more")

    def waiting(cause: str) -> None:
        moved_at[0] = time.monotonic()
        still(cause)

    thread = threading.Thread(target=watch, name="signs of life", daemon=True)
    thread.start()
    try:
        yield waiting
    finally:
        ended.set()
        thread.join()


def _given_up(patience_s: float) -> DatabaseUnreachableError:
    return DatabaseUnreachableError(
        f"PostgreSQL has not answered for {patience_s:.0f} s.",
        hint="See what holds it up (a lock, its disk), then run the same command again.",
    )
