"""The SQLite sidecar: walks, completed pages, rate-limit windows, exports and runs. The only room that opens SQLite.

It has one writer, the main process, which holds `ledger.lock` from opening to closing. It can be rebuilt from the
database's `ingested_pages`; what it alone knows (rate-limit windows, run history, the key's clock) is worth a wait,
never an event.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .errors import AlreadyRunningError, DataDirectoryError, DiskFullError, IngestError, LedgerDamagedError
from .messages import CompletedPage, Counts, PageId, Position, RawPage, Receipt

FILE_NAME = "ledger.sqlite3"
LOCK_NAME = "ledger.lock"
SCHEMA_VERSION = 1

_SCHEMA = """
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
    CREATE TABLE runs (
        run INTEGER PRIMARY KEY, begun_at REAL NOT NULL, ended_at REAL, exit_code INTEGER, ending TEXT
    );
    CREATE TABLE exports (
        export INTEGER PRIMARY KEY, path TEXT NOT NULL, ids INTEGER NOT NULL, bytes INTEGER NOT NULL,
        sha256 TEXT NOT NULL, exported_at REAL NOT NULL
    );
"""
_INSERT_PAGE = "INSERT OR IGNORE INTO pages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SELECT_PAGES = """
    SELECT walk, sequence, cursor, next_cursor, ends_walk, page_limit, received, inserted, already_there, rejected,
           repaired, after_position, first_position, last_position
    FROM pages
"""


@dataclass(frozen=True, slots=True)
class Walk:
    """One way through the API's order, from `cursor` (None: the newest event) towards the oldest event or `until`."""

    walk: str
    until: Position | None
    cursor: str | None
    after: Position | None
    head: Position | None
    state: str


