"""Docker's rules for a .dockerignore, as its own matcher has them: github.com/moby/patternmatcher.

They are not git's: a pattern is anchored at the context's root, `*` and `?` stop at a slash, `**` does not, and a
pattern that matches a folder matches what is below it. Of all patterns that match, the last one decides.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path


class IgnoreFile:
    """`!` before a pattern takes back what an earlier one left out."""

    def __init__(self, text: str) -> None:
        lines = [line.strip() for line in text.splitlines() if not line.startswith("#")]
        self._rules = [_rule(line) for line in lines if line]

    def leaves_out(self, path: str) -> bool:
        """Whether the file at `path`, relative to the context's root, stays outside."""
        parts = path.split("/")
        candidates = ["/".join(parts[: number + 1]) for number in range(len(parts))]
        left_out = False
        for takes_back, pattern in self._rules:
            if any(pattern.fullmatch(candidate) for candidate in candidates):
                left_out = not takes_back
        return left_out

    def context(self, top: Path) -> Iterator[Path]:
        """The files below `top` that a build is sent, relative to it."""
        for folder, _, names in os.walk(top):
            for name in names:
                path = (Path(folder) / name).relative_to(top)
                if not self.leaves_out(path.as_posix()):
                    yield path


def _rule(line: str) -> tuple[bool, re.Pattern[str]]:
    takes_back = line.startswith("!")
    pattern = posixpath.normpath(line.lstrip("!").strip()).lstrip("/")
    return takes_back, re.compile(_expression(pattern), re.DOTALL)


def _expression(pattern: str) -> str:
    """The pattern as a regular expression, with the four words that Docker's matcher writes."""
    words = re.compile(r"\*\*/?$|\*\*/?|\*|\?|\[[^]]+\]|\\.|.", re.DOTALL)
    found = ((word[0], word.end() == len(pattern)) for word in words.finditer(pattern))
    return "".join(_translated(word, last) for word, last in found)


def _translated(word: str, last: bool) -> str:
    if word.startswith("**"):
        return ".*" if last else "(.*/)?"
    if word.startswith("["):
        return word
    return {"*": "[^/]*", "?": "[^/]"}.get(word) or re.escape(word.removeprefix("\\") or word)
