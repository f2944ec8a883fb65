"""A small checkout for the tests of bin/: the real bin/ over a package of one file and requirements of no size."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.harness import TOP

VERSION = "1.2.3"
# Says on stdout what it is and then does what it is told: `exit N`, or `import NAME` once a line comes in.
PACKAGE_MAIN = """\
import importlib, json, os, sys
print(json.dumps({"python": sys.executable, "prefix": sys.prefix, "package": __file__, "pid": os.getpid(),
                  "arguments": sys.argv[1:], "version": list(sys.version_info[:2])}), flush=True)
if sys.argv[-2:-1] == ["exit"]:
    sys.exit(int(sys.argv[-1]))
if sys.argv[-2:-1] == ["import"]:
    sys.stdin.readline()
    importlib.import_module(sys.argv[-1])
"""
# For a Python whose `-m venv` takes the pip that is there, by links, where it would unpack and compile one for 3 s.
LEND_PIP = """\
import glob, os, venv
def lend(self, context):
    (packages,) = glob.glob(os.path.join(glob.escape(context.env_dir), "lib", "python*", "site-packages"))
    for path in {paths!r}:
        os.symlink(path, os.path.join(packages, os.path.basename(path)))
venv.EnvBuilder._setup_pip = lend
"""
LEND_PIP_PTH = "import sys; 'venv' in sys.orig_argv and __import__('lend_pip')\n"  # -I does not stop it
PRIVATE_VARIABLES = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"),
    *("PYTHONPATH", "PYTHONPYCACHEPREFIX"),
)


@dataclass(frozen=True)
class Ran:
    """A command of bin/ that has ended: exit code, what the package said of itself, the lines on stderr."""

    code: int
    said: dict[str, Any]
    err: list[str]


@dataclass(frozen=True)
class Checkout:
    """The folder `top` and the Python that its scripts are called with."""

    top: Path
    python: str = sys.executable

    def command(self, *words: str) -> list[str]:
        return [self.python, str(self.top / "bin" / "ingest"), *words]

    def start(self, *words: str, **extra: str) -> subprocess.Popen[str]:
        """Heeds Ctrl-C, also where the tests were started by a script's `&` and do not."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self.command(*words),
            env=environment(**extra),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *words: str, **extra: str) -> Ran:
        return run(self.command(*words), environment(**extra))

    def require(self, *lines: str) -> None:
        """Replaces the requirements."""
        (self.top / "requirements.txt").write_text("".join(f"{line}\n" for line in lines))

    def environments(self) -> set[Path]:
        return set(self.top.glob(".venv-*"))

    def complete(self) -> set[Path]:
        return {path.parent for path in self.top.glob(".venv-*/complete")}


def run(
    command: Sequence[str], environment: Mapping[str, str], cwd: Path | None = None, user: str | None = None
) -> Ran:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        user=user,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return Ran(done.returncode, json.loads(done.stdout or "{}"), done.stderr.splitlines())


def quick_python(folder: Path) -> Path:
    """A Python for checkouts, in a new environment at `folder`: in its set-ups all is real but where pip comes from.

    It is the running Python's; where that has none, or a later `venv` calls its step otherwise, pip is unpacked.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    there = Path(sysconfig.get_path("purelib"))
    paths = [str(path) for pattern in ("pip", "pip-*.dist-info") for path in there.glob(pattern)]
    if paths:
        (packages / "lend_pip.py").write_text(LEND_PIP.format(paths=paths))
        (packages / "lend_pip.pth").write_text(LEND_PIP_PTH)
    return folder / "bin" / "python"


def new_checkout(top: Path, python: str = sys.executable) -> Checkout:
    """Makes one at `top`, which must not exist."""
    shutil.copytree(TOP / "bin", top / "bin", ignore=shutil.ignore_patterns("__pycache__"))
    write_package(top)
    checkout = Checkout(top, python)
    checkout.require()
    return checkout


def write_package(folder: Path) -> None:
    """Writes a `datasync_ingest` that tells where it was started from."""
    (folder / "datasync_ingest").mkdir(parents=True)
    (folder / "datasync_ingest" / "__init__.py").write_text(f'__version__ = "{VERSION}"\n')
    (folder / "datasync_ingest" / "__main__.py").write_text(PACKAGE_MAIN)


def environment(**extra: str) -> dict[str, str]:
    """This process's, without a package index, so that no test asks one by accident."""
    kept = {name: text for name, text in os.environ.items() if name not in PRIVATE_VARIABLES}
    return {**kept, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PYTHONDONTWRITEBYTECODE": "1", **extra}


def write_wheel(folder: Path, name: str, version: str = "1.0") -> Path:
    """Writes a wheel that holds one module called as the distribution."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for inside, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(inside, text)
    return path
