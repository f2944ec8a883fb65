"""Whether a Python can run the project, and where a newer one is. Runs on Python 3.6, to say that it is too old."""

import os
import shutil
import subprocess
import sys

OLDEST = (3, 10)
NEWEST = (
    3,
    14,
)  # the newest that the project is tested with; newer ones are tried when they are the one that was called
PROBE_PATIENCE = 10  # seconds for a Python on PATH to tell its version; a version manager's shim can take one or two


class SetUpError(Exception):
    """Raised when a command cannot be given a Python to run on; the message is what the person reads."""


def require_platform(name: str = os.name) -> None:
    """Raises SetUpError on Windows, which has neither fork, exec nor flock as used here."""
    if name == "nt":
        raise SetUpError("datasync_ingest runs on Linux and macOS. On Windows, run it inside WSL.")


def require_new_python() -> None:
    """Returns on a Python that is new enough; elsewhere this process becomes the same script on a newer one.

    Raises SetUpError where PATH has none.
    """
    if sys.version_info >= OLDEST:
        return
    newer = newer_python()
    if newer is None:
        raise SetUpError(too_old_sentence(sys.version_info[:2], sys.executable))
    os.execv(newer, [newer] + sys.argv)  # noqa: RUF005 - as in Python 3.6


def require_venv() -> None:
    """Raises SetUpError where Python came without the modules that make an environment (Debian cuts them out)."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        raise SetUpError(no_venv_sentence(sys.version_info[:2], sys.executable)) from error


def newer_python() -> "str | None":
    """The path of the newest supported Python on PATH that really starts, or None."""
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        path = shutil.which(f"python3.{minor}")
        if path is not None and _is_new_enough(path):
            return path
    return None


def too_old_sentence(version: "tuple[int, int]", executable: str) -> str:
    return (
        f"datasync_ingest needs Python {_dotted(OLDEST)} or newer; {executable} is Python {_dotted(version)},"
        f" and PATH has no newer one.\n"
        f"Install a newer Python, or call this script with one: python{_dotted(NEWEST)} {sys.argv[0]}"
    )


def no_venv_sentence(version: "tuple[int, int]", executable: str) -> str:
    return (
        f"{executable} came without the modules venv and ensurepip, which set up the environment.\n"
        f"On Debian and Ubuntu: apt install python{_dotted(version)}-venv; then run the same command again."
    )


def _dotted(version: "tuple[int, int]") -> str:
    return f"{version[0]}.{version[1]}"


def _is_new_enough(path: str) -> bool:
    """Asks it: what is called python3.12 may be a version manager's shim for a Python that is not there."""
    question = f"import sys; sys.exit(sys.version_info < {OLDEST!r})"
    try:
        answer = subprocess.call(
            [path, "-I", "-c", question],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PROBE_PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer == 0
