"""What a status says, and how often it asks the database."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from datasync_ingest.errors import LedgerDamagedError
from datasync_ingest.key_clock import KeyEnd
from datasync_ingest.ledger import Incident, PoisonedPage, Sample
from datasync_ingest.ledger.standing import Export, LastRun, Pages, Spooled, Standing, Submission
from datasync_ingest.messages import Counts, PageId
from datasync_ingest.postgres.contents import Contents, Sizes
from datasync_ingest.status.state import ACTIVE, ENDED, KILLED, STARTING, Status, Table
from datasync_ingest.status.text import lines
from datasync_ingest.status.watching import PATIENCE_S, TableWatch

NOW = 1_800_000_000.0
DIRECTORY = Path("data")
NO_TABLE = Table("embedded PostgreSQL", NOW, why="It is not running.")
SNAPSHOT = {
    "committed": 1000,
    "initial": 100,
    "total": 4000,
    "rate": 833.4,
    "left_s": 90.0,
    "requests": 3,
    "requests_left": 7,
    "queued": 2,
    "waiting": "rate limit, 41 s",
}
RUN = LastRun(
    3,
    NOW - 100,
    None,
    None,
    None,
    inserted=1500,
    received_lately=6000,
    sample=Sample(NOW - 10, SNAPSHOT, {}),
    requests={"page": 2, "limited": 1},
    warnings=2,
    last_warning=Incident(NOW - 5, "warning", "walk", None, "429"),
)
INGEST = "bin/ingest (process 4711, since 2026-11-24 12:51:56)"


def sidecar(run: LastRun | None = RUN, *, version: int = 2, poisoned: int = 0) -> Standing:
    return Standing(
        DIRECTORY / "ledger.sqlite3",
        version,
        {"source": "http://here", "database_id": "ours"},
        4000,
        {"active": 1, "finished": 2},
        Pages(7, Counts(2000, 1900, 60, 40, 5), NOW - 3),
        Spooled(3, 2**20, [PoisonedPage(PageId("0123456789", n), 50, "3 workers died") for n in range(poisoned)]),
        run,
        Export("ids.txt", 10, "ab12", NOW - 50),
        [
            Submission(1, NOW - 40, "https://repo", 10, None, None),
            Submission(2, NOW - 30, "https://repo", 10, NOW, 200),
        ],
    )


def status(
    found: Standing | None, *, holder: str | None = None, table: Table = NO_TABLE, key: KeyEnd | None = None
) -> Status:
    return Status(NOW, DIRECTORY, holder, found, None, table, key)


def said(found: Status) -> str:
    return "\n".join(text for _, text in lines(found))


def test_a_run_that_is_active_is_told_with_its_progress_rate_time_left_and_wait() -> None:
    found = status(sidecar(), holder=INGEST)
    assert found.run_state == ACTIVE
    text = said(found)
    for words in (
        f"Run 3 is active: {INGEST}.",
        "40.0 %, 1,600 of 4,000 events are in the table",
        "833 events/s, 100 in the last minute",
        "1 min 20 s",
        "rate limit, 41 s",
        "2 pages fetched and not yet committed",
        "7 in this window",
        "10 s ago",
        "3 (page 2, limited 1)",
        ": 429",
    ):
        assert words in text, words


def test_a_run_without_an_ending_that_nobody_runs_was_killed() -> None:
    found = status(sidecar())
    assert found.run_state == KILLED
    assert "The last run, 3, was killed: it began at" in said(found)
    assert "bin/ingest goes on from there." in said(found)
    assert "1,600 of 4,000" in said(found)


def test_an_export_under_way_is_no_run() -> None:
    found = status(sidecar(), holder="bin/export-ids (process 1, since now)")
    assert found.run_state == KILLED
    assert "in use by bin/export-ids" in said(found)


def test_a_run_that_has_not_entered_itself_yet_is_starting() -> None:
    ended = LastRun(2, NOW - 100, NOW - 50, 0, "complete")
    for found in (status(sidecar(ended), holder=INGEST), status(None, holder=INGEST)):
        assert found.run_state == STARTING
        assert f"A run is starting: {INGEST}." in said(found)


@pytest.mark.parametrize(("code", "onward"), [(0, False), (3, True)])
def test_an_ending_is_told_with_its_exit_code_and_what_comes_next(code: int, onward: bool) -> None:
    ended = LastRun(2, NOW - 100, NOW - 50, code, "It\nended", summary={"events_in_table": 77})
    found = status(sidecar(ended))
    assert found.run_state == ENDED
    assert f"after 50 s, exit code {code}: It ended." in said(found)
    assert ("goes on from there" in said(found)) is onward
    assert "1.9 %, 77 of 4,000" in said(found)


def test_walks_pages_spool_books_exports_and_submissions_are_told() -> None:
    text = said(status(sidecar(poisoned=7)))
    for words in (
        "1 active, 2 finished",
        "7 completed, 3 in the spool, 7 poisoned (1.0 MiB)",
        "01234567/0 (50 events): 3 workers died",
        "and 2 more; --json names them all",
        "--retry-poisoned",
        "2,000 received = 1,900 inserted + 60 already there + 40 rejected; 5 repaired",
        "10 IDs, ids.txt, SHA-256 ab12",
        "not known whether it arrived",
        "answered 200",
    ):
        assert words in text, words


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (None, "no call was made with it yet"),
        (KeyEnd(NOW + 600, True), "ends in 10 min 00 s"),
        (KeyEnd(NOW + 600, False), "it is not the key of the settings"),
        (KeyEnd(NOW - 1, None), "is past its 3 hours"),
    ],
)
def test_the_end_of_the_key_is_told(key: KeyEnd | None, words: str) -> None:
    assert words in said(status(sidecar(), key=key))


def test_a_sidecar_without_history_says_so() -> None:
    run = LastRun(1, NOW - 9, NOW - 8, 0, "complete")
    assert "an older version made this sidecar" in said(status(sidecar(run, version=1)))


def test_a_sidecar_that_cannot_be_read_leaves_the_rest() -> None:
    error = LedgerDamagedError("The sidecar is garbage.", hint="Copy it again.")
    table = Table("named", NOW, Contents("http://here", "ours", events=5))
    found = Status(NOW, DIRECTORY, None, None, error, table)
    assert found.error is error
    for words in ("The sidecar is garbage.", "Copy it again.", "5 events are in the table"):
        assert words in said(found)
    assert "bin/ingest begins" not in said(found)


def test_the_table_is_told_by_reason_type_and_day() -> None:
    contents = Contents(
        "http://here",
        "theirs",
        Sizes(2**20, 2**19, 2**10),
        3000,
        [("click", 2000), ("", 1000)],
        [("2026-01-01", 2900), ("", 100)],
        [("no id", 4)],
        [(f"repair {n}", 1) for n in range(12)],
        11,
        ["sizes: too long"],
    )
    text = said(status(sidecar(), table=Table("named", NOW - 5, contents)))
    for words in (
        "3,000",
        "1.5 MiB, of which the index 512.0 KiB",
        "4  no id",
        "1  repair 0",
        "and 2 more reasons",
        "sizes: too long",
        "another database",
        "click           2,000  ##############################",
        "without a type  1,000  ###############",
        "2026-01-01      2,900",
        "without a time    100  #",
        "5 s ago",
    ):
        assert words in text, words


def test_what_the_api_has_named_does_not_speak_to_the_terminal() -> None:
    contents = Contents("http://here", "ours", events=1, by_type=[("\x1b[2Jgone\x07", 1)], by_day=[])
    assert "\x1b" not in said(status(sidecar(), table=Table("named", NOW, contents)))


def test_the_database_is_asked_at_most_for_a_twentieth_of_the_time() -> None:
    now, asked = [0.0], []

    def look() -> Table:
        asked.append(now[0])
        now[0] += 3.0
        return Table("named", now[0])

    watch = TableWatch(look, name="named", clock=lambda: now[0])
    for _ in range(70):
        watch.table(10.0)
        now[0] += 1.0
    assert asked == [0.0, 63.0]


def test_a_database_that_does_not_answer_is_waited_for_no_longer_than_asked() -> None:
    now, answer = [0.0], threading.Event()

    def look() -> Table:
        answer.wait()
        return Table("named", 0.0, Contents(None, None))

    watch = TableWatch(look, name="named", clock=lambda: now[0])
    assert watch.table(0.01).why == "It has not answered yet."
    now[0] = PATIENCE_S
    late = watch.table(0.01)
    assert late.error is not None
    assert late.error.exit_code == 4
    answer.set()
    assert watch.table(10.0).contents is not None
