"""Spells events as JSON text, a chunk at a time: the documented shape, or that of another deployment."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from random import Random

from .dataset import KINDS, Session

FIELDS = ("sessionId", "userId", "type", "name", "properties", "timestamp", "session")
_PAGES = ("/home", "/about", "/pricing", "/products", "/cart", "/search", "/docs", "/login")
_OF_8 = bytes(byte % 8 for byte in range(256))  # a random byte to one of eight KINDS or _PAGES

_UUID_PARTS = struct.Struct("8s4s3sx3sx12s")  # of 32 random hexadecimal digits
_NAME_DIGITS = 6
_DAY_MS = 86_400_000
_MINUTE_MS = 60_000
_MINUTES = [f"T{minute // 60:02}:{minute % 60:02}:".encode() for minute in range(_DAY_MS // _MINUTE_MS)]


@dataclass(frozen=True, slots=True)
class Shape:
    """How events are spelled: integer ids, the name of the timestamp's field, and which fields are left out."""

    integer_ids: bool = False
    timestamp_field: str = "timestamp"
    omit: frozenset[str] = frozenset()


def uuids(count: int, random: Random) -> list[bytes]:
    """Random UUIDs (version 4) as text."""
    digits = random.randbytes(16 * count).hex().encode()
    return [b"%b-%b-4%b-a%b-%b" % parts for parts in _UUID_PARTS.iter_unpack(digits)]


class Renderer:
    """Each field is text that begins with its comma, so that one that is left out is simply empty."""

    def __init__(
        self, shape: Shape, sessions: Sequence[Session], stamps: array[int], numbers: array[int], random: Random
    ) -> None:
        self._shape = shape
        self._stamps = stamps
        self._numbers = numbers
        self._random = random
        self._kinds = [self._field("type", f'"{kind}"') for kind in KINDS]
        self._pages = [self._field("properties", f'{{"page":"{page}"}}') for page in _PAGES]
        self._heads = [
            self._field("sessionId", f'"{session.identifier}"') + self._field("userId", f'"{session.user}"')
            for session in sessions
        ]
        self._tails = [self._field("session", _session_object(session)) + b"}," for session in sessions]

    def render(self, chunk: range) -> tuple[list[bytes], bytes]:
        """The events `{...},` of a chunk that cuts no run of equal timestamps, and their KINDS."""
        stamps = self._stamps[chunk.start : chunk.stop]
        numbers = self._numbers[chunk.start : chunk.stop]
        kinds = self._random.randbytes(len(chunk)).translate(_OF_8)
        pages = self._random.randbytes(len(chunk)).translate(_OF_8)
        texts = [
            b"".join((identifier, heads, kind, name, page, stamp, tails))
            for identifier, heads, kind, name, page, stamp, tails in zip(
                self._identifiers(chunk, stamps),
                map(self._heads.__getitem__, numbers),
                map(self._kinds.__getitem__, kinds),
                self._names(len(chunk)),
                map(self._pages.__getitem__, pages),
                self._timestamps(chunk, stamps),
                map(self._tails.__getitem__, numbers),
                strict=True,
            )
        ]
        return texts, kinds

    def _field(self, name: str, text: str) -> bytes:
        spelled = self._shape.timestamp_field if name == "timestamp" else name
        return b"" if name in self._shape.omit else f',"{spelled}":{text}'.encode()

    def _identifiers(self, chunk: range, stamps: array[int]) -> list[bytes]:
        if self._shape.integer_ids:
            return [b'{"id":%d' % (len(self._stamps) - index) for index in chunk]
        ordered = sorted(zip(stamps, uuids(len(chunk), self._random), strict=True), reverse=True)
        return [b'{"id":"%b"' % identifier for _, identifier in ordered]

    def _names(self, count: int) -> list[bytes]:
        digits = self._random.randbytes(count * _NAME_DIGITS // 2).hex()
        pattern = self._field("name", '"event_%b"')
        if not pattern:
            return [b""] * count
        encoded = digits.encode()
        return [pattern % encoded[at : at + _NAME_DIGITS] for at in range(0, len(encoded), _NAME_DIGITS)]

    def _timestamps(self, chunk: range, stamps: array[int]) -> list[bytes]:
        """Half of them are numbers, the others ISO 8601, without a pattern that repeats."""
        number, text = self._field("timestamp", "%d"), self._field("timestamp", '"%b"')
        if not number:
            return [b""] * len(chunk)
        return [
            text % iso_8601(stamp) if is_iso(index) else number % stamp
            for index, stamp in zip(chunk, stamps, strict=True)
        ]


def is_iso(index: int) -> bool:
    """Whether this event's timestamp is a string: the Thue-Morse sequence, half and half and never periodic."""
    return bool(index.bit_count() & 1)


def iso_8601(stamp: int) -> bytes:
    """Epoch milliseconds as `2026-01-27T19:20:12.369Z`; six times as fast as datetime."""
    day, rest = divmod(stamp, _DAY_MS)
    minute, ms = divmod(rest, _MINUTE_MS)
    return b"%b%b%02d.%03dZ" % (_day(day), _MINUTES[minute], ms // 1000, ms % 1000)


@lru_cache(maxsize=64)  # days since 1970; the data covers 31 of them
def _day(day: int) -> bytes:
    return datetime.fromtimestamp(day * _DAY_MS // 1000, tz=timezone.utc).strftime("%Y-%m-%d").encode()


def _session_object(session: Session) -> str:
    return f'{{"id":"{session.identifier}","deviceType":"{session.device}","browser":"{session.browser}"}}'
