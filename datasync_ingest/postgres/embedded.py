"""Who uses the embedded PostgreSQL: made once, started or joined by each user, stopped by the last one."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import DataDirectoryError, DiskFullError
from .accounts import server_account, signals_deferred
from .folders import locked, server_home
from .server import Server


@contextmanager
def embedded_postgres(directory: Path, *, say: Callable[[str], None]) -> Iterator[str]:
    """Starts or joins the server whose data belongs to `directory`, made when missing; yields a libpq conninfo.

    On leaving, however that comes about, the server is stopped if nobody else uses it. What a process that was killed
    leaves running is adopted by the next user. The caller's environment must be free of libpq's variables.
    Raises EmbeddedPostgresError, DataDirectoryError, DiskFullError.
    """
    with _named_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        account = server_account()
        home = server_home(directory.resolve(), account, say=say)
        server = Server(home, account)
        users = (home / "users").open("a")
    with users:
        try:
            with _named_errors(directory), locked(home / "lock"):
                fcntl.flock(users, fcntl.LOCK_SH)  # waits for one who stops; released by the kernel, however we end
                server.start(say)
            yield server.conninfo
        finally:
            with signals_deferred():  # a second signal does not wait, and still leaves nothing behind
                last = _is_last(users)
                if last:
                    server.stop()
            if last:
                server.wait_for_end()


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
