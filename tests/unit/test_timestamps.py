"""Timestamps in every spelling that was met, exactly."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasync_ingest.timestamps import parse, to_text, to_texts

MOMENT_US = 1_769_541_612_369_000  # 2026-01-27T19:20:12.369Z
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "value",
    [
        1_769_541_612_369,
        1_769_541_612_369.0,
        "1769541612369",
        1_769_541_612.369,
        "1769541612.369",
        1_769_541_612_369_000,
        "1769541612369000",
        Decimal("1769541612.369"),
        Decimal("1769541612369.00000"),
        Decimal("1.769541612369E12"),
        "2026-01-27T19:20:12.369Z",
        "2026-01-27T19:20:12.369z",
        "2026-01-27t19:20:12.369000000Z",
        "2026-01-27 19:20:12.369Z",
        "2026-01-27 19:20:12.369 +00:00",
        "2026-01-27T19:20:12,369Z",
        "2026-01-27T20:20:12.369+01:00",
        "2026-01-27T20:20:12.369+0100",
        "2026-01-27T20:20:12.369+01",
        "2026-01-27T13:50:12.369-05:30",
        "2026-01-28T09:20:12.369+14:00",
        "2026-01-27T19:20:12.369-00:00",
    ],
)
def test_one_moment_in_many_spellings(value: Any) -> None:
    assert parse(value) == MOMENT_US
    text = to_text(value)
    assert text is not None
    assert datetime.fromisoformat(text.replace("Z", "+00:00")) == EPOCH + timedelta(microseconds=MOMENT_US)


@pytest.mark.parametrize(
    ("value", "microseconds"),
    [
        (0, 0),
        (1_769_541_612, 1_769_541_612_000_000),
        ("1769541612", 1_769_541_612_000_000),
        (99_999_999_999, 99_999_999_999_000_000),
        (100_000_000_000, 100_000_000_000_000),
        (1_769_541_612_369_123, 1_769_541_612_369_123),
        (1_769_541_612_369.25, 1_769_541_612_369_250),
        ("2026-01-27T19:20Z", 1_769_541_600_000_000),
        ("1970-01-01T00:00:00.000Z", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000_000),
    ],
)
def test_the_edges_of_what_is_read(value: Any, microseconds: int) -> None:
    assert parse(value) == microseconds


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, [], {}, "", " ", "now", "null", -1, -1.5, "-5", float("nan"), float("inf"), 1e300),
        *(10**17, str(10**17), 1_769_541_612_369_000_000, "1769541612.3691234", "٣", "1_000", "0x10", "1e12"),
        *("1769541612.00000000000000000001", "99999999999999999.00000000000000000001", "1769541612.", ".5"),
        *(Decimal("1769541612369.0000000000001"), Decimal("1e999999"), Decimal("1e-999999999"), Decimal("NaN")),
        *("2026-01-27", "2026-01-27T19:20:12.369", "2026-01-27 19:20:12", "19:20:12Z", "20260127T192012Z"),
        *("2026-02-30T00:00:00Z", "2026-13-01T00:00:00.000Z", "2026-01-27T24:00:00Z", "2026-12-31T23:59:60Z"),
        *("2026-01-27T19:60:00.000Z", "2023-02-29T00:00:00.000Z", "2026-01-27T19:20:12.3691234Z"),
        *("1969-12-31T23:59:59Z", "10000-01-01T00:00:00Z", "1970-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01"),
        *(
            "2026-01-27T19:20:12+25:00",
            "2026-01-27T19:20:12+01:75",
            "2026-01-27T19:20:12.369ZZ",
            "\uff12026-01-27T19:20:12Z",
        ),
    ],
)
def test_what_is_no_timestamp_or_an_ambiguous_one_is_none(value: Any) -> None:
    assert parse(value) is None
    assert to_text(value) is None


@given(st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30)), st.integers(-14 * 60, 14 * 60))
def test_any_iso_text_with_an_offset_is_read_exactly(moment: datetime, minutes: int) -> None:
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert parse(zoned.isoformat()) == (zoned - EPOCH) // timedelta(microseconds=1)


@given(st.integers(10**11, 10**14 - 1))
def test_milliseconds_as_number_text_and_iso_agree(ms: int) -> None:
    text = to_text(ms)
    assert text is not None
    assert parse(ms) == parse(str(ms)) == ms * 1000 == parse(text)
    assert to_text(text) == text


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


@given(SCALARS | st.lists(SCALARS, max_size=3))
def test_nothing_raises(value: Any) -> None:
    microseconds = parse(value)
    assert (to_text(value) is None) == (microseconds is None)
    assert microseconds is None or 0 <= microseconds < 253_402_300_800_000_000


@given(st.text("0123456789-:TtZz+., ", max_size=35))
def test_nothing_that_looks_like_a_timestamp_raises(text: str) -> None:
    assert (to_text(text) is None) == (parse(text) is None)


OWN = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)).map(
    lambda moment: moment.isoformat(timespec="milliseconds") + "Z"
)
CLEAN = st.none() | st.integers(10**11, 10**14 - 1) | OWN


@st.composite
def nearly_own(draw: st.DrawFn) -> str:
    """The API's own spelling but for one character, or with one more or one less."""
    text: str = draw(OWN)
    at = draw(st.integers(0, len(text) - 1))
    other: str = draw(st.sampled_from([*"012356789-:TZ+. ", "\uff12", ""]))
    return text[:at] + other + text[at + draw(st.integers(0, 1)) :]


@given(st.lists(CLEAN))
def test_a_column_as_the_api_sends_it_is_read_as_each_value_of_it(values: list[Any]) -> None:
    assert to_texts(values) == [to_text(value) for value in values]


@given(st.lists(CLEAN, max_size=3), CLEAN | nearly_own() | SCALARS, st.lists(CLEAN | nearly_own(), max_size=3))
def test_a_column_with_any_value_in_it_is_read_as_each_value_of_it(
    before: list[Any], value: Any, after: list[Any]
) -> None:
    values = [*before, value, *after]
    assert to_texts(values) == [to_text(value) for value in values]


@pytest.mark.parametrize(
    "values",
    [
        ["2026-01-27T19:20:12.369", "Z2026-01-27T19:20:12.369Z"],  # the border between them is elsewhere
        ["2026-02-30T00:00:00.000Z"],
        ["2026-01-27T24:00:00.000Z"],
        ["2026-01-27T19:60:00.000Z"],
        ["2026-01-27T19:20:60.000Z"],
        ["1969-12-31T23:59:59.999Z"],
        [10**14, 1_769_541_612_369],
        [99_999_999_999, 1_769_541_612_369],
        [True],
        [],
    ],
)
def test_columns_that_are_clean_but_for_one_thing(values: list[Any]) -> None:
    assert to_texts(values) == [to_text(value) for value in values]
