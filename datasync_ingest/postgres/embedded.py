"""The life of the embedded PostgreSQL: made once, started or joined by each user, stopped by the last one."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil
import psycopg2

from ..errors import DataDirectoryError, DiskFullError, EmbeddedPostgresError, IngestError
from .accounts import ROOTS_FOLDER, Account, private_folder, server_account
from .programs import programs

SUPERUSER = "datasync"
DATABASE = "postgres"
PORT = 5432  # names the socket's file only: nothing listens on TCP
START_TIMEOUT_S = 120  # recovery after a crash replays up to max_wal_size
STOP_TIMEOUT_S = 60
_LONGEST_SOCKET_FOLDER = 80  # of the 107 bytes that a socket's path may have, less "/.s.PGSQL.5432.lock"

# Durable, and otherwise made for bulk load by a few connections on a machine that has other work to do.
_CONFIGURATION = """
listen_addresses = ''              # no TCP: the socket's folder is the door, and only its owner may enter
unix_socket_permissions = 0700
max_connections = 50
shared_buffers = 256MB             # holds the hot part of the primary key's index for 3,000,000 events
huge_pages = off
max_wal_size = 4GB                 # checkpoints by time and not by every few pages
checkpoint_timeout = 15min
wal_compression = on               # full pages of a random-order index are most of the WAL
synchronous_commit = on
fsync = on
full_page_writes = on
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
logging_collector = off            # pg_ctl's file is enough
"""


@contextmanager
def embedded_postgres(directory: Path, *, say: Callable[[str], None]) -> Iterator[str]:
    """Starts or joins the server whose data belongs to `directory`, made when missing; yields a libpq conninfo.

    On leaving, the server is stopped if nobody else uses it. Raises EmbeddedPostgresError, DataDirectoryError,
    DiskFullError.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        users = (directory / "users.lock").open("a")
    except OSError as error:
        raise DataDirectoryError(
            f"The folder {directory} cannot be used: {error.strerror}.",
            hint="Set DATA_DIR (or --data-dir) to a directory that you may write to, as the user who made it.",
        ) from None
    with users:
        server = _Server(directory)
        with _control(directory):
            fcntl.flock(users, fcntl.LOCK_SH)  # released by the kernel, however this process ends
            server.start(say)
        try:
            yield server.conninfo
        finally:
            with _control(directory):
                fcntl.flock(users, fcntl.LOCK_UN)
                if _is_last(users):
                    server.stop()


@contextmanager
def _control(directory: Path) -> Iterator[None]:
    """One at a time starts or stops the server."""
    with (directory / "control.lock").open("a") as control:
        fcntl.flock(control, fcntl.LOCK_EX)
        yield


