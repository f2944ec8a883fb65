"""`bin/psql` as a person uses it: arguments, pipes, a terminal, Ctrl-C, a database with a password."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from datasync_ingest.postgres.conninfo import for_program
from tests.harness import Workplace, alive, clean_environment, family, until
from tests.servers import PASSWORD, EmbeddedUser, password_server, query, reachable_folder

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def embedded() -> Iterator[Workplace]:
    """A working directory without settings; its embedded server is set up by whichever test comes first, and kept."""
    with reachable_folder() as folder:
        yield Workplace(folder)


@pytest.fixture(scope="module")
def external(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The conninfo of a server with passwords, without one."""
    with password_server(tmp_path_factory.mktemp("external") / "server") as conninfo:
        yield conninfo


def server_of(workplace: Workplace) -> Path:
    return workplace.directory / "data" / "postgres"


def test_a_statement_is_answered_on_stdout_by_a_server_that_is_made_for_it_and_stopped() -> None:
    with reachable_folder() as folder:
        workplace = Workplace(folder)
        ended = workplace.run("psql", "-At", "-c", "SELECT 1")
        assert (ended.code, ended.out) == (0, "1\n"), ended.err
        assert "Setting up" in ended.err
        assert not (server_of(workplace) / "server" / "data" / "postmaster.pid").exists()
        again = workplace.run("psql", "-At", "-c", "SELECT 1")
        assert (again.code, again.out, again.err) == (0, "1\n", "")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("-c", "SELECT 1"), 0),
        (("-c", "SELECT 1/0"), 1),
        (("--no-such-option",), 1),
        (("-d", "no_such_database", "-c", "SELECT 1"), 2),
        (("-v", "ON_ERROR_STOP=1", "-f", "-"), 3),
        (("-c", "\\! kill -KILL $PPID"), 128 + signal.SIGKILL),
    ],
    ids=str,
)
def test_psqls_exit_code_is_passed_on(words: tuple[str, ...], code: int, embedded: Workplace) -> None:
    ended = subprocess.run(
        embedded.arguments("psql", *words),
        cwd=embedded.directory,
        env=clean_environment(),
        input="SELECT 1/0;",
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr


def test_statements_can_be_piped_in(embedded: Workplace) -> None:
    ended = subprocess.run(
        embedded.arguments("psql", "-At"),
        cwd=embedded.directory,
        env=clean_environment(),
        input="SELECT 'ein Ä';\nSELECT 2;\n",
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (ended.returncode, ended.stdout) == (0, "ein Ä\n2\n"), ended.stderr


def test_another_database_is_one_on_the_same_server(embedded: Workplace) -> None:
    for words in (("-d", "template1"), ("template1",)):
        ended = embedded.run("psql", "-At", "-c", "SELECT current_database(), current_user", *words)
        assert (ended.code, ended.out) == (0, "template1|datasync\n"), ended.err


def test_what_libpq_reads_from_the_environment_does_not_lead_elsewhere(embedded: Workplace) -> None:
    elsewhere = {"PGHOSTADDR": "127.0.0.1", "PGPORT": "9", "PGUSER": "nobody", "PGOPTIONS": "-c no_such=1"}
    ended = Workplace(embedded.directory, elsewhere).run("psql", "-At", "-c", "SELECT 1")
    assert (ended.code, ended.out) == (0, "1\n"), ended.err


def test_it_joins_a_server_that_is_in_use_and_leaves_it_running(embedded: Workplace) -> None:
    with EmbeddedUser(server_of(embedded)) as run:
        conninfo = run.conninfo()
        query(conninfo, "CREATE TABLE held AS SELECT 42 AS answer")
        ended = embedded.run("psql", "-At", "-c", "SELECT answer FROM held")
        assert (ended.code, ended.out) == (0, "42\n"), ended.err
        assert query(conninfo, "SELECT answer FROM held") == 42


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_psql_and_stops_the_server(signum: signal.Signals, code: int, embedded: Workplace) -> None:
    process = embedded.start("psql", "-c", "SELECT 'up'", "-c", "SELECT pg_sleep(600)")
    assert process.stdout is not None
    until(lambda: "up" in process.stdout.readline(), what="psql's first answer")  # type: ignore[union-attr]
    members = family(process)
    assert len(members) > 1
    process.send_signal(signum)
    process.communicate(timeout=30)
    assert process.returncode == code
    assert not alive(members)
    assert not (server_of(embedded) / "server" / "data" / "postmaster.pid").exists()


# --- a terminal ---


@contextmanager
def on_a_terminal(workplace: Workplace, *words: str, **environment: str) -> Iterator[tuple[int, int]]:
    """Starts `bin/psql` on a terminal of its own; yields its process id and the terminal's file descriptor."""
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))  # without a size everything is paged
        os.chdir(workplace.directory)
        arguments = workplace.arguments("psql", *words)
        os.execve(arguments[0], arguments, clean_environment(TERM="dumb", **environment))
    try:
        yield pid, terminal
    finally:
        os.close(terminal)  # the terminal hangs up
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def read_until(terminal: int, text: str) -> str:
    """What the terminal shows until `text` has come."""
    shown = ""
    while text not in shown:
        try:
            shown += os.read(terminal, 4096).decode()
        except OSError as error:  # the other side has closed it
            raise AssertionError(f"{text!r} did not come, but {shown!r}") from error
    return shown


