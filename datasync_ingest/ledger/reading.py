"""The sidecar seen from outside, also while a run writes it: read only, without its lock, and in nobody's way."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from ..errors import ConfigurationError, DataDirectoryError, LedgerDamagedError
from .sidecar import FILE_NAME, SCHEMA_VERSION

T = TypeVar("T")

_BUSY_TIMEOUT_S = 1.0  # a reader waits only while the file is recovered after a kill, or closed by its last user
_MAGIC = b"SQLite format 3\x00"
_COPY_AGAIN = (
    "If it is a copy, copy it again, together with the files -wal and -shm beside it. Otherwise move the file away and"
    " run bin/ingest: the sidecar is rebuilt from the database."
)


class LedgerView:
    """All that is read through one view is of the same moment. `version` is the schema's."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path
        self.version = int(self.rows("PRAGMA user_version")[0][0])

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """What a SELECT finds. Raises LedgerDamagedError, DataDirectoryError."""
        try:
            return self._connection.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            raise _named(error, self.path) from error


def seen(directory: Path, read: Callable[[LedgerView], T]) -> T | None:
    """What `read` finds in the sidecar of `directory`; None where there is none yet, or nothing in it yet.

    `read` may be called twice, and must not take long: meanwhile the file of a run's latest changes cannot shrink. Not
    for the process that has the ledger open: closing a file takes all locks of a process on it away.
    Raises LedgerDamagedError for a garbage, half copied or newer sidecar, DataDirectoryError.
    """
    path = directory / FILE_NAME
    if not _is_begun(path):
        return None
    uri = f"{path.absolute().as_uri()}?mode=ro"
    if (before := _at_rest(path)) is not None:
        # Nobody has it open. Read without locks, SQLite makes none of the files beside it that it wants otherwise: in
        # somebody else's folder it may not, and what we made would be in the way of a run of another user.
        found, error = _tried(f"{uri}&immutable=1", path, read)
        if _at_rest(path) == before:
            if error is not None:
                raise error
            return found
    return _read(uri, path, read)


def damaged(path: Path, how: object) -> LedgerDamagedError:
    """The error for a sidecar that cannot be read."""
    return LedgerDamagedError(f"The sidecar {path} cannot be read: {how}.", hint=_COPY_AGAIN)


def _is_begun(path: Path) -> bool:
    """Whether anything is in the file, seen without SQLite, whose lock could refuse the run that is just making it."""
    try:
        with path.open("rb") as file:
            header = file.read(len(_MAGIC))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise DataDirectoryError(
            f"The sidecar {path} cannot be read: {error.strerror}.", hint="Run as the user whose data directory it is."
        ) from None
    if header and header != _MAGIC:
        raise damaged(path, "it is not an SQLite file")
    return bool(header)


def _at_rest(path: Path) -> tuple[int, int, int] | None:
    """What tells this state of the file from any other; None while somebody has it open, or was killed with it."""
    if any(path.with_name(f"{path.name}{suffix}").exists() for suffix in ("-shm", "-wal", "-journal")):
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _tried(uri: str, path: Path, read: Callable[[LedgerView], T]) -> tuple[T | None, ConfigurationError | None]:
    try:
        return _read(uri, path, read), None
    except ConfigurationError as error:
        return None, error


def _read(uri: str, path: Path, read: Callable[[LedgerView], T]) -> T | None:
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S)) as connection:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
            view = LedgerView(connection, path)
            if view.version > SCHEMA_VERSION:
                raise LedgerDamagedError(
                    f"The sidecar {path} was written by a newer version of this program (its version {view.version},"
                    f" ours {SCHEMA_VERSION}).",
                    hint="Use the newer version.",
                )
            return read(view) if view.version else None
    except sqlite3.Error as error:
        raise _named(error, path) from error


def _named(error: sqlite3.Error, path: Path) -> ConfigurationError:
    if isinstance(error, sqlite3.OperationalError):
        return DataDirectoryError(
            f"The sidecar {path} cannot be read now: {error}.",
            hint=f"Run it again, as the user whose data directory it is. {_COPY_AGAIN}",
        )
    return damaged(path, error)
