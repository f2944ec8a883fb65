"""Timestamps as servers spell them, to exact microseconds since 1970 in UTC and to text that PostgreSQL reads exactly.

Numbers, also in strings, are told apart by magnitude. Each range begins where the one before it ends, so that every
number has one reading; the dates in brackets are what a range covers.

    0 to 1e11      seconds        (1970 to 5138)
    1e11 to 1e14   milliseconds   (1973 to 5138)
    1e14 to 1e17   microseconds   (1973 to 5138)

Anything else is unreadable: nanoseconds and more, negative numbers, dates without a time, times without an offset (in a
zone that nobody can know), leap seconds, `24:00`, and fractions finer than a microsecond, which no column could keep.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from decimal import Context, Decimal, Inexact
from functools import lru_cache
from typing import Any

_SECONDS_BELOW = 10**11
_MILLISECONDS_BELOW = 10**14
_MICROSECONDS_BELOW = 10**17

_MINUTE_MS = 60_000
_DAY_MS = 1440 * _MINUTE_MS
_LAST_YEAR_ENDS_US = 253_402_300_800_000_000  # 10000-01-01T00:00:00Z
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)

# The parts of a moment's text, put together six times faster than formatted.
_MINUTES = [f"T{minute // 60:02}:{minute % 60:02}:" for minute in range(1440)]
_SECONDS = [f"{second:02}" for second in range(60)]
_MILLISECONDS = [f".{millisecond:03}Z" for millisecond in range(1000)]

_MOST_DECIMALS = 20
_WITHOUT_ROUNDING = Context(prec=60, traps=[Inexact])  # 17 digits, 20 decimals and the factor's 7 fit in

_NUMBER = re.compile(rf"\d{{1,20}}(?:\.\d{{1,{_MOST_DECIMALS}}})?", re.ASCII)
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)? ?(?:([Zz])|([+-])(\d\d)(?::?(\d\d))?)",
    re.ASCII,
)
# The API's own spelling, which PostgreSQL reads as it stands: checked, and not taken apart.
_OWN = re.compile(r"((?:19[7-9]|[2-9]\d\d)\d-\d\d-\d\d)T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z", re.ASCII)
_OWN_SHAPE = "0000-00-00T00:00:00.000Z"
_TO_SHAPE = str.maketrans("123456789", "000000000")
_HOUR = slice(0, 13)  # of that spelling, with the date
_TENS = (14, 17)  # where the tens of minutes and of seconds stand in it


def parse(value: Any) -> int | None:
    """Microseconds since 1970 in UTC for any JSON value; None for one that is no timestamp or an ambiguous one.

    A number with a fraction is read exactly as a Decimal; as a float it has been rounded before it came here.
    """
    kind = type(value)
    if kind is int:
        return _scaled(value)
    if kind is Decimal:
        return _exact(value)
    if kind is float:
        return _exact(Decimal(repr(value)))
    if kind is str:
        return _exact(Decimal(value)) if _NUMBER.fullmatch(value) else _iso(value)
    return None


def to_text(value: Any) -> str | None:
    """The same as ISO 8601 text in UTC; None where `parse` gives None."""
    if type(value) is int and _SECONDS_BELOW <= value < _MILLISECONDS_BELOW:
        day, minute = _date_text(value // _DAY_MS), _MINUTES[value % _DAY_MS // _MINUTE_MS]
        return f"{day}{minute}{_SECONDS[value % _MINUTE_MS // 1000]}{_MILLISECONDS[value % 1000]}"
    if type(value) is str and (match := _OWN.fullmatch(value)) and _is_date(match[1]):
        return value
    microseconds = parse(value)
    return None if microseconds is None else _show(microseconds)


def to_texts(values: Sequence[Any]) -> list[str | None]:
    """`to_text` of each, in two thirds of the time where all are milliseconds or in the API's own spelling."""
    numbers = [value for value in values if type(value) is int]
    texts = [value for value in values if type(value) is str]
    if len(numbers) + len(texts) + values.count(None) < len(values) or not (_are_ms(numbers) and _are_own(texts)):
        return [to_text(value) for value in values]
    return [
        f"{_date_text(value // _DAY_MS)}{_MINUTES[value % _DAY_MS // _MINUTE_MS]}"
        f"{_SECONDS[value % _MINUTE_MS // 1000]}{_MILLISECONDS[value % 1000]}"
        if type(value) is int
        else value
        for value in values
    ]


def _are_ms(numbers: list[int]) -> bool:
    return not numbers or (min(numbers) >= _SECONDS_BELOW and max(numbers) < _MILLISECONDS_BELOW)


def _are_own(texts: list[str]) -> bool:
    """Whether each is spelled as the API spells it: told by looking at all at once, and at each hour that occurs."""
    joined = "".join(texts)
    return (
        set(map(len, texts)) <= {len(_OWN_SHAPE)}
        and joined.translate(_TO_SHAPE) == _OWN_SHAPE * len(texts)
        and all(set(joined[at :: len(_OWN_SHAPE)]) <= set("012345") for at in _TENS)
        and all(to_text(f"{hour}:00:00.000Z") for hour in {text[_HOUR] for text in texts})
    )


def _show(microseconds: int) -> str:
    moment = _EPOCH + timedelta(microseconds=microseconds)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


@lru_cache(maxsize=1024)
def _date_text(days: int) -> str:
    return date.fromordinal(719_163 + days).isoformat()  # 719,163 is the ordinal of 1970-01-01


@lru_cache(maxsize=1024)
def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _scaled(number: int) -> int | None:
    if number < 0:
        return None
    if number < _SECONDS_BELOW:
        return number * 1_000_000
    if number < _MILLISECONDS_BELOW:
        return number * 1_000
    return number if number < _MICROSECONDS_BELOW else None


def _exact(number: Decimal) -> int | None:
    """A number with a fraction, without the rounding of floating point."""
    if not number.is_finite() or not 0 <= number < _MICROSECONDS_BELOW or _decimals(number) > _MOST_DECIMALS:
        return None
    factor = 1_000_000 if number < _SECONDS_BELOW else 1_000 if number < _MILLISECONDS_BELOW else 1
    microseconds = _WITHOUT_ROUNDING.multiply(number, factor)
    return int(microseconds) if microseconds == int(microseconds) else None


def _decimals(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


def _iso(text: str) -> int | None:
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, hours, minutes = match.groups()
    digits = (fraction or "").ljust(9, "0")
    if digits[6:] != "000" or int(hours or 0) > 23 or int(minutes or 0) > 59:
        return None
    try:
        moment = datetime(
            int(year), int(month), int(day), int(hour), int(minute), int(second or 0), int(digits[:6]), timezone.utc
        )
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        microseconds = (moment - _EPOCH + (offset if sign == "-" else -offset)) // _MICROSECOND
    except (ValueError, OverflowError):
        return None
    return microseconds if 0 <= microseconds < _LAST_YEAR_ENDS_US else None
