"""The looking: probe after probe while the budget lasts, and the report of what they found."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from ..api.limits import opening, rate_limits
from ..api.probing import EVENTS, BudgetSpentError, NotAskedError, Prober
from ..errors import ApiUnreachableError
from ..key_use import KeyUse
from ..settings import Settings
from .advice import Recommended, recommended, ways
from .notes import Notes
from .probes import PROBES

DEFAULT_BUDGET = 30
PLANNED = sum(probe.requests for probe in PROBES)  # where nothing is refused and nothing fails
PURPOSE = "bin/explore-api"


@dataclass(frozen=True, slots=True)
class NotReached:
    """What was not found out, and why."""

    what: str
    why: str


class Exploration:
    """`run` once; `report` at any time, also when `run` was broken off. `close` lets the connection go."""

    def __init__(self, settings: Settings, budget: int, *, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._use = KeyUse(settings, purpose=PURPOSE)
        self._prober = Prober(
            settings,
            budget,
            say=say,
            first_keyed=self._use.begin,
            events_asked=self._use.keep,
            saved=self._use.saved(),
        )
        self._notes = Notes(settings, self._prober)
        self._not_reached: list[NotReached] = []
        self._done: list[str] = []

    def key_left_s(self) -> float | None:
        """Seconds until the key ends; None where its clock has not begun."""
        return self._use.left_s()

    def close(self) -> None:
        self._prober.close()

    def run(self) -> None:
        """Raises ApiUnreachableError where nothing answers or no page of events can be had, KeyRefusedError,
        NotTheApiError, AlreadyRunningError where a run begins meanwhile, and StoppedError.
        """
        for probe in PROBES:
            try:
                probe.run(self._notes)
            except NotAskedError as error:
                self._not_reached.append(NotReached(probe.name, str(error)))
                self._done.append(probe.name)
                if probe.needed and not isinstance(error, BudgetSpentError):
                    raise self._unreachable(probe.name, error) from None
            else:
                self._done.append(probe.name)

    def report(self) -> dict[str, Any]:
        """Everything that was found, as JSON values; nothing in it is secret."""
        notes, prober = self._notes, self._prober
        limits = rate_limits(prober.windows.told)
        cut_off = [
            NotReached(probe.name, "it was broken off before") for probe in PROBES if probe.name not in self._done
        ]
        answered = bool(prober.spent)
        return {
            "api": self._settings.api_base_url,
            "looked_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "requests": {
                "budget": prober.budget,
                "made": prober.spent,
                "without_key": prober.keyless,
                "answered_429": prober.limited,
            },
            **notes.found,
            **self._compared(),
            "endpoints": notes.endpoints,
            "rate_limits": [asdict(one) for one in limits],
            "total": _totals(notes.found),
            "windows_open": opening(prober.windows.told),
            "parameters": notes.parameters,
            "clock_ahead_s": [prober.skew.lowest, prober.skew.highest] if answered and prober.skew.known else None,
            "shortest": [
                {"way": way.name, **asdict(way.estimate), "sentence": way.estimate.sentence()}
                for way in ways(notes.found, limits)
            ],
            "recommended": [asdict(one) for one in self.recommended()],
            "not_reached": [asdict(one) for one in [*self._not_reached, *cut_off]],
        }

    def recommended(self) -> list[Recommended]:
        """What to set by what was found so far."""
        return recommended(self._settings, self._notes.found, limited=bool(self._prober.limited))

    def _compared(self) -> dict[str, Any]:
        """Topics of which only later answers show all: whether a cached answer counted, and whether a key in the query
        has a window of its own.
        """
        told = self._prober.windows.told.get(EVENTS, [])
        compared = {}
        for topic, counts in (("cache", "counted"), ("key_in_query", "shares_window")):
            if topic in self._notes.found:
                facts = dict(self._notes.found[topic])
                before = facts.pop("remaining_before")
                after = next((later.remaining for one, later in pairwise(told) if one.remaining == before), None)
                known = (
                    before is not None and after is not None and after < before and facts.get("header", "HIT") == "HIT"
                )
                compared[topic] = {**facts, counts: before - after > 1 if known else None}
        return compared

    def _unreachable(self, what: str, error: NotAskedError) -> ApiUnreachableError:
        return ApiUnreachableError(
            f"The {what} of {self._settings.api_base_url} cannot be had: {error}.",
            hint="Check API_BASE_URL and the network, then run the same command again.",
        )


def _totals(found: Mapping[str, Any]) -> dict[str, Any]:
    """The pages' total beside that of the statistics."""
    total = found.get("page", {}).get("total")
    counted = found.get("stats", {}).get("counts", {}).get("totalEvents")
    known = total is not None and counted is not None
    return {"by_pages": total, "by_stats": counted, "agree": total == counted if known else None}
