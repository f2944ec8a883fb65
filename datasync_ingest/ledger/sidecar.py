"""The sidecar's file: its lock, its connection and pragmas, its schema, its errors. The only room that opens SQLite.

It has one writer, the main process, which holds `ledger.lock` from opening to closing. It can be rebuilt from the
database's `ingested_pages`; what it alone knows (rate-limit windows, run history, the key's clock) is worth a wait,
never an event.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import DataDirectoryError, DiskFullError, LedgerDamagedError
from .lock import take

FILE_NAME = "ledger.sqlite3"
_NEW_NAME = f"{FILE_NAME}.new"
_BESIDE_IT = ("-wal", "-shm")  # the files in which SQLite keeps what it has not put into the main one yet
_FIRST = """
    CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE walks (
        walk TEXT PRIMARY KEY,
        number INTEGER NOT NULL UNIQUE,         -- in the order in which they were begun
        until TEXT,                             -- the position at which a top-up meets what an older walk has read
        cursor TEXT,                            -- where the first page starts: NULL is the newest event
        after TEXT,                             -- the position before the first page, where it is not the newest event
        head TEXT,                              -- the newest position that this walk, or the one it continues, has read
        state TEXT NOT NULL,                    -- active, finished, or why it was given up
        begun_at REAL NOT NULL,
        ended_at REAL
    ) WITHOUT ROWID;
    CREATE TABLE pages (
        walk TEXT NOT NULL, sequence INTEGER NOT NULL,
        cursor TEXT, next_cursor TEXT, ends_walk INTEGER NOT NULL, page_limit INTEGER NOT NULL,
        received INTEGER NOT NULL, inserted INTEGER NOT NULL, already_there INTEGER NOT NULL,
        rejected INTEGER NOT NULL, repaired INTEGER NOT NULL,
        after_position TEXT, first_position TEXT, last_position TEXT,
        completed_at REAL NOT NULL,
        PRIMARY KEY (walk, sequence)
    ) WITHOUT ROWID;
    CREATE TABLE spool (
        -- In the order in which they were fetched; a number never comes again, since readers go on behind the last.
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        walk TEXT NOT NULL, sequence INTEGER NOT NULL,
        cursor TEXT, next_cursor TEXT, ends_walk INTEGER NOT NULL, page_limit INTEGER NOT NULL,
        received INTEGER NOT NULL, after_position TEXT, first_position TEXT, last_position TEXT,
        total INTEGER, request_id TEXT,
        body BLOB NOT NULL,                     -- compressed by zlib
        poisoned TEXT,                          -- why no worker gets it; NULL: it waits for one
        spooled_at REAL NOT NULL,
        UNIQUE (walk, sequence)
    );
    CREATE TABLE runs (
        run INTEGER PRIMARY KEY, begun_at REAL NOT NULL, ended_at REAL, exit_code INTEGER, ending TEXT
    );
    CREATE TABLE exports (
        export INTEGER PRIMARY KEY, path TEXT NOT NULL, ids INTEGER NOT NULL, bytes INTEGER NOT NULL,
        sha256 TEXT NOT NULL, exported_at REAL NOT NULL
    );
"""
_HISTORY = """
    ALTER TABLE runs ADD COLUMN options TEXT;    -- JSON: the settings without secrets
    ALTER TABLE runs ADD COLUMN summary TEXT;    -- JSON, see Summary.as_json; NULL where the run did not come so far
    ALTER TABLE pages ADD COLUMN run INTEGER;    -- that marked it; NULL where it was adopted from the database
    ALTER TABLE pages ADD COLUMN decode_s REAL;
    ALTER TABLE pages ADD COLUMN write_s REAL;
    CREATE TABLE requests (
        run INTEGER NOT NULL, at REAL NOT NULL, seconds REAL NOT NULL,
        page TEXT NOT NULL,                     -- as in log lines, PageId's text
        attempt INTEGER NOT NULL, status INTEGER, outcome TEXT NOT NULL, size INTEGER NOT NULL,
        cached INTEGER NOT NULL, request_id TEXT, detail TEXT NOT NULL
    );
    CREATE INDEX requests_by_run ON requests (run, at);
    CREATE TABLE samples (
        run INTEGER NOT NULL, at REAL NOT NULL, snapshot TEXT NOT NULL, -- JSON, see Snapshot
        seconds TEXT NOT NULL                   -- JSON: where the time went by then, by cause
    );
    CREATE INDEX samples_by_run ON samples (run, at);
    CREATE TABLE incidents (                    -- warnings and errors, as they were logged
        run INTEGER NOT NULL, at REAL NOT NULL, level TEXT NOT NULL, room TEXT NOT NULL, page TEXT,
        message TEXT NOT NULL
    );
    CREATE INDEX incidents_by_run ON incidents (run, at);
    CREATE TABLE submissions (
        submission INTEGER PRIMARY KEY, intended_at REAL NOT NULL, github_repo TEXT NOT NULL, path TEXT NOT NULL,
        ids INTEGER NOT NULL, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, source TEXT NOT NULL,
        ended_at REAL,                          -- NULL: not known whether it arrived
        status INTEGER, reply TEXT              -- the server's answer as it came; ended without a status: not a byte
                                                -- went out
    );
