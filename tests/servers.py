"""PostgreSQL servers for tests: users of the embedded one as processes of their own, and one with a password on TCP."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg2

from datasync_ingest.postgres.accounts import Account, server_account
from datasync_ingest.postgres.folders import ROOTS_FOLDER
from datasync_ingest.postgres.programs import programs
from tests.harness import TOP, alive, clean_environment, until

# Where this project and what it needs are, for any Python of this version.
PACKAGES = os.pathsep.join([str(TOP), *(path for path in sys.path if path.endswith("site-packages"))])

USER = "datasync"
PASSWORD = "right"

# Uses the server of argv[1] until its standard input ends. argv[2] stands for root's own folder.
_USE = """
import sys
from contextlib import closing
from pathlib import Path
from datasync_ingest.errors import StoppedError
from datasync_ingest.postgres import folders
from datasync_ingest.postgres.embedded import embedded_postgres
from datasync_ingest.settings import forget_libpq_environment
from datasync_ingest.stopping import Wake, stop_on_signals

folders.ROOTS_FOLDER = Path(sys.argv[2])
forget_libpq_environment()
try:
    with closing(Wake()) as wake, stop_on_signals(wake):
        print("begins", flush=True)
        with embedded_postgres(Path(sys.argv[1]), say=lambda text: print(text, file=sys.stderr)) as conninfo:
            print(conninfo, flush=True)
            sys.stdin.read()
except StoppedError as error:
    sys.exit(error.exit_code)
"""


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A folder that other accounts may pass through, as root's server must; pytest's own folders are private."""
    folder = Path(tempfile.mkdtemp(prefix="datasync-test-", dir="/tmp"))
    try:
        folder.chmod(0o711)
        yield folder.resolve()
    finally:
        shutil.rmtree(folder)


class EmbeddedUser:
    """A process that uses the embedded server of `directory`, in a session of its own."""

    def __init__(
        self,
        directory: Path,
        *,
        roots: Path = ROOTS_FOLDER,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
        **how: Any,
    ) -> None:
        self.process: subprocess.Popen[str] = subprocess.Popen(
            [python, "-c", _USE, str(directory), str(roots)],
            env={**clean_environment(PYTHONPATH=PACKAGES, PYTHONDONTWRITEBYTECODE="1"), **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **how,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "begins\n", self.process.communicate()[1]

    def conninfo(self) -> str:
        """Returns when the server takes connections."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        return line.rstrip("\n")

    def leave(self) -> str:
        """Ends it in order; returns what it said."""
        _, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err
        return err

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> EmbeddedUser:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.leave()


def query(conninfo: str, statement: str) -> Any:
    """The first value of the first row, committed; None where there are no rows."""
    connection = psycopg2.connect(conninfo, connect_timeout=10)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()[0] if cursor.description else None  # type: ignore[index]
    finally:
        connection.close()


@contextmanager
def password_server(directory: Path, *, host: str = "127.0.0.1", durable: bool = False) -> Iterator[str]:
    """A server on TCP of `host` with SCRAM passwords; yields a conninfo without one: `datasync` has "right".

    It is on the machine of this thread (see tests/namespaces), and lets every other one in. Its files are in
    `directory`, which must not exist yet, or elsewhere where root's account cannot reach that.
    """
    account = server_account()
    directory.mkdir(parents=True)
    with reachable_folder() as elsewhere:
        home = directory if account.can_enter(directory) else elsewhere
        data = _initialized(home, account)
        port = _free_port(host)
        with (home / "log").open("ab") as log:
            options = (f"listen_addresses={host}", "unix_socket_directories=", f"fsync={'on' if durable else 'off'}")
            words: list[str | Path] = [programs(account) / "postgres", "-D", data, "-p", str(port)]
            words += [word for option in options for word in ("-c", option)]
            server = psutil.Process(account.start(words, log=log, directory=home))
        try:
            conninfo = f"host={host} port={port} user={USER} dbname=postgres"
            until(lambda: _accepts(f"{conninfo} password={PASSWORD}"), what="the server with a password")
            yield conninfo
        finally:
            with suppress(psutil.NoSuchProcess):
                server.send_signal(signal.SIGQUIT)
            until(lambda: not alive([server]), what="the server's end")


def _initialized(home: Path, account: Account) -> Path:
    """A new data folder of the account's."""
    data, password = home / "data", home / "password"
    password.write_text(PASSWORD)
    data.mkdir(mode=0o700)
    for path in (data, password) if account.switched else ():
        os.chown(path, account.uid, account.gid)
    words: list[str | Path] = [
        programs(account) / "initdb",
        "-D",
        data,
        "-U",
        USER,
        "--auth=scram-sha-256",
        "--no-sync",
    ]
    with (home / "log").open("ab") as log:
        code = account.run([*words, f"--pwfile={password}", "--no-locale"], output=log, directory=home)
    assert code == 0, (home / "log").read_text()
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all samenet scram-sha-256\n")
    return data


def _accepts(conninfo: str) -> bool:
    try:
        psycopg2.connect(conninfo, connect_timeout=5).close()
    except psycopg2.OperationalError:
        return False
    return True


def _free_port(host: str) -> int:
    with socket.socket() as free:
        free.bind((host, 0))
        return int(free.getsockname()[1])
