"""From settings to the file: gathers, makes the page, writes it whole or not at all."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files import whole_file, write_all
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
        write_all(sys.stdout.buffer, text)
        sys.stdout.buffer.flush()
    else:
        with whole_file(Path(target), room="2 MB") as file:
            file.write(text)
    return Made(target, len(text), tuple(run.name for run in gathered.runs), gathered.trouble)
