"""The environment beside the sources: made once, replaced when its requirements change, never changed in place.

Each set of requirements has a folder of its own, `.venv-<python>-<hash>`, and `.venv` is a link to the one in use. Only
who works on a cluster has `.venv-dask-...` as well, only who runs the tests `.venv-test-...`. So a
run that goes on for hours keeps the folder that it started from while a newer command sets up another: an environment
cannot be moved (its scripts carry its path), and a package replaced below a running program breaks its late imports.

- An environment is complete when its stamp is there: the stamp is written last, and what has none is made anew.
- Who uses an environment holds a shared lock on its stamp, through exec to its end by any cause: nobody removes it.
- Who makes one holds the lock file. Its pip inherits the lock, so that a pip which outlives a killed set-up is waited
  for, rather than joined by a second one in the same folder.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from contextlib import contextmanager
from glob import escape, glob
from typing import Callable, Iterator, NamedTuple  # noqa: UP035 - as in Python 3.6

from interpreters import SetUpError, require_venv

STAMP = "complete"
LOCK = ".venv.lock"
PROGRAM = LINK = ".venv"  # what most commands run on
CLUSTER = ".venv-dask"  # a pool on a cluster, and its workers
TOOLS = ".venv-test"
REQUIREMENTS = {PROGRAM: ["requirements.txt"]}
REQUIREMENTS[CLUSTER] = [*REQUIREMENTS[PROGRAM], "datasync_ingest/pools/requirements.txt"]
REQUIREMENTS[TOOLS] = [*REQUIREMENTS[CLUSTER], "tests/requirements.txt"]
LAYOUT = "1"  # part of the hash: raised when this file makes environments that differ from those it made before
LINES_OF_PIP = 8  # shown of a failed pip; its last lines hold the reason

# pip has one exit code for every failure: its words are the only way to tell them apart. The first match counts.
CAUSES = (
    (("No space left on device", "Disk quota exceeded"), "The disk is full: the environment needs about 300 MB."),
    (
        (
            "NewConnectionError",
            "Failed to establish a new connection",
            "NameResolutionError",
            "ConnectTimeoutError",
            "ReadTimeoutError",
            "ProxyError",
            "SSLError",
            "connection broken",
        ),
        "The package index cannot be reached: check the network, the proxy (HTTPS_PROXY) and PIP_INDEX_URL.",
    ),
    (
        ("(from versions: none)",),  # all that pip says of an unreachable index when it is told not to try again
        "The package index cannot be reached or does not know a package: check network, proxy and PIP_INDEX_URL.",
    ),
    (("No matching distribution found",), "The package index has no fitting file for this Python on this platform."),
)
UNKNOWN_CAUSE = "pip could not install the requirements."


class Environment(NamedTuple):
    """Where one environment is and what goes into it; says nothing about whether it is there yet."""

    top: str
    name: str
    requirements: "tuple[str, ...]"
    key: str

    @property
    def prefix(self) -> str:
        """Of the folders that it replaces: for the same purpose and the same version of Python."""
        return f"{self.name}-{sys.implementation.cache_tag}-"

    @property
    def directory(self) -> str:
        return os.path.join(self.top, self.prefix + self.key[:12])

    @property
    def python(self) -> str:
        return os.path.join(self.directory, "bin", "python")

    @property
    def stamp(self) -> str:
        return os.path.join(self.directory, STAMP)

    @property
    def stamp_text(self) -> str:
        """With the base Python: where that was replaced by another version, the packages are for the wrong one."""
        return f"{self.key}\n{os.path.realpath(self.python)}\n"


def ready_python(top: str, name: str, say: "Callable[[str], None]") -> str:
    """The Python of a complete environment, made when missing; from here to its end this process keeps it from removal.

    `name` is one of REQUIREMENTS. Says one line before it makes one or waits for another command that does.
    Raises SetUpError and OSError.
    """
    environment = _described(top, name)
    if not _leased(environment):
        with _making(environment, say) as lock:
            if not _leased(environment):  # the command that we waited for has not made it
                say(f"Setting up {os.path.join(top, environment.name)} (once, about 20 s) ...")
                _make(environment, lock)
                _leased(environment)
                _remove_unused(environment)
    return environment.python


def _described(top: str, name: str) -> Environment:
    """The hash also covers the folder, which an environment cannot leave, and the platform: several can share one."""
    requirements = tuple(os.path.join(top, file) for file in REQUIREMENTS[name])
    content = hashlib.sha256("\n".join((LAYOUT, ascii(top), sysconfig.get_platform())).encode())
    for path in requirements:
        with open(path, "rb") as text:
            content.update(hashlib.sha256(text.read()).digest())
    return Environment(top, name, requirements, content.hexdigest())


def _leased(environment: Environment) -> bool:
    """Whether the environment is complete; if so, it stays until this process and what it becomes has ended."""
    try:
        stamp = os.open(environment.stamp, os.O_RDONLY)
    except FileNotFoundError:
        return False
    fcntl.flock(stamp, fcntl.LOCK_SH)
    complete = os.read(stamp, 10000) == os.fsencode(environment.stamp_text)
    removed = os.fstat(stamp).st_nlink == 0  # while we waited for the lock
    if not complete or removed or not os.access(environment.python, os.X_OK):
        os.close(stamp)
        return False
    os.set_inheritable(stamp, True)
    return True


@contextmanager
def _making(environment: Environment, say: "Callable[[str], None]") -> "Iterator[int]":
    """Held by one process at a time; the lock goes with its owner's death."""
    lock = os.open(os.path.join(environment.top, LOCK), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another command that is setting up its environment ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def _make(environment: Environment, lock: int) -> None:
    require_venv()
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(environment.directory)  # what an interrupted set-up has left
    python = [environment.python, "-I", "-m"]
    wanted = [word for path in environment.requirements for word in ("-r", path)]
    pip = ["pip", "install", "--quiet", "--no-input", "--no-user", "--disable-pip-version-check"]
    _call([sys.executable, "-I", "-m", "venv", "--prompt", "datasync_ingest", environment.directory], lock)
    _call([*python, *pip, *wanted], lock)
    _put_first_on_path(environment)
    if environment.name == LINK:
        _link(environment)
    with open(environment.stamp + ".new", "wb") as stamp:
        stamp.write(os.fsencode(environment.stamp_text))
    os.replace(environment.stamp + ".new", environment.stamp)


def _call(command: "list[str]", lock: int) -> None:
    """Runs it in silence. Raises SetUpError with the cause and its last lines when it fails."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        pass_fds=(lock,),
    )
    if done.returncode != 0:
        raise SetUpError(failure_sentence(done.stdout))


def failure_sentence(output: str) -> str:
    """What a failed `venv` or `pip` means for the person, and its last lines."""
    cause = next((cause for words, cause in CAUSES if any(word in output for word in words)), UNKNOWN_CAUSE)
    lines = ["    " + line for line in output.splitlines() if line.strip()]
    return "\n".join(
        [
            f"The set-up failed. {cause}",
            "Nothing is lost: run the same command again once that is mended. The last lines of the output:",
            *lines[-LINES_OF_PIP:],
        ]
    )


def _put_first_on_path(environment: Environment) -> None:
    """By a .pth file: it holds in every child and leaves PYTHONPATH alone. A plain path in it would come last."""
    (packages,) = glob(os.path.join(escape(environment.directory), "lib", "python*", "site-packages"))
    with open(os.path.join(packages, "datasync_ingest_checkout.pth"), "w", encoding="ascii") as pth:
        pth.write(f"import sys; sys.path.insert(0, {environment.top!a})\n")


def _link(environment: Environment) -> None:
    """`.venv` is for people and their editors; a folder of that name is somebody's own, and stays."""
    link = os.path.join(environment.top, LINK)
    if os.path.isdir(link) and not os.path.islink(link):
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(link + ".new")
    os.symlink(os.path.basename(environment.directory), link + ".new")
    os.replace(link + ".new", link)


def _remove_unused(environment: Environment) -> None:
    """Removes the environments that this one replaces, but for those that a running command uses."""
    for name in os.listdir(environment.top):
        other = os.path.join(environment.top, name)
        if name.startswith(environment.prefix) and other != environment.directory and _retired(other):
            shutil.rmtree(other, ignore_errors=True)


def _retired(directory: str) -> bool:
    """Takes the stamp away, so that nobody begins to use it while it is removed; False while it is in use."""
    try:
        stamp = os.open(os.path.join(directory, STAMP), os.O_RDONLY)
    except FileNotFoundError:
        return True  # an interrupted set-up: nobody else makes one, as we hold the lock
    try:
        fcntl.flock(stamp, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(os.path.join(directory, STAMP))
    except BlockingIOError:
        return False
    finally:
        os.close(stamp)
    return True
