"""Where the embedded PostgreSQL's files are: in the data directory, or below root's own folder where the account
cannot reach that.

Nothing outside of our own folders gets another mode or owner. As root, the home of a server belongs to root, and only
what the server itself writes (`data`, `socket`) to the account: root never writes into a folder of somebody else's.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import DataDirectoryError
from .accounts import Account

ROOTS_FOLDER = Path("/var/lib/datasync_ingest")
_SHORT_FOLDERS = Path("/tmp")  # not TMPDIR: all users of a data directory must find the same socket
_LONGEST_SOCKET_FOLDER = 80  # bytes; a socket's path may have 103 (macOS; Linux 107), less "/.s.PGSQL.5432"
_LOCATION = "location"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; the lock goes with its owner's death."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def server_home(directory: Path, account: Account, *, say: Callable[[str], None]) -> Path:
    """The folder of the server whose data belongs to `directory`, made when missing; the same one ever after.

    Raises DataDirectoryError where somebody else has put something there, and OSError.
    """
    beside = directory / "server"
    with locked(directory / "lock"):
        if (directory / _LOCATION).exists():
            return _home_in_roots_folder(directory, account)
        if beside.exists():
            _require_within_reach(_home_folder(beside, account), account)
        elif not account.can_enter(directory):
            _choose_location(directory, say)
            return _home_in_roots_folder(directory, account)
        return _home_folder(beside, account)


def existing_home(directory: Path) -> Path | None:
    """The same folder, if it has been made; nothing is."""
    try:
        return Path((directory / _LOCATION).read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        home = directory.resolve() / "server"
        return home if home.is_dir() else None


def private_folder(path: Path, account: Account) -> Path:
    """A folder that belongs to the account and that nobody else (but root) can enter, made when missing.

    Raises DataDirectoryError where somebody else has put something there: that is never used.
    """
    return _folder(path, account, owner=account.uid, mode=0o700)


def socket_folder(home: Path, account: Account) -> Path:
    """A private folder whose path libpq and a socket can take, whatever the data directory is called."""
    beside = home / "socket"
    text = str(beside)
    # libpq reads a comma as the start of the next host
    if len(os.fsencode(beside)) <= _LONGEST_SOCKET_FOLDER and text.isascii() and text.isprintable() and "," not in text:
        return private_folder(beside, account)
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    return private_folder(_SHORT_FOLDERS / f"datasync-{account.uid}-{digest}", account)


def share(path: Path, account: Account) -> None:
    """Lets the account read a file of ours, and nobody else."""
    path.chmod(0o600)
    if account.switched:
        os.chown(path, -1, account.gid)
        path.chmod(0o640)


def roots_folder() -> Path:
    """Root's own folder, which everybody may read. Raises OSError."""
    ROOTS_FOLDER.parent.mkdir(parents=True, exist_ok=True)
    ROOTS_FOLDER.mkdir(exist_ok=True)
    ROOTS_FOLDER.chmod(0o755)  # whatever the umask is
    return ROOTS_FOLDER


def _home_folder(path: Path, account: Account) -> Path:
    return _folder(path, account, owner=os.geteuid(), mode=0o710 if account.switched else 0o700)


def _folder(path: Path, account: Account, *, owner: int, mode: int) -> Path:
    """Made when missing; one that belongs to us is put right, so that a set-up killed half-way heals."""
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
        if account.switched:
            os.chown(path, owner, account.gid, follow_symlinks=False)
        path.chmod(mode)
        found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or stat.S_IMODE(found.st_mode) != mode:
        raise DataDirectoryError(
            f"{path} is not a private folder of the account {account.name}.",
            hint="It was made by another user (root, if you ran this as root before), or its mode cannot be set:"
            " run as that user, set another DATA_DIR, or remove it.",
        )
    return path


def _require_within_reach(home: Path, account: Account) -> None:
    if not account.can_enter(home):
        raise DataDirectoryError(
            f"The account {account.name}, under which the database in {home} runs, cannot reach it any more.",
            hint="Let others pass through the folders above it again (chmod o+x), or set another DATA_DIR.",
        )


def _choose_location(directory: Path, say: Callable[[str], None]) -> None:
    """Never a name that was used before: a data directory that was removed and made anew has a database of its own."""
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    for old in roots_folder().glob(f"{digest}-*"):
        say(f"{old} holds the database of an earlier {directory}: remove it if nobody needs it")
    new = directory / f"{_LOCATION}.new"
    new.write_text(f"{ROOTS_FOLDER}/{digest}-{secrets.token_hex(4)}\n", encoding="utf-8")
    new.replace(directory / _LOCATION)


def _home_in_roots_folder(directory: Path, account: Account) -> Path:
    home = Path((directory / _LOCATION).read_text(encoding="utf-8").strip())
    if home.parent != ROOTS_FOLDER or not re.fullmatch(r"[0-9a-f]{16}-[0-9a-f]{8}", home.name):
        raise DataDirectoryError(f"{directory / _LOCATION} does not name a folder of ours.", hint="Remove it.")
    if account.switched:
        return _home_folder(roots_folder() / home.name, account)
    raise DataDirectoryError(
        f"The database of {directory} was set up by root, in {home}.", hint="Run as root, or set another DATA_DIR."
    )
