"""One embedded PostgreSQL: set up, started, found again, stopped. Knows nothing of who else uses it."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg2

from ..errors import DiskFullError, EmbeddedPostgresError, IngestError
from .accounts import Account, signals_deferred
from .connection import first_line, is_connection_trouble
from .folders import private_folder, share, socket_folder
from .postmaster import PID_FILE, PORT, SUPERUSER, conninfo_of, lives, living_postmaster
from .programs import MAJOR_VERSION, programs

START_TIMEOUT_S = 120  # recovery after a crash replays up to max_wal_size
STOP_TIMEOUT_S = 60
_URGENT_STOP_S = 2  # for a server that was told to end at once
_CONNECT_TIMEOUT_S = 10
_POLL_S = 0.02
_ORPHANS_S = 15  # after a crash: the old server's processes hold its memory until they notice that it is gone
_RELAUNCH_S = 0.5
_REMOVAL_S = 5
_DISK_FULL = ("No space left on device", "Check free disk space")  # the system's words; PostgreSQL's for a short write
_LARGEST_LOG = 10_000_000  # bytes; then a new one is begun at the next start
_LARGEST_WAL_MB, _SMALLEST_WAL_MB = 4096, 128

# Durable, and otherwise made for bulk load by a few connections on a machine that has other work to do.
_CONFIGURATION = """\
listen_addresses = ''              # no TCP: the socket's folder is the door, and only its owner may enter
port = {port}
unix_socket_permissions = 0700
max_connections = 50
shared_buffers = 256MB             # holds the hot part of the primary key's index for 3,000,000 events
huge_pages = off
max_wal_size = {wal_mb}MB          # checkpoints by time and not by every few pages, where the disk has room for it
checkpoint_timeout = 15min
wal_compression = on               # full pages of a random-order index are most of the WAL
synchronous_commit = on
fsync = on
full_page_writes = on
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
logging_collector = off            # our own file is enough
log_min_error_statement = panic    # a refused page would put all of its events into the log
"""


class Server:
    """The server in the folder `home`; starts and stops exclude each other.

    All but `stop` may raise EmbeddedPostgresError, DiskFullError and OSError.
    """

    def __init__(self, home: Path, account: Account) -> None:
        self._account = account
        self._programs = programs(account)
        self._home = home
        self._data = home / "data"
        self._log = home / "log"
        self._log_start = 0  # where the part of the log begins that tells of what we did
        self._sockets = socket_folder(home, account)
        self._process: psutil.Process | None = None

    @property
    def conninfo(self) -> str:
        return conninfo_of(self._sockets)

    def start(self, say: Callable[[str], None], *, given_up: Callable[[], bool] = lambda: False) -> None:
        """Returns when the server takes connections; one that is left from a killed run is adopted.

        Also returns, and launches nothing more, when it is `given_up`: what it has launched by then can be stopped.
        """
        self._set_up_once(say)
        began = time.monotonic()
        relaunch_until = began + (_ORPHANS_S if self._pid_file.exists() else 0)
        launched = False
        self._process = living_postmaster(self._data)
        while not self._answers() and not given_up():
            now = time.monotonic()
            if not lives(self._process):
                if launched and now > relaunch_until:
                    raise self._error("The embedded PostgreSQL does not start")
                time.sleep(_RELAUNCH_S if launched else 0)
                self._launch()
                launched = True
            elif now > began + START_TIMEOUT_S:
                raise self._error(f"The embedded PostgreSQL takes no connections after {START_TIMEOUT_S} s")
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Tells the server to stop, whoever is connected; does not wait, and does nothing where none runs."""
        self._process = self._process if lives(self._process) else living_postmaster(self._data)
        self._send(signal.SIGTERM)  # ends one that has just been started and does not listen to SIGINT yet
        self._send(signal.SIGINT)

    def wait_for_end(self, urgent: Callable[[], bool] = lambda: False) -> None:
        """Returns when the server that was told to stop has ended; an exception leaves it stopping by itself.

        As soon as it is `urgent`, the server is told to end at once, and hardly waited for: its next start recovers.
        """
        for signum, urgent_s in ((signal.SIGINT, 0), (signal.SIGQUIT, _URGENT_STOP_S)):  # with a checkpoint; at once
            began = time.monotonic()
            self._send(signum)
            while lives(self._process) and time.monotonic() < began + (urgent_s if urgent() else STOP_TIMEOUT_S):
                time.sleep(_POLL_S)

    def _send(self, signum: signal.Signals) -> None:
        with suppress(psutil.NoSuchProcess):
            if self._process is not None:
                self._process.send_signal(signum)

    @property
    def _pid_file(self) -> Path:
        return self._data / PID_FILE

    def _set_up_once(self, say: Callable[[str], None]) -> None:
        try:
            version = (self._data / "PG_VERSION").read_text(encoding="ascii").strip()
        except FileNotFoundError:
            say("Setting up the embedded PostgreSQL (once, about 5 s)")
            self._initialize()
        else:
            if version != MAJOR_VERSION:
                raise EmbeddedPostgresError(
                    f"The database in {self._data} was made by PostgreSQL {version}; this is PostgreSQL"
                    f" {MAJOR_VERSION}, which cannot read it.",
                    hint="Use the version of datasync_ingest that made it, or set another DATA_DIR and ingest again.",
                )

    def _initialize(self) -> None:
        """Beside, and then renamed: an interrupted one leaves nothing that looks like data."""
        for leftover in self._home.glob("data.new.*"):
            _remove(leftover)
        new = self._home / f"data.new.{os.getpid()}"
        words = ("-D", new, "-U", SUPERUSER, "--auth=peer", "--encoding=UTF8", "--no-locale", "--no-instructions")
        try:
            private_folder(new, self._account)
            with self._log.open("ab") as log:
                self._log_start = log.tell()
                code = self._account.run([self._programs / "initdb", *words], output=log, directory=self._home)
            if code != 0:
                raise self._error("The embedded PostgreSQL cannot be set up")
            new.rename(self._data)
            _sync_folder(self._home)
        finally:
            _remove(new)

    def _launch(self) -> None:
        """Starts the server and does not wait for it."""
        if self._log.exists() and self._log.stat().st_size > _LARGEST_LOG:
            self._log.replace(self._home / "log.old")
        files = self._configure()
        self._forget_stale_pid()
        options = {**files, "unix_socket_directories": self._sockets}
        words: list[str | Path] = [self._programs / "postgres", "-D", self._data]
        words += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log, signals_deferred():
            self._log_start = log.tell()
            self._process = None
            with suppress(psutil.NoSuchProcess):  # it has ended already, and its log says why
                self._process = psutil.Process(self._account.start(words, log=log, directory=self._home))

    def _configure(self) -> dict[str, Path]:
        """Writes the server's files, and returns them by the option that names each.

        Whoever may be the superuser: the server's account, root, and nobody else.
        """
        names = dict.fromkeys((self._account.name, "root"))
        free_mb = shutil.disk_usage(self._home).free // 2**20
        wal_mb = min(_LARGEST_WAL_MB, max(_SMALLEST_WAL_MB, free_mb // 8))
        texts = {
            "config_file": ("postgresql.conf", _CONFIGURATION.format(port=PORT, wal_mb=wal_mb)),
            "hba_file": ("pg_hba.conf", "local all all peer map=ours\n"),
            "ident_file": ("pg_ident.conf", "".join(f'ours "{name}" {SUPERUSER}\n' for name in names)),
        }
        for name, text in texts.values():
            (self._home / name).write_text(text, encoding="utf-8")
            share(self._home / name, self._account)
        return {option: self._home / name for option, (name, _) in texts.items()}

    def _answers(self) -> bool:
        try:
            psycopg2.connect(self.conninfo, connect_timeout=_CONNECT_TIMEOUT_S).close()
        except psycopg2.OperationalError as error:
            if is_connection_trouble(error):
                return False
            raise EmbeddedPostgresError(
                f"The embedded PostgreSQL refuses its own user: {first_line(error)}", hint=f"See {self._log}."
            ) from error
        return True

    def _forget_stale_pid(self) -> None:
        """Removes what names a process that is not the server, and that PostgreSQL would take for it.

        A number that no process has is left to PostgreSQL, which then also looks for what is left of the old server.
        """
        for path in (self._pid_file, self._sockets / f".s.PGSQL.{PORT}.lock"):
            with suppress(OSError, ValueError):
                if psutil.pid_exists(int(path.read_bytes().split(b"\n")[0])):
                    path.unlink()

    def _error(self, what: str) -> IngestError:
        told = self._log.read_bytes()[self._log_start :].decode("utf-8", "replace")
        if any(words in told for words in _DISK_FULL):
            return DiskFullError(f"{what}: the disk is full.", hint="Make room and run the same command again.")
        tail = "\n".join(told.splitlines()[-8:])
        return EmbeddedPostgresError(
            f"{what}. The end of {self._log}:\n{tail}", hint="Mend what it says, or name a database with DATABASE_URL."
        )


def _remove(folder: Path) -> None:
    """Again and again for a while: the children of a killed initdb may still write there."""
    deadline = time.monotonic() + _REMOVAL_S
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
