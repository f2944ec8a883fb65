"""What the sidecar keeps of its runs: all of it, read at one moment, also while a run writes it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import LedgerDamagedError
from .entries import Incident, Sample
from .lock import holder
from .reading import LedgerView, damaged, seen

_RUN = "SELECT run, begun_at, ended_at, exit_code, ending, options, summary FROM runs ORDER BY run"
_SAMPLES = "SELECT at, snapshot, seconds FROM samples WHERE run = ? ORDER BY at"
_REQUESTS = "SELECT at, seconds, page, attempt, status, outcome, size, cached FROM requests WHERE run = ? ORDER BY at"
_INCIDENTS = "SELECT at, level, room, page, message FROM incidents WHERE run = ? ORDER BY at"
# The page as log lines and requests name it, see PageId.
_PAGES = """
    SELECT substr(walk, 1, 8) || '/' || sequence, run, completed_at, page_limit, received, inserted, already_there,
        rejected, repaired, decode_s, write_s
    FROM pages ORDER BY completed_at
"""
_NEEDED = ("initial", "committed", "total")  # of a snapshot
_HISTORY_SINCE = 2  # the version whose tables keep a run's history


@dataclass(frozen=True, slots=True)
class PastRequest:
    """See RequestEnded; `cached` is 1 or 0."""

    at: float
    seconds: float
    page: str
    attempt: int
    status: int | None
    outcome: str
    size: int
    cached: int


@dataclass(frozen=True, slots=True)
class PastPage:
    """A page and the run that marked it; `limit` is how many events it was asked for with.

    `run` is None where the page was found in the database: the run that committed it was killed before it could mark
    it, or had another sidecar. `completed_at` is then when it was found.
    """

    page: str
    run: int | None
    completed_at: float
    limit: int
    received: int
    inserted: int
    already_there: int
    rejected: int
    repaired: int
    decode_s: float | None
    write_s: float | None


@dataclass(frozen=True, slots=True)
class PastRun:
    """One run and all that is known of it. `ended_at` is None for one that is active or was killed."""

    run: int
    begun_at: float
    ended_at: float | None
    exit_code: int | None
    ending: str | None
    options: Mapping[str, str]
    summary: Mapping[str, Any] | None
    active: bool
    samples: tuple[Sample, ...] = ()
    requests: tuple[PastRequest, ...] = ()
    pages: tuple[PastPage, ...] = ()
    incidents: tuple[Incident, ...] = ()

    @property
    def last_seen_at(self) -> float:
        """When it ended; for one without an ending, the last moment of which anything is known."""
        if self.ended_at is not None:
            return self.ended_at
        known = [one.at for one in self.samples] + [one.at for one in self.incidents]
        known += [one.at + one.seconds for one in self.requests]
        known += [one.completed_at for one in self.pages]
        return max(known, default=self.begun_at)


@dataclass(frozen=True, slots=True)
class PastRuns:
    """Every run, oldest first, and the pages that no run of this sidecar has marked."""

    runs: tuple[PastRun, ...] = ()
    found: tuple[PastPage, ...] = ()


def read_runs(directory: Path) -> PastRuns:
    """The history in the sidecar of `directory`, as of one moment; without a run where there is no sidecar yet.

    Raises DataDirectoryError, LedgerDamagedError.
    """
    running = (holder(directory) or "").startswith("bin/ingest")
    return seen(directory, partial(_runs, running=running)) or PastRuns()


def _runs(view: LedgerView, *, running: bool) -> PastRuns:
    if 0 < view.version < _HISTORY_SINCE:
        raise LedgerDamagedError(
            f"The sidecar {view.path} was written by an earlier version of this program, which kept no history.",
            hint="Run bin/ingest once: it brings the sidecar up to date, and its run can be looked at.",
        )
    try:
        rows = view.rows(_RUN) if view.version else []
        by_run: dict[int | None, list[PastPage]] = defaultdict(list)
        for page in [PastPage(*row) for row in view.rows(_PAGES)] if rows else []:
            by_run[page.run].append(page)
        runs = [_run(view, row, tuple(by_run[row[0]]), running and row is rows[-1]) for row in rows]
        return PastRuns(tuple(runs), tuple(by_run[None]))
    except (ValueError, TypeError) as error:
        raise damaged(view.path, error) from error


def _run(view: LedgerView, row: tuple[Any, ...], pages: tuple[PastPage, ...], running: bool) -> PastRun:
    run, begun_at, ended_at, exit_code, ending, options, summary = row
    return PastRun(
        run,
        begun_at,
        ended_at,
        exit_code,
        ending,
        _object(options or "{}"),
        None if summary is None else _object(summary, "seconds_by_cause"),
        running and ended_at is None,
        tuple(Sample(at, _object(s, *_NEEDED), _object(t)) for at, s, t in view.rows(_SAMPLES, (run,))),
        tuple(PastRequest(*found) for found in view.rows(_REQUESTS, (run,))),
        pages,
        tuple(Incident(*found) for found in view.rows(_INCIDENTS, (run,))),
    )


def _object(text: str, *needed: str) -> dict[str, Any]:
    """A JSON object that has what is needed. Raises ValueError, TypeError."""
    found = json.loads(text)
    if not isinstance(found, dict) or not found.keys() >= set(needed):
        raise ValueError("a run's history holds what no run has written")
    return found
