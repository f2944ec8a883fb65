"""Pages that were fetched and could not be written yet, on the disk, so that no request is spent on them again.

A page goes in when the database is away for longer than its cursor could wait, or when a run ends before its commit. It
goes out in the transaction that marks it as completed. A poisoned page stays until somebody asks for another try.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from ..messages import CompletedPage, PageId, RawPage
from .rows import KNOWN, facts_of, text_of, window_row
from .sidecar import Sidecar

FORGET = "DELETE FROM spool WHERE walk = ? AND sequence = ?"
_LEVEL = 1  # 10 ms for a page of 1.7 MB, which becomes 0.47 MB; the best level would take six times as long for 20 %
_PUT = f"""
    INSERT INTO spool ({KNOWN}, total, request_id, body, poisoned, spooled_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (walk, sequence) DO UPDATE SET poisoned = excluded.poisoned
"""  # noqa: S608
_NEXT = f"""
    SELECT {KNOWN}, total, request_id, body, place
    FROM spool WHERE poisoned IS NULL AND place > ? ORDER BY place LIMIT 1
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class PoisonedPage:
    """A page that no worker survived: how many events it holds, and what happened."""

    page: PageId
    received: int
    reason: str


class Spool:
    """First in, first out; `size` is bytes on the disk, `waiting` pages that no worker has yet.

    `next` gives each page once: it stays on the disk until it is completed, and is given again by the next run.
    """

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        self._given: set[PageId] = set()
        self._last_place = 0
        self.size, self.waiting = self._measured()

    def put(self, page: RawPage) -> None:
        """Durable against the death of this process when it returns. A page that is in the spool already stays there.

        Raises DiskFullError, DataDirectoryError.
        """
        self._insert(page, poisoned=None)

    def set_aside(self, page: RawPage, reason: str) -> None:
        """Keeps a poisoned page, which `next` does not give."""
        self._insert(page, poisoned=reason)

    def next(self) -> RawPage | None:
        """The oldest page that was not given yet; None when there is none."""
        row = self._sidecar.read(_NEXT, (self._last_place,)).fetchone()
        if row is None:
            return None
        *facts, total, request_id, body, self._last_place = row
        page = RawPage(**facts_of(tuple(facts)), total=total, request_id=request_id, body=zlib.decompress(body))
        self._given.add(page.page)
        self.waiting -= 1
        return page

    def forgotten(self, page: PageId) -> None:
        """The page was completed, and its row is gone (see `FORGET`)."""
        if page in self._given:
            self._given.discard(page)
            self.size, self.waiting = self._measured()
            if not self.size:
                self._sidecar.shrink()

    def poisoned(self) -> list[PoisonedPage]:
        rows = self._sidecar.read(
            "SELECT walk, sequence, received, poisoned FROM spool WHERE poisoned IS NOT NULL ORDER BY place"
        )
        return [PoisonedPage(PageId(walk, sequence), received, reason) for walk, sequence, received, reason in rows]

    def others(self, committed: Iterable[CompletedPage]) -> set[PageId]:
        """Pages of which the spool holds something else than the database, under the same identity.

        There the commit of a run that was killed arrived late, after the next run had fetched the place anew, with
        another limit: what is in the spool may be nowhere else, and is written as well.
        """
        rows = self._sidecar.read("SELECT walk, sequence, received, first_position, last_position FROM spool")
        held = {PageId(walk, sequence): tuple(facts) for walk, sequence, *facts in rows}
        there = {page.page: (page.received, text_of(page.first), text_of(page.last)) for page in committed}
        return {page for page in held.keys() & there.keys() if held[page] != there[page]}

    def retry_poisoned(self) -> int:
        """Gives poisoned pages to the workers once more; returns how many."""
        with self._sidecar.atomic() as connection:
            count = connection.execute("UPDATE spool SET poisoned = NULL WHERE poisoned IS NOT NULL").rowcount
        self._last_place = 0
        self.size, self.waiting = self._measured()
        return count

    def _insert(self, page: RawPage, *, poisoned: str | None) -> None:
        row = (
            page.page.walk,
            page.page.sequence,
            page.cursor,
            page.next_cursor,
            page.ends_walk,
            page.limit,
            page.received,
            text_of(page.after),
            text_of(page.first),
            text_of(page.last),
            *window_row(page.window),
            page.total,
            page.request_id,
            zlib.compress(page.body, _LEVEL),
            poisoned,
            time.time(),
        )
        with self._sidecar.atomic() as connection:
            connection.execute(_PUT, row)
        self.size, self.waiting = self._measured()

    def _measured(self) -> tuple[int, int]:
        """Bytes of all pages, and the number of those that wait."""
        size, waiting = self._sidecar.read(
            "SELECT coalesce(sum(length(body)), 0), count(*) FILTER (WHERE poisoned IS NULL AND place > ?) FROM spool",
            (self._last_place,),
        ).fetchone()
        return int(size), int(waiting)
