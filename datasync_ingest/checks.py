"""Checks made one after the other: each is a line, and an ending that has a name is a check that failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .errors import IngestError, StoppedError

OK, WARN, FAIL = "ok", "warn", "FAIL"


@dataclass(frozen=True, slots=True)
class Check:
    """A name, a verdict, a sentence, and what to do about it; `exit_code` is that of a FAIL's kind."""

    name: str
    verdict: str
    sentence: str
    remedy: str = ""
    exit_code: int = 0

    def line(self, styled: Callable[[str, str], str]) -> str:
        """`FAIL key: sentence (remedy)`; `styled` colours the verdict."""
        remedy = f" ({self.remedy.rstrip('.')})" if self.remedy else ""
        verdict = styled(self.verdict, self.verdict) + " " * (len(FAIL) - len(self.verdict))
        return f"{verdict} {self.name}: {self.sentence}{remedy}"


@dataclass(slots=True)
class Checks:
    """All that were made so far; `shown` gets each at once."""

    shown: Callable[[Check], None]
    made: list[Check] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """That of the first check that failed; 0 where none did."""
        return next((check.exit_code for check in self.made if check.verdict == FAIL), 0)

    def ok(self, name: str, sentence: str) -> None:
        self._add(Check(name, OK, sentence))

    def warn(self, name: str, sentence: str, remedy: str = "") -> None:
        self._add(Check(name, WARN, sentence, remedy))

    def fail(self, name: str, sentence: str, remedy: str, kind: type[IngestError]) -> None:
        self._add(Check(name, FAIL, sentence, remedy, kind.exit_code))

    @contextmanager
    def named(self, name: str) -> Iterator[None]:
        """An IngestError in the block is this check's failure, but for a stop."""
        try:
            yield
        except StoppedError:
            raise
        except IngestError as error:
            self._add(Check(name, FAIL, str(error).rstrip("."), error.hint, error.exit_code))

    def _add(self, check: Check) -> None:
        self.made.append(check)
        self.shown(check)
