"""Under whose account the embedded PostgreSQL runs: the user's own, or for root an unprivileged one.

PostgreSQL refuses to run as root, and the account that it runs under must be able to reach its programs and its data.
Nothing outside of our own folders gets another mode or owner for that: what lies where the account cannot reach it is
kept below `/var/lib/datasync_ingest` instead, which belongs to root.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..errors import EmbeddedPostgresError

ROOTS_FOLDER = Path("/var/lib/datasync_ingest")
_UNPRIVILEGED = ("postgres", "nobody")
_PROGRAM_TIMEOUT_S = 300  # longer than a start after a crash may take


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the server's programs; `switched` when that is not who runs this process."""

    name: str
    uid: int
    gid: int
    switched: bool

    def run(self, words: Sequence[str | Path], *, output: IO[bytes] | int, directory: Path) -> int:
        """Runs a program to its end under this account and returns its exit code.

        The program gets no terminal, no pipe and no signal of ours: what it leaves running would keep them.
        """
        as_account = {"user": self.uid, "group": self.gid, "extra_groups": []} if self.switched else {}
        return subprocess.run(
            [str(word) for word in words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=server_environment(os.environ),
            start_new_session=True,
            timeout=_PROGRAM_TIMEOUT_S,
            check=False,
            **as_account,  # type: ignore[arg-type]
        ).returncode

    def can_run(self, program: Path) -> bool:
        """Whether the account can reach and run a program, found out by running it."""
        try:
            return self.run([program, "--version"], output=subprocess.DEVNULL, directory=Path("/")) == 0
        except OSError:
            return False

    def can_enter(self, directory: Path) -> bool:
        """Whether the account may pass through a directory and all above it. Symbolic links are followed."""
        resolved = directory.resolve()
        return all(self._may_pass(place.stat()) for place in (resolved, *resolved.parents))

    def own(self, path: Path) -> None:
        """Makes a file or folder of ours the account's."""
        if self.switched:
            os.chown(path, self.uid, self.gid)

    def _may_pass(self, found: os.stat_result) -> bool:
        if not self.switched:
            return True
        if found.st_uid == self.uid:
            return bool(found.st_mode & stat.S_IXUSR)
        if found.st_gid == self.gid:
            return bool(found.st_mode & stat.S_IXGRP)
        return bool(found.st_mode & stat.S_IXOTH)


def server_account() -> Account:
    """The account for this process's server. Raises EmbeddedPostgresError where root has none to switch to."""
    if os.geteuid() != 0:
        return Account(_own_name(), os.geteuid(), os.getegid(), switched=False)
    for name in _UNPRIVILEGED:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        if found.pw_uid != 0:
            return Account(name, found.pw_uid, found.pw_gid, switched=True)
    raise EmbeddedPostgresError(
        "PostgreSQL does not run as root, and there is neither an account 'postgres' nor 'nobody' to run it under.",
        hint="Run as an ordinary user, or name a database with DATABASE_URL.",
    )


def private_folder(path: Path, account: Account) -> Path:
    """A folder that only the account (and root) can enter; an existing one must be just that already.

    Raises EmbeddedPostgresError where somebody else has put something there: that is never used.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and account.switched:
        account.own(path)
        found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid or stat.S_IMODE(found.st_mode) != 0o700:
        raise EmbeddedPostgresError(
            f"{path} is not a private folder of the account {account.name}.",
            hint="It was made by another user (root, if you ran this as root before) or its mode was changed: run as"
            " that user, set another DATA_DIR, or remove it.",
        )
    return path


def server_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Without libpq's variables, which would lead the programs elsewhere, and with messages in English."""
    return {**{name: text for name, text in environment.items() if not name.startswith("PG")}, "LC_ALL": "C"}


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError as error:
        raise EmbeddedPostgresError(
            f"The user id {os.geteuid()} has no name on this system, which PostgreSQL needs.",
            hint="Run as a user with an entry in /etc/passwd, or name a database with DATABASE_URL.",
        ) from error
