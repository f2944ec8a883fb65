"""What would be submitted: the file, the repository, and everything that speaks against submitting it."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .api.submissions import data_of, is_accepted
from .books import Balance
from .errors import ConfigurationError
from .ledger import Export, Submission

_BLOCK_BYTES = 1 << 20
# Owner and repository as GitHub allows them; nothing behind them, since what is sent is what is shown.
_REPOSITORY = re.compile(r"https://github\.com/[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}")


@dataclass(frozen=True, slots=True)
class IdFile:
    """A file of IDs as it was read: lines, bytes, SHA-256, and whether its last line is whole."""

    path: str
    ids: int
    size: int
    sha256: str
    ends_whole: bool
    mark: tuple[int, ...]

    def text(self) -> str:
        return f"{self.path}: {self.ids:,} IDs, {self.size:,} bytes"


def checked_repository(url: str) -> str:
    """The URL as it was typed. Raises ConfigurationError."""
    if not _REPOSITORY.fullmatch(url) or url.endswith((".git", "/OWNER/REPO")):
        raise ConfigurationError(
            f"--github-repo {url!r} is not the URL of a repository on GitHub.",
            hint="It must be https://github.com/OWNER/REPO and nothing more: no www, no .git, no slash at the end.",
        )
    return url


@contextmanager
def opened(path: str) -> Iterator[tuple[BinaryIO, IdFile]]:
    """The file, open at its beginning, and what is in it. Reads all of it; memory stays flat.

    Raises ConfigurationError for what is no file, cannot be read, or is empty.
    """
    try:
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 - it is closed below
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from None
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise _unusable(path, "it is no regular file")
        found = _read(path, file)
        if found.size == 0:
            raise _unusable(path, "it is empty")
        yield file, found


def require_unchanged(file: BinaryIO, found: IdFile) -> None:
    """Raises ConfigurationError where the file was written to since it was read."""
    if _mark(file) != found.mark:
        raise ConfigurationError(
            f"{found.path} was changed while it was being checked. Nothing was submitted.",
            hint="Run it again when nobody writes to the file.",
        )


def objections(found: IdFile, export: Export | None, balance: Balance | None) -> list[str]:
    """What --force overrides, a sentence each. `balance` is None while nothing was ingested."""
    return [*_about_the_file(found, export), *_about_the_table(found, balance)]


def tries_with(key: str | None, submissions: Sequence[Submission], since: float) -> list[Submission]:
    """Those made with this key. One that does not tell its key may have been, unless it ended before `since`.

    `since` is the key's first use, by a clock that may have been set meanwhile: so it hides none whose ending nobody
    knows, of which a reminder too many is harmless, and one too few costs a try.
    """
    return [
        one
        for one in submissions
        if (one.key == key if one.key is not None else one.ended_at is None or one.intended_at >= since)
    ]


def reminders(found: IdFile, earlier: Sequence[Submission]) -> list[str]:
    """What earlier tries with the same key say against another one, a sentence each."""
    unknown = [one for one in earlier if one.ended_at is None]
    said = []
    if unknown:
        said.append(
            f"A submission of {clock_text(unknown[-1].intended_at)} has no known ending: it was killed or broke off,"
            " and may have counted; bin/submit --list shows whether it did."
        )
    same = [one for one in earlier if one.sha256 == found.sha256 and one.status is not None]
    if same:
        last = same[-1]
        said.append(f"The same file was submitted on {clock_text(last.intended_at)}: {ending_of(last)}.")
    return said


def ending_of(submission: Submission) -> str:
    """What became of a try, as far as the sidecar knows."""
    if submission.ended_at is None:
        return "not known; it may have counted"
    if submission.status is None:
        return "no connection, so that no try is gone"
    reply = (submission.reply or "").encode()
    if not is_accepted(submission.status, reply):
        return f"answered {submission.status}; it may have counted"
    number = data_of(reply).get("submissionNumber")
    return "accepted" if number is None else f"accepted as number {number}"


def clock_text(at: float) -> str:
    """Epoch seconds as local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _about_the_file(found: IdFile, export: Export | None) -> Iterator[str]:
    if not found.ends_whole:
        yield f"{found.path} does not end in a newline: its last line may be cut off."
    if export is None:
        yield "The sidecar knows of no export, so nothing tells whether the file is whole."
    elif export.sha256 != found.sha256:
        number = "" if export.ids == found.ids else f" Lines: {found.ids:,} in the place of {export.ids:,}."
        yield (
            f"{found.path} is not the last export, of {clock_text(export.exported_at)} to {export.path}: SHA-256"
            f" {found.sha256[:12]}... in the place of {export.sha256[:12]}....{number}"
        )


def _about_the_table(found: IdFile, balance: Balance | None) -> Iterator[str]:
    if balance is None:
        yield "Nothing was ingested into this data directory yet."
        return
    events, total = balance.holdings.events, balance.total
    if total is None:
        yield "The API has told no total to hold the table against."
    elif events != total:
        rejected = balance.holdings.rejected
        yield f"The table holds {events:,} events ({rejected:,} were rejected), and the API has {total:,}."
    if found.ids != events:
        yield f"The number of lines in {found.path} is {found.ids:,}, and the table holds {events:,} events."


def _read(path: str, file: BinaryIO) -> IdFile:
    digest, size, newlines, last = hashlib.sha256(), 0, 0, b""
    mark = _mark(file)
    try:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            size += len(block)
            newlines += block.count(b"\n")
            last = block[-1:]
        file.seek(0)
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from None
    ends_whole = last == b"\n"
    return IdFile(path, newlines + (not ends_whole), size, digest.hexdigest(), ends_whole, mark)


def _without_waiting(path: str, flags: int) -> int:
    """Opening a pipe would wait for its writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _mark(file: BinaryIO) -> tuple[int, ...]:
    """What changes when the file is written to."""
    state = os.fstat(file.fileno())
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _unusable(path: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"The file {Path(path)} cannot be submitted: {why}.",
        hint="bin/export-ids writes it; --file names another one.",
    )
