"""The embedded server's process: whether it lives, and where it takes connections, by the file in which it says so."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from .folders import existing_home

SUPERUSER = "datasync"
DATABASE = "postgres"
PORT = 5432  # names the socket's file only: nothing listens on TCP
PID_FILE = "postmaster.pid"
_SOCKETS_LINE = 4  # https://www.postgresql.org/docs/current/storage-file-layout.html: the fifth is the socket's folder


def conninfo_of(sockets: Path) -> str:
    """How to reach the server whose socket is in that folder."""
    host = str(sockets).replace("\\", "\\\\").replace("'", "\\'")
    return f"host='{host}' port={PORT} user={SUPERUSER} dbname={DATABASE}"


def living_postmaster(data: Path) -> psutil.Process | None:
    """The living server: its pid file alone proves nothing, as the number may be another process's by now."""
    try:
        process = psutil.Process(int((data / PID_FILE).read_bytes().split(b"\n")[0]))
        return process if lives(process) and _serves(process, data) else None
    except (OSError, ValueError, psutil.Error):
        return None


def running_server(directory: Path) -> str | None:
    """The conninfo of the server whose data belongs to `directory`, if it runs now; None otherwise.

    Nothing is made, started or joined: whoever connects there is a guest, and the server may be stopped at any moment.
    """
    home = existing_home(directory)
    if home is None or living_postmaster(home / "data") is None:
        return None
    try:
        lines = (home / "data" / PID_FILE).read_bytes().split(b"\n")
        return conninfo_of(Path(os.fsdecode(lines[_SOCKETS_LINE])))
    except (OSError, IndexError):
        return None


def lives(process: psutil.Process | None) -> bool:
    """A zombie does not: where no init reaps it, as in some containers, it stays for ever."""
    try:
        return process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _serves(process: psutil.Process, data: Path) -> bool:
    try:
        return Path(process.cwd()).samefile(data)
    except psutil.AccessDenied:  # root in a container without CAP_SYS_PTRACE
        return str(data) in process.cmdline()
