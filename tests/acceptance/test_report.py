"""`bin/report` as a user runs it: what the page says, that it loads nothing, and that Chromium has nothing to add."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from datasync_ingest.ledger import Incident, Ledger, Sample
from datasync_ingest.simulator.process import SimulatorProcess
from tests.harness import Database, Workplace, kill, until
from tests.pages import CHROMIUM, Element, in_chromium, parsed, table_of

EVENTS = 1_000
FLAGS = ("--batch-size", "100", "--worker-concurrency", "2")
FAULTS = ["502@3", "cut@5", "429@7", "missing-field=0.03", "nul=0.02"]
HOSTILE = "</script><script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">\u202e&amp;"


@pytest.fixture
def api(simulator: Callable[..., SimulatorProcess]) -> SimulatorProcess:
    return simulator(events=EVENTS, rate_limit=40, rate_window=1, fault=FAULTS)


def report(workplace: Workplace, *words: str, database: str | None = None) -> Element:
    named = workplace.environment["DATABASE_URL"] if database is None else database
    ended = workplace.run("report", *words, DATABASE_URL=named)
    assert ended.code == 0, ended.err
    return parsed((workplace.directory / "report.html").read_text(encoding="utf-8"))


def figure(page: Element, name: str) -> Element:
    """The figure or the section whose heading has this name."""
    parts = [*page.of_class("figure", "figure"), *page.of_class("section", "figure")]
    (found,) = [one for one in parts if any(head.attributes.get("id") == name for head in one.all("h3"))]
    return found


def sums(page: Element, name: str, column: str, by: str) -> dict[str, float]:
    titles, rows = table_of(figure(page, name))
    found: dict[str, float] = {}
    for row in rows:
        found[row[titles.index(by)]] = found.get(row[titles.index(by)], 0.0) + float(row[titles.index(column)])
    return found


def require_self_contained(text: str, page: Element) -> None:
    (policy,) = [
        one.attributes["content"] or ""
        for one in page.all("meta")
        if one.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    loading = {"src", "href", "srcset", "action", "data", "poster", "background", "style"}
    for name in {one.name for one in page.all("script")} | {"a", "link", "img", "iframe", "object", "form"}:
        for one in page.all(name):
            links = [one.attributes[key] for key in loading & one.attributes.keys()]
            assert all((link or "").startswith("#") for link in links), one.attributes
    assert not re.search(r"@import|url\(", "".join(one.text for one in page.all("style")))
    assert [one.name for one in page.all("link")] == []
    assert len(text.encode()) < 2_000_000


def require_drawn(path: Path, page: Element, *flags: str) -> None:
    """Chromium draws every chart from its table, has nothing to say, and did not run what came with the data."""
    document, console = in_chromium(path, *flags)
    charts = page.of_class("div", "chart")
    assert console == []
    assert f'data-drawn="{len(charts)}"' in document
    assert "data-error" not in document.split(">", 2)[1]
    assert "<title>Ingest report" in document
    drawn = {"dots": "dot", "bars": "bar", "days": "rect", "columns": "rect"}
    for one in parsed(document).all("figure"):
        (chart,) = one.of_class("div", "chart")
        if label := drawn.get(chart.attributes["data-kind"] or ""):
            groups = [group for group in chart.all("g") if group.attributes.get("aria-label") == label]
            marks = [mark for group in groups for mark in (*group.all("path"), *group.all("rect"))]
            assert len(marks) == len(table_of(one)[1]), chart.attributes["data-label"]


def test_a_page_tells_of_the_last_run_and_of_the_table(api: SimulatorProcess, workplace: Workplace, database: Database):
    workplace.ingest(*FLAGS, API_BASE_URL=api.url)
    page = report(workplace)
    text = (workplace.directory / "report.html").read_text(encoding="utf-8")
    require_self_contained(text, page)
    for chart in page.all("figure"):
        assert table_of(chart)[1], chart.text
    committed = database.value("SELECT count(*) FROM ingested_events")
    rejected = dict(database.query("SELECT reason, count(*) FROM rejected_events GROUP BY 1"))
    assert max(float(row[2]) for row in table_of(figure(page, "events-in-the-table"))[1]) == committed
    assert sums(page, "by-type", "events", "type").keys() >= {"page_view", "click"}
    for name in ("type", "device", "browser"):
        assert sum(sums(page, f"by-{name}", "events", name).values()) == committed
    assert sums(page, "rejects", "events", "reason") == rejected
    assert sums(page, "books-of-the-table", "events", "what")["missing"] == 0
    ((_, pages, received, inserted, already, rejects, balanced, _),) = table_of(figure(page, "books-of-the-runs"))[1]
    assert (pages, received, already, balanced) == ("10", str(EVENTS), "0", "yes")
    assert int(inserted) + int(rejects) == EVENTS
    titles, faults = table_of(figure(page, "faults-of-requests"))
    assert {row[0]: row[1:3] for row in faults} == {
        kind: ["asked again and answered", "1"]
        for kind in ("server error (502)", "no whole page", "too many requests (429)")
    }
    assert titles[:3] == ["fault", "what came of it", "times"]
    assert "after 1 more attempt and" in page.text
    spent = sums(page, "time-spent", "% of the run", "cause")
    assert {"fetching", "server trouble"} <= spent.keys()
    assert sum(spent.values()) == pytest.approx(100)


def test_killed_stopped_and_complete_runs_stand_side_by_side(
    simulator: Callable[..., SimulatorProcess], workplace: Workplace
):
    api = simulator(events=EVENTS, latency_ms=100)
    first = workplace.start("ingest", *FLAGS, API_BASE_URL=api.url)
    until(lambda: workplace.completed_pages() >= 2, what="two pages")
    kill(first)
    before = workplace.completed_pages()
    api.options(latency_ms=1_500)  # the pages that are missing take longer than a report
    second = workplace.start("ingest", *FLAGS, API_BASE_URL=api.url)
    until(lambda: workplace.completed_pages() > before, what="a page more")
    while_active = report(workplace, "--last", "2")
    api.options(latency_ms=0)
    second.send_signal(signal.SIGINT)
    second.communicate()
    workplace.ingest(*FLAGS, API_BASE_URL=api.url)
    assert [row[3] for row in table_of(figure(while_active, "all-runs"))[1]] == ["killed: it left no ending", "running"]
    page = report(workplace, "--all")
    titles, rows = table_of(figure(page, "all-runs"))
    assert [row[0] for row in rows] == ["run 1", "run 2", "run 3"]
    assert [row[titles.index("exit code")] for row in rows] == ["", "130", "0"]
    assert rows[0][3] == "killed: it left no ending"
    assert rows[1][3].startswith("Stopped by SIGINT")
    assert sum(sums(page, "books-of-the-runs", "pages", "run").values()) == 10
    assert sums(page, "time-spent", "seconds", "cause")["stopped"] > 0
    chosen = report(workplace, "--run", "3", "--run", "1")
    assert [row[0] for row in table_of(figure(chosen, "all-runs"))[1]] == ["run 3", "run 1"]


def test_what_is_hostile_in_the_data_is_shown_and_does_nothing(
    api: SimulatorProcess, workplace: Workplace, database: Database
):
    workplace.ingest(*FLAGS, API_BASE_URL=api.url)
    database.query("UPDATE ingested_events SET type = %s, browser = %s", HOSTILE, HOSTILE)
    database.query("UPDATE rejected_events SET raw = %s, reason = %s", HOSTILE.encode() + b"\xff\x00", HOSTILE)
    with Ledger.open(workplace.ledger.parent, purpose="a test") as ledger:
        ledger.happened(1, incidents=[Incident(1e9, "warning", HOSTILE, None, HOSTILE)])
    page = report(workplace)
    shown = HOSTILE.replace("\u202e", "\\u{202e}")
    assert len(list(page.all("script"))) == 3
    assert list(page.all("img")) == []
    assert shown in page.text
    assert shown[:80] in [row[0] for row in table_of(figure(page, "by-type"))[1]]
    if CHROMIUM is not None:
        require_drawn(workplace.directory / "report.html", page)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_chromium_draws_every_chart_of_several_runs_on_a_phone(api: SimulatorProcess, workplace: Workplace):
    workplace.ingest(*FLAGS, API_BASE_URL=api.url)
    workplace.ingest(*FLAGS, API_BASE_URL=api.url)
    page = report(workplace, "--all")
    require_drawn(workplace.directory / "report.html", page, "--window-size=390,844", "--force-dark-mode")


def test_without_a_database_the_runs_are_told_all_the_same(api: SimulatorProcess, workplace: Workplace):
    workplace.ingest(*FLAGS, API_BASE_URL=api.url)
    away = "host=127.0.0.1 port=1 user=nobody password=very-secret dbname=nothing"
    page = report(workplace, database=away)
    assert page.text.count("The database could not be read. PostgreSQL could not be reached") == 3
    assert "very-secret" not in page.text
    assert table_of(figure(page, "books-of-the-runs"))[1][0][1] == "10"
    own = report(workplace, database="")
    assert "There is no database in this data directory." in own.text
    assert not (workplace.directory / "data" / "postgres").exists()


def test_other_data_directories_stand_beside(api: SimulatorProcess, workplace: Workplace, tmp_path: Path):
    workplace.ingest(*FLAGS, API_BASE_URL=api.url)
    data = workplace.directory / "data"
    data.rename(tmp_path / "before")
    workplace.ingest(*FLAGS, API_BASE_URL=api.url)
    page = report(workplace, str(tmp_path / "before"))
    assert [row[0] for row in table_of(figure(page, "all-runs"))[1]] == ["run 1", "before run 1"]


def test_the_page_can_go_to_stdout_and_its_facts_be_json(api: SimulatorProcess, workplace: Workplace):
    workplace.ingest(*FLAGS, API_BASE_URL=api.url)
    to_stdout = workplace.run("report", "-o", "-")
    assert parsed(to_stdout.out).text
    assert not (workplace.directory / "report.html").exists()
    ended = workplace.run("report", "--json", "-o", "there.html")
    facts = json.loads(ended.out)
    assert facts == {
        "path": "there.html",
        "size": (workplace.directory / "there.html").stat().st_size,
        "runs": ["run 1"],
        "trouble": "",
    }


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--run", "7"], 2, "There is no run 7 in "),
        (["--run", "0"], 2, "is not from 1 to"),
        (["--last", "two"], 2, "is not a whole number"),
        (["-o", "no/such/directory/page.html"], 2, "cannot be written: No such file or directory"),
        (["nowhere"], 5, "No run was made with the data directory"),
    ],
)
def test_what_cannot_be_done_is_said(words: list[str], code: int, sentence: str, workplace: Workplace):
    with (
        Ledger.open(workplace.ledger.parent, purpose="a test") as ledger,
        ledger.run({"API_BASE_URL": "http://localhost"}) as ending,
    ):
        ending.exit_code, ending.sentence = 0, "complete"
    ended = workplace.run("report", *words)
    assert (ended.code, sentence in ended.err) == (code, True), ended.err
    assert "Traceback" not in ended.err


def test_a_damaged_history_is_named(workplace: Workplace):
    with Ledger.open(workplace.ledger.parent, purpose="a test") as ledger, ledger.run() as ending:
        ledger.happened(ending.run, samples=[Sample(1.0, {"committed": 1}, {})])
    ended = workplace.run("report")
    assert ended.code == 2
    assert "cannot be read: a run's history holds what no run has written" in ended.err


def test_a_page_of_nothing_is_refused(workplace: Workplace):
    ended = workplace.run("report")
    assert ended.code == 5
    assert "Run bin/ingest first." in ended.err
    assert list(workplace.directory.iterdir()) == []
