"""The sidecar seen from outside, on real files: while it is written, half copied, damaged, or another version's."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from datasync_ingest.errors import AlreadyRunningError, ConfigurationError, LedgerDamagedError
from datasync_ingest.ledger import FILE_NAME, SCHEMA_VERSION, Incident, Ledger, Sample, Walk
from datasync_ingest.ledger.lock import holder, take
from datasync_ingest.ledger.reading import LedgerView, seen
from datasync_ingest.ledger.sidecar import STEPS
from datasync_ingest.ledger.standing import Standing, standing
from datasync_ingest.messages import Counts, PageId, RawPage, Receipt, RequestEnded
from datasync_ingest.status.state import Status, Table, sidecar_key
from datasync_ingest.status.text import lines
from tests.harness import clean_environment

WALK = Walk("0123456789", until=None, cursor=None, after=None, head=None, state="active")


def raw_page(sequence: int) -> RawPage:
    return RawPage(PageId(WALK.walk, sequence), None, "next", False, 5, 5, None, None, None, 50, None, os.urandom(1000))


def mark(ledger: Ledger, sequence: int) -> None:
    receipt = Receipt(PageId(WALK.walk, sequence), 0, Counts(5, 3, 1, 1, 2), False, 0.1, 0.2)
    assert ledger.complete(raw_page(sequence), receipt)


def fill(ledger: Ledger, pages: int = 20) -> None:
    """Every table, in a run that ends."""
    ledger.begin(WALK)
    ledger.keep(total=50, source="here", database_id="d")
    with ledger.run({"BATCH_SIZE": "5"}) as ending:
        for sequence in range(pages):
            mark(ledger, sequence)
        ledger.spool.put(raw_page(pages))
        ledger.spool.set_aside(raw_page(pages + 1), "3 workers died over it")
        request = RequestEnded(PageId(WALK.walk, 0), 1, 10.0, 0.5, 200, "page")
        incidents = [Incident(1.0, "warning", "walk", None, "first"), Incident(2.0, "warning", "walk", None, "last")]
        ledger.happened(ending.run, [request], [Sample(20.0, {"initial": 7, "rate": 3.5}, {})], incidents)
        ending.exit_code, ending.sentence, ending.summary = 5, "short", {"events_in_table": 60}
    ledger.exported("ids.txt", ids=60, size=600, sha256="ab")


def stand(directory: Path) -> Standing:
    found = standing(directory, since=0.0)
    assert found is not None
    return found


def test_what_the_ledger_wrote_is_what_stands(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, purpose="test") as ledger:
        fill(ledger)
    found = stand(tmp_path)
    assert found.walks == {"active": 1}
    assert found.pages.completed == 20
    assert found.pages.counts == Counts(100, 60, 20, 20, 40)
    assert (found.spool.waiting, [page.page.sequence for page in found.spool.poisoned]) == (1, [21])
    assert found.spool.size > 2 * 900
    run = found.last_run
    assert run is not None
    assert (run.exit_code, run.ending, run.summary) == (5, "short", {"events_in_table": 60})
    assert (run.inserted, run.received_lately, run.requests, run.warnings) == (60, 100, {"page": 1}, 2)
    assert run.sample is not None
    assert run.sample.snapshot["rate"] == 3.5
    assert run.last_warning is not None
    assert run.last_warning.message == "last"
    assert found.export is not None
    assert found.export.ids == 60


def test_nothing_stands_where_nothing_was_begun_and_nothing_is_made(tmp_path: Path) -> None:
    assert standing(tmp_path / "none", since=0.0) is None
    assert not (tmp_path / "none").exists()
    (tmp_path / FILE_NAME).touch()
    assert standing(tmp_path, since=0.0) is None
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_sidecar_that_nobody_has_open_is_read_without_a_trace(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, purpose="test") as ledger:
        fill(ledger)
    before = sorted(path.name for path in tmp_path.iterdir())
    stand(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_pages_are_marked_while_somebody_reads(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, purpose="test") as ledger:
        ledger.begin(WALK)
        mark(ledger, 0)

        def read(view: LedgerView) -> list[int]:
            found = [view.rows("SELECT count(*) FROM pages")[0][0]]
            mark(ledger, 1)
            return [*found, view.rows("SELECT count(*) FROM pages")[0][0]]

        assert seen(tmp_path, read) == [1, 1], "of one moment"
        assert stand(tmp_path).pages.completed == 2


def test_a_sidecar_that_a_run_opens_in_mid_reading_is_read_again(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, purpose="test") as ledger:
        ledger.begin(WALK)
    calls: list[LedgerView] = []

    def read(view: LedgerView) -> int:
        if not calls:
            with Ledger.open(tmp_path, purpose="test") as ledger:
                mark(ledger, 0)
        calls.append(view)
        return int(view.rows("SELECT count(*) FROM pages")[0][0])

    assert seen(tmp_path, read) == 1
    assert len(calls) == 2


def test_a_sidecar_of_the_first_version_is_read_without_history(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.executescript(f"{STEPS[0]} PRAGMA user_version = 1; INSERT INTO runs VALUES (1, 5, 6, 3, 'away');")
    found = stand(tmp_path)
    assert not found.has_history
    assert found.last_run is not None
    assert (found.last_run.ending, found.last_run.sample, found.submissions) == ("away", None, [])


def test_a_newer_sidecar_is_named_as_such(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.executescript(f"CREATE TABLE t (x); PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(LedgerDamagedError, match="newer version"):
        standing(tmp_path, since=0.0)


def test_a_copy_without_its_latest_changes_is_read_as_it_is(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, purpose="test") as ledger:
        fill(ledger)
        (tmp_path / "copy").mkdir()
        shutil.copy(tmp_path / FILE_NAME, tmp_path / "copy")
    assert standing(tmp_path / "copy", since=0.0) is None, "all of it was in the file of latest changes"


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_sidecar_is_a_sentence_or_told_as_far_as_it_makes_sense(seed: int, tmp_path: Path) -> None:
    with Ledger.open(tmp_path, purpose="test") as ledger:
        fill(ledger)
    path, dice = tmp_path / FILE_NAME, random.Random(seed)
    content = bytearray(path.read_bytes())
    if seed % 3 == 0:
        del content[dice.randrange(len(content)) :]
    else:
        used = [place for place in range(16, len(content)) if content[place]]
        for _ in range(dice.choice([1, 3, 20])):
            content[dice.choice(used)] = dice.randrange(256)
    path.write_bytes(content)
    try:
        found = standing(tmp_path, since=0.0)
    except ConfigurationError:
        return
    status = Status(0.0, tmp_path, None, found, None, Table("none", 0.0), sidecar_key(found, None))
    assert lines(status)
    assert json.dumps(status.as_json(), default=str)


def test_who_holds_the_lock_is_told_without_keeping_anybody_out(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    with take(tmp_path, "bin/ingest"):
        assert (holder(tmp_path) or "").startswith(f"bin/ingest (process {os.getpid()}, since ")
        with pytest.raises(AlreadyRunningError, match="in use by bin/ingest"):
            take(tmp_path, "another")
        assert holder(tmp_path) is not None
    assert holder(tmp_path) is None


# Asks without a pause, in the numbered directories of argv[1], until the last one is whole.
_ASK = """
import itertools, sys
from pathlib import Path
from datasync_ingest.ledger.lock import holder
from datasync_ingest.ledger.standing import standing

parent, last, asked = Path(sys.argv[1]), int(sys.argv[2]), 0
print("begins", flush=True)
for number in range(last + 1):
    found = None
    while found is None or "total" not in found.facts or holder(parent / str(number)):
        found = standing(parent / str(number), since=0.0)
        asked += 1
print(asked)
"""


def test_nobody_who_makes_a_sidecar_is_held_up_or_refused_because_somebody_looks(tmp_path: Path) -> None:
    words = [sys.executable, "-c", _ASK, str(tmp_path), "19"]
    askers = [subprocess.Popen(words, env=clean_environment(), stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for asker in askers:
        assert asker.stdout is not None
        assert asker.stdout.readline() == "begins\n"
    for number in range(20):
        with Ledger.open(tmp_path / str(number), purpose="test") as ledger:
            ledger.keep(total=number)
    for asker in askers:
        out, _ = asker.communicate(timeout=30)
        assert asker.returncode == 0
        assert int(out) >= 20
