"""The sidecar, on a real file."""

from __future__ import annotations

import dataclasses
import errno
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from datasync_ingest.errors import AlreadyRunningError, DataDirectoryError, IngestError, LedgerDamagedError
from datasync_ingest.ledger import FILE_NAME, SCHEMA_VERSION, Incident, Ledger, Sample, Walk
from datasync_ingest.ledger.sidecar import STEPS
from datasync_ingest.messages import (
    FEED,
    CompletedPage,
    Counts,
    PageId,
    Position,
    RawPage,
    Receipt,
    RequestEnded,
    Window,
)
from datasync_ingest.plan import rebuilt

WALK = Walk("w1", until=Position(None, "u"), cursor=None, after=None, head=None, state="active")


def raw_page(sequence: int, *, walk: str = "w1") -> RawPage:
    return RawPage(
        PageId(walk, sequence),
        cursor=f"c{sequence}" if sequence else None,
        next_cursor=f"c{sequence + 1}",
        ends_walk=False,
        limit=5,
        received=5,
        after=Position(100 - sequence, "after") if sequence else None,
        first=Position(99 - sequence, "first"),
        last=Position(98 - sequence, "last"),
        total=50,
        request_id=None,
        body=b"{}",
    )


def receipt(sequence: int) -> Receipt:
    return Receipt(PageId("w1", sequence), 0, Counts(5, 3, 1, 1, 2), False, 0.0, 0.0)


def test_a_page_is_marked_once(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, purpose="test") as ledger:
        ledger.begin(WALK)
        assert ledger.complete(raw_page(0), receipt(0))
        assert not ledger.complete(raw_page(0), receipt(0))
        assert [page.page.sequence for page in ledger.pages("w1")] == [0]


def test_what_was_marked_is_there_after_reopening(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, purpose="test") as ledger:
        ledger.begin(WALK)
        for sequence in (0, 2, 1):
            ledger.complete(raw_page(sequence), receipt(sequence))
        before = ledger.pages()
    with Ledger.open(tmp_path, purpose="test") as ledger:
        assert ledger.pages() == before
        assert [page.page.sequence for page in before] == [0, 1, 2]
        assert before[1].counts == Counts(5, 3, 1, 1, 2)
        assert (before[1].after, before[1].first, before[1].last) == (
            Position(99, "after"),
            Position(98, "first"),
            Position(97, "last"),
        )
        (walk,) = ledger.walks()
        assert (walk.until, walk.head, walk.state) == (Position(None, "u"), Position(99, "first"), "active")


def test_pages_of_the_database_rebuild_a_lost_sidecar(tmp_path: Path) -> None:
    pages = [
        CompletedPage(
            PageId(walk, n), None if n == 0 else "c", "d", False, 5, 5, None, Position(9, walk), None, Counts(5, 5)
        )
        for walk in ("a", "b")
        for n in (1, 0, 2)
    ]
    walks = rebuilt(pages, [])
    with Ledger.open(tmp_path, purpose="test") as ledger:
        assert ledger.adopt_pages(pages, walks) == 6
        assert ledger.adopt_pages(pages) == 0
        assert ledger.walks() == walks
        assert [page.page.sequence for page in ledger.pages("a")] == [0, 1, 2]


def test_a_branch_takes_the_head_that_its_walk_has_by_then(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, purpose="test") as ledger:
        ledger.begin(WALK)
        ledger.complete(raw_page(0), receipt(0))
        ledger.branch("w1", "diverged", Walk("w2", None, "c1", Position(98, "last"), None, "active"))
        assert [(walk.walk, walk.state, walk.head) for walk in ledger.walks()] == [
            ("w1", "diverged", Position(99, "first")),
            ("w2", "active", Position(99, "first")),
        ]


def test_counts_of_marked_pages_are_taken_over_from_the_database(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, purpose="test") as ledger:
        ledger.begin(WALK)
        ledger.complete(raw_page(0), receipt(0))
        ledger.complete(raw_page(1), receipt(1))
        ledger.recount([dataclasses.replace(ledger.pages()[0], counts=Counts(5, 4, 1, 0, 1))])
        assert [page.counts for page in ledger.pages()] == [Counts(5, 4, 1, 0, 1), Counts(5, 3, 1, 1, 2)]


