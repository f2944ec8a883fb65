"""`bin/test`: style, types and every suite, with a summary; given arguments, pytest alone with them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.isolation import without_user_settings

TOP = Path(__file__).resolve().parent.parent
PYTEST = ("pytest",)
# Most of a test's time are waits: for a rate limit, a patience, a process to end. Seven at once keep two cores busy.
AT_ONCE = ("-n", "7", "--dist", "worksteal")
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
    environment = with_caches(without_user_settings(os.environ), Path(sys.prefix) / "caches")
    os.chdir(TOP)
    try:
        if arguments:
            return _call((*PYTEST, *arguments), environment)
        outcomes = _outcomes(environment)
    except KeyboardInterrupt:
        return INTERRUPTED
    _show("\n".join(["", *map(str, outcomes)]))
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def with_caches(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The same, with all that is compiled or remembered below `folder` and nothing of it in the checkout.

    The tests start some 3,000 Python processes: each would compile the package anew where PYTHONDONTWRITEBYTECODE is
    set, as it is in many containers.
    """
    kept = {name: text for name, text in environment.items() if name != "PYTHONDONTWRITEBYTECODE"}
    variables = ("PYTHONPYCACHEPREFIX", "MYPY_CACHE_DIR", "RUFF_CACHE_DIR")
    return {**kept, **{variable: str(folder / variable.split("_")[0].lower()) for variable in variables}}


def _outcomes(environment: Mapping[str, str]) -> list[Outcome]:
    """Every check is run, whichever fails; mypy beside pytest, which waits for part of its time."""
    sources = (".", *scripts())
    outcomes = [
        _outcome("ruff check", ("ruff", "check", "--quiet", *sources), environment),
        _outcome("ruff format", ("ruff", "format", "--check", "--quiet", *sources), environment),
    ]
    with _beside("mypy", ("mypy",), environment) as types:
        _compile_tests(environment)
        tests = _outcome("pytest", (*PYTEST, *AT_ONCE), environment)
        return [*outcomes, types(), tests]


def _compile_tests(environment: Mapping[str, str]) -> None:
    """So that it is not done by each of pytest's workers, at the same time; what is wrong is said by the tests' run."""
    words = _command((*PYTEST, "--collect-only", "-qq"))
    subprocess.run(words, env=environment, capture_output=True, check=False)


def scripts() -> list[str]:
    """The commands in bin/: they have no suffix, so that ruff has to be told."""
    return sorted(f"bin/{path.name}" for path in (TOP / "bin").iterdir() if path.is_file() and not path.suffix)


def _outcome(name: str, words: Sequence[str], environment: Mapping[str, str]) -> Outcome:
    _show(f"--- {name}")
    began = time.monotonic()
    passed = _call(words, environment) == 0
    return Outcome(name, passed, time.monotonic() - began)


@contextmanager
def _beside(name: str, words: Sequence[str], environment: Mapping[str, str]) -> Iterator[Callable[[], Outcome]]:
    """Runs a check while the block does; what is yielded waits for it, and shows what it said.

    One that nobody has waited for is killed.
    """
    began = time.monotonic()
    pipe = subprocess.PIPE
    with (
        ThreadPoolExecutor(1) as waiting,
        subprocess.Popen(_command(words), env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True) as process,
    ):

        def ended() -> tuple[str, float]:
            return process.communicate()[0], time.monotonic() - began

        end = waiting.submit(ended)

        def outcome() -> Outcome:
            said, seconds = end.result()
            _show(f"--- {name}\n{said}".rstrip())
            return Outcome(name, process.returncode == 0, seconds)

        try:
            yield outcome
        finally:
            process.kill()


def _call(words: Sequence[str], environment: Mapping[str, str]) -> int:
    return subprocess.call(_command(words), env=environment)


def _command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", *words]


def _show(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