"""
_KEYS = """
    ALTER TABLE submissions ADD COLUMN key TEXT; -- what tells keys apart, see KeyClock.mark; NULL: an earlier version's
"""
_WINDOWS = """
    ALTER TABLE walks ADD COLUMN endpoint TEXT NOT NULL DEFAULT 'events'; -- whose cursors these are: events or feed
    ALTER TABLE walks ADD COLUMN is_sweep INTEGER NOT NULL DEFAULT 0;     -- its pages are of windows, each a chain
    ALTER TABLE pages ADD COLUMN sweep TEXT;     -- the walk whose window the page is of; `walk` is then the chain
    ALTER TABLE pages ADD COLUMN since_ms INTEGER; -- the window: epoch ms, inclusive; NULL: open
    ALTER TABLE pages ADD COLUMN until_ms INTEGER;
    ALTER TABLE spool ADD COLUMN sweep TEXT;
    ALTER TABLE spool ADD COLUMN since_ms INTEGER;
    ALTER TABLE spool ADD COLUMN until_ms INTEGER;
    CREATE INDEX pages_by_sweep ON pages (sweep) WHERE sweep IS NOT NULL;
"""
STEPS = (_FIRST, _HISTORY, _KEYS, _WINDOWS)  # from version to version
SCHEMA_VERSION = len(STEPS)


Transaction = sqlite3.Connection


class Sidecar:
    """One open SQLite file under one lock. `place` is the file whose place it is to take."""

    def __init__(self, connection: sqlite3.Connection, path: Path, lock: IO[str], *, place: Path | None = None) -> None:
        self._connection = connection
        self._path = path
        self._lock = lock
        self._place = place

    @classmethod
    def open(cls, directory: Path, *, purpose: str, anew: bool = False) -> Sidecar:
        """Opens or makes the file in `directory` and holds its lock until `close` or death.

        With `anew` it is an empty one beside the one that is there, until `take_place`; closed before that, it is gone.
        Raises AlreadyRunningError naming who holds it, DataDirectoryError, LedgerDamagedError, DiskFullError.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock = take(directory, purpose)
        except OSError as error:
            raise DataDirectoryError(
                f"The data directory {directory} cannot be used: {error.strerror}.",
                hint="Set DATA_DIR (or --data-dir) to a directory that you may write to.",
            ) from None
        path, new = directory / FILE_NAME, directory / _NEW_NAME
        try:
            _remove(new)  # of a run that was killed before it took its place
            if anew and path.exists():
                return cls(_connect(new), new, lock, place=path)
            return cls(_connect(path), path, lock)
        except OSError as error:
            lock.close()
            raise _unusable(path, error.strerror) from None
        except BaseException:
            lock.close()
            raise

    def close(self) -> None:
        """Idempotent."""
        self._connection.close()
        if self._place is not None:
            with suppress(OSError):  # the next `open` removes it
                _remove(self._path)
            self._place = None
        self._lock.close()

    def carry(self, table: str, condition: str = "true", parameters: Sequence[object] = ()) -> None:
        """Copies rows of the file whose place this one is to take, which may be of any version.

        Columns that only one of them has are left out. Raises LedgerDamagedError, DataDirectoryError, DiskFullError.
        """
        if self._place is None:
            return
        execute = self._connection.execute
        try:
            execute("ATTACH ? AS old", (str(self._place),))
            ours, theirs = ([row[1] for row in execute(f"PRAGMA {of}.table_info({table})")] for of in ("main", "old"))
            if names := ", ".join(name for name in ours if name in theirs):
                execute(
                    f"INSERT INTO {table} ({names}) SELECT {names} FROM old.{table} WHERE {condition}",  # noqa: S608
                    parameters,
                )
            execute("PRAGMA old.wal_checkpoint(TRUNCATE)").fetchall()  # all that it holds is in its main file
            execute("DETACH old")
        except sqlite3.Error as error:
            raise _named(error, self._place) from error

    def take_place(self) -> Path | None:
        """Puts this file in the place of the one that was there, which is set aside; returns the name that it got.

        A process that dies in between leaves one of the two in the place, whole (where the file system has no hard
        links, perhaps none, and the old one aside). None: there was none to set aside.
        Raises DataDirectoryError.
        """
        if self._place is None:
            return None
        aside = self._place.with_name(f"{FILE_NAME}.{time.strftime('%Y%m%dT%H%M%S')}.{os.getpid()}")
        try:
            self._connection.close()  # which leaves all that it holds in the main file
            _also_named(self._place, aside)
            os.replace(self._path, self._place)
            self._path, self._place = self._place, None
        except OSError as error:
            raise _unusable(self._path, error.strerror) from None
        finally:
            self._connection = _connect(self._path)
        return aside

    def read(self, statement: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor:
        """The rows of a SELECT. Raises LedgerDamagedError, DataDirectoryError."""
        try:
            return self._connection.execute(statement, parameters)
        except sqlite3.Error as error:
            raise _named(error, self._path) from error

    def shrink(self) -> None:
        """Gives room that is no longer used back to the disk. Raises DataDirectoryError."""
        try:
            # As a script: Python's `execute` frees one page only, since this statement works by being stepped.
            self._connection.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise _named(error, self._path) from error

    def sync(self) -> None:
        """What was committed survives a power cut from here on. Raises DiskFullError, DataDirectoryError."""
        self.read("PRAGMA wal_checkpoint(FULL)").fetchall()

    @contextmanager
    def atomic(self) -> Iterator[Transaction]:
        """One transaction: all of it, or none of it. Raises DiskFullError, LedgerDamagedError, DataDirectoryError."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise _named(error, self._path) from error


def _also_named(path: Path, aside: Path) -> None:
    """Gives the file a second name, or where the file system has no such names, this one in the place of the first.

    What the log beside it holds goes along: it must not be taken for that of the file that comes next.
    """
    try:
        os.link(path, aside)
    except OSError:
        path.rename(aside)
    for suffix in _BESIDE_IT:
        if (log := Path(f"{path}{suffix}")).exists():
            log.rename(f"{aside}{suffix}")


def _remove(path: Path) -> None:
    for suffix in (*_BESIDE_IT, ""):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _connect(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=10)
        try:
            # Readers (a second terminal) never wait for the writer. NORMAL in WAL mode survives the process's death;
            # a power cut may take the last marks back, which the reconciliation with the database puts right.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # so that an emptied spool gives its room back
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            _prepare_schema(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection
    except sqlite3.Error as error:
        raise _named(error, path) from error


def _prepare_schema(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise LedgerDamagedError(
            f"The sidecar {path} was written by a newer version of this program (its version {version}, ours"
            f" {SCHEMA_VERSION}).",
            hint="Use the newer version, or --fresh to set the sidecar aside and rebuild it from the database.",
        )
    for number, step in enumerate(STEPS[version:], start=version + 1):
        connection.executescript(f"BEGIN; {step} PRAGMA user_version = {number}; COMMIT;")


def _named(error: sqlite3.Error, path: Path) -> Exception:
    code = getattr(error, "sqlite_errorname", "")  # Python 3.11 and later
    if code == "SQLITE_FULL" or (not code and "full" in str(error)):
        return DiskFullError(f"The sidecar {path} cannot grow: {error}.", hint="Make room and run the command again.")
    if isinstance(error, sqlite3.OperationalError):
        return _unusable(path, error)
    return LedgerDamagedError(
        f"The sidecar {path} cannot be read: {error}.",
        hint="Move the file away and run the command again: the sidecar is rebuilt from the database.",
    )


def _unusable(path: Path, how: object) -> DataDirectoryError:
    return DataDirectoryError(
        f"The sidecar {path} cannot be used: {how}.", hint="Check the disk and the rights of the data directory."
    )
