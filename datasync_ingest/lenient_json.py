"""The structure of a JSON text, walked over its bytes: where members and elements stand, and whether the text is whole.

For texts that msgspec refuses as a whole because of a single value in them (`NaN`, half of a surrogate pair, a control
character, invalid UTF-8, deep nesting), sometimes with the words of a truncation. Here a text that is cut off is told
from one that is odd by its structure alone: it is whole when the bracket that it begins with is closed.

Nothing is built and nothing recurses; the time is linear in the length, whatever the bytes are. What stands in strings
and literals is not judged, nor are the commas and colons of a value that is only skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

# All that msgspec raises for a text that it refuses: keys that are no UTF-8 and deep nesting have errors of their own.
REFUSALS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_BLANK = re.compile(rb"[ \t\r\n]*")
_LITERAL = re.compile(rb'[^\x00-\x20",:\[\]{}]+')
# Repeated groups are bounded: each turn of one costs memory until the match ends.
_NO_BRACKETS = re.compile(rb'[^"\[\]{}]*(?:"[^"\\]*"[^"\[\]{}]*){0,1000}')
_ESCAPES = re.compile(rb'[^"\\]*(?:\\.[^"\\]*){0,1000}', re.DOTALL)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_QUOTE, _BACKSLASH, _COLON, _COMMA = b'"\\:,'
_BEGIN_OBJECT, _END_OBJECT, _BEGIN_ARRAY, _END_ARRAY = b"{}[]"
_CLOSER = {_BEGIN_OBJECT: _END_OBJECT, _BEGIN_ARRAY: _END_ARRAY}


class StructureError(ValueError):
    """Raised when a text does not have the structure of JSON."""


class CutOffError(StructureError):
    """Raised when a text ends before its structure does: more bytes could make it whole."""


class MalformedError(StructureError):
    """Raised when something stands where JSON cannot have it: more bytes could not mend that."""


def members(text: bytes) -> list[tuple[slice, slice]]:
    """The places of key (with its quotes) and value of every member of the object that `text` is, repeated ones too.

    Raises CutOffError or MalformedError.
    """
    walk = _Walk(text, len(_BYTE_ORDER_MARK) if text.startswith(_BYTE_ORDER_MARK) else 0)
    found = []
    walk.take(_BEGIN_OBJECT)
    more = not walk.took(_END_OBJECT)
    while more:
        key = walk.string()
        walk.take(_COLON)
        found.append((key, walk.value()))
        more = walk.goes_on(_END_OBJECT)
    walk.finish()
    return found


def elements(text: bytes, start: int = 0) -> list[slice]:
    """The places of all elements of the array that begins at `start`, whatever follows it.

    Raises CutOffError or MalformedError.
    """
    walk = _Walk(text, start)
    found = []
    walk.take(_BEGIN_ARRAY)
    more = not walk.took(_END_ARRAY)
    while more:
        found.append(walk.value())
        more = walk.goes_on(_END_ARRAY)
    return found


def string_end(text: bytes, start: int) -> int:
    """The place behind the string whose opening quote is at `start`. Raises CutOffError."""
    quote = text.find(b'"', start + 1)
    if quote >= 0 and text[quote - 1] != _BACKSLASH:
        return quote + 1
    at = start + 1
    while quote >= 0 and at < len(text):
        if text[at] == _QUOTE:
            return at + 1
        passed = _end(_ESCAPES, text, at)
        if passed == at:
            break  # a backslash is the last byte
        at = passed
    raise CutOffError(f"the text ends inside of the string at byte {start}")


def depth(text: bytes) -> int:
    """How many brackets of a whole text are open at most at once. Raises CutOffError inside of a string."""
    deepest = now = 0
    for place in _brackets(text, 0):
        now += 1 if text[place] in _CLOSER else -1
        deepest = max(deepest, now)
    return deepest


def _end(pattern: re.Pattern[bytes], text: bytes, at: int) -> int:
    """Where a pattern that matches nothing, too, ends."""
    match = pattern.match(text, at)
    assert match is not None
    return match.end()


def _brackets(text: bytes, start: int) -> Iterator[int]:
    """The places of all brackets from `start` on that are not inside of strings. Raises CutOffError inside of one."""
    at = start
    while (at := _end(_NO_BRACKETS, text, at)) < len(text):
        if text[at] == _QUOTE:
            at = string_end(text, at)
        else:
            yield at
            at += 1


class _Walk:
    """A place in a text that moves on, past blanks, over what is expected there."""

    def __init__(self, text: bytes, at: int) -> None:
        self._text = text
        self._at = at

    def take(self, expected: int) -> None:
        if not self.took(expected):
            raise self._unexpected(f"{chr(expected)!r} is missing")

    def took(self, wanted: int) -> bool:
        if self._next() != wanted:
            return False
        self._at += 1
        return True

    def goes_on(self, closer: int) -> bool:
        """Over a comma (True) or the closing bracket (False)."""
        if self.took(closer):
            return False
        self.take(_COMMA)
        return True

    def string(self) -> slice:
        if self._next() != _QUOTE:
            raise self._unexpected("a key is missing")
        return self._to(string_end(self._text, self._at))

    def value(self) -> slice:
        first = self._next()
        if first == _QUOTE:
            return self.string()
        if first in _CLOSER:
            return self._to(self._container_end())
        match = _LITERAL.match(self._text, self._at)
        if match is None:
            raise self._unexpected("a value is missing")
        return self._to(match.end())

    def finish(self) -> None:
        self._at = _end(_BLANK, self._text, self._at)
        if self._at != len(self._text):
            raise self._unexpected("the text goes on behind its end")

    def _next(self) -> int:
        """The next byte that is not blank."""
        self._at = _end(_BLANK, self._text, self._at)
        if self._at == len(self._text):
            raise CutOffError(f"the text ends at byte {self._at}, before its structure does")
        return self._text[self._at]

    def _to(self, end: int) -> slice:
        passed = slice(self._at, end)
        self._at = end
        return passed

    def _container_end(self) -> int:
        text = self._text
        closers = bytearray()
        for place in _brackets(text, self._at):
            closer = _CLOSER.get(text[place])
            if closer is not None:
                closers.append(closer)
            elif text[place] != closers.pop():
                raise MalformedError(f"the bracket at byte {place} closes another one")
            if not closers:
                return place + 1
        raise CutOffError(f"the text ends inside of the value at byte {self._at}")

    def _unexpected(self, what: str) -> MalformedError:
        return MalformedError(f"{what} at byte {self._at}")