@pytest.mark.parametrize("newest", ["rejected", "poisoned"])
def test_a_walk_that_ended_has_a_head_whatever_became_of_its_newest_event(newest: str, tmp_path: Path) -> None:
    nameless = dataclasses.replace(raw_page(0), first=None)
    with Ledger.open(tmp_path, purpose="test") as ledger:
        ledger.begin(WALK)
        if newest == "poisoned":
            ledger.spool.set_aside(nameless, "workers died")
        else:
            ledger.complete(nameless, receipt(0))
        ledger.complete(raw_page(1), receipt(1))
        ledger.end("w1", "finished")
        (walk,) = ledger.walks()
    assert walk.head == nameless.last


def test_the_pages_of_a_sweep_are_known_with_their_windows_completed_and_spooled(tmp_path: Path) -> None:
    sweep = Walk("s1", None, None, Position(80, "p"), None, "active", FEED, is_sweep=True)
    window, other = Window("s1", 90, None), Window("s1", None, 89)
    with Ledger.open(tmp_path, purpose="test") as ledger:
        ledger.begin(sweep)
        ledger.complete(dataclasses.replace(raw_page(0), window=window), receipt(0))
        ledger.spool.put(dataclasses.replace(raw_page(0, walk="w2"), window=other))
        ledger.complete(raw_page(0, walk="w3"), Receipt(PageId("w3", 0), 0, Counts(5, 5), False, 0.0, 0.0))
    with Ledger.open(tmp_path, purpose="test") as ledger:
        assert ledger.walks() == [sweep]
        assert {page.page.walk: page.window for page in ledger.swept("s1")} == {"w1": window, "w2": other}
        assert ledger.spool.next() == dataclasses.replace(raw_page(0, walk="w2"), window=other)
        assert [page.window for page in ledger.pages("w1")] == [window]
        ledger.end("s1", "finished")
        assert ledger.walks()[0].head == raw_page(0).first, "that of the newest window"


def test_facts_are_kept_by_name(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, purpose="test") as ledger:
        assert ledger.fact("total") is None
        ledger.keep(total=5, fetching={"limit": 1000})
        ledger.keep(total=6)
        assert (ledger.fact("total"), ledger.fact("fetching")) == (6, {"limit": 1000})


def test_a_second_owner_is_kept_out_and_told_who_runs(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, purpose="bin/ingest"):
        with pytest.raises(AlreadyRunningError, match=r"in use by bin/ingest \(process \d+, since") as caught:
            Ledger.open(tmp_path, purpose="other")
        assert caught.value.exit_code == 6
    Ledger.open(tmp_path, purpose="other").close()


