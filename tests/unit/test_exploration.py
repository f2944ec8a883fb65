"""What answers prove about parameters, and what a page's events show; the server is a function of the test's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest

from datasync_ingest.api.client import ApiClient, Ask, Response
from datasync_ingest.api.probing import NotAskedError, Prober
from datasync_ingest.exploration import comparing
from datasync_ingest.exploration.advice import recommended
from datasync_ingest.exploration.notes import Notes
from datasync_ingest.exploration.sample import sample_of, spelling
from datasync_ingest.exploration.showing import text
from datasync_ingest.settings import Secret, Settings

NEWEST_MS = 1_769_541_612_369
Query = Mapping[str, str]


def events(count: int, *, new: int = 0) -> list[dict[str, Any]]:
    """Newest first, `new` of them after the others were first seen."""
    return [
        {"id": f"e{number}", "timestamp": NEWEST_MS - 1000 * number, "sessionId": f"s{number // 7}"}
        for number in range(-new, count)
    ]


def body(found: list[dict[str, Any]], limit: int) -> bytes:
    more = len(found) > limit
    page = {"data": found[:limit], "hasMore": more, "nextCursor": "c" if more else None}
    return json.dumps(page).encode()


class Server:
    """Serves events to a `Prober`, after a filter by the query."""

    def __init__(self, honours: frozenset[str], *, new: int = 0, status: int = 200) -> None:
        self._events = events(400, new=new)
        self._honours = honours
        self._status = status

    def send(self, ask: Ask) -> Response:
        found = self._events
        for name in self._honours & ask.parameters.keys():
            found = HONOURED[name](found, ask.parameters[name])
        content = body(found, int(ask.parameters["limit"]))
        return Response(self._status, {}, content, 0.0, 0.0, 0.0)


HONOURED: dict[str, Callable[[list[dict[str, Any]], str], list[dict[str, Any]]]] = {
    "since": lambda found, text: [one for one in found if one["timestamp"] >= int(text)],
    "until": lambda found, text: [one for one in found if one["timestamp"] <= int(text)],
    "offset": lambda found, text: found[int(text) :],
    "sessionId": lambda found, text: [one for one in found if one["sessionId"] == text],
}


def notes(server: Server, first: int = 300) -> Notes:
    settings = Settings(Secret("a-key"))
    prober = Prober(
        settings,
        10,
        say=lambda _: None,
        first_keyed=lambda: None,
        events_asked=lambda _: None,
        client=cast(ApiClient, server),
    )
    return Notes(settings, prober, sample=sample_of(body(events(first), first)))


@pytest.mark.parametrize("new", [0, 3, 30])
@pytest.mark.parametrize("honours", [set(), {"since"}, {"until"}, {"since", "until"}])
def test_since_and_until_are_told_apart(honours: set[str], new: int) -> None:
    looked = notes(Server(frozenset(honours), new=new))
    found = comparing.time_bounds(looked, looked.events)
    assert {name for name, verdict in found.items() if verdict["honoured"]} == honours


@pytest.mark.parametrize("new", [0, 3, 30])
@pytest.mark.parametrize("honoured", [True, False])
def test_an_offset_is_seen_also_when_new_events_have_come(honoured: bool, new: int) -> None:
    looked = notes(Server(frozenset({"offset"} if honoured else ()), new=min(new, 20)))
    assert comparing.offset(looked)["honoured"] is honoured


@pytest.mark.parametrize("honoured", [True, False])
def test_a_session_is_seen_by_its_events(honoured: bool) -> None:
    looked = notes(Server(frozenset({"sessionId"} if honoured else ())))
    assert comparing.session(looked)["honoured"] is honoured


def test_a_refusal_proves_neither() -> None:
    looked = notes(Server(frozenset(), status=418))
    found = comparing.time_bounds(looked, looked.events)
    assert found["since"] == found["until"] == {"honoured": None, "proof": "refused: 418"}


def test_too_few_events_prove_nothing_and_cost_nothing() -> None:
    looked = notes(Server(frozenset()), first=5)
    for ask in (lambda: comparing.time_bounds(looked, looked.events), lambda: comparing.offset(looked)):
        with pytest.raises(NotAskedError, match="needs 20 events"):
            ask()
    assert looked.prober.spent == 0


@pytest.mark.parametrize(
    ("event", "how"),
    [
        ({"timestamp": NEWEST_MS}, "epoch ms, number"),
        ({"timestamp": str(NEWEST_MS)}, "epoch ms, text"),
        ({"ts": 1_769_541_612}, "epoch s, number"),
        ({"timestamp": 1_769_541_612.5}, "epoch s, number"),
        ({"timestamp": NEWEST_MS * 1000}, "epoch us, number"),
        ({"timestamp": "2026-01-27T19:20:12.369Z"}, "ISO 8601 with Z, 3 decimals"),
        ({"timestamp": "2026-01-27T19:20:12+01:00"}, "ISO 8601 with an offset, whole seconds"),
        ({"timestamp": "2026-01-27T19:20:12"}, "unreadable"),
        ({"timestamp": "yesterday"}, "unreadable"),
        ({"timestamp": True}, "unreadable (boolean)"),
        ({"timestamp": None}, "null"),
        ({}, "missing"),
    ],
)
def test_how_a_timestamp_is_spelled(event: dict[str, Any], how: str) -> None:
    assert spelling(event) == how


def test_fields_have_types_and_rates_of_those_that_could_have_them() -> None:
    page = b"""{"data": [{"id": "a", "session": {"browser": "Edge"}, "x": NaN}, {"id": 7, "session": null},
                         {"id": "c", "session": {"browser": null}}, "no object"], "hasMore": false}"""
    sample = sample_of(page)
    assert sample.unreadable == 1
    shown = {one.name: (dict(one.types), round(one.missing, 2), round(one.null, 2)) for one in sample.fields()}
    assert shown == {
        "id": ({"string": 2, "integer": 1}, 0, 0),
        "session": ({"object": 2, "null": 1}, 0, 0.33),
        "session.browser": ({"string": 1, "null": 1}, 0, 0.5),
        "x": ({"number": 1}, 0.67, 0),
    }


def page_found(**facts: Any) -> dict[str, Any]:
    page = {"received": 5000, "asked": 10_000, "capped": True, "whole_data": False, "bytes": 1_700_000}
    return {"page": {**page, "cursor_life_s": 116, **facts}}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, {"BATCH_SIZE": "5000", "RATE_LIMIT_BUFFER": "0"}),
        ({"received": 1000}, {"BATCH_SIZE": "1000", "RATE_LIMIT_BUFFER": "0"}),
        ({"received": 10_000, "capped": False}, {"BATCH_SIZE": "5000", "RATE_LIMIT_BUFFER": "0"}),
        ({"received": 50, "whole_data": True}, {"BATCH_SIZE": "2000", "RATE_LIMIT_BUFFER": "0"}),
        (
            {"cursor_life_s": 60},
            {"BATCH_SIZE": "5000", "RATE_LIMIT_BUFFER": "0", "CURSOR_REFRESH_THRESHOLD": "30"},
        ),
        (
            {"bytes": 2**25},
            {"BATCH_SIZE": "5000", "RATE_LIMIT_BUFFER": "0", "MAX_PAGE_BYTES": str(2**27)},
        ),
    ],
)
def test_what_is_recommended(facts: dict[str, Any], expected: dict[str, str]) -> None:
    chosen = recommended(Settings(batch_size=2000), page_found(**facts))
    assert {one.variable: one.value for one in chosen} == expected


def test_nothing_is_recommended_without_a_page() -> None:
    assert recommended(Settings(), {}) == []


def test_what_a_server_says_cannot_command_the_terminal() -> None:
    report: dict[str, Any] = {
        "api": "http://127.0.0.1/api/v1",
        "manifest": {"name": "\x1b[2JDataSync\r\n"},
        "requests": {"made": 1, "budget": 1, "without_key": 1, "answered_429": 0},
        "clock_ahead_s": None,
        "total": {"by_pages": None, "by_stats": None, "agree": None},
        "endpoints": [],
        "rate_limits": [],
        "windows_open": None,
        "parameters": {},
        "shortest": [],
        "recommended": [],
        "not_reached": [],
    }
    shown = text(report, lambda _, plain: plain)
    assert "DataSync" in shown
    assert all(line.isprintable() for line in shown.split("\n"))
