"""How long a page's faults are sat out, and the error that ends the run when it is enough."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import ApiError, ApiUnreachableError, NotTheApiError, PageContradictionError
from ..messages import PageId
from ..units import show_seconds
from .outcomes import Contradiction, Fault, NotWhole, WebPage

CONTRADICTIONS = 5  # the same page may contradict itself so often before the run ends: each costs a request
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0


class Trouble:
    """Faults in a row on one page: how long to wait next, and when it is enough."""

    def __init__(self, patience_s: float, clock: Callable[[], float]) -> None:
        self._patience_s = patience_s
        self._clock = clock
        self._began_at: float | None = None
        self._wait_s = _FIRST_WAIT_S
        self._contradictions = 0

    def next_wait_s(self, fault: Fault, jitter: float) -> float | None:
        """Grows twofold with up to a quarter of jitter; None when patience is at its end."""
        self._contradictions += isinstance(fault, Contradiction)
        now = self._clock()
        self._began_at = self._began_at if self._began_at is not None else now
        left_s = self._began_at + self._patience_s - now
        if left_s <= 0 or self._contradictions >= CONTRADICTIONS:
            return None
        wait_s = min(self._wait_s * (1 + jitter / 4), left_s)
        self._wait_s = min(_LONGEST_WAIT_S, self._wait_s * 2)
        return wait_s

    def error(self, page: PageId, url: str, fault: Fault, *, any_page: bool) -> ApiError:
        if isinstance(fault, Contradiction):
            return PageContradictionError(
                f"The API contradicts itself on page {page}, {self._contradictions} times in a row: {fault}.",
                hint="Run the same command again later; what was committed stays.",
            )
        if isinstance(fault, (NotWhole, WebPage)) and not any_page:
            return NotTheApiError(
                f"{url} answers, and not as this API does: {fault}.",
                hint="Check API_BASE_URL: scheme, host, port and path, with or without /api/v1.",
            )
        return ApiUnreachableError(
            f"No page from {url} for {show_seconds(self._patience_s)}: {fault}.",
            hint="Check API_BASE_URL and the network, then run the same command again; it goes on from here.",
        )
