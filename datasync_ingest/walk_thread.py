"""The thread in which a walk blocks, so that the main thread never does: it hands its pages over one at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context

from .activity import DATABASE, Activity
from .messages import RawPage
from .stopping import Interrupted, Wake


class WalkThread:
    """A page of `pages` is asked for only after the one before was taken: at most one is here, or on its way."""

    def __init__(
        self,
        pages: Iterator[RawPage],
        activity: Activity,
        wake: Wake,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pages = pages
        self._activity = activity
        self._wake = wake
        self._clock = clock
        self._page: RawPage | None = None
        self._since = 0.0
        self._taken = threading.Semaphore(0)
        self._done = False
        self._thread = threading.Thread(target=copy_context().run, args=(self._run,), name="walk", daemon=True)
        self.error: Exception | None = None

    def start(self) -> None:
        self._thread.start()

    def tend(self) -> None:
        """One chain of pages needs nothing."""

    def halt(self) -> None:
        """It begins nothing new by itself."""

    def wait_for_end(self, timeout_s: float) -> bool:
        """Whether no request is under way any more, nor can be: for when the fetcher was stopped."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def ended(self) -> bool:
        """No page will come any more; `error` says why, None at the walk's end or after a stop."""
        return self._done and self._page is None

    @property
    def has_page(self) -> bool:
        """Whether a page waits to be taken; until it is, no further request is made."""
        return self._page is not None

    @property
    def waited_s(self) -> float:
        """How long the page has waited to be taken; 0 where none waits."""
        return self._clock() - self._since if self._page is not None else 0.0

    @property
    def page(self) -> RawPage | None:
        """The page that waits to be taken."""
        return self._page

    def take(self) -> RawPage:
        """The page that waits here; the thread goes on to the next one. Raises ValueError where none waits."""
        page, self._page = self._page, None
        if page is None:
            raise ValueError("no page waits")
        self._taken.release()
        return page

    def _run(self) -> None:
        try:
            for page in self._pages:
                with self._activity.during(DATABASE):
                    self._since = self._clock()
                    self._page = page
                    self._wake.ring()
                    self._taken.acquire()
        except Interrupted:
            pass
        except Exception as error:
            self.error = error
        finally:
            self._done = True
            self._wake.ring()
