"""Does what a Dockerfile says, step by step, and gives what comes of it the form of an image that can be run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.image.dockerfile import Dockerfile, Instruction, Stage, assigned, expanded
from tests.image.ignoring import IgnoreFile
from tests.image.roots import PATH, Root

_INDEX_SETTINGS = {"cert", "default-timeout", "extra-index-url", "index-url", "proxy", "timeout", "trusted-host"}


class StepError(Exception):
    """Raised when a RUN fails; the message has the step and what it said."""


@dataclass
class Image:
    """A root, and what the instructions after FROM have set."""

    root: Root
    environment: dict[str, str]
    arguments: dict[str, str] = field(default_factory=dict)
    directory: str = "/"
    user: str = "0:0"
    volumes: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)

    def command(self, words: list[str], **environment: str) -> list[str]:
        """What runs `words` as a container of docker/compose.yaml would: as the user, read only but for the volumes."""
        return self.root.command(
            words,
            {**self.environment, **environment},
            directory=self.directory,
            user=self.user,
            writable=self.volumes,
        )


class Builder:
    """Builds with the files of `context` that `ignore` lets in; the roots are folders of `top`."""

    def __init__(self, context: Path, ignore: IgnoreFile, top: Path) -> None:
        self._context = context
        self._sent = list(ignore.context(context))
        self._top = top
        self._images: dict[str, Image] = {}
        self._caches = _caches(top)
        self._package_index = _package_index()

    def build(self, dockerfile: Dockerfile) -> Image:
        """The last stage's. Raises StepError."""
        for number, stage in enumerate(dockerfile.stages):
            self._images[stage.name or str(number)] = image = self._built(stage, self._top / f"root{number}")
        return image

    def remove(self) -> None:
        for image in self._images.values():
            image.root.remove()

    def _built(self, stage: Stage, top: Path) -> Image:
        image = Image(Root(top), {"PATH": PATH})
        self._images[stage.name or top.name] = image
        for one in stage.instructions:
            self._STEPS[one.name](self, image, one)
        return image

    def _set_argument(self, image: Image, one: Instruction) -> None:
        image.arguments.update(assigned(one.text, image.arguments))

    def _set_environment(self, image: Image, one: Instruction) -> None:
        image.environment.update(assigned(one.text, {**image.arguments, **image.environment}))

    def _change_directory(self, image: Image, one: Instruction) -> None:
        image.directory = one.text
        image.root.path(one.text).mkdir(parents=True, exist_ok=True)

    def _run(self, image: Image, one: Instruction) -> None:
        caches = {}
        if mount := one.flags.get("mount"):
            (target,) = re.fullmatch(r"type=cache,target=(\S+)", mount).groups()  # type: ignore[union-attr]
            image.root.path(target).mkdir(parents=True, exist_ok=True)
            caches = {target: self._caches}
        environment = {"HOME": "/root", **self._package_index, **image.arguments, **image.environment}
        words = image.root.command(["/bin/sh", "-c", one.text], environment, directory=image.directory, caches=caches)
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise StepError(f"RUN {one.text}\n{done.stdout}{done.stderr}")

    def _copy(self, image: Image, one: Instruction) -> None:
        *sources, target = (expanded(word, image.arguments) for word in one.words)
        place = image.root.path(os.path.join(image.directory, target))
        for source in sources:
            if "from" in one.flags:
                shutil.copytree(self._images[one.flags["from"]].root.path(source), place, symlinks=True)
            else:
                self._copy_sent(source, place, into=target.endswith("/") or len(sources) > 1)

    def _copy_sent(self, source: str, place: Path, *, into: bool) -> None:
        """A file to `place` or `into` it; of a folder, its content."""
        found = [path for path in self._sent if path == Path(source) or Path(source) in path.parents]
        if not found:
            raise StepError(f"COPY {source}: not in the context")
        for path in found:
            below = path.relative_to(source)
            goal = place / path.name if into and path == Path(source) else place / below
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self._context / path, goal)

    def _set_user(self, image: Image, one: Instruction) -> None:
        image.user = expanded(one.text, image.arguments)

    def _set_volumes(self, image: Image, one: Instruction) -> None:
        image.volumes += one.words

    def _set_entrypoint(self, image: Image, one: Instruction) -> None:
        image.entrypoint = one.words

    def _set_healthcheck(self, image: Image, one: Instruction) -> None:
        image.healthcheck = json.loads(one.text.removeprefix("CMD "))

    def _nothing(self, image: Image, one: Instruction) -> None:
        """For Docker alone."""

    _STEPS: Mapping[str, Callable[[Builder, Image, Instruction], None]] = {
        "ARG": _set_argument,
        "COPY": _copy,
        "ENTRYPOINT": _set_entrypoint,
        "ENV": _set_environment,
        "HEALTHCHECK": _set_healthcheck,
        "RUN": _run,
        "STOPSIGNAL": _nothing,
        "USER": _set_user,
        "VOLUME": _set_volumes,
        "WORKDIR": _change_directory,
    }


def _pip(*words: str) -> list[str]:
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []


def _caches(top: Path) -> Path:
    """pip's cache of this machine, so that nothing is fetched twice; where there is none, a new folder."""
    found = [Path(line) for line in _pip("cache", "dir")]
    folder = found[0] if found else top / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _package_index() -> dict[str, str]:
    """Where pip finds packages on this machine, as variables of the environment: what a build's proxy settings are."""
    settings = (re.fullmatch(r"(?:global|:env:)\.([a-z-]+)='(.*)'", line) for line in _pip("config", "list"))
    known = (setting.groups() for setting in settings if setting and setting[1] in _INDEX_SETTINGS)
    found = {f"PIP_{name.upper().replace('-', '_')}": text for name, text in known}
    passed = {name: text for name, text in os.environ.items() if name.lower().endswith("_proxy")}
    return {**found, **passed, "PIP_ROOT_USER_ACTION": "ignore"}
