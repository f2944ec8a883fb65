"""Cursors: the known form and no other, their age by two clocks, and what a renewal accepts."""

from __future__ import annotations

import base64
import json
import logging
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasync_ingest.api.cursors import LIFE_S, CursorClock, PlainCursor, Renewal, decode, renewed
from datasync_ingest.errors import ApiUnreachableError, CursorExpiredError, PageContradictionError
from datasync_ingest.messages import KnownPage, PageAddress, PageId, Position, RawPage

NOW = 1_769_000_000.0
MEMBERS = {"id": "e7", "ts": 1_769_541_612_369, "v": 2, "exp": 1_769_541_728_369}


def encoded(text: bytes, *, padded: bool = False) -> str:
    cursor = base64.urlsafe_b64encode(text).decode()
    return cursor if padded else cursor.rstrip("=")


def cursor_of(members: Any = MEMBERS, *, padded: bool = False, separators: tuple[str, str] = (",", ":")) -> str:
    return encoded(json.dumps(members, separators=separators).encode(), padded=padded)


def members_of(cursor: str) -> list[tuple[str, Any]]:
    pairs = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), object_pairs_hook=list)
    return [tuple(pair) for pair in pairs]


@given(
    event_id=st.one_of(st.text(st.characters(codec="utf-8"), min_size=1), st.integers()),
    timestamp_ms=st.integers(),
    expires_ms=st.integers(),
    until_ms=st.integers(),
    order=st.permutations(sorted(MEMBERS)),
    padded=st.booleans(),
    spaced=st.booleans(),
)
def test_a_renewed_cursor_is_spelled_the_same_and_differs_in_its_end_alone(
    event_id: str | int,
    timestamp_ms: int,
    expires_ms: int,
    until_ms: int,
    order: list[str],
    padded: bool,
    spaced: bool,
) -> None:
    values = {"id": event_id, "ts": timestamp_ms, "v": 2, "exp": expires_ms}
    separators = (", ", ": ") if spaced else (",", ":")
    dead = cursor_of({name: values[name] for name in order}, padded=padded, separators=separators)
    alive = renewed(dead, until_ms)
    expected = {name: until_ms if name == "exp" else values[name] for name in order}
    if "=" in dead or not padded:
        assert alive == cursor_of(expected, padded=padded, separators=separators)
    assert alive is not None
    assert members_of(alive) == list(expected.items())
    assert decode(dead) == PlainCursor(event_id, timestamp_ms, expires_ms)
    assert decode(alive) == PlainCursor(event_id, timestamp_ms, until_ms)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in MEMBERS.items() if key != name}


OPAQUE = {
    "empty": "",
    "a number": "5000",
    "a word": "garbage",
    "not ASCII": "ünïcode",
    "signed": cursor_of() + "." + "0" * 64,
    "signed inside": cursor_of({**MEMBERS, "sig": "abc"}),
    "another version": cursor_of({**MEMBERS, "v": 3}),
    "a version that is true": cursor_of({**MEMBERS, "v": True}),
    "a version as text": cursor_of({**MEMBERS, "v": "2"}),
    "no id": cursor_of(without("id")),
    "no end": cursor_of(without("exp")),
    "an empty id": cursor_of({**MEMBERS, "id": ""}),
    "an id that is null": cursor_of({**MEMBERS, "id": None}),
    "an id that is true": cursor_of({**MEMBERS, "id": True}),
    "an id with a fraction": cursor_of({**MEMBERS, "id": 1.5}),
    "an id that is a list": cursor_of({**MEMBERS, "id": ["e7"]}),
    "a timestamp as text": cursor_of({**MEMBERS, "ts": "2026-01-27T19:20:12.369Z"}),
    "an end with a fraction": cursor_of({**MEMBERS, "exp": 1.5}),
    "an end that is an object": cursor_of({**MEMBERS, "exp": {"exp": 5}}),
    "a list": cursor_of([MEMBERS]),
    "pairs": cursor_of(list(MEMBERS.items())),
    "a text": cursor_of("text"),
    "a member twice": encoded(json.dumps(MEMBERS).encode()[:-1] + b', "exp": 1}'),
    "an escaped name": encoded(json.dumps(MEMBERS).encode().replace(b'"exp"', rb'"\u0065xp"')),
    "something behind": encoded(json.dumps(MEMBERS).encode() + b"}"),
    "not UTF-8": encoded(json.dumps(MEMBERS).encode().replace(b"e7", b"\xff")),
    "deep": encoded(b"[" * 100_000),
    "too much padding": cursor_of(padded=True) + "====",
    "a line end": cursor_of() + "\n",
}


