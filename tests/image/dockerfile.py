"""Reads a Dockerfile: https://docs.docker.com/reference/dockerfile/. What it does not know it refuses."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

KNOWN = {"ARG", "COPY", "ENTRYPOINT", "ENV", "FROM", "HEALTHCHECK", "RUN", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}


@dataclass(frozen=True)
class Instruction:
    """`COPY --from=build /a /b` has the flags {"from": "build"} and the text "/a /b"."""

    name: str
    flags: Mapping[str, str]
    text: str

    @property
    def words(self) -> list[str]:
        """The members of the exec form, or the words of any other."""
        return [str(word) for word in json.loads(self.text)] if self.text.startswith("[") else shlex.split(self.text)


@dataclass(frozen=True)
class Stage:
    """What follows one FROM; `name` is empty where it has none."""

    name: str
    base: str
    instructions: tuple[Instruction, ...]

    def last(self, name: str) -> Instruction:
        """The one that counts. Raises IndexError where there is none."""
        return [one for one in self.instructions if one.name == name][-1]


@dataclass(frozen=True)
class Dockerfile:
    """The arguments before the first FROM, with their defaults, and the stages."""

    arguments: Mapping[str, str]
    stages: tuple[Stage, ...]


def parse(text: str) -> Dockerfile:
    arguments: dict[str, str] = {}
    stages: list[tuple[str, str, list[Instruction]]] = []
    for one in _instructions(text):
        if one.name == "FROM":
            base, _, name = one.text.partition(" AS ")
            stages.append((name, expanded(base, arguments), []))
        elif stages:
            stages[-1][2].append(one)
        else:
            arguments.update(assigned(one.text, arguments))
    return Dockerfile(arguments, tuple(Stage(name, base, tuple(found)) for name, base, found in stages))


def expanded(text: str, values: Mapping[str, str]) -> str:
    """With the values in the places of `$NAME` and `${NAME}`; an unknown one is an error here, for Docker empty."""
    return re.sub(r"\$(\w+)|\$\{(\w+)\}", lambda found: values[found[1] or found[2]], text)


def assigned(text: str, values: Mapping[str, str]) -> dict[str, str]:
    """`A=1 B=${A}` of ARG and ENV; an ARG without a default is left out."""
    pairs = (word.split("=", 1) for word in shlex.split(text))
    return {pair[0]: expanded(pair[1], values) for pair in pairs if len(pair) == 2}


def _instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for whole in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        name, rest = whole.split(maxsplit=1)
        if name not in KNOWN:
            raise ValueError(f"unknown instruction: {whole}")
        flags: dict[str, str] = {}
        while found := re.match(r"--([a-z-]+)=(\S+)\s+", rest):
            flags[found[1]] = found[2]
            rest = rest[found.end() :]
        yield Instruction(name, flags, rest.strip())
