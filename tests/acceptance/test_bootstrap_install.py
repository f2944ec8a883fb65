"""`pip install .` gives the commands, under names that hide no other program."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import datasync_ingest
from tests.checkout import environment
from tests.harness import TOP

COMMANDS = ("datasync-ingest", "datasync-export-ids", "datasync-psql", "datasync-submit", "datasync-simulate-api")
# Offline; the last, as pip below 23.1, which comes with Python 3.10, still builds the old way unless it is told.
OPTIONS = ("--no-deps", "--no-build-isolation", "--use-pep517")
DATA_FILES = ("LICENSE", "py.typed", "postgres/schema.sql")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment into which a copy of the sources was installed, without an index; it borrows what they need."""
    pytest.importorskip("setuptools", minversion="77", reason="builds without `wheel`, knows licence expressions")
    folder = tmp_path_factory.mktemp("installation")
    for name in ("setup.py", "setup.cfg", "README.md"):
        shutil.copy(TOP / name, folder / name)
    shutil.copytree(TOP / "datasync_ingest", folder / "datasync_ingest", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (packages,) = folder.glob("venv/lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    done = subprocess.run(
        [folder / "venv/bin/python", "-m", "pip", "install", *OPTIONS, folder],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "deprecat" not in (done.stdout + done.stderr).lower()
    return folder / "venv"


@pytest.mark.parametrize("name", COMMANDS)
def test_an_installed_command_shows_its_help(installed: Path, tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        [installed / "bin" / name, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_an_installation_holds_the_files_that_are_not_python_and_no_tests(installed: Path) -> None:
    (package,) = installed.glob("lib/python*/site-packages/datasync_ingest")
    for name in DATA_FILES:
        assert (package / name).is_file(), name
    assert not (package.parent / "tests").exists()


def test_an_installation_knows_its_version_and_its_licence(installed: Path) -> None:
    (info,) = installed.glob("lib/python*/site-packages/datasync_ingest-*.dist-info")
    text = (info / "METADATA").read_text(encoding="utf-8")
    assert f"Version: {datasync_ingest.__version__}\n" in text
    assert "License-Expression: MIT AND ISC\n" in text
    assert "Requires-Python: >=3.10\n" in text


def test_the_scripts_of_a_checkout_use_an_installation_of_the_same_version(installed: Path, tmp_path: Path) -> None:
    for name in ("bin", "datasync_ingest"):
        shutil.copytree(TOP / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [str(installed / "bin" / "python"), str(tmp_path / "bin" / "ingest"), "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"datasync_ingest {datasync_ingest.__version__}\n", "")
    assert not (tmp_path / ".venv").exists()