@pytest.mark.parametrize("cursor", OPAQUE.values(), ids=OPAQUE.keys())
def test_anything_else_is_opaque(cursor: str) -> None:
    assert decode(cursor) is None
    assert renewed(cursor, 1) is None


@given(st.text())
def test_no_text_breaks_the_decoding(cursor: str) -> None:
    assert (decode(cursor) is None) == (renewed(cursor, 1) is None)


def test_a_cursor_whose_unused_last_bits_are_set_is_opaque() -> None:
    cursor = cursor_of({**MEMBERS, "id": "e"})
    assert len(cursor) % 4
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(cursor[-1])
    other = cursor[:-1] + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last + 1]
    assert base64.urlsafe_b64decode(other + "==") == base64.urlsafe_b64decode(cursor + "==")
    assert decode(other) is None


# --- age ---


class Clocks:
    """Ours, monotonic and wall, and the server's, `skew` ahead of our wall."""

    def __init__(self, skew: float = 0.0) -> None:
        self.now = 1000.0
        self.skew = skew
        self.subject = CursorClock(clock=lambda: self.now, wall=lambda: NOW + self.now)

    def answer(self, **headers: str) -> None:
        """An answer comes, with the server's date."""
        told = {name.replace("_", "-"): text for name, text in headers.items()}
        self.subject.answered({"Date": formatdate(NOW + self.now + self.skew, usegmt=True), **told}, self.now)

    def cursor(self, life_s: float = LIFE_S) -> str:
        return cursor_of({**MEMBERS, "exp": round((NOW + self.now + self.skew + life_s) * 1000)})


@pytest.mark.parametrize("skew", [-3600.0, -30.0, 0.0, 30.0, 3600.0])
def test_a_cursor_of_the_known_form_is_past_its_life_by_the_servers_clock(skew: float) -> None:
    clocks = Clocks(skew)
    cursor = clocks.cursor()
    clocks.answer()
    assert not clocks.subject.past_life(cursor)
    clocks.now += LIFE_S - 2
    assert not clocks.subject.past_life(cursor)
    clocks.now += 4
    assert clocks.subject.past_life(cursor)


def test_the_age_of_an_opaque_cursor_counts_from_when_its_page_came() -> None:
    clocks = Clocks()
    clocks.answer()
    clocks.subject.issued("opaque", clocks.now)
    clocks.now += LIFE_S - 1
    assert not clocks.subject.past_life("opaque")
    clocks.now += 2
    assert clocks.subject.past_life("opaque")


def test_an_opaque_cursor_lives_for_as_long_as_its_page_said() -> None:
    clocks = Clocks()
    clocks.answer()
    clocks.subject.issued("opaque", clocks.now, 4)
    clocks.now += 3
    assert not clocks.subject.past_life("opaque")
    clocks.now += 2
    assert clocks.subject.past_life("opaque")


@pytest.mark.parametrize("opaque", [False, True])
def test_how_long_the_newest_cursor_lives_is_known_whatever_its_form(opaque: bool) -> None:
    clocks = Clocks(skew=3600)
    assert clocks.subject.left_s() is None
    clocks.answer()
    clocks.subject.issued("opaque" if opaque else clocks.cursor(), clocks.now)
    clocks.now += 16
    assert clocks.subject.left_s() == pytest.approx(LIFE_S - 16, abs=1.01)  # `Date` has whole seconds
    clocks.now += LIFE_S
    assert clocks.subject.left_s() == 0
    clocks.subject.issued(None, clocks.now)
    assert clocks.subject.left_s() is None


def test_an_opaque_cursor_ages_while_the_machine_sleeps() -> None:
    clocks = Clocks()
    clocks.answer()
    clocks.subject.issued("opaque", clocks.now)
    clocks.skew += 3600  # the monotonic clock stood still for an hour, as the next answer shows
    clocks.answer()
    assert clocks.subject.past_life("opaque")


def test_an_opaque_cursor_from_an_earlier_run_may_be_dead() -> None:
    assert Clocks().subject.past_life("opaque")


def test_the_date_of_a_cached_answer_is_not_the_time() -> None:
    clocks = Clocks()
    clocks.answer()
    clocks.skew = -30
    clocks.answer(X_Cache="HIT")
    assert clocks.subject.server_now() == NOW + 1000