def _is_last(users: IO[str]) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _Server:
    """The server of one directory; `start` and `stop` are called under the control lock."""

    def __init__(self, directory: Path) -> None:
        self._account = server_account()
        self._programs = programs(self._account)
        self._home = _home(directory, self._account)
        self._data = self._home / "data"
        self._log = self._home / "log"
        self._sockets = _socket_folder(self._home, self._account)

    @property
    def conninfo(self) -> str:
        host = str(self._sockets).replace("\\", "\\\\").replace("'", "\\'")
        return f"host='{host}' port={PORT} user={SUPERUSER} dbname={DATABASE}"

    def start(self, say: Callable[[str], None]) -> None:
        """Returns when the server takes connections; one that is left from a killed run is adopted."""
        if not (self._data / "PG_VERSION").exists():
            say("Setting up the embedded PostgreSQL (once, about 5 s)")
            self._initialize()
        self._configure()
        if self._answers():
            return
        self._forget_stale_pid()
        options = f"-k {_shell_quoted(str(self._sockets))} -p {PORT}"
        code = self._pg_ctl("start", "-w", "-t", str(START_TIMEOUT_S), "-l", self._log, "-o", options)
        if code != 0 or not self._answers():
            raise self._error("The embedded PostgreSQL does not start")

    def stop(self) -> None:
        """Stops the server; a failure is left to the next user, who adopts what still runs."""
        if (self._data / "postmaster.pid").exists():
            self._pg_ctl("stop", "-m", "fast", "-w", "-t", str(STOP_TIMEOUT_S))

    def _initialize(self) -> None:
        """Beside, and then renamed: an interrupted one leaves nothing that looks like data."""
        for leftover in self._home.glob("data.new.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        new = private_folder(self._home / f"data.new.{os.getpid()}", self._account)
        words = ("-D", new, "-U", SUPERUSER, "--auth=peer", "--encoding=UTF8", "--no-locale", "--no-instructions")
        try:
            if self._run("initdb", *words) != 0:
                raise self._error("The embedded PostgreSQL cannot be set up")
            new.rename(self._data)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _configure(self) -> None:
        """Whoever may be the superuser: the server's account, root, and nobody else."""
        names = dict.fromkeys((self._account.name, "root"))
        self._write("datasync.conf", _CONFIGURATION)
        self._write("pg_hba.conf", "local all all peer map=ours\n")
        self._write("pg_ident.conf", "".join(f'ours "{name}" {SUPERUSER}\n' for name in names))
        main = self._data / "postgresql.conf"
        text = main.read_text(encoding="utf-8")
        if "include 'datasync.conf'" not in text:
            self._write(main.name, f"{text}\ninclude 'datasync.conf'\n")

    def _write(self, name: str, text: str) -> None:
        path = self._data / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return
        new = path.with_name(f"{name}.new")
        new.write_text(text, encoding="utf-8")
        new.chmod(0o600)
        self._account.own(new)
        new.replace(path)

    def _answers(self) -> bool:
        try:
            psycopg2.connect(self.conninfo, connect_timeout=START_TIMEOUT_S).close()
        except psycopg2.Error:
            return False
        return True

    def _forget_stale_pid(self) -> None:
        """Removes the pid file of a server that is gone, whose number another process may have by now."""
        path = self._data / "postmaster.pid"
        with suppress(OSError, ValueError, IndexError):
            pid = int(path.read_text(encoding="utf-8").splitlines()[0])
            with suppress(psutil.NoSuchProcess):
                if "postgres" in psutil.Process(pid).name():
                    return  # pg_ctl and the server know better than we do
            path.unlink()

    def _pg_ctl(self, verb: str, *words: str | Path) -> int:
        return self._run("pg_ctl", verb, "-D", self._data, *words)

    def _run(self, program: str, *words: str | Path) -> int:
        with self._log.open("ab") as log:
            self._account.own(self._log)
            return self._account.run([self._programs / program, *words], output=log, directory=self._home)

    def _error(self, what: str) -> IngestError:
        tail = "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:])
        if "No space left on device" in tail:
            return DiskFullError(f"{what}: the disk is full.", hint="Make room and run the same command again.")
        return EmbeddedPostgresError(
            f"{what}. The end of {self._log}:\n{tail}", hint="Mend what it says, or name a database with DATABASE_URL."
        )


def _home(directory: Path, account: Account) -> Path:
    """Where the server's files are: in `directory`, or below root's own folder where the account cannot reach that."""
    if account.can_enter(directory):
        return private_folder(directory / "server", account)
    digest = hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16]
    ROOTS_FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
    home = private_folder(ROOTS_FOLDER / digest, account)
    (directory / "location").write_text(f"{home}\n", encoding="utf-8")
    return home


def _socket_folder(home: Path, account: Account) -> Path:
    """A private folder whose path is short enough for a socket, whatever the data directory is called."""
    beside = home / "socket"
    if len(os.fsencode(beside)) <= _LONGEST_SOCKET_FOLDER:
        return private_folder(beside, account)
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    return private_folder(Path(tempfile.gettempdir()) / f"datasync-{account.uid}-{digest}", account)


def _shell_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
