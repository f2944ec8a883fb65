"""`bin/submit` as a subprocess: what is refused without a POST, what a POST can end in, and how many arrived."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from datasync_ingest.ledger import Ledger
from datasync_ingest.simulator.process import SimulatorProcess
from tests.harness import API_KEY, Ended, Workplace, clean_environment, kill, new_database, until

EVENTS = 300
REPOSITORY = "https://github.com/me/repo"
_KEYS = [f"{API_KEY}-{number}" for number in range(100)]


@dataclass
class Scene:
    """A finished and exported ingest, and a key of its own with five tries."""

    api: SimulatorProcess
    workplace: Workplace

    def submit(self, *words: str, **environment: str) -> Ended:
        return self.workplace.run("submit", "--github-repo", REPOSITORY, *words, timeout_s=100.0, **environment)

    def listed(self) -> dict[str, Any]:
        ended = self.workplace.run("submit", "--list", "--json")
        assert ended.code == 0, ended.err
        found: dict[str, Any] = json.loads(ended.out)
        return found

    def start(self) -> subprocess.Popen[str]:
        """Submits, and returns when the POST has arrived and its answer is waited for."""
        self.api.options(submission_fault="slow", slow_s=60)
        process = self.workplace.start("submit", "--github-repo", REPOSITORY, "--yes")
        until(self.posts, what="the POST")
        return process

    def posts(self) -> int:
        return int(self.api.counters()["requests"].get("submit", 0))

    @property
    def ids(self) -> Path:
        return self.workplace.directory / "event_ids.txt"

    def sidecar(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.workplace.ledger)) as connection, connection:
            return connection.execute(statement).fetchall()


@dataclass
class Ingested:
    """What the tests of this module start from; the events in the table never change."""

    api: SimulatorProcess
    workplace: Workplace
    keys: Iterator[str]


@pytest.fixture(scope="module")
def ingested(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingested]:
    directory = tmp_path_factory.mktemp("ingested")
    with ExitStack() as opened:
        database = opened.enter_context(new_database(server, f"submit_{os.getpid()}"))
        options = {"events": EVENTS, "rate-limit": 0, "api-key": ",".join([API_KEY, *_KEYS])}
        api = opened.enter_context(SimulatorProcess(options))
        environment = {"TARGET_API_KEY": API_KEY, "DATABASE_URL": database.conninfo, "API_BASE_URL": api.url}
        workplace = Workplace(directory, environment)
        workplace.ingest()
        assert workplace.run("export-ids").code == 0
        yield Ingested(api, workplace, iter(_KEYS))


@pytest.fixture
def scene(ingested: Ingested, tmp_path: Path) -> Scene:
    for name in ("data", "event_ids.txt"):
        source = ingested.workplace.directory / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    ingested.api.options(submission_fault="none", submissions=5, submissions_tell_left="on")
    ingested.api.reset_counters()
    environment = {**ingested.workplace.environment, "TARGET_API_KEY": next(ingested.keys)}
    return Scene(ingested.api, Workplace(tmp_path, environment))


def test_a_submission_is_made_once_kept_shown_and_not_made_again(scene: Scene) -> None:
    ended = scene.submit("--yes", "--json")
    assert ended.code == 0, ended.err
    result = json.loads(ended.out)
    assert result["accepted"] is True
    assert result["sent"]["ids"] == result["answer"]["eventCount"] == EVENTS
    assert result["answer"]["githubRepoUrl"] == REPOSITORY
    assert "Tries left  5" in ended.err
    assert scene.posts() == 1
    ((status, reply),) = scene.sidecar("SELECT status, reply FROM submissions WHERE ended_at IS NOT NULL")
    assert (status, json.loads(reply)["data"]) == (200, result["answer"])
    again = scene.submit("--yes")
    assert again.code == 5
    assert "accepted as number 1" in again.err
    assert scene.posts() == 1
    listed = scene.listed()
    assert (listed["tries_left"], len(listed["submissions"]), len(listed["own"])) == (4, 1, 1)


# fault: (exit code, words of the sentence, status in the sidecar, tries left by the list, ending by `--list`)
FAULTS: dict[str, tuple[int, str, int | None, int, str]] = {
    "cut": (3, "broke off", None, 4, "not known"),
    "413": (3, "takes no body of 11,100 bytes: it answered 413", 413, 5, "answered 413"),
    "413-app": (3, "413 PAYLOAD_TOO_LARGE", 413, 4, "answered 413"),
    "429": (3, "429 RATE_LIMITED", 429, 5, "answered 429"),
    "500": (3, "may even have accepted it", 500, 4, "answered 500"),
    "502": (3, "may even have accepted it", 502, 4, "answered 502"),
    "lost": (3, "broke off", None, 4, "not known"),
    "html": (3, "cannot be read", 200, 4, "answered 200"),
    "unsuccessful": (3, "The repository could not be read", 200, 4, "answered 200"),
    "miscounted": (3, "the server counted 299 IDs where 300 were sent", 200, 4, "accepted as number 1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_submission_that_fails_arrives_once_and_is_named(fault: str, scene: Scene) -> None:
    code, sentence, status, left, ending = FAULTS[fault]
    scene.api.options(submission_fault=fault)
    ended = scene.submit("--yes")
    assert ended.code == code, ended.err
    assert sentence in ended.err
    assert "bin/submit --list" in ended.err
    assert "Traceback" not in ended.err
    assert scene.workplace.environment["TARGET_API_KEY"] not in ended.err
    assert scene.posts() == 1
    assert scene.sidecar("SELECT ended_at IS NULL, status FROM submissions") == [(status is None, status)]
    listed = scene.listed()
    assert listed["tries_left"] == left
    assert ending in listed["own"][0]["ending"]


@pytest.mark.parametrize("fault", ["lost", "413"])
def test_a_loop_until_it_succeeds_costs_one_try(fault: str, scene: Scene) -> None:
    scene.api.options(submission_fault=fault)
    codes = [scene.submit("--yes").code for _ in range(2)]
    assert codes == [3, 5]
    assert scene.posts() == 1


# --- refused, and nothing was sent ---


def no_file(scene: Scene) -> Ended:
    return scene.submit("--yes", "--file", "other.txt")


def a_directory(scene: Scene) -> Ended:
    return scene.submit("--yes", "--file", "data")


def an_empty_file(scene: Scene) -> Ended:
    scene.ids.write_bytes(b"")
    return scene.submit("--yes")


def a_file_without_its_last_newline(scene: Scene) -> Ended:
    scene.ids.write_bytes(scene.ids.read_bytes()[:-1])
    return scene.submit("--yes")


def a_file_without_its_last_line(scene: Scene) -> Ended:
    scene.ids.write_bytes(b"".join(scene.ids.read_bytes().splitlines(keepends=True)[:-1]))
    return scene.submit("--yes")


def a_file_with_another_id(scene: Scene) -> Ended:
    content = scene.ids.read_bytes()
    scene.ids.write_bytes(content.replace(content[:1], b"z", 1))
    return scene.submit("--yes")


def a_table_that_is_short(scene: Scene) -> Ended:
    scene.sidecar("UPDATE facts SET value = '301' WHERE name = 'total'")
    return scene.submit("--yes")


def nothing_ingested(scene: Scene) -> Ended:
    return scene.submit("--yes", DATA_DIR="elsewhere")


def nothing_exported(scene: Scene) -> Ended:
    scene.sidecar("DELETE FROM exports")
    return scene.submit("--yes")


def another_api(scene: Scene) -> Ended:
    return scene.submit("--yes", API_BASE_URL=scene.api.url.replace("127.0.0.1", "localhost"))


def no_repository(scene: Scene) -> Ended:
    return scene.workplace.run("submit", "--yes")


def a_repository_elsewhere(scene: Scene) -> Ended:
    return scene.workplace.run("submit", "--yes", "--github-repo", "https://example.org/me/repo")


def no_key(scene: Scene) -> Ended:
    return scene.submit("--yes", TARGET_API_KEY="")


def a_wrong_key(scene: Scene) -> Ended:
    return scene.submit("--yes", TARGET_API_KEY="wrong")


def a_wrong_path(scene: Scene) -> Ended:
    wrong = scene.api.url.replace("/api/v1", "/nowhere/api/v1")
    scene.sidecar(f"""UPDATE facts SET value = '"{wrong}"' WHERE name = 'source'""")
    return scene.submit("--yes", API_BASE_URL=wrong)


def nobody_to_ask(scene: Scene) -> Ended:
    return scene.submit()


def no_try_left(scene: Scene) -> Ended:
    scene.api.options(submissions=0)
    return scene.submit("--yes")


def an_active_run(scene: Scene) -> Ended:
    with Ledger.open(scene.workplace.ledger.parent, purpose="bin/ingest"):
        return scene.submit("--yes", "--force")


# refusal: (exit code, words of the sentence, words of what to do)
REFUSALS: dict[Callable[[Scene], Ended], tuple[int, str, str]] = {
    no_file: (2, "other.txt cannot be submitted: No such file", "bin/export-ids writes it"),
    a_directory: (2, "data cannot be submitted: Is a directory", "bin/export-ids writes it"),
    an_empty_file: (2, "it is empty", "bin/export-ids writes it"),
    a_file_without_its_last_newline: (5, "does not end in a newline", "--force"),
    a_file_without_its_last_line: (5, "Lines: 299 in the place of 300", "--force"),
    a_file_with_another_id: (5, "is not the last export", "--force"),
    a_table_that_is_short: (5, "The table holds 300 events (0 were rejected), and the API has 301", "Run bin/ingest"),
    nothing_ingested: (5, "Nothing was ingested", "Run bin/ingest"),
    nothing_exported: (5, "knows of no export", "bin/export-ids"),
    another_api: (5, "the submission would go to http://localhost", "--force"),
    no_repository: (2, "one of the arguments --github-repo --list is required", "usage"),
    a_repository_elsewhere: (2, "is not the URL of a repository", "https://github.com/OWNER/REPO"),
    no_key: (2, "No API key", "TARGET_API_KEY="),
    a_wrong_key: (3, "401 INVALID_API_KEY", "Check TARGET_API_KEY"),
    a_wrong_path: (3, "404 ENDPOINT_NOT_FOUND", "Check API_BASE_URL"),
    nobody_to_ask: (2, "standard input is no terminal", "--yes"),
    no_try_left: (5, "No try is left", "another key"),
    an_active_run: (6, "is in use by bin/ingest", "Wait"),
}


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.__name__)
def test_a_refusal_is_a_sentence_and_nothing_was_sent(refusal: Callable[[Scene], Ended], scene: Scene) -> None:
    code, sentence, hint = REFUSALS[refusal]
    ended = refusal(scene)
    assert ended.code == code, ended.err
    assert sentence in ended.err
    assert hint in ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""
    assert scene.posts() == 0
    assert scene.sidecar("SELECT count(*) FROM submissions") == [(0,)]


def test_force_says_what_it_overrides_and_submits(scene: Scene) -> None:
    scene.api.options(submissions_tell_left="off")
    a_file_without_its_last_line(scene)
    ended = scene.submit("--yes", "--force")
    assert ended.code == 0, ended.err
    assert "--force overrides: event_ids.txt is not the last export" in ended.err
    assert "--force overrides: The number of lines in event_ids.txt is 299" in ended.err
    assert "Tries left  at most 5 (the server does not tell)" in ended.err
    assert scene.posts() == 1


def test_force_does_not_make_a_sixth_try(scene: Scene) -> None:
    scene.api.options(submissions=1)
    assert scene.submit("--yes").code == 0
    ended = scene.submit("--yes", "--force")
    assert ended.code == 5
    assert "No try is left" in ended.err
    assert scene.posts() == 1


# --- the prompt ---


@pytest.mark.parametrize(("answer", "code", "posts"), [("y\n", 0, 1), ("\n", 5, 0), ("\x04", 5, 0)])
def test_only_a_yes_at_the_prompt_submits(answer: str, code: int, posts: int, scene: Scene) -> None:
    ended = at_a_terminal(scene.workplace, answer, "submit", "--github-repo", REPOSITORY)
    assert ended.code == code, ended.err
    assert f"Submit 300 IDs from event_ids.txt for {REPOSITORY}, with 5 tries left? [y/N]" in ended.err
    assert scene.posts() == posts


def at_a_terminal(workplace: Workplace, answer: str | signal.Signals, command: str, *words: str) -> Ended:
    """Runs a command with a terminal, where `answer` is typed, or comes as a signal, once it has asked."""
    ours, its = pty.openpty()
    try:
        process = subprocess.Popen(
            workplace.arguments(command, *words),
            cwd=workplace.directory,
            env=clean_environment(**workplace.environment),
            stdin=its,
            stdout=its,
            stderr=its,
            start_new_session=True,
        )
        os.close(its)
        shown = b""
        while b"[y/N]" not in shown and (block := _shown(ours)):
            shown += block
        if isinstance(answer, signal.Signals):
            process.send_signal(answer)
        else:
            os.write(ours, answer.encode())
        while block := _shown(ours):
            shown += block
        return Ended(process.wait(30), "", shown.decode())
    finally:
        os.close(ours)


def _shown(terminal: int) -> bytes:
    """Empty when the other side is closed."""
    try:
        return os.read(terminal, 1000)
    except OSError:
        return b""


# --- stopped ---


def test_a_stop_at_the_prompt_says_that_nothing_was_submitted(scene: Scene) -> None:
    ended = at_a_terminal(scene.workplace, signal.SIGINT, "submit", "--github-repo", REPOSITORY)
    assert ended.code == 130, ended.err
    assert "Stopped by SIGINT. Nothing was submitted." in ended.err
    assert scene.posts() == 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_in_the_middle_says_that_the_try_may_have_counted(signum: signal.Signals, scene: Scene) -> None:
    process = scene.start()
    process.send_signal(signum)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 128 + signum, err
    assert "The server may have counted it as a try" in err
    assert "bin/submit --list" in err
    assert out == ""
    assert "not known" in scene.listed()["own"][0]["ending"]
    assert scene.posts() == 1


def test_a_submission_that_was_killed_is_said_before_the_next_one(scene: Scene) -> None:
    kill(scene.start())
    scene.api.options(submission_fault="none")
    for words, code, posts in ((("--yes",), 5, 1), (("--yes", "--force"), 0, 2)):
        ended = scene.submit(*words)
        assert ended.code == code, ended.err
        assert "has no known ending" in ended.err
        assert "bin/submit --list" in ended.err
        assert scene.posts() == posts


def test_a_submission_that_was_killed_is_said_after_another_key_was_used(scene: Scene, ingested: Ingested) -> None:
    kill(scene.start())
    scene.api.options(submission_fault="none")
    another = next(ingested.keys)
    listed = scene.workplace.run("submit", "--list", TARGET_API_KEY=another)
    assert "knows of no earlier call with this key" in listed.err
    ended = scene.submit("--yes")
    assert ended.code == 5
    assert "has no known ending" in ended.err
    assert "knows of no earlier call" not in ended.err
    assert scene.posts() == 1
    ended = scene.submit("--yes", TARGET_API_KEY=another)
    assert ended.code == 0, ended.err
    assert "has no known ending" not in ended.err


def test_a_second_submission_at_the_same_time_is_kept_out(scene: Scene) -> None:
    process = scene.start()
    try:
        ended = scene.submit("--yes")
    finally:
        kill(process)
    assert ended.code == 6
    assert "in use by bin/submit" in ended.err
    assert "may have cost a try" in ended.err
    assert scene.posts() == 1


def test_a_fresh_sidecar_remembers_the_tries(scene: Scene) -> None:
    assert scene.submit("--yes").code == 0
    scene.workplace.ingest("--fresh")
    assert scene.workplace.run("export-ids").code == 0
    ended = scene.submit("--yes")
    assert ended.code == 5
    assert "accepted as number 1" in ended.err
    assert scene.posts() == 1


def test_a_slow_answer_is_waited_for(scene: Scene) -> None:
    scene.api.options(submission_fault="slow", slow_s=1)
    ended = scene.submit("--yes")
    assert ended.code == 0, ended.err
    assert "Everything is on its way" in ended.err


def test_the_list_is_a_table_and_costs_no_try(scene: Scene) -> None:
    assert scene.submit("--yes").code == 0
    ended = scene.workplace.run("submit", "--list")
    assert ended.code == 0, ended.err
    assert "Submissions on the server: 1. Tries left: 4." in ended.out
    assert "accepted as number 1" in ended.out
    assert scene.posts() == 1
