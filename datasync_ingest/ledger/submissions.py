"""The files that were exported and submitted: an intention before the first byte goes out, an ending after the last."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .sidecar import Sidecar

_COLUMNS = "submission, intended_at, github_repo, path, ids, bytes, sha256, source, ended_at, status, reply, key"


@dataclass(frozen=True, slots=True)
class Export:
    """One that was written; `size` is bytes, times are epoch seconds."""

    path: str
    ids: int
    size: int
    sha256: str
    exported_at: float


@dataclass(frozen=True, slots=True)
class Submission:
    """One try. Without `ended_at` it is not known whether it arrived; ended without a `status`, not a byte went out.

    `key` tells which key it was made with, see `KeyClock.mark`; None: an earlier version made it, and did not tell.
    """

    number: int
    intended_at: float
    github_repo: str
    path: str
    ids: int
    size: int
    sha256: str
    source: str
    ended_at: float | None
    status: int | None
    reply: str | None
    key: str | None


class Submissions:
    """The tables `submissions` and `exports`; part of the Ledger, which holds the lock."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar

    def last_export(self) -> Export | None:
        """The file that was written last, to be submitted."""
        statement = "SELECT path, ids, bytes, sha256, exported_at FROM exports ORDER BY export DESC LIMIT 1"
        row = self._sidecar.read(statement).fetchone()
        return None if row is None else Export(*row)

    def intend(
        self, *, github_repo: str, path: str, ids: int, size: int, sha256: str, source: str, key: str | None
    ) -> int:
        """A submission is about to go out: this is on the disk when it returns. Gives its number."""
        with self._sidecar.atomic() as connection:
            number = connection.execute(
                "INSERT INTO submissions (intended_at, github_repo, path, ids, bytes, sha256, source, key)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (time.time(), github_repo, path, ids, size, sha256, source, key),
            ).lastrowid
        self._sidecar.sync()
        return number or 0

    def ended(self, number: int, status: int | None = None, reply: str | None = None) -> None:
        """The server has answered; without a status: not a byte went out."""
        with self._sidecar.atomic() as connection:
            connection.execute(
                "UPDATE submissions SET ended_at = ?, status = ?, reply = ? WHERE submission = ?",
                (time.time(), status, reply, number),
            )
        self._sidecar.sync()

    def all(self) -> list[Submission]:
        """In the order in which they were intended."""
        rows = self._sidecar.read(f"SELECT {_COLUMNS} FROM submissions ORDER BY submission")  # noqa: S608
        return [Submission(*row) for row in rows]
