"""The key used outside of a run: its clock and the rate limit's window, kept where the next run finds them.

The ledger is opened for a moment each time, so that these commands never keep a run out for longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .copying import FETCHING_FACT
from .key_clock import KeyClock
from .ledger import Ledger
from .settings import Settings


class KeyUse:
    """Raises, in each method, AlreadyRunningError while a run is active, and what `Ledger.open` raises besides."""

    def __init__(self, settings: Settings, *, purpose: str) -> None:
        self._settings = settings
        self._purpose = purpose

    def saved(self) -> Mapping[str, Any] | None:
        """What the last use left of the window of /events, see `PageFetcher.state`."""
        with self._open() as ledger:
            found: Mapping[str, Any] | None = ledger.fact(FETCHING_FACT)
            return found

    def left_s(self) -> float | None:
        """Seconds until the key ends; None before its first call."""
        with self._open() as ledger:
            return KeyClock(ledger, self._settings.required_api_key).left_s()

    def begin(self) -> None:
        """The first request with the key is about to be made."""
        with self._open() as ledger:
            KeyClock(ledger, self._settings.required_api_key).first_call()

    def keep(self, pacer: Mapping[str, Any]) -> None:
        """A request in the window of /events has ended, or been given up."""
        with self._open() as ledger:
            before = ledger.fact(FETCHING_FACT) or {}
            ledger.keep(**{FETCHING_FACT: {**before, "pacer": pacer, "settled": True}})

    def _open(self) -> Ledger:
        return Ledger.open(self._settings.data_dir, purpose=self._purpose)
