"""What a report makes of a run's history: how each fault ended, where the time went, and text that stays text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from datasync_ingest.ledger import Incident, Sample
from datasync_ingest.ledger.run_history import PastPage, PastRequest, PastRun
from datasync_ingest.report import faults, timeline
from datasync_ingest.report.figures import Column, Figure, count, thinned
from datasync_ingest.report.gathering import ShownRun
from datasync_ingest.report.markup import Html, element, joined
from tests.pages import parsed, table_of


def request(at: float, page: str, outcome: str = "page", status: int | None = 200, attempt: int = 1) -> PastRequest:
    return PastRequest(at, 0.5, page, attempt, status, outcome, 100, 0)


def page(name: str, at: float, *, run: int = 1, limit: int = 100) -> PastPage:
    return PastPage(name, run, at, limit, limit, limit, 0, 0, 0, 0.01, 0.02)


def sample(at: float, **seconds: float) -> Sample:
    return Sample(
        at, {"initial": 0, "committed": 10, "total": 20}, {k.replace("_", " "): v for k, v in seconds.items()}
    )


def shown(*requests: PastRequest, pages: tuple[PastPage, ...] = (), later: tuple[PastPage, ...] = (), **facts: Any):
    past = PastRun(1, 0.0, 100.0, 0, "complete", {}, None, False, requests=requests, pages=pages)
    return ShownRun("run 1", replace(past, **facts), 0.0, {one.page: one for one in (*pages, *later)})


def endings(run: ShownRun) -> list[str]:
    return [fault.ending for fault in faults.faults([run])]


def test_a_fault_that_was_asked_again_tells_its_attempts_and_seconds():
    run = shown(
        request(1, "w/1", "fault", 502),
        request(3, "w/1", "fault", None, attempt=2),
        request(7, "w/1", attempt=3),
        pages=(page("w/1", 8),),
    )
    first, second = faults.faults([run])
    assert (first.ending, first.attempts, first.seconds) == (faults.ANSWERED, 2, 6.5)
    assert (second.ending, second.attempts, second.seconds) == (faults.ANSWERED, 1, 4.5)


def test_a_page_that_came_smaller_than_the_others_was_halved():
    pages = (page("w/0", 1), page("w/1", 9, limit=50), page("w/2", 10))
    run = shown(request(1, "w/1", "not whole"), request(7, "w/1", attempt=2), pages=pages)
    assert endings(run) == [faults.HALVED]


def test_a_refused_cursor_after_which_a_known_page_was_asked_for_was_renewed():
    refused = request(5, "w/1", "refused", 400)
    known = shown(refused, request(6, "w/0"), request(7, "v/0"), pages=(page("w/0", 1), page("v/0", 8)))
    assert endings(known) == [faults.RENEWED]
    answered = shown(refused, request(6, "w/0"), request(7, "w/1", attempt=2), pages=(page("w/0", 1), page("w/1", 8)))
    assert endings(answered) == [faults.RENEWED]
    anew = shown(refused, request(6, "v/0"), pages=(page("w/0", 1), page("v/0", 8)))
    assert endings(anew) == [faults.ELSEWHERE]


def test_a_fault_without_an_answer_ends_as_its_run_did():
    fault = request(5, "w/1", "fault", 500)
    assert endings(shown(fault, later=(page("w/1", 200, run=2),))) == [faults.LATER_RUN]
    assert endings(shown(fault)) == [faults.OPEN]
    assert endings(shown(fault, active=True, ended_at=None)) == [faults.PENDING]
    stopped = faults.listing(faults.faults([shown(fault, ending="Stopped by SIGINT")]))
    assert stopped.rows[0][-1] == "not answered in this run, it ended: Stopped by SIGINT"


def test_a_probe_that_was_answered_is_no_fault():
    assert endings(shown(request(1, "w/1", "probe"))) == []


def test_warnings_that_differ_in_numbers_are_one_row_that_says_what_came_after():
    told = [
        Incident(at, "warning", "api", None, f"page 01234567/{at:.0f}: asking again in {at:.0f} s") for at in (1, 4)
    ]
    last = Incident(50, "error", "copying", None, "the end")
    run = shown(pages=(page("w/0", 3), page("w/1", 9)), incidents=(*told, last), ending="no room")
    first, second = faults.incidents([run]).rows
    assert (first[2], first[3], first[6:]) == (told[0].message, 2, (5, "the run went on 2 times"))
    assert second[6:] == (None, "nothing more was committed in run 1: it ended: no room")


def test_the_time_of_a_run_is_all_accounted_for():
    run = shown(ended_at=40.0, samples=(sample(10, fetching=4), sample(20, fetching=6, rate_limit=7)))
    run = replace(run, stopped_s=30.0)
    spent = {row[1]: row[2] for row in timeline.time_spent([run]).rows}
    assert spent == {"fetching": 6, "rate limit": 7, "else": 27, "stopped": 30}
    when = timeline.time_spent_when([run]).rows
    seconds = [(row[3], float(row[2] or 0) * float(row[4] or 0) * 60 / 100) for row in when]
    assert sum(spent for _, spent in seconds) == pytest.approx(40)
    assert sum(spent for cause, spent in seconds if cause == "rate limit") == pytest.approx(7)


def test_a_run_that_was_killed_before_anything_was_kept_makes_a_page_part_all_the_same():
    run = shown(ended_at=None, exit_code=None, ending=None)
    assert run.elapsed_s == 0
    for figure in (timeline.events_in_the_table, timeline.throughput, timeline.time_spent, timeline.time_spent_when):
        assert parsed(figure([run]).html())


def test_throughput_is_what_was_committed_by_the_time_it_took():
    run = shown(pages=(page("w/0", 5), page("w/1", 95, limit=300)), ended_at=100.0)
    rows = timeline.throughput([run]).rows
    assert sum(row[2] for row in rows[:-1]) == 400  # type: ignore[misc]


def test_text_is_escaped_and_what_cannot_be_seen_is_shown():
    assert element("p", "<b>&", title='"<') == '<p title="&quot;&lt;">&lt;b&gt;&amp;</p>'
    assert joined(["a\u202eb\x00", Html("<i>")]) == "a\\u{202e}b\\u{0}<i>"
    assert joined("\ud800 é 日本") == "\\u{d800} é 日本"


def test_a_zero_is_a_number_and_nothing_is_an_empty_cell():
    figure = Figure("name", "Title", "Note.", (Column("a"), count("b")), [("x", 0), ("<y>", None)])
    assert table_of(parsed(figure.html())) == (["a", "b"], [["x", "0"], ["<y>", ""]])


@pytest.mark.parametrize(("rows", "at_most"), [(5, 5), (6, 5), (1000, 7)])
def test_thinning_keeps_the_first_and_the_last(rows: int, at_most: int):
    kept = [row[0] for row in thinned([(number,) for number in range(rows)], at_most)]
    assert (len(kept), kept[0], kept[-1]) == (at_most, 0, rows - 1)
    assert len(set(kept)) == at_most
