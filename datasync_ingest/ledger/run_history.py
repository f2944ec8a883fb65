"""What the sidecar keeps of its runs, read beside whoever writes it: opens it read-only and takes no lock."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from ..errors import DataDirectoryError, LedgerDamagedError
from .sidecar import FILE_NAME, LOCK_NAME, SCHEMA_VERSION

_RUN = "SELECT run, begun_at, ended_at, exit_code, ending, options, summary FROM runs ORDER BY run"
_SAMPLES = "SELECT at, snapshot, seconds FROM samples WHERE run = ? ORDER BY at"
_REQUESTS = "SELECT at, seconds, page, attempt, status, outcome, size, cached FROM requests WHERE run = ? ORDER BY at"
_INCIDENTS = "SELECT at, level, room, page, message FROM incidents WHERE run = ? ORDER BY at"
# The page as log lines and requests name it, see PageId.
_PAGES = """
    SELECT substr(walk, 1, 8) || '/' || sequence, run, completed_at, page_limit, received, inserted, already_there,
        rejected, repaired, decode_s, write_s
    FROM pages WHERE run IS NOT NULL ORDER BY completed_at
"""
_BUSY_S = 10.0
_OWNER = re.compile(r"bin/ingest.* \(process (\d+),")


@dataclass(frozen=True, slots=True)
class PastSample:
    """How a run stood at `at`: a Snapshot's fields, and where its time had gone by then, in seconds by cause."""

    at: float
    snapshot: Mapping[str, Any]
    seconds: Mapping[str, float]


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
class PastIncident:
    """A warning or an error, as it was logged."""

    at: float
    level: str
    room: str
    page: str | None
    message: str


@dataclass(frozen=True, slots=True)
class PastPage:
    """A page and the run that marked it. `limit` is how many events it was asked for with."""

    page: str
    run: int
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
    samples: tuple[PastSample, ...] = ()
    requests: tuple[PastRequest, ...] = ()
    pages: tuple[PastPage, ...] = ()
    incidents: tuple[PastIncident, ...] = ()

    @property
    def last_seen_at(self) -> float:
        """When it ended; for one without an ending, the last moment of which anything is known."""
        if self.ended_at is not None:
            return self.ended_at
        known = [one.at for one in self.samples] + [one.at for one in self.incidents]
        known += [one.at + one.seconds for one in self.requests]
        known += [one.completed_at for one in self.pages]
        return max(known, default=self.begun_at)


def read_runs(directory: Path) -> list[PastRun]:
    """Every run of the sidecar in `directory`, oldest first, as of one moment; empty where there is no sidecar.

    Raises DataDirectoryError, LedgerDamagedError.
    """
    path = directory / FILE_NAME
    if not path.is_file():
        return []
    try:
        with closing(_open(path)) as connection, _one_moment(connection):
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            _require_history(version, path)
            return _runs(connection, directory) if version else []
    except sqlite3.OperationalError as error:
        raise DataDirectoryError(
            f"The sidecar {path} cannot be read: {error}.", hint="Check the disk and the rights of the data directory."
        ) from error
    except (sqlite3.DatabaseError, ValueError) as error:
        raise LedgerDamagedError(
            f"The sidecar {path} cannot be read: {error}.",
            hint="Move the file away and run bin/ingest: the sidecar is rebuilt from the database, its history is not.",
        ) from error


def _open(path: Path) -> sqlite3.Connection:
    """Read-only. Where not even the shared memory beside the file can be made, the file must lie still to be read."""
    uri = f"file:{quote(str(path))}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_S)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        if path.with_name(f"{path.name}-wal").exists():
            raise
        return sqlite3.connect(f"{uri}&immutable=1", uri=True, isolation_level=None)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@contextmanager
def _one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def _require_history(version: int, path: Path) -> None:
    if 0 < version < 2:
        raise LedgerDamagedError(
            f"The sidecar {path} was written by an earlier version of this program, which kept no history.",
            hint="Run bin/ingest once: it brings the sidecar up to date, and its run can be looked at.",
        )
    if version > SCHEMA_VERSION:
        raise LedgerDamagedError(
            f"The sidecar {path} was written by a newer version of this program (its version {version}, ours"
            f" {SCHEMA_VERSION}).",
            hint="Use the newer version.",
        )


def _runs(connection: sqlite3.Connection, directory: Path) -> list[PastRun]:
    rows = connection.execute(_RUN).fetchall()
    pages = [PastPage(*row) for row in connection.execute(_PAGES)]
    active = rows[-1][0] if rows and rows[-1][2] is None and _ingest_runs(directory / LOCK_NAME) else None
    return [_run(connection, row, [page for page in pages if page.run == row[0]], active == row[0]) for row in rows]


def _run(connection: sqlite3.Connection, row: tuple[Any, ...], pages: Collection[PastPage], active: bool) -> PastRun:
    run, begun_at, ended_at, exit_code, ending, options, summary = row
    return PastRun(
        run,
        begun_at,
        ended_at,
        exit_code,
        ending,
        json.loads(options or "{}"),
        None if summary is None else json.loads(summary),
        active,
        tuple(PastSample(at, json.loads(s), json.loads(t)) for at, s, t in connection.execute(_SAMPLES, (run,))),
        tuple(PastRequest(*found) for found in connection.execute(_REQUESTS, (run,))),
        tuple(pages),
        tuple(PastIncident(*found) for found in connection.execute(_INCIDENTS, (run,))),
    )


def _ingest_runs(lock: Path) -> bool:
    """Whether the process that the lock's file names still lives. The lock is not tried: a run could miss it then."""
    try:
        owner = _OWNER.search(lock.read_text(encoding="utf-8"))
        written_at = lock.stat().st_mtime
        return owner is not None and psutil.Process(int(owner[1])).create_time() < written_at + 1
    except (OSError, psutil.Error, UnicodeDecodeError):
        return False
