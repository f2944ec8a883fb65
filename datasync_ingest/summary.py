"""What a run did, as a value and as the text at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .activity import DATABASE, FETCHING, RATE_LIMIT, SERVER
from .books import Balance
from .messages import Counts
from .units import show_seconds

_CAUSES = {
    FETCHING: "fetching",
    RATE_LIMIT: "rate limit",
    SERVER: "server trouble",
    DATABASE: "waiting for the database",
}


@dataclass(frozen=True, slots=True)
class Summary:
    """One run. `counts` and `pages` are this run's; `balance` is how things stand now; `seconds` is by cause."""

    balance: Balance
    counts: Counts
    pages: int
    requests: int
    retries: int
    limited: int
    elapsed_s: float
    seconds: Mapping[str, float]
    demo: bool

    def text(self) -> str:
        """Lines for stdout."""
        rows = [*self._events(), *self._work()]
        width = max(len(name) for name, _ in rows)
        missing = f"Incomplete: {self.balance.missing:,} events missing."
        title = "Complete." if self.balance.complete else missing
        lines = [title, *(f"  {name:<{width}}  {value}" for name, value in rows), *self._next()]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """The same for machines; counts are events, durations seconds."""
        balance = self.balance
        return {
            "complete": balance.complete,
            "missing": balance.missing,
            "total": balance.total,
            "events_in_table": balance.holdings.events,
            "rejected_in_all": balance.holdings.rejected,
            **asdict(self.counts),
            "pages": self.pages,
            "requests": self.requests,
            "retries": self.retries,
            "answered_429": self.limited,
            "elapsed_s": round(self.elapsed_s, 3),
            "seconds_by_cause": {cause: round(seconds, 3) for cause, seconds in self.seconds.items()},
        }

    def _events(self) -> list[tuple[str, str]]:
        total = self.balance.total
        return [
            ("events received", f"{self.counts.received:>12,}"),
            ("  inserted", f"{self.counts.inserted:>12,}"),
            ("  already there", f"{self.counts.already_there:>12,}"),
            ("  rejected", f"{self.counts.rejected:>12,}"),
            ("  repaired", f"{self.counts.repaired:>12,}"),
            ("in the table", f"{self.balance.holdings.events:>12,}"),
            ("rejected in all", f"{self.balance.holdings.rejected:>12,}"),
            ("total by the API", "unknown".rjust(12) if total is None else f"{total:>12,}"),
        ]

    def _work(self) -> list[tuple[str, str]]:
        rate = self.counts.received / self.elapsed_s if self.elapsed_s > 0 else 0.0
        spent = {name: self.seconds.get(cause, 0.0) for cause, name in _CAUSES.items()}
        causes = [f"{name} {seconds:,.1f} s" for name, seconds in spent.items() if seconds >= 0.05]
        return [
            ("pages", f"{self.pages:>12,}"),
            ("requests", f"{self.requests:>12,}   ({self.retries:,} retries, {self.limited:,} answered 429)"),
            ("time", f"{show_seconds(self.elapsed_s):>12}   ({rate:,.0f} events/s)"),
            ("time of the walk", "  " + (", ".join(causes) or "none")),
        ]

    def _next(self) -> list[str]:
        flag = " --demo" if self.demo else ""
        if not self.balance.complete:
            return [f"Next: run bin/ingest{flag} again."]
        return [f"Next: bin/psql{flag} to look at the events, bin/export-ids{flag} to write the file of IDs."]