def test_without_a_date_our_own_clock_has_to_do() -> None:
    clocks = Clocks(skew=500)
    clocks.subject.answered({}, clocks.now)
    assert clocks.subject.server_now() == NOW + 1000


# --- renewal ---

EXPIRED = CursorExpiredError("The cursor of page 7d1f/4 has expired: the server answered 400 CURSOR_EXPIRED.")


def known_page(cursor: str | None, received: int = 5) -> KnownPage:
    first, last = Position(20, "a"), Position(15, "e")
    return KnownPage(PageId("7d1f", 3), cursor, "dead", False, 5, received, None, first, last)


class Answers:
    """A fetcher that answers every address with `outcome`, and keeps the addresses."""

    def __init__(self, outcome: Exception | dict[str, Any]) -> None:
        self.outcome = outcome
        self.asked: list[PageAddress] = []

    def fetch(self, address: PageAddress) -> RawPage:
        self.asked.append(address)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        page: dict[str, Any] = {
            "page": address.page,
            "cursor": address.cursor,
            "next_cursor": "fresh",
            "ends_walk": False,
            "limit": 5,
            "received": 5,
            "after": address.after,
            "first": Position(20, "a"),
            "last": Position(15, "e"),
            "total": 50,
            "request_id": None,
            "body": b"",
        }
        return RawPage(**{**page, **self.outcome})


@pytest.mark.parametrize("skew", [-30.0, 0.0, 30.0])
def test_a_renewal_asks_for_the_known_page_and_takes_the_cursor_that_comes_with_it(skew: float) -> None:
    clocks, api = Clocks(skew), Answers({})
    clocks.answer()
    assert Renewal(api, clocks.subject).next_cursor(known_page(cursor_of()), EXPIRED) == "fresh"
    (asked,) = api.asked
    assert (asked.page, asked.limit) == (PageId("7d1f", 3), 5)
    assert asked.cursor == cursor_of({**MEMBERS, "exp": round((NOW + 1000 + skew + LIFE_S) * 1000)})


def test_the_first_page_is_asked_for_without_a_cursor() -> None:
    api = Answers({})
    assert Renewal(api, Clocks().subject).next_cursor(known_page(None), EXPIRED) == "fresh"
    assert api.asked[0].cursor is None


# what the server answers to a renewed cursor | what the log says of it
DROPPED: list[tuple[Exception | dict[str, Any], str]] = [
    (CursorExpiredError("the server answered 400 INVALID_CURSOR"), "400 INVALID_CURSOR"),
    (PageContradictionError("it contradicts itself"), "contradicts itself"),
    ({"received": 4}, "4 events in the place of 5"),
    ({"first": Position(50, "x")}, "begins or ends elsewhere"),
    ({"last": Position(15, "f")}, "begins or ends elsewhere"),
    ({"last": None}, "begins or ends elsewhere"),
    ({"next_cursor": None, "ends_walk": True}, "nothing after it"),
]


@pytest.mark.parametrize(("outcome", "said"), DROPPED)
def test_a_renewal_that_brings_anything_but_the_known_page_is_dropped(
    outcome: Exception | dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    api = Answers(outcome)
    with caplog.at_level(logging.INFO):
        assert Renewal(api, Clocks().subject).next_cursor(known_page(cursor_of()), EXPIRED) is None
    assert len(api.asked) == 1
    assert "one request" in caplog.text
    assert "The renewal is dropped" in caplog.text
    assert said in caplog.text


def test_a_page_that_cannot_be_told_is_not_taken_for_the_known_one() -> None:
    known = KnownPage(PageId("7d1f", 3), None, "dead", False, 5, 5, None, None, None)
    assert Renewal(Answers({"first": None, "last": None}), Clocks().subject).next_cursor(known, EXPIRED) is None


def test_an_opaque_cursor_is_not_renewed_and_costs_no_request(caplog: pytest.LogCaptureFixture) -> None:
    api = Answers({})
    assert Renewal(api, Clocks().subject).next_cursor(known_page("opaque"), EXPIRED) is None
    assert api.asked == []
    assert "is opaque" in caplog.text


def test_what_is_no_fault_of_the_cursor_ends_the_walk_as_ever() -> None:
    with pytest.raises(ApiUnreachableError):
        Renewal(Answers(ApiUnreachableError("gone")), Clocks().subject).next_cursor(known_page(None), EXPIRED)
