"""The steps of docker/Dockerfile, done in order, and what a container does with the result."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE

import psutil
import pytest

import datasync_ingest
from tests.harness import TOP, until
from tests.image.building import Builder, Image, StepError
from tests.image.dockerfile import parse
from tests.image.ignoring import IgnoreFile
from tests.image.roots import why_not
from tests.servers import reachable_folder

PLANTED = "planted-secret-2f9c"
LYING_ABOUT = (".env", "data/ledger.sqlite3", ".git/config", "event_ids.txt", "datasync_ingest/.env", "key.txt")
STOP_GRACE_PERIOD_S = 30  # of docker/compose.yaml
NO_INDEX = "No matching distribution found"
NO_VENV = "ensurepip is not available"


@contextmanager
def built_image() -> Iterator[Image]:
    """Built from a copy of the sources with secrets lying about in it; skips where this machine cannot."""
    if reason := why_not():
        pytest.skip(reason)
    ignore = IgnoreFile((TOP / "docker/Dockerfile.dockerignore").read_text(encoding="utf-8"))
    with reachable_folder() as folder:
        builder = Builder(_context(folder / "context"), ignore, folder)
        try:
            yield _built(builder)
        finally:
            builder.remove()


def _built(builder: Builder) -> Image:
    try:
        return builder.build(parse((TOP / "docker/Dockerfile").read_text(encoding="utf-8")))
    except StepError as error:
        if NO_INDEX in str(error) or NO_VENV in str(error):
            pytest.skip(str(error).splitlines()[-1])
        raise


def _context(top: Path) -> Path:
    top.mkdir()
    for name in ("requirements.txt", "setup.py", "setup.cfg", "README.md"):
        shutil.copy(TOP / name, top)
    for name in ("datasync_ingest", "bin"):
        shutil.copytree(TOP / name, top / name)
    for name in LYING_ABOUT:
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).write_text(PLANTED)
    return top


def run(image: Image, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        image.command(list(words)), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=100
    )


@pytest.mark.timeout(300)  # pip, PostgreSQL and two runs: 35 s on two cores that others use too
@pytest.mark.long
def test_the_steps_of_the_dockerfile_give_an_image_that_ingests() -> None:
    """One test, so that one worker builds it once."""
    with built_image() as image:
        require_nothing_that_lies_about(image)
        require_the_installed_package(image)
        require_that_only_the_volume_can_be_written(image)
        require_an_ordered_stop_and_a_resumption(image)


def require_nothing_that_lies_about(image: Image) -> None:
    for root in image.root.top.parent.glob("root*"):
        found = subprocess.run(["grep", "-rls", PLANTED, root], capture_output=True, text=True, check=False)
        assert found.stdout == ""


def require_the_installed_package(image: Image) -> None:
    done = run(image, *image.entrypoint, "--version")
    assert (done.stdout, done.stderr) == (f"datasync_ingest {datasync_ingest.__version__}\n", "")


def require_that_only_the_volume_can_be_written(image: Image) -> None:
    script = 'id -u; pwd; for d in /work /work/data / /opt/datasync; do touch "$d/x" && rm "$d/x" && echo $d; done'
    assert run(image, "/bin/sh", "-c", script).stdout.split() == ["1000", "/work", "/work", "/work/data"]


def require_an_ordered_stop_and_a_resumption(image: Image) -> None:
    """As the first process of its container, which the kernel spares signals without a handler."""
    assert run(image, *image.healthcheck).returncode != 0  # there is no run
    command = [*image.entrypoint, "--demo", "--json"]
    with subprocess.Popen(image.command(command), stdout=PIPE, stderr=PIPE, text=True) as started:
        until(lambda: run(image, *image.healthcheck).returncode == 0, what="health")
        (first,) = psutil.Process(started.pid).children()
        asked_at = time.monotonic()
        first.send_signal(signal.SIGTERM)
        _, err = started.communicate(timeout=STOP_GRACE_PERIOD_S)
    assert started.returncode == 128 + signal.SIGTERM, err
    assert time.monotonic() - asked_at < STOP_GRACE_PERIOD_S
    done = run(image, *command)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["events_in_table"] == 100_000
