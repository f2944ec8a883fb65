"""What PostgreSQL can hold of a JSON value, as near to what came as it goes, and what had to be changed for it.

`text` columns hold any Unicode text but U+0000; `jsonb` holds what JSON can say, but for U+0000, halves of surrogate
pairs, numbers outside of `numeric` (https://www.postgresql.org/docs/current/datatype-numeric.html) and nesting that
does not fit on its stack. Numbers inside of those bounds are kept as written: nothing is rounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

import msgspec

from .lenient_json import REFUSALS, depth, string_end

DEEPEST = 1000  # levels; PostgreSQL's own limit hangs on its stack (some 10,000), Python's readers give up near 1,000

NOT_TEXT = "held what PostgreSQL cannot: it is U+FFFD there"
NOT_JSON = "held what JSON has no word for: it is a string there"
NOT_NUMERIC = "held a number beyond PostgreSQL's: it is a string there"
NOT_A_VALUE = f"is no JSON, or nested deeper than {DEEPEST} levels: it is left out"

_MOST_DIGITS = 131_072  # before the decimal point
_MOST_DECIMALS = 16_383

# What a JSON text can say and PostgreSQL's text cannot hold: U+0000, and half of a surrogate pair.
_SUSPECT = (b"\\u0000", b"\\ud", b"\\uD")
# A number that may be beyond numeric: an exponent of four digits, or a thousand digits.
_EXTREME = re.compile(rb"[0-9][eE][-+]?[0-9]{4}|(?<![0-9])[0-9]{1000}")
JSON_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_LITERAL = re.compile(rb"[^\s,:\[\]{}]+")
_NEEDS_MENDING = re.compile(rb"[\\\x00-\x1f]")
_IN_STRING = re.compile(
    rb"(?P<kept>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"  # a whole pair
    rb"|(?P<unstorable>\\u0000|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\x00)"
    rb'|(?P<escape>\\u[0-9a-fA-F]{4}|\\["\\/bfnrt])'
    rb"|(?P<stray>\\)"  # a backslash that escapes nothing
    rb"|(?P<control>[\x01-\x1f])"
)


_STRING = msgspec.json.Decoder(str)
_VALUE = msgspec.json.Decoder(msgspec.Raw)


def needs_care(text: bytes) -> bool:
    """Whether a text may hold what PostgreSQL cannot: a bytes search, and a check of the encoding where it matters."""
    if b"\\" in text and any(suspect in text for suspect in _SUSPECT):  # one byte is found 20 times faster than six
        return True
    return not text.isascii() and not _is_utf8(text)


def is_deep(text: bytes) -> bool:
    """Whether a whole value has more levels than are stored; as fast as counting, where that tells it."""
    return text.count(b"[") + text.count(b"{") > DEEPEST and depth(text) > DEEPEST


def as_text(string: bytes) -> tuple[str, bool]:
    """The text for a column, of a JSON string with its quotes, and whether it is another one than came."""
    mended, changed = _mend_string(string) if not _is_utf8(string) or _NEEDS_MENDING.search(string) else (string, False)
    return _STRING.decode(mended), changed


def as_json(value: bytes) -> tuple[str | None, list[str]]:
    """The text for a jsonb column, of any JSON value, None where it can hold none, and what was changed."""
    if is_deep(value):
        return None, [NOT_A_VALUE]
    if not needs_care(value) and not _EXTREME.search(value) and _is_valid(value):
        return value.decode(), []
    return _Mending(value).result()


class _Mending:
    """One value that is not storable as it came: string by string, and literal by literal between them."""

    def __init__(self, value: bytes) -> None:
        self._value = value
        self._changes: dict[str, None] = {}  # in order, each once

    def result(self) -> tuple[str | None, list[str]]:
        text = b"".join(self._parts())
        try:
            _VALUE.decode(text)
        except RecursionError:
            pass  # too deep for msgspec only; its strings and literals are sound
        except REFUSALS:
            return None, [NOT_A_VALUE]
        return text.decode(), list(self._changes)

    def _parts(self) -> Iterator[bytes]:
        at, value = 0, self._value
        while (quote := value.find(b'"', at)) >= 0:
            yield _LITERAL.sub(self._literal, value[at:quote])
            at = string_end(value, quote)
            yield self._string(value[quote:at])
        yield _LITERAL.sub(self._literal, value[at:])

    def _string(self, string: bytes) -> bytes:
        mended, changed = _mend_string(string)
        if changed:
            self._changes[NOT_TEXT] = None
        return mended

    def _literal(self, match: re.Match[bytes]) -> bytes:
        literal = match[0]
        if literal in (b"true", b"false", b"null"):
            return literal
        is_number = JSON_NUMBER.fullmatch(literal) is not None
        if is_number and _is_numeric(literal):
            return literal
        self._changes[NOT_NUMERIC if is_number else NOT_JSON] = None
        return _mend_string(msgspec.json.encode(literal.decode(errors="replace")))[0]


def _mend_string(string: bytes) -> tuple[bytes, bool]:
    """A JSON string as PostgreSQL takes it, and whether its text is another one; an escape is no change."""
    text = string.decode(errors="replace").encode()
    changed = text != string
    mended, at = bytearray(), 0  # and not `sub`: it keeps an object for each match, 500 MB for 10 MB of odd characters
    for match in _IN_STRING.finditer(text):
        if match.lastgroup in ("kept", "escape"):
            continue
        mended += text[at : match.start()]
        at = match.end()
        if match.lastgroup == "control":
            mended += b"\\u%04x" % ord(match[0])
        else:
            changed = True
            mended += b"\\\\" if match.lastgroup == "stray" else b"\\ufffd"
    return bytes(mended + text[at:]) if at else text, changed


def _is_numeric(number: bytes) -> bool:
    """Whether PostgreSQL's numeric can hold a JSON number exactly; it refuses others, and rounds none."""
    try:
        _, digits, exponent = Decimal(number.decode()).as_tuple()
    except InvalidOperation:  # an exponent beyond 1e18
        return False
    assert isinstance(exponent, int), "it is no infinity"
    return -exponent <= _MOST_DECIMALS and (digits == (0,) or len(digits) + exponent <= _MOST_DIGITS)


def _is_valid(value: bytes) -> bool:
    try:
        _VALUE.decode(value)
    except REFUSALS:
        return False
    return True


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