class Ledger:
    """Opened with `Ledger.open`; every method is one transaction."""

    def __init__(self, connection: sqlite3.Connection, path: Path, lock: IO[str]) -> None:
        self._connection = connection
        self._path = path
        self._lock = lock

    # --- opening and closing ---

    @classmethod
    def open(cls, directory: Path, *, purpose: str) -> Ledger:
        """Opens or makes the sidecar in `directory` and holds its lock until `close` or death.

        Raises AlreadyRunningError naming who holds it, DataDirectoryError, LedgerDamagedError, DiskFullError.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock = _take_lock(directory / LOCK_NAME, purpose)
        except OSError as error:
            raise DataDirectoryError(
                f"The data directory {directory} cannot be used: {error.strerror}.",
                hint="Set DATA_DIR (or --data-dir) to a directory that you may write to.",
            ) from None
        path = directory / FILE_NAME
        try:
            return cls(_connect(path), path, lock)
        except BaseException:
            lock.close()
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent."""
        self._connection.close()
        self._lock.close()

    @classmethod
    def set_aside(cls, directory: Path, *, purpose: str) -> Path | None:
        """Renames the sidecar so that the next `open` begins anew; returns its new name, None where there was none."""
        path = directory / FILE_NAME
        if not path.exists():
            return None
        with _take_lock(directory / LOCK_NAME, purpose):
            aside = path.with_name(f"{FILE_NAME}.{time.strftime('%Y%m%dT%H%M%S')}.{os.getpid()}")
            for suffix in ("-wal", "-shm", ""):
                if (old := Path(f"{path}{suffix}")).exists():
                    old.rename(f"{aside}{suffix}")
        return aside

    @contextmanager
    def _atomic(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it, or none of it. Raises DiskFullError, LedgerDamagedError."""
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

    # --- facts: small values by name ---

    def fact(self, name: str) -> Any:
        """The value kept under `name`, None where there is none."""
        row = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def keep(self, **facts: Any) -> None:
        """Keeps values that JSON can hold, each under its name."""
        with self._atomic() as connection:
            rows = [(name, json.dumps(value)) for name, value in facts.items()]
            connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows)

    # --- walks ---

    def begin(self, walk: Walk) -> None:
        """Enters a new walk as active."""
        texts = [_text(position) for position in (walk.until, walk.after, walk.head)]
        with self._atomic() as connection:
            connection.execute(
                "INSERT INTO walks (walk, number, until, cursor, after, head, state, begun_at)"
                " VALUES (?, (SELECT coalesce(max(number), 0) + 1 FROM walks), ?, ?, ?, ?, 'active', ?)",
                (walk.walk, texts[0], walk.cursor, texts[1], texts[2], time.time()),
            )

    def end(self, walk: str, state: str) -> None:
        """`finished`, or in a word why it was given up."""
        with self._atomic() as connection:
            connection.execute("UPDATE walks SET state = ?, ended_at = ? WHERE walk = ?", (state, time.time(), walk))

    def walks(self) -> list[Walk]:
        """In the order in which they were begun."""
        rows = self._connection.execute("SELECT walk, until, cursor, after, head, state FROM walks ORDER BY number")
        return [Walk(w, _position(u), c, _position(a), _position(h), s) for w, u, c, a, h, s in rows]

    # --- pages ---

    def complete(self, page: RawPage, receipt: Receipt) -> bool:
        """Marks a page whose receipt is here. False: it was marked before, and nothing changed."""
        completed = CompletedPage(
            page.page,
            page.cursor,
            page.next_cursor,
            page.ends_walk,
            page.limit,
            receipt.counts,
            page.after,
            page.first,
            page.last,
        )
        with self._atomic() as connection:
            marked = connection.execute(_INSERT_PAGE, _page_row(completed)).rowcount == 1
            if marked and page.page.sequence == 0:
                connection.execute(
                    "UPDATE walks SET head = coalesce(head, ?) WHERE walk = ?", (_text(page.first), page.page.walk)
                )
            return marked

    def adopt_pages(self, pages: Iterable[CompletedPage]) -> int:
        """Marks pages that the database has and the sidecar does not; unknown walks are entered as active.

        Returns how many were new.
        """
        with self._atomic() as connection:
            before = connection.total_changes
            connection.executemany(_INSERT_PAGE, map(_page_row, pages))
            adopted = connection.total_changes - before
            connection.execute(
                "INSERT INTO walks (walk, number, until, cursor, after, head, state, begun_at)"
                " SELECT walk, (SELECT coalesce(max(number), 0) FROM walks) + row_number() OVER (ORDER BY walk),"
                "        NULL, cursor, after_position, first_position, 'active', ?"
                " FROM pages WHERE walk NOT IN (SELECT walk FROM walks)"
                " AND (walk, sequence) IN (SELECT walk, min(sequence) FROM pages GROUP BY walk)",
                (time.time(),),
            )
            return adopted

    def pages(self, walk: str | None = None) -> list[CompletedPage]:
        """The completed pages of one walk, or of all, in the order of their sequence."""
        condition = "" if walk is None else " WHERE walk = ?"
        rows = self._connection.execute(
            f"{_SELECT_PAGES}{condition} ORDER BY walk, sequence", () if walk is None else (walk,)
        )
        return [_completed(row) for row in rows]

    # --- runs and exports ---

    @contextmanager
    def run(self) -> Iterator[None]:
        """Enters the block into the history of runs, with its ending; a run without one was killed."""
        with self._atomic() as connection:
            run = connection.execute("INSERT INTO runs (begun_at) VALUES (?)", (time.time(),)).lastrowid
        exit_code, ending = 1, "unexpected error"
        try:
            yield
            exit_code, ending = 0, "ended"
        except IngestError as error:
            exit_code, ending = error.exit_code, str(error)
            raise
        finally:
            with self._atomic() as connection:
                connection.execute(
                    "UPDATE runs SET ended_at = ?, exit_code = ?, ending = ? WHERE run = ?",
                    (time.time(), exit_code, ending, run),
                )

    def exported(self, path: str, *, ids: int, size: int, sha256: str) -> None:
        """A complete export was written; `size` is bytes."""
        with self._atomic() as connection:
            connection.execute(
                "INSERT INTO exports (path, ids, bytes, sha256, exported_at) VALUES (?, ?, ?, ?, ?)",
                (path, ids, size, sha256, time.time()),
            )


def _take_lock(path: Path, purpose: str) -> IO[str]:
    """A lock that dies with its owner; the file says who that is, for the one who is kept out."""
    lock = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        owner = lock.read().strip() or "another process"
        lock.close()
        raise AlreadyRunningError(
            f"{path.parent} is in use by {owner}.",
            hint="Wait until it has ended, or stop it with Ctrl-C; nothing is lost by that.",
        ) from None
    lock.seek(0)
    lock.truncate()
    lock.write(f"{purpose} (process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')})\n")
    lock.flush()
    return lock


def _connect(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=10)
        try:
            # Readers (a second terminal) never wait for the writer. NORMAL in WAL mode survives the process's death;
            # a power cut may take the last marks back, which the reconciliation with the database puts right.
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
    if version == 0:
        connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


def _named(error: sqlite3.Error, path: Path) -> Exception:
    code = getattr(error, "sqlite_errorname", "")  # Python 3.11 and later
    if code == "SQLITE_FULL" or (not code and "full" in str(error)):
        return DiskFullError(f"The sidecar {path} cannot grow: {error}.", hint="Make room and run the command again.")
    if isinstance(error, sqlite3.OperationalError):
        return DataDirectoryError(
            f"The sidecar {path} cannot be used: {error}.", hint="Check the disk and the rights of the data directory."
        )
    return LedgerDamagedError(
        f"The sidecar {path} cannot be read: {error}.",
        hint="Move the file away and run the command again: the sidecar is rebuilt from the database.",
    )


def _text(position: Position | None) -> str | None:
    return None if position is None else position.to_text()


def _position(text: str | None) -> Position | None:
    return None if text is None else Position.from_text(text)


def _page_row(page: CompletedPage) -> tuple[object, ...]:
    counts = page.counts
    return (
        page.page.walk,
        page.page.sequence,
        page.cursor,
        page.next_cursor,
        page.ends_walk,
        page.limit,
        counts.received,
        counts.inserted,
        counts.already_there,
        counts.rejected,
        counts.repaired,
        _text(page.after),
        _text(page.first),
        _text(page.last),
        time.time(),
    )


def _completed(row: tuple[Any, ...]) -> CompletedPage:
    return CompletedPage(
        PageId(row[0], row[1]),
        cursor=row[2],
        next_cursor=row[3],
        ends_walk=bool(row[4]),
        limit=row[5],
        counts=Counts(*row[6:11]),
        after=_position(row[11]),
        first=_position(row[12]),
        last=_position(row[13]),
    )
