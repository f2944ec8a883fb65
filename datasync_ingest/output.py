"""Where a command's result goes: to stdout, as text for people or as one JSON object for machines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from .errors import ConfigurationError

_STYLES = {"ok": "32", "warn": "33", "FAIL": "31;1", "title": "1"}


@dataclass(frozen=True, slots=True)
class Output:
    """`as_json`: results are for machines. `colour`: the terminal shows colours, and nobody has asked for none.

    `mask` takes the secrets out of a text.
    """

    as_json: bool = False
    colour: bool = False
    mask: Callable[[str], str] = str

    def result(self, text: str, data: Mapping[str, Any]) -> None:
        """The command's result, in one of its two forms; at most once a command."""
        self.line(json.dumps(data, default=str) if self.as_json else text)

    def line(self, text: str) -> None:
        """One line on stdout as it comes, for results that take time; not for `as_json`."""
        sys.stdout.write(f"{self.mask(text)}\n")
        sys.stdout.flush()

    def styled(self, style: str, text: str) -> str:
        """`text` in the colour of `ok`, `warn`, `FAIL` or `title`."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self.colour else text

    def lines(self, lines: Sequence[tuple[str, str]]) -> str:
        """Lines of (style, text); an empty style is none."""
        return "\n".join(self.styled(style, text) if style else text for style, text in lines)


class Block:
    """Lines on a terminal that each drawing replaces by the next; the last one stays."""

    def __init__(self, out: Output, size: Callable[[], os.terminal_size]) -> None:
        self._out = out
        self._size = size
        self._drawn_on: os.terminal_size | None = None
        self._height = 0

    def draw(self, lines: Sequence[tuple[str, str]]) -> None:
        """What does not fit onto the terminal is left out."""
        size, found = self._size(), list(lines)
        if len(found) > size.lines - 1:
            left_out = len(found) - (size.lines - 2)
            found[size.lines - 2 :] = [("", f"({left_out} more lines than fit)")]
        cut = [(style, text[: size.columns - 1]) for style, text in found]
        # After another size nobody knows how the terminal has broken the old lines.
        back = f"\x1b[{self._height}F\x1b[J" if self._drawn_on == size else "\x1b[2J\x1b[H" if self._drawn_on else ""
        self._out.line(back + self._out.lines(cut))
        self._drawn_on, self._height = size, len(cut)


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = (), indent: str = "  ") -> list[str]:
    """Lines of aligned columns; those whose numbers are in `right` are set flush right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return [
        (
            indent
            + "  ".join(
                cell.rjust(width) if column in right else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
        ).rstrip()
        for row in rows
    ]


def require_consent(
    question: str, *, given: bool, source: TextIO | None = None, say: Callable[[str], None] | None = None
) -> bool:
    """Whether the person says yes to `question` at a prompt on stderr; True at once where `given` (`--yes`).

    Raises ConfigurationError where nobody can be asked.
    """
    if given:
        return True
    source = source or sys.stdin
    if not source.isatty():
        raise ConfigurationError(
            f"{question} There is nobody to answer: standard input is no terminal.",
            hint="Run it in a terminal, or say --yes.",
        )
    (say or _ask)(f"{question} [y/N] ")
    return source.readline().strip().lower() in ("y", "yes")


def _ask(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