def test_ctrl_c_ends_the_query_and_not_the_session(embedded: Workplace) -> None:
    with on_a_terminal(embedded) as (pid, terminal):
        read_until(terminal, "postgres=# ")
        os.write(terminal, b"SELECT pg_sleep(600);\n")
        read_until(terminal, "SELECT pg_sleep(600);")
        (psql,) = (one for one in psutil.Process(pid).children() if one.name() == "psql")
        sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        with EmbeddedUser(server_of(embedded)) as onlooker:
            conninfo = onlooker.conninfo()
            until(lambda: query(conninfo, sleeping) == 1, what="the query")
        os.write(terminal, b"\x03")
        read_until(terminal, "canceling statement due to user request")
        os.write(terminal, b"SELECT 40 + 2;\n")
        read_until(terminal, " 42")
        assert psql.is_running()
        os.write(terminal, b"\\q\n")
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0


def test_a_long_answer_goes_through_the_pager(embedded: Workplace) -> None:
    words = ("-c", "SELECT n FROM generate_series(1, 1000) AS n")
    with on_a_terminal(embedded, *words, PSQL_PAGER="sed 's/^/paged: /'") as (_, terminal):
        read_until(terminal, "paged:  1000")


def test_a_terminal_that_hangs_up_leaves_nothing_behind(embedded: Workplace) -> None:
    with on_a_terminal(embedded) as (pid, terminal):
        read_until(terminal, "postgres=# ")
        members = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    assert not alive(members)
    assert not (server_of(embedded) / "server" / "data" / "postmaster.pid").exists()


# --- a named database ---


def test_a_password_is_in_nobodys_arguments(external: str, tmp_path: Path) -> None:
    url = f"{external} password={PASSWORD} keepalives=1"
    process = Workplace(tmp_path, {"DATABASE_URL": url}).start("psql", "-c", "SELECT pg_sleep(600)")
    try:
        psql = until(lambda: [one for one in family(process)[1:] if one.name() == "psql"], what="psql")[0]
        sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        until(lambda: query(f"{external} password={PASSWORD}", sleeping) == 1, what="the query")
        for one in family(process):
            assert PASSWORD not in Path(f"/proc/{one.pid}/cmdline").read_text().split("\0"), one
            assert "password" not in Path(f"/proc/{one.pid}/cmdline").read_text()
        assert psql.environ()["PGPASSWORD"] == PASSWORD
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert not (tmp_path / "data").exists()


def test_a_wrong_password_is_refused_with_psqls_own_words(external: str, tmp_path: Path) -> None:
    workplace = Workplace(tmp_path, {"DATABASE_URL": f"{external} password=hunter2"})
    ended = workplace.run("psql", "-w", "-c", "SELECT 1")
    assert ended.code == 2
    assert "password authentication failed" in ended.err
    assert "hunter2" not in ended.err


def test_an_address_that_cannot_be_read_is_a_sentence_without_the_password(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path, {"DATABASE_URL": "postgresql://me:hunter2@[::1/events"})
    ended = workplace.run("psql", "-c", "SELECT 1")
    assert ended.code == 4
    assert "cannot be read" in ended.err
    assert "hunter2" not in ended.err
    assert "Traceback" not in ended.err


def test_what_has_no_variable_stays_a_conninfo_without_secrets() -> None:
    variables, rest = for_program(
        "postgresql://me:p%40ss@db:5433/events?sslmode=require&keepalives=0&sslpassword=s3cret"
    )
    assert variables == {
        "PGHOST": "db",
        "PGPORT": "5433",
        "PGDATABASE": "events",
        "PGUSER": "me",
        "PGPASSWORD": "p@ss",
        "PGSSLMODE": "require",
    }
    assert rest == "keepalives=0"


def test_the_schema_comes_first_in_the_search_path_whatever_else_was_set(external: str, tmp_path: Path) -> None:
    workplace = Workplace(tmp_path, {"DATABASE_URL": f"{external} password={PASSWORD} options='-c work_mem=5MB'"})
    shown = workplace.run("psql", "-At", "-c", "SHOW search_path", "-c", "SHOW work_mem")
    assert shown.out == '"$user", public\n5MB\n', "the server's own default is left alone"
    shown = workplace.run("psql", "--schema", "acme", "-At", "-c", "SHOW search_path", "-c", "SHOW work_mem")
    assert shown.out == "acme,public\n5MB\n", shown.err
