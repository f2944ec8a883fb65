"""The sidecar seen from outside, also while a run writes it: read only, without its lock, and in nobody's way."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, DataDirectoryError, LedgerDamagedError
from .sidecar import FILE_NAME, SCHEMA_VERSION

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

    @classmethod
    @contextmanager
    def open(cls, directory: Path) -> Iterator[LedgerView | None]:
        """Yields the view of the sidecar in `directory`; None where there is none yet, or nothing in it yet.

        To be left soon: as long as it is open, the file of a run's latest changes cannot shrink. Raises
        LedgerDamagedError, DataDirectoryError, at the latest by `rows`.
        """
        path = directory / FILE_NAME
        if not _is_begun(path):
            yield None
            return
        with closing(_connect(path)) as connection:
            view = cls(connection, path)
            if view.version > SCHEMA_VERSION:
                raise LedgerDamagedError(
                    f"The sidecar {path} was written by a newer version of this program (its version {view.version},"
                    f" ours {SCHEMA_VERSION}).",
                    hint="Use the newer version.",
                )
            yield view if view.version else None

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """What a SELECT finds. Raises LedgerDamagedError, DataDirectoryError."""
        try:
            return self._connection.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            raise _named(error, self.path) from error

    def fact(self, name: str) -> Any:
        """The value kept under `name`, None where there is none. Raises ValueError where it is damaged."""
        rows = self.rows("SELECT value FROM facts WHERE name = ?", (name,))
        return json.loads(rows[0][0]) if rows else None


def damaged(path: Path, how: object) -> LedgerDamagedError:
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


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        try:
            return _reading(uri)
        except sqlite3.OperationalError:
            if not _is_whole_and_unused(path):
                raise
            return _reading(f"{uri}&immutable=1")
    except sqlite3.Error as error:
        raise _named(error, path) from error


def _reading(uri: str) -> sqlite3.Connection:
    """A connection in a transaction that sees the file as it is now."""
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _is_whole_and_unused(path: Path) -> bool:
    """Whether the file can be read by itself, where we may not make the files beside it that SQLite wants."""
    beside = [path.with_name(f"{path.name}{suffix}") for suffix in ("-shm", "-wal")]
    return not any(one.exists() for one in beside)


def _named(error: sqlite3.Error, path: Path) -> ConfigurationError:
    if isinstance(error, sqlite3.OperationalError):
        return DataDirectoryError(
            f"The sidecar {path} cannot be read now: {error}.",
            hint=f"Run it again, as the user whose data directory it is. {_COPY_AGAIN}",
        )
    return damaged(path, error)
