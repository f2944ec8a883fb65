"""A command whose standard input is a terminal, at which somebody types."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.harness import Ended, Workplace, clean_environment


@contextmanager
def _terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


def run_typing(workplace: Workplace, typed: str, command: str, *words: str, **extra: str) -> Ended:
    """Runs a command to its end; `typed` is there to be read when it asks."""
    with _terminal() as (ours, theirs):
        os.write(ours, typed.encode())
        ended = subprocess.run(
            workplace.arguments(command, *words),
            cwd=workplace.directory,
            env=clean_environment(**{**workplace.environment, **extra}),
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    return Ended(ended.returncode, ended.stdout, ended.stderr)
