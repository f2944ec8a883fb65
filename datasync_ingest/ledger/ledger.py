"""What the sidecar says: facts, walks, completed pages, runs and exports, each method one transaction."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any

from ..errors import IngestError, LedgerDamagedError
from ..messages import CompletedPage, KnownPage, RawPage, Receipt, RequestEnded
from .entries import Incident, RunEnding, Sample, Walk
from .rows import KNOWN, completed_page, known_page, page_row, position_of, text_of
from .sidecar import Sidecar, Transaction
from .spool import FORGET, Spool
from .submissions import Submissions

_log = logging.getLogger(__name__)

_INSERT_PAGE = f"""
    INSERT OR IGNORE INTO pages ({KNOWN}, inserted, already_there, rejected, repaired, completed_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""  # noqa: S608
_SELECT_PAGES = f"SELECT {KNOWN}, inserted, already_there, rejected, repaired FROM pages"  # noqa: S608
_SELECT_KNOWN = f"SELECT {KNOWN} FROM pages WHERE walk = ? UNION ALL SELECT {KNOWN} FROM spool WHERE walk = ?"  # noqa: S608
_SELECT_SWEPT = f"SELECT {KNOWN} FROM pages WHERE sweep = ? UNION ALL SELECT {KNOWN} FROM spool WHERE sweep = ?"  # noqa: S608

# Where the newest event has no usable id, or its page is in the spool: the first position that there is will do.
_FIND_HEAD = """
    UPDATE walks SET head = (
        SELECT coalesce(first_position, last_position) FROM (
            SELECT sequence, until_ms, first_position, last_position FROM pages WHERE :walk IN (walk, sweep)
            UNION ALL
            SELECT sequence, until_ms, first_position, last_position FROM spool WHERE :walk IN (walk, sweep)
        ) WHERE coalesce(first_position, last_position) IS NOT NULL
        ORDER BY until_ms DESC NULLS FIRST, sequence LIMIT 1
    ) WHERE walk = :walk AND head IS NULL
"""
_ADOPT_HEADS = """
    UPDATE walks SET head = (SELECT first_position FROM pages WHERE pages.walk = walks.walk AND sequence = 0)
    WHERE head IS NULL
"""


class Ledger:
    """Opened with `Ledger.open`, by the main process alone; a context manager that closes it."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        self._run: int | None = None
        self.spool = Spool(sidecar)
        self.submissions = Submissions(sidecar)

    @classmethod
    def open(cls, directory: Path, *, purpose: str) -> Ledger:
        """Opens or makes the sidecar in `directory`, see `Sidecar.open`."""
        return cls._of(Sidecar.open(directory, purpose=purpose))

    @classmethod
    def open_anew(cls, directory: Path, *, purpose: str, facts: Collection[str]) -> Ledger:
        """An empty sidecar, with the submissions and these facts of the one that is there, in so far as it can be read.

        It takes that one's place in `take_place`; closed before that, it is gone and nothing has changed.
        """
        ledger = cls._of(Sidecar.open(directory, purpose=purpose, anew=True))
        try:
            ledger._carry(facts)
        except BaseException:
            ledger.close()
            raise
        return ledger

    @classmethod
    def _of(cls, sidecar: Sidecar) -> Ledger:
        try:
            return cls(sidecar)
        except BaseException:
            sidecar.close()
            raise

    def _carry(self, facts: Collection[str]) -> None:
        try:
            self._sidecar.carry("facts", f"name IN ({', '.join('?' * len(facts))})", tuple(facts))
            self._sidecar.carry("submissions")
        except LedgerDamagedError as error:
            _log.warning("earlier submissions and the key's first use are not known any more: %s", error)

    def take_place(self) -> None:
        """Sets the sidecar aside in whose place this one comes; does nothing where there was none."""
        if aside := self._sidecar.take_place():
            _log.info("the sidecar was set aside as %s", aside)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent."""
        self._sidecar.close()

    # --- facts: small values by name ---

    def fact(self, name: str) -> Any:
        """The value kept under `name`, None where there is none."""
        row = self._sidecar.read("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def keep(self, **facts: Any) -> None:
        """Keeps values that JSON can hold, each under its name."""
        with self._sidecar.atomic() as connection:
            rows = [(name, json.dumps(value)) for name, value in facts.items()]
            connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows)

    # --- walks ---

    def begin(self, walk: Walk) -> None:
        """Enters a new walk as active."""
        with self._sidecar.atomic() as connection:
            _enter(connection, walk)

    def end(self, walk: str, state: str) -> None:
        """`finished`, or in a word why it was given up."""
        with self._sidecar.atomic() as connection:
            _end(connection, walk, state)

    def branch(self, walk: str, state: str, onward: Walk) -> None:
        """Ends a walk and begins the one that goes on from where it stands, with the head that it has by now."""
        with self._sidecar.atomic() as connection:
            _end(connection, walk, state)
            _enter(connection, onward)
            connection.execute(
                "UPDATE walks SET head = (SELECT head FROM walks WHERE walk = ?) WHERE walk = ?", (walk, onward.walk)
            )

    def walks(self) -> list[Walk]:
        """In the order in which they were begun."""
        rows = self._sidecar.read(
            "SELECT walk, until, cursor, after, head, state, endpoint, is_sweep FROM walks ORDER BY number"
        )
        return [
            Walk(walk, position_of(until), cursor, position_of(after), position_of(head), state, endpoint, bool(sweep))
            for walk, until, cursor, after, head, state, endpoint, sweep in rows
        ]

    # --- pages ---

    def complete(self, page: RawPage, receipt: Receipt) -> bool:
        """Marks a page whose receipt is here. False: it was marked before, and nothing changed."""
        completed = CompletedPage.of(page, counts=receipt.counts)
        with self._sidecar.atomic() as connection:
            marked = connection.execute(_INSERT_PAGE, page_row(completed)).rowcount == 1
            if marked:
                connection.execute(
                    "UPDATE pages SET run = ?, decode_s = ?, write_s = ? WHERE walk = ? AND sequence = ?",
                    (self._run, receipt.decode_s, receipt.write_s, page.page.walk, page.page.sequence),
                )
            if marked and page.page.sequence == 0:
                connection.execute(
                    "UPDATE walks SET head = coalesce(head, ?) WHERE walk = ?", (text_of(page.first), page.page.walk)
                )
            connection.execute(FORGET, (page.page.walk, page.page.sequence))
        self.spool.forgotten(page.page)
        return marked

    def adopt_pages(self, pages: Collection[CompletedPage], walks: Iterable[Walk] = ()) -> int:
        """Marks pages that the database has and the sidecar does not, the heads of their walks too.

        `walks` are those of them that the sidecar does not know. A page that differs from the one in the spool waits
        for that (see `Spool.others`). Returns how many were new.
        """
        waiting = self.spool.others(pages)
        with self._sidecar.atomic() as connection:
            before = connection.total_changes
            connection.executemany(_INSERT_PAGE, (page_row(page) for page in pages if page.page not in waiting))
            adopted = connection.total_changes - before
            connection.execute("DELETE FROM spool WHERE (walk, sequence) IN (SELECT walk, sequence FROM pages)")
            for walk in walks:
                _enter(connection, walk)
            connection.execute(_ADOPT_HEADS)
            return adopted

    def recount(self, pages: Iterable[CompletedPage]) -> None:
        """Takes over the counts that the database has of marked pages by now."""
        counts = [(page.page, page.counts) for page in pages]
        with self._sidecar.atomic() as connection:
            connection.executemany(
                "UPDATE pages SET inserted = ?, already_there = ?, rejected = ?, repaired = ?"
                " WHERE walk = ? AND sequence = ?",
                [(c.inserted, c.already_there, c.rejected, c.repaired, p.walk, p.sequence) for p, c in counts],
            )

    def pages(self, walk: str | None = None) -> list[CompletedPage]:
        """The completed pages of one walk, or of all, in the order of their sequence."""
        condition = "" if walk is None else " WHERE walk = ?"
        rows = self._sidecar.read(
            f"{_SELECT_PAGES}{condition} ORDER BY walk, sequence", () if walk is None else (walk,)
        )
        return [completed_page(row) for row in rows]

    def known(self, walk: str) -> list[KnownPage]:
        """The pages of a walk that need not be fetched again: completed or spooled, in the order of their sequence."""
        return [known_page(row) for row in self._sidecar.read(f"{_SELECT_KNOWN} ORDER BY sequence", (walk, walk))]

    def swept(self, sweep: str) -> list[KnownPage]:
        """The pages of a sweep's windows that need not be fetched again: completed or spooled, in no order."""
        return [known_page(row) for row in self._sidecar.read(_SELECT_SWEPT, (sweep, sweep))]

    def settled(self, walk: str) -> list[KnownPage]:
        """The pages of a walk that no worker will get any more: completed or poisoned."""
        statement = f"{_SELECT_KNOWN} AND poisoned IS NOT NULL ORDER BY sequence"
        return [known_page(row) for row in self._sidecar.read(statement, (walk, walk))]

    # --- runs and exports ---

    @contextmanager
    def run(self, options: Mapping[str, Any] | None = None) -> Iterator[RunEnding]:
        """Enters the block into the history of runs, with its ending; a run without one was killed."""
        with self._sidecar.atomic() as connection:
            run = connection.execute(
                "INSERT INTO runs (begun_at, options) VALUES (?, ?)", (time.time(), json.dumps(options or {}))
            ).lastrowid
        self._run = run
        ending = RunEnding(run or 0)
        try:
            yield ending
        except IngestError as error:
            ending.exit_code, ending.sentence = error.exit_code, str(error)
            raise
        finally:
            summary = None if ending.summary is None else json.dumps(ending.summary)
            with self._sidecar.atomic() as connection:
                connection.execute(
                    "UPDATE runs SET ended_at = ?, exit_code = ?, ending = ?, summary = ? WHERE run = ?",
                    (time.time(), ending.exit_code, ending.sentence, summary, run),
                )

    def happened(
        self,
        run: int,
        requests: Iterable[RequestEnded] = (),
        samples: Iterable[Sample] = (),
        incidents: Iterable[Incident] = (),
    ) -> None:
        """Adds to the history of a run."""
        with self._sidecar.atomic() as connection:
            connection.executemany(
                "INSERT INTO requests (run, page, attempt, at, seconds, status, outcome, size, cached, request_id,"
                " detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(run, str(one.page), *astuple(one)[1:]) for one in requests],
            )
            connection.executemany(
                "INSERT INTO samples (run, at, snapshot, seconds) VALUES (?, ?, ?, ?)",
                [(run, one.at, json.dumps(one.snapshot), json.dumps(one.seconds)) for one in samples],
            )
            connection.executemany(
                "INSERT INTO incidents (run, at, level, room, page, message) VALUES (?, ?, ?, ?, ?, ?)",
                [(run, *astuple(one)) for one in incidents],
            )

    def exported(self, path: str, *, ids: int, size: int, sha256: str) -> None:
        """A complete export was written; `size` is bytes."""
        with self._sidecar.atomic() as connection:
            connection.execute(
                "INSERT INTO exports (path, ids, bytes, sha256, exported_at) VALUES (?, ?, ?, ?, ?)",
                (path, ids, size, sha256, time.time()),
            )


def _enter(connection: Transaction, walk: Walk) -> None:
    texts = [text_of(position) for position in (walk.until, walk.after, walk.head)]
    connection.execute(
        "INSERT INTO walks (walk, number, until, cursor, after, head, state, endpoint, is_sweep, begun_at)"
        " VALUES (?, (SELECT coalesce(max(number), 0) + 1 FROM walks), ?, ?, ?, ?, ?, ?, ?, ?)",
        (walk.walk, texts[0], walk.cursor, *texts[1:], walk.state, walk.endpoint, walk.is_sweep, time.time()),
    )


def _end(connection: Transaction, walk: str, state: str) -> None:
    connection.execute("UPDATE walks SET state = ?, ended_at = ? WHERE walk = ?", (state, time.time(), walk))
    connection.execute(_FIND_HEAD, {"walk": walk})
