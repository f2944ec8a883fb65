"""Finds the Python that a command of bin/ needs, sets it up when missing, and becomes the command.

In this order: the running Python, where this version of the package is installed (Docker, pip); else the environment
beside the sources, `.venv`, or `.venv-dask` for what works on a cluster (environments.py). Python 3.6 must be able to
read all of bin/: it then says what it needs.
"""

import errno
import os
import re
import signal
import sys
from contextlib import contextmanager
from typing import Iterator  # noqa: UP035 - as in Python 3.6

from interpreters import SetUpError, require_new_python, require_platform

TOP = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
CONFIGURATION = 2  # exit code, as in datasync_ingest/errors.py, which can't be imported before there is a Python for it

# Dask's settings for the scheduler, where nobody has set them: how often its event loop looks whether it is late (as in
# datasync_ingest/cluster/defaults.py), and after how long without a word a worker counts as lost.
SCHEDULERS = {"DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s", "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "60s"}

DISK_ADVICE = {
    errno.ENOSPC: "The disk is full: the environment needs about 300 MB.",
    errno.EDQUOT: "The disk quota is used up: the environment needs about 300 MB.",
    errno.EACCES: "Make {top} writable, work in a copy of it, or install it: pip install {top}",
    errno.EPERM: "Make {top} writable, work in a copy of it, or install it: pip install {top}",
    errno.EROFS: "Work in a copy of {top} that can be written, or install it: pip install {top}",
}


class Stopped(BaseException):
    """Raised by a signal during set-up; no `except Exception` may swallow it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.exit_code = 128 + signum


def run(command: str) -> None:
    """Becomes `python -m datasync_ingest COMMAND` with this process's arguments; does not return."""
    with _endings():
        _become(_python(command == "worker" or chooses_dask(sys.argv[1:])), "datasync_ingest", command)


def run_scheduler() -> None:
    """Becomes `dask scheduler` with this process's arguments; does not return."""
    for name, text in SCHEDULERS.items():
        os.environ.setdefault(name, text)
    with _endings():
        _become(_python(on_cluster=True), "dask", "scheduler")


def run_module(module: str, tools: bool = False) -> None:
    """Becomes `python -m MODULE` of the checkout with this process's arguments; does not return.

    `tools`: in an environment that has tests/requirements.txt, too.
    """
    with _endings():
        _become(_environment(".venv-test" if tools else ".venv"), module)


def chooses_dask(words: "list[str]") -> bool:
    """Whether a command line says `--pool dask`; of several the last counts, as it does for the command."""
    chosen = ""
    for word, following in zip(words, words[1:] + [""]):  # noqa: B905, RUF005 - as in Python 3.6
        if word == "--pool":
            chosen = following
        elif word.startswith("--pool="):
            chosen = word[len("--pool=") :]
    return chosen == "dask"


@contextmanager
def _endings() -> "Iterator[None]":
    """The one place where an ending of the set-up becomes a sentence and an exit code."""
    try:
        require_platform()
        require_new_python()
        _stop_by_exception()
        yield
    except SetUpError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"{error}\n{advice(error)}")
    except Stopped as stopped:
        _say("Set-up was stopped; nothing is lost. Run the same command again.")
        sys.exit(stopped.exit_code)


def _stop_by_exception() -> None:
    """So that a stopped set-up takes pip down with it; exec undoes it. What nohup ignores stays ignored."""

    def stop(signum: int, _frame: object) -> None:
        raise Stopped(signum)

    for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, stop)


def _python(on_cluster: bool) -> str:
    """For the program; with what a cluster needs?"""
    return sys.executable if _runs_here(on_cluster) else _environment(".venv-dask" if on_cluster else ".venv")


def _runs_here(on_cluster: bool) -> bool:
    """Whether the running Python has this version of the package, and all that it needs; its extra `dask`, too?"""
    from importlib import metadata  # not in Python 3.6

    try:
        if metadata.version("datasync_ingest") != _version_of_sources():
            return False
        for requirement in metadata.requires("datasync_ingest") or []:
            condition = requirement.partition(";")[2].strip()  # the extra's name, but for what a run always needs
            if not condition or (on_cluster and condition == 'extra == "dask"'):
                metadata.version(re.split(r"[^\w.-]", requirement)[0])
    except metadata.PackageNotFoundError:
        return False
    return True


def _version_of_sources() -> str:
    with open(os.path.join(TOP, "datasync_ingest", "__init__.py"), encoding="utf-8") as sources:
        versions = re.findall(r'^__version__ = "(.+)"', sources.read(), re.MULTILINE)
    return str(versions[0])


def _environment(name: str) -> str:
    from environments import ready_python  # needs a Python and a platform that passed the checks

    return ready_python(TOP, name, _say)


def _become(python: str, module: str, *words: str) -> None:
    """Replaces this process, so that signals and exit codes are the command's own.

    Without the option, `-m` would look for modules in the working directory first, and import a stranger's queue.py.
    """
    only_trusted_paths = "-P" if sys.version_info >= (3, 11) else "-I"  # -I also ignores PYTHON* variables
    os.execv(python, [python, only_trusted_paths, "-m", module, *words, *sys.argv[1:]])


def advice(error: OSError) -> str:
    """What the person can do about a disk that refuses."""
    return DISK_ADVICE.get(error.errno or 0, "The environment beside the sources could not be set up.").format(top=TOP)


def _refuse(sentence: str) -> None:
    _say("error: " + sentence)
    sys.exit(CONFIGURATION)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
