"""Durations and sizes, as typed and as shown."""

from __future__ import annotations

import pytest

from datasync_ingest.units import parse_bytes, parse_seconds, show_bytes, show_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("8", 8.0), ("8s", 8.0), ("1.5 min", 90.0), ("15m", 900.0), ("2h", 7200.0), (" 250 ms ", 0.25), ("0", 0.0)],
)
def test_a_duration_is_read_in_its_unit(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "1 day", "1e3", "nan", "1,5"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        parse_seconds(text)


@pytest.mark.parametrize(("text", "size"), [("64MiB", 2**26), ("2 GiB", 2**31), ("1kb", 1000), ("7", 7)])
def test_a_size_is_read_in_its_unit(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.2, "1 s"),
        (59.1, "1 min 00 s"),
        (61, "1 min 01 s"),
        (3600, "1 h 00 min"),
        (3 * 3600 + 300, "3 h 05 min"),
    ],
)
def test_a_wait_is_rounded_up(seconds: float, text: str) -> None:
    assert show_seconds(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (3 * 2**40, "3072.0 GiB")]
)
def test_a_size_is_shown_in_the_largest_unit_that_fits(size: int, text: str) -> None:
    assert show_bytes(size) == text
