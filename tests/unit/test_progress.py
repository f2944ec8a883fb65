"""What the person sees: the status line, the plain lines, the JSON lines, the bar, and no secret."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest

from datasync_ingest.books import Balance
from datasync_ingest.messages import Counts
from datasync_ingest.postgres.source import Holdings
from datasync_ingest.progress import LINE_EVERY_S, Bar, JsonLines, Lines, Snapshot, display, logging_to
from datasync_ingest.settings import Secret, Settings
from datasync_ingest.summary import Summary

SNAPSHOT = Snapshot(
    committed=150_000,
    initial=50_000,
    total=3_000_000,
    rate=250.4,
    left_s=11_400,
    requests=150,
    requests_left=3,
    queued=2,
    spooled=41,
    rejected=7,
    key_left_s=9_000,
    waiting="rate limit, 41 s",
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def settings(tmp_path: Path, **changes: str) -> Settings:
    return Settings(
        api_key=Secret("the-key"),
        database=Secret("host=h password=hunter2"),
        data_dir=tmp_path,
        worker_concurrency=2,
        **changes,  # type: ignore[arg-type]
    )


def test_the_status_line_names_everything_that_matters() -> None:
    assert SNAPSHOT.status() == (
        "250 events/s | 3 h 10 min left | requests left 3 | queue 2 | spool 41 | rejected 7 | rate limit, 41 s"
        " | key ends in 2 h 30 min"
    )


def test_off_a_terminal_there_is_one_line_every_five_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = Lines(stream, clock=clock)
    for tenth in range(120):
        clock.now = tenth / 10
        lines.show(SNAPSHOT)
    assert stream.getvalue() == "Progress: 150,000 events | 250 events/sec | Requests: 150\n" * 2
    assert LINE_EVERY_S == 5.0


def test_json_lines_hold_the_whole_snapshot() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = JsonLines(stream, clock=clock)
    clock.now = 6.0
    lines.show(SNAPSHOT)
    found = json.loads(stream.getvalue())
    assert found["waiting"] == "rate limit, 41 s"
    assert found["message"] == "Progress: 150,000 events | 250 events/sec | Requests: 150"
    assert found["level"] == "info"


def test_the_bar_shows_what_is_committed_of_the_total_and_log_lines_do_not_tear_it() -> None:
    stream = io.StringIO()
    bar = Bar(stream)
    bar.show(SNAPSHOT)
    bar.write("a log line")
    bar.show(SNAPSHOT)
    bar.close()
    shown = stream.getvalue()
    assert "150,000/3,000,000 events" in shown
    assert "rate limit, 41 s" in shown
    assert "a log line\n" in shown


def test_the_bar_can_do_without_a_total() -> None:
    stream = io.StringIO()
    bar = Bar(stream)
    unknown = Snapshot(7, 0, None, 0.0, None, 1, None, 0, 0, 0, None, "")
    bar.show(unknown)
    bar.show(SNAPSHOT)
    bar.close()
    assert "7 events" in stream.getvalue()
    assert "150,000/3,000,000" in stream.getvalue()


def test_the_display_fits_the_stream() -> None:
    assert isinstance(display("auto", io.StringIO()), Lines)
    assert isinstance(display("bar", io.StringIO()), Bar)
    assert isinstance(display("json", io.StringIO()), JsonLines)
    assert isinstance(display("auto", io.StringIO(), log_format="json"), JsonLines)
    assert not isinstance(display("lines", io.StringIO(), log_format="json"), JsonLines)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_log_lines_are_masked_and_have_the_chosen_format(log_format: str, tmp_path: Path) -> None:
    stream = io.StringIO()
    chosen = settings(tmp_path, log_format=log_format)
    with logging_to(Lines(stream), chosen, debug=False):
        logging.getLogger("datasync_ingest.somewhere").warning("the-key and hunter2 leaked")
        logging.getLogger("datasync_ingest.somewhere").debug("not asked for")
    (line,) = stream.getvalue().splitlines()
    assert "*** and *** leaked" in line
    if log_format == "json":
        assert json.loads(line)["level"] == "warning"


def summary(events: int, total: int | None, rejected: int = 0) -> Summary:
    return Summary(
        balance=Balance(Holdings(events, rejected), total),
        counts=Counts(events, events, 0, rejected, 0),
        pages=3,
        requests=4,
        retries=1,
        limited=0,
        elapsed_s=2.0,
        seconds={"fetching": 1.25, "rate limit": 0.7},
        demo=False,
    )


@pytest.mark.parametrize(
    ("found", "title", "follows"),
    [
        (summary(100, 100), "Complete.", "bin/export-ids"),
        (summary(99, 100, rejected=1), "Complete.", "bin/export-ids"),
        (summary(101, 100), "Complete.", "bin/export-ids"),
        (summary(100, None), "Complete.", "bin/export-ids"),
        (summary(98, 100, rejected=1), "Incomplete: 1 events missing.", "run bin/ingest again"),
    ],
)
def test_the_summary_says_whether_it_is_complete_and_what_comes_next(found: Summary, title: str, follows: str) -> None:
    text = found.text()
    assert text.splitlines()[0] == title
    assert follows in text.splitlines()[-1]
    assert "fetching 1.2 s, rate limit 0.7 s" in text
    assert ("unknown" in text) == (found.balance.total is None)
