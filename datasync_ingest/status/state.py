"""How an ingest stands, as one value: what the sidecar and the database say, and what follows from both."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import IngestError
from ..key_clock import KeyEnd, key_end
from ..ledger.standing import LastRun, Standing
from ..postgres.contents import Contents, Group
from ..secret import Secret

LATELY_S = 60.0  # as long as a window of the rate limit
ACTIVE, STARTING, ENDED, KILLED = "active", "starting", "ended", "killed"
_INGEST = "bin/ingest"


@dataclass(frozen=True, slots=True)
class Table:
    """What was seen in the database at a moment: `contents`, or a sentence why there are none.

    `error`: it should have answered, and did not. `name` says which database it is.
    """

    name: str
    at: float
    contents: Contents | None = None
    why: str = ""
    error: IngestError | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """Of the run that is active, or of the last one. Durations are seconds, None is unknown.

    `events` are those in the table; `rate` is events received a second since the run began, `rate_lately` over the last
    minute; `as_of` is when the run has said all but `events` and `rate_lately`.
    """

    events: int
    total: int | None
    rate: float | None = None
    rate_lately: float | None = None
    left_s: float | None = None
    waiting: str = ""
    requests: int | None = None
    requests_left: int | None = None
    queue: int | None = None
    as_of: float | None = None

    @property
    def share(self) -> float | None:
        return min(1.0, self.events / self.total) if self.total else None


@dataclass(frozen=True, slots=True)
class Status:
    """`holder`: who uses the data directory now. `sidecar` None: there is none yet, or `sidecar_error`."""

    at: float
    data_dir: Path
    holder: str | None
    sidecar: Standing | None
    sidecar_error: IngestError | None
    table: Table
    key: KeyEnd | None = None

    @property
    def error(self) -> IngestError | None:
        """What kept it from being whole, if anything did."""
        return self.sidecar_error or self.table.error

    @property
    def run_state(self) -> str | None:
        """One of the four words; None where nothing has ever run."""
        run = self.sidecar.last_run if self.sidecar is not None else None
        if self.holder is not None and self.holder.startswith(_INGEST):
            return ACTIVE if run is not None and run.ended_at is None else STARTING
        if run is None:
            return None
        return KILLED if run.ended_at is None else ENDED

    @property
    def progress(self) -> Progress | None:
        """None where nothing is known of it."""
        contents = self.table.contents
        if self.sidecar is None:
            return None if contents is None or contents.events is None else Progress(contents.events, None)
        total = self.sidecar.total
        run = self.sidecar.last_run
        if self.run_state == ACTIVE and run is not None:
            return _running(run, self.sidecar, total, self.at)
        told = contents.events if contents is not None else None
        return Progress(_events(run, self.sidecar) if told is None else told, total, rate=_rate(run))

    @property
    def is_another_database(self) -> bool:
        """Whether the sidecar belongs to another database than the one that was looked into."""
        contents, ours = self.table.contents, self.sidecar.facts.get("database_id") if self.sidecar else None
        return contents is not None and None not in (contents.database_id, ours) and contents.database_id != ours

    def as_json(self) -> dict[str, Any]:
        """For machines: times are epoch seconds, durations seconds, sizes bytes; null is not known."""
        return {
            "at": self.at,
            "data_dir": str(self.data_dir),
            "holder": self.holder,
            "run": self._run_json(),
            "progress": None if self.progress is None else {**asdict(self.progress), "share": self.progress.share},
            "key": self.key and {**asdict(self.key), "left_s": self.key.ends_at - self.at},
            "sidecar": self._sidecar_json(),
            "database": self._database_json(),
        }

    def _run_json(self) -> dict[str, Any] | None:
        run = self.sidecar.last_run if self.sidecar is not None else None
        if run is None or self.run_state == STARTING:
            return {"state": self.run_state} if self.run_state else None
        shown = asdict(run)
        for name in ("sample", "inserted", "received_lately"):
            del shown[name]
        return {"state": self.run_state, **shown}

    def _sidecar_json(self) -> dict[str, Any] | None:
        if self.sidecar is None:
            return _error_json(self.sidecar_error)
        poisoned = self.sidecar.spool.poisoned
        return {
            "path": str(self.sidecar.path),
            "version": self.sidecar.version,
            "source": self.sidecar.facts.get("source"),
            "walks": dict(self.sidecar.walks),
            "pages": {
                "completed": self.sidecar.pages.completed,
                "spooled": self.sidecar.spool.waiting,
                "poisoned": len(poisoned),
            },
            "events": asdict(self.sidecar.pages.counts),
            "spool_bytes": self.sidecar.spool.size,
            "poisoned": [{"page": str(p.page), "events": p.received, "reason": p.reason} for p in poisoned],
            "export": self.sidecar.export and asdict(self.sidecar.export),
            "submissions": [asdict(one) for one in self.sidecar.submissions],
        }

    def _database_json(self) -> dict[str, Any]:
        table, contents = self.table, self.table.contents
        found: dict[str, Any] = {"name": table.name, "at": table.at, "answers": contents is not None}
        if contents is None:
            return {**found, "why": table.why, **(_error_json(table.error) or {})}
        shown = {**asdict(contents), "belongs_to_sidecar": not self.is_another_database}
        for name in ("by_type", "by_day", "rejected", "repaired"):
            shown[name] = _groups_json(getattr(contents, name))
        return {**found, **shown}


def sidecar_key(sidecar: Standing | None, key: Secret | None) -> KeyEnd | None:
    """When the key ends, by the sidecar; None where it does not say."""
    try:
        return None if sidecar is None else key_end(sidecar.facts, key)
    except (TypeError, KeyError, ValueError):
        return None


def now() -> float:
    return time.time()


def _running(run: LastRun, sidecar: Standing, total: int | None, at: float) -> Progress:
    sample = run.sample
    if sample is None:
        return Progress(_events(run, sidecar), total)
    shown, age_s = sample.snapshot, max(0.0, at - sample.at)
    left_s = shown.get("left_s")
    return Progress(
        events=_events(run, sidecar),
        total=total,
        rate=_rate(run),
        rate_lately=run.received_lately / LATELY_S if at - run.begun_at >= LATELY_S else None,
        left_s=None if left_s is None else max(0.0, left_s - age_s),
        waiting=shown.get("waiting") or "",
        requests=shown.get("requests"),
        requests_left=shown.get("requests_left"),
        queue=shown.get("queued"),
        as_of=sample.at,
    )


def _rate(run: LastRun | None) -> float | None:
    return None if run is None or run.sample is None else run.sample.snapshot.get("rate")


def _events(run: LastRun | None, sidecar: Standing) -> int:
    """In the table, as far as the sidecar knows: events of pages that it has not marked are not in it."""
    if run is not None and run.summary is not None and "events_in_table" in run.summary:
        return int(run.summary["events_in_table"])
    if run is not None and run.sample is not None:
        return int(run.sample.snapshot.get("initial") or 0) + run.inserted
    return sidecar.pages.counts.inserted


def _groups_json(groups: list[Group] | None) -> Mapping[str, int] | None:
    return None if groups is None else dict(groups)


def _error_json(error: IngestError | None) -> dict[str, Any] | None:
    return None if error is None else {"error": str(error), "hint": error.hint, "exit_code": error.exit_code}
