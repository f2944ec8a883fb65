"""Files that are whole or as they were before."""

from __future__ import annotations

import errno
import os
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

    `room` says how much it takes. Raises DiskFullError, ConfigurationError.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_directory(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"No room for {path}.", hint=f"Make room ({room}) and run it again.") from None
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}.", hint="Name another file with -o."
        ) from None


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
