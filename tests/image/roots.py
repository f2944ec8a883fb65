"""Roots of their own for the steps of an image: the machine's programs, read only, and nothing else of the machine.

A root is a folder. Whatever is done in it has its own mounts and process IDs, made by `unshare` and gone with the
process. Root can do that, and whoever else has subordinate IDs and may make user namespaces.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

PATH = "/base:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What programs in a root read of /etc: the linker's cache, certificates, names of hosts.
_ETC = (
    "alternatives",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "login.defs",
    "nsswitch.conf",
    "pki",
    "resolv.conf",
    "ssl",
)
_ACCOUNTS = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nnogroup:x:65534:\n",
    "shadow": "root:*:20000:0:99999:7:::\nnobody:*:20000:0:99999:7:::\n",
    "gshadow": "root:*::\nnogroup:*::\n",
}
_EMPTY = ("base", "dev", "dev/shm", "proc", "root", "sys", "tmp", "usr", "var/tmp")
_NEVER_IN_A_CONTAINER = ("setpriv", "--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all")


class Root:
    """The folder `top`, made here; in it `python3` is the Python that runs the tests, in the place of the base's."""

    def __init__(self, top: Path) -> None:
        self.top = top
        for name in _EMPTY:
            (top / name).mkdir(parents=True)
        for name in ("bin", "lib", "lib32", "lib64", "sbin"):
            if Path("/", name).is_symlink():
                (top / name).symlink_to(f"usr/{name}")
        self._copy_etc()
        for folder in _base_folders():
            self.path(folder).mkdir(parents=True, exist_ok=True)
        python = os.path.join(os.path.realpath(sys.base_prefix), "bin", f"python3.{sys.version_info.minor}")
        (top / "base" / "python3").write_text(f'#!/bin/sh\nexec {shlex.quote(python)} "$@"\n')
        (top / "base" / "python3").chmod(0o755)

    def path(self, inside: str | Path) -> Path:
        """Where that is on the machine."""
        return self.top / str(inside).lstrip("/")

    def command(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        *,
        directory: str = "/",
        caches: Mapping[str, Path] | None = None,
        user: str | None = None,
        writable: Sequence[str] | None = None,
    ) -> list[str]:
        """A command of the machine that does `words` in here, as the first process, and ends as they do.

        `caches`: folder in here -> folder of the machine. `user`: `uid:gid`, without any capability. `writable`: the
        rest is read only, as with `read_only: true` of a container.
        """
        mounts = [*self._base_mounts(), *(("--bind", path, inside) for inside, path in (caches or {}).items())]
        script = ["set -e", _mount("--rbind", self.top, self.top), *(self._mount(*mount) for mount in mounts)]
        if writable is not None:
            script += [self._mount("--bind", self.path(inside), inside) for inside in writable]
            script += [_mount("-o", "remount,bind,ro", self.top), self._mount("-t", "tmpfs", "none", "/tmp")]
        identity = () if user is None else _identity(user)
        inside = ["env", "-i", *(f"{name}={text}" for name, text in environment.items()), *words]
        enter = ["chroot", str(self.top), "/bin/sh", "-c", f"cd {shlex.quote(directory)} && exec {shlex.join(inside)}"]
        enter = enter if not identity else [*enter[:2], *identity, *enter[2:]]
        return [*_namespaces(), "/bin/sh", "-c", "\n".join([*script, f"exec {shlex.join(enter)}"])]

    def remove(self) -> None:
        """Also what belongs to a subordinate ID."""
        subprocess.run([*_namespaces(), "rm", "-rf", self.top], check=True)

    def _copy_etc(self) -> None:
        (self.top / "etc").mkdir()
        for name, text in _ACCOUNTS.items():
            (self.top / "etc" / name).write_text(text)
        for source in (Path("/etc", name) for name in _ETC):
            if source.is_dir():
                shutil.copytree(source, self.path(source), symlinks=True, ignore=shutil.ignore_patterns("private"))
            elif os.access(source, os.R_OK):
                shutil.copy(source, self.path(source))

    def _base_mounts(self) -> list[tuple[str | Path, ...]]:
        mounts: list[tuple[str | Path, ...]] = []
        for folder in _base_folders():
            mounts += [("--rbind", folder, folder), ("-o", "remount,bind,ro", folder)]
        devices = [("--rbind", "/dev", "/dev"), ("-t", "tmpfs", "none", "/dev/shm"), ("-t", "proc", "proc", "/proc")]
        return [*mounts, *devices]

    def _mount(self, *words: str | Path) -> str:
        return _mount(*words[:-1], self.path(words[-1]))


@cache
def why_not() -> str | None:
    """Why this machine cannot have such roots; None where it can."""
    if missing := [
        name for name in ("unshare", "setpriv", "chroot", "useradd") if shutil.which(name, path=PATH) is None
    ]:
        return f"no {', '.join(missing)} here"
    probe = f"mount -t tmpfs none /mnt && mount -t proc proc /proc && {shlex.join(_identity('1000:1000'))} true"
    done = subprocess.run([*_namespaces(), "/bin/sh", "-c", probe], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"no mounts and accounts of one's own: {done.stderr.strip()}"


def _base_folders() -> list[str]:
    """/usr, and the folder of the base Python where that is elsewhere."""
    prefix = os.path.realpath(sys.base_prefix)
    return ["/usr"] if prefix.startswith("/usr/") or prefix == "/usr" else ["/usr", prefix]


def _namespaces() -> tuple[str, ...]:
    """Mounts and process IDs of its own; the first process dies with `unshare`."""
    users = () if os.geteuid() == 0 else ("--user", "--map-root-user", "--map-auto")
    return ("unshare", *users, "--mount", "--pid", "--fork", "--kill-child=KILL")


def _identity(user: str) -> tuple[str, ...]:
    uid, gid = user.split(":")
    return (*_NEVER_IN_A_CONTAINER, f"--reuid={uid}", f"--regid={gid}")


def _mount(*words: str | Path) -> str:
    return shlex.join(["mount", *map(str, words)])
