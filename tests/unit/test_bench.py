"""What `bin/bench` holds the program against."""

from __future__ import annotations

import json

import pytest

from tests.bench import namespaces
from tests.bench.__main__ import CASES, _chosen, text
from tests.bench.model import shortest_s


@pytest.mark.parametrize(
    ("pages", "latency_s", "shortest"),
    [(60, 0.0, 25.0), (60, 0.2, 27.0), (61, 0.2, 30.2), (1, 0.2, 0.2), (60, 2.0, 120.0)],
)
def test_the_shortest_time_is_all_windows_but_the_last_and_that_ones_pages(
    pages: int, latency_s: float, shortest: float
) -> None:
    assert shortest_s(pages, 10, 5, latency_s) == pytest.approx(shortest)


FOUND = {
    "workers": 2,
    "cores": 2,
    "limit": {
        "small pages": [
            {
                "latency_ms": 0,
                "page_events": 100,
                "seconds": 25.2,
                "first_to_last_request_s": 25.1,
                "shortest_s": 25.0,
                "ratio": 1.008,
                "answers_429": 0,
                "requests": 60,
            }
        ]
    },
    "export": {"ids": 3_000_000, "rounds": 5, "export_s": 1.1, "psql_s": 1.0, "ratio": 1.1},
}


def test_the_cases_that_were_measured_are_told_and_no_others() -> None:
    told = text(json.loads(json.dumps(FOUND)))
    assert [line for line in told.splitlines() if line.startswith("==")] == ["== limit", "== export"]
    assert "ratio 1.008" in told
    assert set(CASES) >= FOUND.keys() - {"workers", "cores"}


def test_a_case_that_is_not_run_by_default_is_run_when_it_is_named() -> None:
    assert "cluster" not in _chosen(None)
    assert _chosen(["cluster", "limit", "cluster"]) == ["cluster", "limit"]


ROW = {
    "strike": "nothing",
    "workers": 4,
    "wrong": None,
    "took_s": {},
    "events": 300_000,
    "pages": 60,
    "seconds": 10.0,
    "events_per_s": 30_000.0,
    "pages_fetched_twice": 0,
    "pages_given_out_again": 0,
    "endings": [0],
}


def test_a_row_that_is_not_exact_is_told_and_makes_the_case_fail() -> None:
    found = {"topology": "loopback", "events": 300_000, "rows": [ROW], "left_out": ["the database cut off"]}
    assert namespaces.holds(found)
    found["rows"] = [ROW, {**ROW, "wrong": "3 events are missing", "took_s": {"given up": 30.2}}]
    assert not namespaces.holds(found)
    told = "\n".join(namespaces.text(found))
    assert "exact  nothing" in told
    assert "WRONG: 3 events are missing  nothing, given up 30 s" in told
    assert "not here: the database cut off" in told
    assert not CASES["namespaces"].by_default
