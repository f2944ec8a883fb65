"""Who uses the embedded PostgreSQL: made once, started or joined by each user, stopped by the last one."""

from __future__ import annotations

import errno
import fcntl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import DataDirectoryError, DiskFullError, IngestError
from .accounts import server_account, signals_deferred
from .folders import locked, server_home
from .server import Server

_POLL_S = 0.1
_GIVE_UP_S = 2.0  # for a start that is given up: longer than the launch of a process takes


class EmbeddedServer:
    """The server while it is used; `conninfo` is libpq's."""

    def __init__(self, server: Server, home: Path, say: Callable[[str], None]) -> None:
        self.conninfo = server.conninfo
        self._server = server
        self._home = home
        self._say = say
        self._reviving: threading.Thread | None = None
        self._is_closed = False
        self._is_given_up = False
        self._asking = threading.Lock()

    def revive(self) -> None:
        """Starts it again if it has died. Returns at once; whoever waits for the database goes on when it is there.

        Any thread may ask for it; after `close` nothing happens.
        """
        with self._asking:
            if not self._is_closed and not self._is_reviving:
                self._reviving = threading.Thread(target=self._start_again, name="revive PostgreSQL", daemon=True)
                self._reviving.start()

    def close(self, urgent: Callable[[], bool] = lambda: False) -> None:
        """Waits for what `revive` began, until it is `urgent`, and lets nothing more begin."""
        with self._asking:
            self._is_closed = True
        self.settle(urgent)

    def settle(self, urgent: Callable[[], bool] = lambda: False) -> None:
        """Waits for what `revive` began, until it is `urgent`."""
        while self._is_reviving and not urgent():
            self._let_revive(_POLL_S)

    def stop(self) -> None:
        """Gives up what `revive` began, and tells the server to stop; waits for a moment at most."""
        self._is_closed = self._is_given_up = True
        self._let_revive(_GIVE_UP_S)
        self._server.stop()

    @property
    def _is_reviving(self) -> bool:
        return self._reviving is not None and self._reviving.is_alive()

    def _let_revive(self, seconds: float) -> None:
        if self._reviving is not None:
            self._reviving.join(seconds)

    def _start_again(self) -> None:
        try:
            with locked(self._home / "lock"):
                self._server.start(self._say, given_up=lambda: self._is_given_up)
        except (IngestError, OSError) as error:
            self._say(f"the embedded PostgreSQL could not be started again: {error}")


@contextmanager
def embedded_postgres(directory: Path, *, say: Callable[[str], None]) -> Iterator[str]:
    """Yields the conninfo of an `embedded_server`."""
    with embedded_server(directory, say=say) as server:
        yield server.conninfo


@contextmanager
def embedded_server(
    directory: Path, *, say: Callable[[str], None], urgent: Callable[[], bool] = lambda: False
) -> Iterator[EmbeddedServer]:
    """Starts or joins the server whose data belongs to `directory`, made when missing.

    On leaving, however that comes about, the server is stopped if nobody else uses it. What a process that was killed
    leaves running is adopted by the next user. As soon as it is `urgent`, nobody waits for its end any more.
    The caller's environment must be free of libpq's variables.
    Raises EmbeddedPostgresError, DataDirectoryError, DiskFullError.
    """
    with _named_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        account = server_account()
        home = server_home(directory.resolve(), account, say=say)
        server = Server(home, account)
        running = EmbeddedServer(server, home, say)
        users = (home / "users").open("a")
    with users:
        try:
            with _named_errors(directory), locked(home / "lock"):
                fcntl.flock(users, fcntl.LOCK_SH)  # waits for one who stops; released by the kernel, however we end
                server.start(say)
            yield running
        finally:
            try:
                running.close(urgent)
                last = _leave(users, running)
            except BaseException:  # a second signal, which may have come before anything was done
                _leave(users, running)
                raise
            if last:
                server.wait_for_end(urgent)


def _leave(users: IO[str], running: EmbeddedServer) -> bool:
    """Tells the server to stop if nobody else uses it, and returns whether that is so."""
    with signals_deferred():
        last = _is_last(users)
        if last:
            running.stop()
    return last


def _is_last(users: IO[str]) -> bool:
    """Whether nobody else uses the server; if so, nobody begins to as long as `users` is open."""
    fcntl.flock(users, fcntl.LOCK_UN)
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _named_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"No room in {directory}.", hint="Make room and run the same command again.") from None
        raise DataDirectoryError(
            f"The folder {directory} cannot be used: {error.filename or ''}: {error.strerror}.",
            hint="Set DATA_DIR (or --data-dir) to a directory that you may write to, as the user who made it.",
        ) from error
