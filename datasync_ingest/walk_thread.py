"""The thread in which a walk blocks, so that the main thread never does: it hands its pages over one at a time."""

from __future__ import annotations

import threading

from .activity import DATABASE, Activity
from .messages import RawPage
from .plan import Plan
from .stopping import Interrupted, Wake
from .walk import Fetches, Renews, follow


class WalkThread:
    """A page is fetched only after the one before was taken: at most one page is here, fetched or on its way."""

    def __init__(self, plan: Plan, fetcher: Fetches, renewal: Renews | None, activity: Activity, wake: Wake) -> None:
        self._plan = plan
        self._fetcher = fetcher
        self._renewal = renewal
        self._activity = activity
        self._wake = wake
        self._page: RawPage | None = None
        self._taken = threading.Semaphore(0)
        self._done = False
        self._thread = threading.Thread(target=self._run, name="walk", daemon=True)
        self.error: Exception | None = None

    def start(self) -> None:
        self._thread.start()

    @property
    def ended(self) -> bool:
        """No page will come any more; `error` says why, None at the walk's end or after a stop."""
        return self._done and self._page is None

    @property
    def has_page(self) -> bool:
        """Whether a page waits to be taken; until it is, no further request is made."""
        return self._page is not None

    def take(self) -> RawPage:
        """The page that waits here; the thread goes on to the next one. Raises ValueError where none waits."""
        page, self._page = self._page, None
        if page is None:
            raise ValueError("no page waits")
        self._taken.release()
        return page

    def _run(self) -> None:
        try:
            for page in follow(self._plan, self._fetcher, self._renewal):
                with self._activity.during(DATABASE):
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