def test_the_lock_dies_with_its_owner(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom datasync_ingest.ledger import Ledger\n"
        "ledger = Ledger.open(Path(sys.argv[1]), purpose='victim')\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False).returncode == -9
    Ledger.open(tmp_path, purpose="test").close()


def test_the_history_of_runs_says_how_each_ended(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, purpose="test") as ledger:
        with ledger.run() as ending:
            ending.exit_code, ending.sentence = 0, "complete"
        with pytest.raises(DataDirectoryError), ledger.run():
            raise DataDirectoryError("no room")
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        rows = connection.execute("SELECT exit_code, ending FROM runs ORDER BY run").fetchall()
    assert rows == [(0, "complete"), (2, "no room")]


@pytest.mark.parametrize(
    "content", [b"not a database, and longer than a header" * 50, b"SQLite format 3\0" + b"\xff" * 4080]
)
def test_garbage_is_a_named_error_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(IngestError) as caught:
        Ledger.open(tmp_path, purpose="test")
    assert caught.value.exit_code == 2
    assert str(tmp_path) in str(caught.value)
    assert (tmp_path / FILE_NAME).read_bytes() == content


def test_a_sidecar_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    Ledger.open(tmp_path, purpose="test").close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(LedgerDamagedError, match="newer version"):
        Ledger.open(tmp_path, purpose="test")


def test_a_sidecar_of_the_first_version_goes_on(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.executescript(f"{STEPS[0]} PRAGMA user_version = 1")
        connection.execute("INSERT INTO runs (begun_at) VALUES (5)")
        connection.commit()
    with Ledger.open(tmp_path, purpose="test") as ledger, ledger.run() as ending:
        assert ending.run == 2
        ledger.begin(WALK)
        assert ledger.complete(raw_page(0), receipt(0))


def test_a_submission_that_an_earlier_version_noted_is_kept(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.executescript(f"{STEPS[0]} {STEPS[1]} PRAGMA user_version = 2")
        connection.execute("INSERT INTO submissions VALUES (1, 5, 'repo', 'ids.txt', 3, 12, 'sha', 'here', 6, 200, '')")
        connection.commit()
    with Ledger.open(tmp_path, purpose="test") as ledger:
        (found,) = ledger.submissions.all()
    assert (found.intended_at, found.status, found.key) == (5, 200, None)


def test_the_history_of_a_run_is_kept_with_it(tmp_path: Path) -> None:
    request = RequestEnded(PageId("w1", 3), 2, 7.0, 0.5, 502, "fault", detail="bad gateway")
    with Ledger.open(tmp_path, purpose="test") as ledger, ledger.run({"BATCH_SIZE": "5"}) as ending:
        ledger.happened(ending.run, [request], [Sample(8.0, {"committed": 3}, {"fetching": 1.5})])
        ledger.happened(ending.run, incidents=[Incident(9.0, "warning", "walk", "w1/3", "sentence")])
        ending.summary = {"complete": True}
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        assert connection.execute("SELECT options, summary FROM runs").fetchall() == [
            ('{"BATCH_SIZE": "5"}', '{"complete": true}')
        ]
        assert connection.execute("SELECT page, attempt, at, seconds, status, detail FROM requests").fetchall() == [
            ("w1/3", 2, 7.0, 0.5, 502, "bad gateway")
        ]
        assert connection.execute("SELECT snapshot, seconds FROM samples").fetchall() == [
            ('{"committed": 3}', '{"fetching": 1.5}')
        ]
        assert connection.execute("SELECT level, room, page, message FROM incidents").fetchall() == [
            ("warning", "walk", "w1/3", "sentence")
        ]


# --- a new one in the place of the old one ---

SUBMISSION = {"github_repo": "repo", "path": "ids.txt", "ids": 3, "size": 12, "sha256": "sha", "source": "here"}


def old_sidecar(directory: Path) -> None:
    with Ledger.open(directory, purpose="test") as ledger:
        ledger.keep(total=5, kept={"at": 1.0})
        ledger.begin(WALK)
        ledger.complete(raw_page(0), receipt(0))
        ledger.submissions.intend(**SUBMISSION, key="ours")  # type: ignore[arg-type]


def anew(directory: Path) -> Ledger:
    return Ledger.open_anew(directory, purpose="test", facts=("kept", "unknown"))


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} - {"ledger.lock"}


def set_aside(directory: Path) -> Path:
    (aside,) = (directory / name for name in names(directory) - {FILE_NAME} if not name.endswith(("-wal", "-shm")))
    return aside


def test_a_new_sidecar_takes_the_place_of_the_old_one_with_what_outlives_it(tmp_path: Path) -> None:
    old_sidecar(tmp_path)
    with anew(tmp_path) as ledger, ledger.run() as ending:
        assert ending.run == 1
        ledger.take_place()
        ledger.keep(total=6)
        ledger.take_place()
    with Ledger.open(tmp_path, purpose="test") as ledger:
        assert (ledger.fact("total"), ledger.fact("kept"), ledger.fact("unknown")) == (6, {"at": 1.0}, None)
        assert [one.key for one in ledger.submissions.all()] == ["ours"]
        assert (ledger.pages(), ledger.walks()) == ([], [])
    with closing(sqlite3.connect(set_aside(tmp_path))) as connection:
        assert connection.execute("SELECT count(*) FROM pages").fetchone() == (1,)


def test_a_new_sidecar_that_does_not_come_to_its_place_leaves_the_old_one(tmp_path: Path) -> None:
    old_sidecar(tmp_path)
    with anew(tmp_path) as ledger:
        ledger.keep(total=6)
    assert names(tmp_path) == {FILE_NAME}
    with Ledger.open(tmp_path, purpose="test") as ledger:
        assert ledger.fact("total") == 5
        assert len(ledger.pages()) == len(ledger.submissions.all()) == 1


def test_a_new_sidecar_that_was_killed_before_it_took_its_place_is_removed(tmp_path: Path) -> None:
    old_sidecar(tmp_path)
    killed = f"""
import os
from pathlib import Path
from datasync_ingest.ledger import Ledger
ledger = Ledger.open_anew(Path({str(tmp_path)!r}), purpose="test", facts=("kept",))
ledger.keep(total=6)
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == 9
    assert len(names(tmp_path)) > 1
    with Ledger.open(tmp_path, purpose="test") as ledger:
        assert ledger.fact("total") == 5
    assert names(tmp_path) == {FILE_NAME}


@pytest.mark.parametrize("call", ["link", "replace"])
def test_a_process_that_dies_while_the_new_one_takes_the_place_loses_no_try(tmp_path: Path, call: str) -> None:
    old_sidecar(tmp_path)
    killed = f"""
import os
from pathlib import Path
from datasync_ingest.ledger import Ledger
ledger = Ledger.open_anew(Path({str(tmp_path)!r}), purpose="test", facts=("kept",))
os.{call} = lambda *_: os._exit(9)
ledger.take_place()
"""
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == 9
    with Ledger.open(tmp_path, purpose="test") as ledger:
        assert (ledger.fact("total"), ledger.fact("kept")) == (5, {"at": 1.0})
        assert len(ledger.submissions.all()) == 1


def test_a_place_that_cannot_be_taken_is_a_named_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    old_sidecar(tmp_path)
    with anew(tmp_path) as ledger:
        monkeypatch.setattr("os.replace", refuse)
        with pytest.raises(DataDirectoryError, match="cannot be used: Operation not permitted"):
            ledger.take_place()
        ledger.keep(total=6)
    with Ledger.open(tmp_path, purpose="test") as ledger:
        assert ledger.fact("total") == 5


def test_where_there_are_no_hard_links_the_old_one_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    old_sidecar(tmp_path)
    with anew(tmp_path) as ledger:
        ledger.take_place()
    with Ledger.open(tmp_path, purpose="test") as ledger:
        assert (ledger.fact("total"), ledger.fact("kept")) == (None, {"at": 1.0})
    assert set_aside(tmp_path).is_file()


def test_without_an_old_sidecar_nothing_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with anew(tmp_path) as ledger:
        ledger.take_place()
        ledger.keep(total=6)
    with Ledger.open(tmp_path, purpose="test") as ledger:
        assert ledger.fact("total") == 6
    assert names(tmp_path) == {FILE_NAME}
    assert caplog.messages == []


@pytest.mark.parametrize("steps", [1, 2])
def test_what_an_older_sidecar_has_is_taken_over(tmp_path: Path, steps: int) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.executescript(f"{' '.join(STEPS[:steps])} PRAGMA user_version = {steps}")
        connection.execute("INSERT INTO facts VALUES ('kept', '1')")
        connection.commit()
    with anew(tmp_path) as ledger:
        ledger.take_place()
        assert (ledger.fact("kept"), ledger.submissions.all()) == (1, [])


def test_what_a_newer_sidecar_has_is_taken_over(tmp_path: Path) -> None:
    old_sidecar(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.executescript(
            f"ALTER TABLE submissions ADD COLUMN later TEXT; PRAGMA user_version = {SCHEMA_VERSION + 1}"
        )
    with anew(tmp_path) as ledger:
        ledger.take_place()
        assert ledger.fact("kept") == {"at": 1.0}
        assert len(ledger.submissions.all()) == 1


def test_a_garbage_sidecar_is_set_aside_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = b"this is not a database" * 100
    (tmp_path / FILE_NAME).write_bytes(content)
    with anew(tmp_path) as ledger:
        ledger.take_place()
        ledger.keep(total=6)
    with Ledger.open(tmp_path, purpose="test") as ledger:
        assert ledger.fact("total") == 6
    assert set_aside(tmp_path).read_bytes() == content
    assert "are not known any more" in caplog.text


def test_a_data_directory_that_is_a_file_is_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(DataDirectoryError, match="cannot be used"):
        Ledger.open(tmp_path / "data", purpose="test")
