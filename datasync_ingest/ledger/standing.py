"""How things stand by the sidecar: all that a status needs of it, read at one moment. Times are epoch seconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ..messages import Counts, PageId
from .entries import Incident, Sample
from .reading import LedgerView, damaged, seen
from .spool import PoisonedPage

T = TypeVar("T")

_HISTORY_SINCE = 2  # the version whose tables keep a run's history

_WALKS = "SELECT state, count(*) FROM walks GROUP BY state ORDER BY min(number)"
_REQUESTS = "SELECT outcome, count(*) FROM requests WHERE run = ? GROUP BY outcome ORDER BY 2 DESC"


@dataclass(frozen=True, slots=True)
class Pages:
    """Marked pages and their events; `last_at` is when the last of them was marked."""

    completed: int
    counts: Counts
    last_at: float | None


@dataclass(frozen=True, slots=True)
class Spooled:
    """Fetched pages that are not in the table: how many wait, their bytes on the disk, and those set aside."""

    waiting: int
    size: int
    poisoned: list[PoisonedPage]


@dataclass(frozen=True, slots=True)
class LastRun:
    """The latest run. `ended_at` None: it runs, or was killed. `inserted`: events of the pages that it marked.

    `requests`: how many, by what came of them. `warnings` counts all, `last_warning` is the latest.
    """

    run: int
    begun_at: float
    ended_at: float | None
    exit_code: int | None
    ending: str | None
    summary: Mapping[str, Any] | None = None
    inserted: int = 0
    received_lately: int = 0
    sample: Sample | None = None
    requests: Mapping[str, int] = field(default_factory=dict)
    warnings: int = 0
    last_warning: Incident | None = None


@dataclass(frozen=True, slots=True)
class Export:
    """The latest file of IDs."""

    path: str
    ids: int
    sha256: str
    exported_at: float


@dataclass(frozen=True, slots=True)
class Submission:
    """`ended_at` None: it is not known whether it arrived."""

    submission: int
    intended_at: float
    github_repo: str
    ids: int
    ended_at: float | None
    status: int | None


@dataclass(frozen=True, slots=True)
class Standing:
    """`facts` are the sidecar's small values by name, `total` the API's number of events; `walks` counts by state."""

    path: Path
    version: int
    facts: Mapping[str, Any]
    total: int | None
    walks: Mapping[str, int]
    pages: Pages
    spool: Spooled
    last_run: LastRun | None
    export: Export | None
    submissions: list[Submission]

    @property
    def has_history(self) -> bool:
        """Whether this sidecar keeps how a run went: one that an older version has left does not yet."""
        return self.version >= _HISTORY_SINCE


def standing(directory: Path, *, since: float) -> Standing | None:
    """What the sidecar in `directory` says now; None where nothing was begun.

    `received_lately` counts from `since`. Raises LedgerDamagedError, DataDirectoryError.
    """
    return seen(directory, partial(_standing, since=since))


def _standing(view: LedgerView, *, since: float) -> Standing:
    has_history = view.version >= _HISTORY_SINCE
    try:
        facts = {str(name): json.loads(value) for name, value in view.rows("SELECT name, value FROM facts")}
        return Standing(
            view.path,
            view.version,
            facts,
            _maybe(int, facts.get("total")),
            {str(state): int(count) for state, count in view.rows(_WALKS)},
            _pages(view),
            _spooled(view),
            _last_run(view, since, has_history=has_history),
            _export(view),
            _submissions(view) if has_history else [],
        )
    except (TypeError, ValueError, AttributeError) as error:  # values that no version of this program writes
        raise damaged(view.path, error) from error


def _pages(view: LedgerView) -> Pages:
    ((completed, last_at, *counts),) = view.rows(
        "SELECT count(*), max(completed_at), coalesce(sum(received), 0), coalesce(sum(inserted), 0),"
        " coalesce(sum(already_there), 0), coalesce(sum(rejected), 0), coalesce(sum(repaired), 0) FROM pages"
    )
    return Pages(int(completed), Counts(*map(int, counts)), _maybe(float, last_at))


def _spooled(view: LedgerView) -> Spooled:
    ((waiting, size),) = view.rows(
        "SELECT count(*) FILTER (WHERE poisoned IS NULL), coalesce(sum(length(body)), 0) FROM spool"
    )
    rows = view.rows("SELECT walk, sequence, received, poisoned FROM spool WHERE poisoned IS NOT NULL ORDER BY place")
    poisoned = [
        PoisonedPage(PageId(str(walk), int(sequence)), int(received), str(reason))
        for walk, sequence, received, reason in rows
    ]
    return Spooled(int(waiting), int(size), poisoned)


def _last_run(view: LedgerView, since: float, *, has_history: bool) -> LastRun | None:
    rows = view.rows("SELECT run, begun_at, ended_at, exit_code, ending FROM runs ORDER BY run DESC LIMIT 1")
    if not rows:
        return None
    run, begun_at, ended_at, exit_code, ending = rows[0]
    return LastRun(
        int(run),
        float(begun_at),
        _maybe(float, ended_at),
        _maybe(int, exit_code),
        _maybe(str, ending),
        **(_history(view, run, since) if has_history else {}),
    )


def _history(view: LedgerView, run: int, since: float) -> dict[str, Any]:
    ((summary,),) = view.rows("SELECT summary FROM runs WHERE run = ?", (run,))
    ((inserted, lately),) = view.rows(
        "SELECT coalesce(sum(inserted), 0), coalesce(sum(received) FILTER (WHERE completed_at > ?), 0)"
        " FROM pages WHERE run = ?",
        (since, run),
    )
    samples = view.rows("SELECT at, snapshot, seconds FROM samples WHERE run = ? ORDER BY at DESC LIMIT 1", (run,))
    incidents = view.rows(
        "SELECT at, level, room, page, message FROM incidents WHERE run = ? ORDER BY at DESC LIMIT 1", (run,)
    )
    ((warnings,),) = view.rows("SELECT count(*) FROM incidents WHERE run = ?", (run,))
    return {
        "summary": None if summary is None else dict(json.loads(summary)),
        "inserted": int(inserted),
        "received_lately": int(lately),
        "sample": next((_sample(*row) for row in samples), None),
        "requests": {str(outcome): int(count) for outcome, count in view.rows(_REQUESTS, (run,))},
        "warnings": int(warnings),
        "last_warning": next((_incident(*row) for row in incidents), None),
    }


def _export(view: LedgerView) -> Export | None:
    rows = view.rows("SELECT path, ids, sha256, exported_at FROM exports ORDER BY export DESC LIMIT 1")
    return next((Export(str(path), int(ids), str(digest), float(at)) for path, ids, digest, at in rows), None)


def _submissions(view: LedgerView) -> list[Submission]:
    rows = view.rows(
        "SELECT submission, intended_at, github_repo, ids, ended_at, status FROM submissions ORDER BY submission"
    )
    return [
        Submission(int(one), float(at), str(repo), int(ids), _maybe(float, ended_at), _maybe(int, code))
        for one, at, repo, ids, ended_at, code in rows
    ]


def _sample(at: object, shown: str, spent: str) -> Sample:
    return Sample(float(str(at)), dict(json.loads(shown)), dict(json.loads(spent)))


def _incident(at: object, level: object, room: object, page: object, message: object) -> Incident:
    return Incident(float(str(at)), str(level), str(room), _maybe(str, page), str(message))


def _maybe(convert: Callable[[Any], T], value: object) -> T | None:
    return None if value is None else convert(value)
