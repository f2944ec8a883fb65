"""What the deaths of workers say: which page is under suspicion, which is taken out, and when enough have died."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass

from ..messages import PageId

SUSPECT_AT = 2  # deaths: one may be anybody's, two on one page are worth a trial in which only that page can be guilty
POISONED_AT = 3  # deaths: the last one with nothing else at work
_BARREN = 10  # restarts without one page done in between: three pages that kill in a row may still be taken out


@dataclass(frozen=True, slots=True)
class Death:
    """One worker that nobody had told to go: `page` is what it had announced, `how` its verb ("was killed by ...")."""

    worker: str
    page: PageId | None
    how: str

    def __str__(self) -> str:
        where = "waiting for a page" if self.page is None else f"at work on page {self.page}"
        return f"{self.worker}, {where}, {self.how}"


class Deaths:
    """Counts them: against the page that was announced, and in a row."""

    def __init__(self) -> None:
        self._of_page: dict[PageId, int] = {}
        self._in_a_row = 0

    def restart(self) -> None:
        """A crew had to be replaced."""
        self._in_a_row += 1

    def count(self, page: PageId) -> int:
        """How many this page has now."""
        self._of_page[page] = self._of_page.get(page, 0) + 1
        return self._of_page[page]

    def done(self, page: PageId) -> None:
        """A page was worked off."""
        self._of_page.pop(page, None)
        self._in_a_row = 0

    def suspect(self, pages: Iterable[PageId]) -> PageId | None:
        """The first of these pages that must be tried alone."""
        return next((page for page in pages if self._of_page.get(page, 0) >= SUSPECT_AT), None)

    @property
    def enough(self) -> int:
        """How many crews were replaced in a row, once that is too many; else 0."""
        return self._in_a_row if self._in_a_row >= _BARREN else 0


def ending(exit_code: int | None) -> str:
    """The words for a process's exit code as multiprocessing gives it."""
    if exit_code is None or exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    if exit_code == -signal.SIGKILL:
        return f"was killed by {name} (is the system short of memory?)"
    return f"was killed by {name}"
