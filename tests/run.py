"""`bin/test`: style, types and every suite, with a summary; given arguments, pytest alone with them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.isolation import without_user_settings

TOP = Path(__file__).resolve().parent.parent
PYTEST = ("pytest",)
# Most tests wait for a rate limit, a patience or a process to end: on two cores four at once take half of the time.
AT_ONCE = ("-n", "4", "--dist", "worksteal")
INTERRUPTED = 130


@dataclass(frozen=True)
class Outcome:
    """One check: its name, whether it passed and how long it took in seconds."""

    name: str
    passed: bool
    seconds: float

    def __str__(self) -> str:
        return f"{self.name:<12} {'passed' if self.passed else 'FAILED'} {self.seconds:7.1f} s"


def main(arguments: Sequence[str]) -> int:
    """Returns 0 when all that was asked for passed; pytest's own code where arguments were given."""
    environment = without_user_settings(os.environ)
    os.chdir(TOP)
    try:
        if arguments:
            return _call((*PYTEST, *arguments), environment)
        outcomes = [_outcome(name, words, environment) for name, words in _checks().items()]
    except KeyboardInterrupt:
        return INTERRUPTED
    _show("\n".join(["", *map(str, outcomes)]))
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def _checks() -> dict[str, tuple[str, ...]]:
    """Name -> module and arguments. Quick ones first; all are run, whichever fails."""
    sources = (".", *scripts())
    return {
        "ruff check": ("ruff", "check", "--quiet", *sources),
        "ruff format": ("ruff", "format", "--check", "--quiet", *sources),
        "mypy": ("mypy",),
        "pytest": (*PYTEST, *AT_ONCE),
    }


def scripts() -> list[str]:
    """The commands in bin/: they have no suffix, so that ruff has to be told."""
    return sorted(f"bin/{path.name}" for path in (TOP / "bin").iterdir() if path.is_file() and not path.suffix)


def _outcome(name: str, words: Sequence[str], environment: dict[str, str]) -> Outcome:
    _show(f"--- {name}")
    began = time.monotonic()
    passed = _call(words, environment) == 0
    return Outcome(name, passed, time.monotonic() - began)


def _call(words: Sequence[str], environment: dict[str, str]) -> int:
    return subprocess.call([sys.executable, "-m", *words], env=environment)


def _show(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
