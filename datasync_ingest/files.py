"""Files that are whole or as they were before."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import ConfigurationError, DiskFullError

_MODE = 0o644


@contextmanager
def whole_file(path: Path, *, room: str) -> Iterator[BinaryIO]:
    """Yields a file that is put in the place of `path`, synced, when the block ends well, and else is gone.

    A link stays and what it names is replaced; a device or a pipe stays too, and is written to as the block goes.
    `room` says how much it takes. Raises DiskFullError, ConfigurationError.
    """
    target = Path(os.path.realpath(path))
    try:
        with path.open("wb") if is_special(path) else _put_in_place(target) as file:
            yield file
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"No room for {path}.", hint=f"Make room ({room}) and run it again.") from None
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}.", hint="Name another file with -o."
        ) from None


def is_special(path: Path) -> bool:
    """Whether there is something that is no regular file, at the end of all links."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False


@contextmanager
def _put_in_place(path: Path) -> Iterator[BinaryIO]:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_all(file: BinaryIO, block: bytes) -> None:
    """Unbuffered (PYTHONUNBUFFERED), a pipe may take a part of a block only."""
    rest = memoryview(block)
    while rest:
        rest = rest[file.write(rest) :]


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, content: bytes, *, mode: int = _MODE) -> None:
    """Through a temporary file beside it, synced and renamed; a file that is there keeps its mode. Raises OSError."""
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, path.stat().st_mode & 0o7777 if path.exists() else mode)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
