"""From settings to the file: gathers, makes the page, writes it whole or not at all."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigurationError, DiskFullError
from ..settings import Settings
from .gathering import Choice, gather
from .page import page


@dataclass(frozen=True, slots=True)
class Made:
    """What was written: where, bytes, the names of the runs, and why the database's part is missing (or empty)."""

    path: str
    size: int
    runs: tuple[str, ...]
    trouble: str


def make_report(
    settings: Settings, choice: Choice, others: Sequence[Path], target: str, *, say: Callable[[str], None]
) -> Made:
    """Writes the page to the file `target`, or to standard output for `-`. Disturbs no run that is active.

    Raises what `gather` raises, and ConfigurationError or DiskFullError where the file cannot be written.
    """
    gathered = gather(settings, choice, others, say=say)
    text = page(gathered, now=time.time()).encode("utf-8", "backslashreplace")
    if target == "-":
        _write_to_stdout(text)
    else:
        _write(Path(target), text)
    return Made(target, len(text), tuple(run.name for run in gathered.runs), gathered.trouble)


def _write_to_stdout(text: bytes) -> None:
    rest = memoryview(text)
    while rest:  # unbuffered (PYTHONUNBUFFERED), a pipe may take a part only
        rest = rest[sys.stdout.buffer.write(rest) :]
    sys.stdout.buffer.flush()


def _write(path: Path, text: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        try:
            temporary.write_bytes(text)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"No room for {path}.", hint="Make room (2 MB) and run it again.") from None
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}.", hint="Name another file with -o."
        ) from None
