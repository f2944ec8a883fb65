"""Where bin/* cannot set themselves up, they say why and what to do, in sentences, and end with exit code 2."""

from __future__ import annotations

import ast
import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import bootstrap
import environments
import interpreters
import pytest

from tests.checkout import Checkout, Ran, environment, new_checkout, quick_python, run, write_wheel
from tests.harness import TOP

OLD_PYTHONS = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/3.[6-9].*/bin/python"))
PYTHONS = (sys.executable, "/usr/local/bin/python3", "/usr/bin/python3")
UNREACHABLE = {"PIP_NO_INDEX": "", "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1"}


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return new_checkout(tmp_path / "checkout", str(quick_python(tmp_path / "python")))


def require_refused(ran: Ran, *words: str) -> None:
    text = "\n".join(ran.err)
    assert ran.code == 2, text
    assert "Traceback" not in text
    for word in words:
        assert word in text


# What is wrong | requirements | environment | what is said
INDEX_FAULTS = {
    "the index is away": ("nothing-of-that-name==1", UNREACHABLE, ("index cannot be reached", "PIP_INDEX_URL")),
    "the index is away, one try": (
        "nothing-of-that-name==1",
        {**UNREACHABLE, "PIP_RETRIES": "0"},
        ("cannot be reached",),
    ),
    "the index does not know it": ("nothing-of-that-name==1", {}, ("does not know a package", "nothing-of-that-name")),
    "the file cannot be read": ("not a requirement!", {}, ("pip could not install", "not a requirement!")),
}


@pytest.mark.parametrize(("line", "extra", "words"), INDEX_FAULTS.values(), ids=INDEX_FAULTS.keys())
def test_a_failed_installation_says_why_and_heals(
    checkout: Checkout, tmp_path: Path, line: str, extra: dict[str, str], words: tuple[str, ...]
) -> None:
    checkout.require(line)
    require_refused(checkout.run(**extra), "error: The set-up failed.", "Nothing is lost", *words)
    assert checkout.complete() == set()
    checkout.require(str(write_wheel(tmp_path, "some_module")))
    assert checkout.run().code == 0
    assert len(checkout.environments()) == 1


def test_a_python_without_ensurepip_names_the_package_of_debian(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['ensurepip'] = None\n")
    ran = checkout.run(PYTHONPATH=str(tmp_path))
    require_refused(ran, f"apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv")
    assert checkout.environments() == set()


@pytest.mark.skipif(not OLD_PYTHONS, reason="no Python older than 3.10 below PYENV_ROOT")
@pytest.mark.parametrize("old", OLD_PYTHONS, ids=lambda path: path.parts[-3])
def test_a_python_that_is_too_old_says_so_or_hands_over_to_a_newer_one(
    checkout: Checkout, tmp_path: Path, old: Path
) -> None:
    old_checkout = Checkout(checkout.top, str(old))
    require_refused(old_checkout.run(PATH=str(tmp_path)), "needs Python 3.10 or newer", str(old), old.parts[-3][:3])
    (tmp_path / "python3.10").write_text(f'#!/bin/sh\nexec "{checkout.python}" "$@"\n')
    (tmp_path / "python3.10").chmod(0o755)
    handed_over = old_checkout.run("exit", "5", PATH=str(tmp_path))
    assert (handed_over.code, handed_over.said["version"]) == (5, list(sys.version_info[:2]))


def test_all_of_bin_can_be_read_by_python_3_6() -> None:
    files = [path for path in (TOP / "bin").iterdir() if path.is_file()]
    assert len(files) >= 9
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 6))
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert "__future__" not in imported, f"{path}: Python 3.6 does not know `annotations`"


def test_a_python_that_is_too_old_is_named_with_its_version() -> None:
    sentence = interpreters.too_old_sentence((3, 8), "/somewhere/python3")
    assert "needs Python 3.10 or newer; /somewhere/python3 is Python 3.8," in sentence


def test_a_shim_for_a_python_that_is_not_there_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in [("python3.14", "exit 127"), ("python3.13", "exit 1"), ("python3.12", "exit 0")]:
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert interpreters.newer_python() == str(tmp_path / "python3.12")


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        (["--pool", "dask"], True),
        (["--fresh", "--pool=dask", "--json"], True),
        (["--pool", "dask", "--pool", "processes"], False),
        (["--pool=inline", "--pool=dask"], True),
        (["dask"], False),
        (["--pool"], False),
        ([], False),
    ],
)
def test_the_last_pool_of_a_command_line_says_whether_dask_is_needed(words: list[str], chosen: bool) -> None:
    assert bootstrap.chooses_dask(words) == chosen


def test_windows_is_told_of_wsl() -> None:
    with pytest.raises(interpreters.SetUpError, match="WSL"):
        interpreters.require_platform("nt")


# The last of what venv or pip wrote | the cause that is given. The first three are quoted from pip 23 to 25.
OUTPUTS = [
    ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "The disk is full"),
    (
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...: Failed to"
        " establish a new connection: [Errno -2] Name or service not known')'\n"
        "ERROR: No matching distribution found for tqdm==4.70.1",
        "index cannot be reached",
    ),
    (
        "ERROR: Could not find a version that satisfies the requirement tqdm==9 (from versions: 1.0, 2.0)\n"
        "ERROR: No matching distribution found for tqdm==9",
        "no fitting file",
    ),
    ("something that nobody has seen", "pip could not install"),
]


@pytest.mark.parametrize(("output", "cause"), OUTPUTS)
def test_the_words_of_pip_become_a_cause(output: str, cause: str) -> None:
    sentence = environments.failure_sentence("Collecting everything\n" * 100 + output)
    assert cause in sentence.splitlines()[0]
    assert output.splitlines()[-1] in sentence
    assert len(sentence.splitlines()) <= 2 + environments.LINES_OF_PIP


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_disk_that_cannot_be_written_gets_advice(number: int) -> None:
    error = OSError(number, os.strerror(number), "/somewhere/.venv.lock")
    assert bootstrap.advice(error) != bootstrap.advice(OSError(errno.EIO, "unknown"))


def test_a_checkout_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    user = "nobody" if os.geteuid() == 0 else None  # root may write everywhere
    python = next((path for path in PYTHONS if starts(path, user)), None)
    if python is None:
        pytest.skip("no Python that an account without rights can start")
    with tempfile.TemporaryDirectory() as folder:
        checkout = new_checkout(Path(folder) / "checkout", python)
        os.chmod(folder, 0o755)
        os.chmod(checkout.top, 0o555)
        require_refused(run(checkout.command(), environment(), user=user), "Permission denied", "pip install")
        os.chmod(checkout.top, 0o755)


def starts(python: str, user: str | None) -> bool:
    """Whether this account can start it, and it is new enough."""
    question = "import sys; sys.exit(sys.version_info < (3, 10))"
    try:
        return subprocess.run([python, "-c", question], user=user, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False
