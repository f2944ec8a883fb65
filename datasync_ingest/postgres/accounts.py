"""Under whose account the embedded PostgreSQL runs: the user's own, or for root an unprivileged one.

PostgreSQL refuses to run as root, and the account that it runs under must be able to reach its programs and its data.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..errors import EmbeddedPostgresError

Words = Sequence[str | Path]

_UNPRIVILEGED = ("postgres", "nobody")
_PROGRAM_TIMEOUT_S = 300  # initdb on a slow disk; everything else that is waited for ends at once
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Nothing of the user's: no PG* that leads the programs elsewhere, no API key that the account's other programs could
# read. LC_ALL: messages in English; TZ: spares initdb a search for the machine's.
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}

# The server is nobody's child, so that whoever stops it needs no help of the process that started it.
_START_AND_TELL_PID = '"$@" >&2 & echo $!'


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the server's programs; `switched` when that is not who runs this process.

    The programs get no terminal, no environment and no signal of ours: what they leave running would keep them.
    """

    name: str
    uid: int
    gid: int
    switched: bool

    def run(self, words: Words, *, output: IO[bytes] | int, directory: Path) -> int:
        """Runs a program to its end and returns its exit code; when an exception ends the wait, it is killed.

        Raises EmbeddedPostgresError where it does not end, OSError where it cannot be run.
        """
        process: _Process | None = None
        try:
            with signals_deferred():  # one whose exception came between fork and return would lose the process
                process = self._popen(words, stdout=output, stderr=subprocess.STDOUT, directory=directory)
            return process.wait(timeout=_PROGRAM_TIMEOUT_S)
        except BaseException as error:
            if process is not None:
                os.killpg(process.pid, signal.SIGKILL)  # with its children, which would go on writing
                process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise EmbeddedPostgresError(f"{words[0]} took more than {_PROGRAM_TIMEOUT_S} s.") from None
            raise

    def start(self, words: Words, *, log: IO[bytes], directory: Path) -> int:
        """Starts a program that stays, and returns its process id; its output goes to `log`. Raises OSError.

        To be called under `signals_deferred`, as a signal's exception would lose the process id.
        """
        shell = ["/bin/sh", "-c", _START_AND_TELL_PID, "sh", *words]
        process = self._popen(shell, stdout=subprocess.PIPE, stderr=log, directory=directory)
        told, _ = process.communicate()
        return int(told)

    def can_run(self, program: Path) -> bool:
        """Whether the account can reach and run a program, found out by running it."""
        return self._succeeds([program, "--version"])

    def can_enter(self, directory: Path) -> bool:
        """Whether the account may pass through a directory and all above it, found out by going there."""
        return self._succeeds(["/bin/sh", "-c", 'cd -- "$1"', "sh", directory])

    def _succeeds(self, words: Words) -> bool:
        try:
            return self.run(words, output=subprocess.DEVNULL, directory=Path("/")) == 0
        except OSError:
            return False

    def _popen(self, words: Words, *, stdout: IO[bytes] | int, stderr: IO[bytes] | int, directory: Path) -> _Process:
        return subprocess.Popen(
            [os.fspath(word) for word in words],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=directory,
            env=_ENVIRONMENT,
            start_new_session=True,
            user=self.uid if self.switched else None,
            group=self.gid if self.switched else None,
            extra_groups=[] if self.switched else None,
        )


_Process = subprocess.Popen[bytes]


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Signal handlers, which may raise, run at the end of the block. What is ignored, or deadly, stays so."""
    came: list[int] = []
    with ExitStack() as handlers:
        for signum in _SIGNALS if threading.current_thread() is threading.main_thread() else ():
            handler = signal.getsignal(signum)
            if callable(handler):
                handlers.callback(signal.signal, signum, handler)
                signal.signal(signum, lambda number, _frame: came.append(number))
        yield
    for number in came:
        signal.raise_signal(number)


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


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError as error:
        raise EmbeddedPostgresError(
            f"The user id {os.geteuid()} has no name on this system, which PostgreSQL needs.",
            hint="Run as a user with an entry in /etc/passwd, or name a database with DATABASE_URL.",
        ) from error
