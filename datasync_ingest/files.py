"""Files that are whole or as they were before."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from .errors import ConfigurationError

_MODE = 0o644


def write_whole(path: Path, content: bytes) -> None:
    """Raises ConfigurationError where the file cannot be written."""
    try:
        replace(path.resolve(), content)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.", hint="Name another file.") from None


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
