"""One event, however odd: what of it fits its column, what is kept beside, and why it was rejected if it was.

Works on the bytes of each value, so that what is kept is kept as it came: no number is rounded on its way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

import msgspec

from .lenient_json import REFUSALS, StructureError
from .lenient_page import members_by_name
from .rows import EventRow
from .storable import JSON_NUMBER, NOT_TEXT, as_json, as_text
from .timestamps import parse, to_text

LONGEST_ID_BYTES = 1000  # far below what an index entry can hold (2,704 bytes), far above any id that was met

NOT_AN_OBJECT = "the event is not a JSON object"
NO_ID = "no id"
ID_OF_ANOTHER_TYPE = "the id is neither a string nor an integer"
ID_EMPTY = "the id is empty"
ID_WITH_CONTROL_CHARACTERS = "the id holds control characters, or what is no Unicode text"
ID_TOO_LONG = f"the id is longer than {LONGEST_ID_BYTES} bytes"


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """An event without a usable id, byte for byte; `position` counts from 0 in its page."""

    position: int
    reason: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class RepairedEvent:
    """An event of which a value was not kept as it came, byte for byte."""

    position: int
    event_id: str
    reason: str
    raw: bytes


class Place(NamedTuple):
    """An event's id, and when it occurred in microseconds since 1970, None where it does not say so readably."""

    event_id: str
    microseconds: int | None


@dataclass(slots=True)
class ReadEvent:
    """A row, and what had to be done to get it."""

    row: EventRow
    repairs: list[str] = field(default_factory=list)


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]*)")
_LONGEST_TIMESTAMP_BYTES = 100  # far more than any exact one has
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NULL = b"null"
_PRINTABLE = bytes(range(0x20, 0x7F))  # of ASCII

_FIELDS = frozenset({"id", "sessionId", "userId", "type", "name", "properties", "timestamp", "ts", "session"})
_SESSION_FIELDS = frozenset({"id", "deviceType", "browser"})


def is_plain_id(event_id: str) -> bool:
    """Whether a text can be an id as it is."""
    if event_id.isascii() and event_id.isprintable():
        return 0 < len(event_id) <= LONGEST_ID_BYTES
    return _refusal(event_id) is None


def are_plain_ids(ids: Sequence[str]) -> bool:
    """The same of all of them; where they are ASCII, told by looking at all at once."""
    text, lengths = "".join(ids), set(map(len, ids))
    if text.isascii() and not text.encode().translate(None, _PRINTABLE):
        return 0 not in lengths and max(lengths, default=0) <= LONGEST_ID_BYTES
    return all(map(is_plain_id, ids))


def read_event(raw: msgspec.Raw | bytes) -> ReadEvent | str:
    """The row of any JSON value, or the reason why it can have none. Never raises."""
    fields = _fields(bytes(raw))
    if fields is None:
        return NOT_AN_OBJECT
    event_id = _id(fields)
    if isinstance(event_id, _Refused):
        return event_id.reason
    return _Reading(fields).event(event_id)


def read_id(raw: msgspec.Raw | bytes) -> str | None:
    """The usable id of an event, None where it has none."""
    place = read_place(raw)
    return None if place is None else place.event_id


def read_place(raw: msgspec.Raw | bytes) -> Place | None:
    """Where an event stands in the API's order, None where it has no usable id."""
    fields = _fields(bytes(raw))
    event_id = None if fields is None else _id(fields)
    if fields is None or not isinstance(event_id, str):
        return None
    return Place(event_id, parse(_moment(_timestamp(fields).value)))


def fallback_rows(raw: bytes, event_id: str) -> Iterator[EventRow]:
    """What to store, in turn, of an event whose row PostgreSQL refuses.

    The row of the tolerant reader, which knows more of PostgreSQL's limits than the strict one; that without its JSON;
    the id alone.
    """
    found = read_event(raw)
    if isinstance(found, ReadEvent):
        yield found.row
        yield found.row._replace(properties=None, extra=None)
    yield EventRow(event_id, *[None] * (len(EventRow._fields) - 1))


@dataclass(frozen=True, slots=True)
class _Refused:
    reason: str


class _Field(NamedTuple):
    """A member of an object as it came: its key with quotes, and its value."""

    key: bytes
    value: bytes


_Fields = Mapping[str, _Field]
_ABSENT = _Field(b"", _NULL)


def _fields(raw: bytes) -> _Fields | None:
    """The members of an object by name; the last of a repeated name wins. None for what is no object."""
    with suppress(*REFUSALS):
        return {name: _Field(msgspec.json.encode(name), bytes(value)) for name, value in _OBJECT.decode(raw).items()}
    try:
        return {name: _Field(raw[key], raw[value]) for name, (key, value) in members_by_name(raw).items()}
    except StructureError:
        return None


def _id(fields: _Fields) -> str | _Refused:
    raw = fields.get("id", _ABSENT).value
    if raw == _NULL:
        return _Refused(NO_ID)
    if _INTEGER.fullmatch(raw):
        return _usable("0" if raw == b"-0" else raw.decode())
    if not raw.startswith(b'"'):
        return _Refused(ID_OF_ANOTHER_TYPE)
    text, changed = as_text(raw)
    return _Refused(ID_WITH_CONTROL_CHARACTERS) if changed else _usable(text)


def _usable(event_id: str) -> str | _Refused:
    reason = _refusal(event_id)
    return event_id if reason is None else _Refused(reason)


def _refusal(event_id: str) -> str | None:
    if not event_id:
        return ID_EMPTY
    if _CONTROL.search(event_id):
        return ID_WITH_CONTROL_CHARACTERS
    return ID_TOO_LONG if len(event_id.encode()) > LONGEST_ID_BYTES else None


def _timestamp(fields: _Fields) -> _Field:
    """The member that says when: `timestamp`, or `ts` in its place."""
    timestamp = fields.get("timestamp", _ABSENT)
    return timestamp if timestamp.value != _NULL else fields.get("ts", timestamp)


def _moment(raw: bytes) -> str | int | Decimal | None:
    """A timestamp's value without any rounding; None for what can be none."""
    if raw.startswith(b'"'):
        text, changed = as_text(raw)
        return None if changed else text
    if len(raw) > _LONGEST_TIMESTAMP_BYTES or JSON_NUMBER.fullmatch(raw) is None:
        return None
    try:
        return int(raw) if _INTEGER.fullmatch(raw) else Decimal(raw.decode())
    except InvalidOperation:
        return None


class _Reading:
    """The reading of one event: what goes beside its columns, and why."""

    def __init__(self, fields: _Fields) -> None:
        self._fields = fields
        self._beside: dict[bytes, bytes] = {}  # key and value of what goes to `extra`
        self._repairs: list[str] = []

    def event(self, event_id: str) -> ReadEvent:
        session_id, device_type, browser = self._session(self._text(self._fields, "sessionId", self._beside))
        row = EventRow(
            id=event_id,
            session_id=session_id,
            user_id=self._text(self._fields, "userId", self._beside),
            type=self._text(self._fields, "type", self._beside),
            name=self._text(self._fields, "name", self._beside),
            properties=self._properties(),
            occurred_at=self._occurred_at(),
            device_type=device_type,
            browser=browser,
            extra=self._extra(),
        )
        return ReadEvent(row, self._repairs)

    def _text(self, fields: _Fields, name: str, beside: dict[bytes, bytes], path: str = "") -> str | None:
        """A column of text; a value that is none stays beside, as it came."""
        field = fields.get(name, _ABSENT)
        if field.value == _NULL:
            return None
        if field.value.startswith(b'"'):
            text, changed = as_text(field.value)
            if changed:
                self._repairs.append(f"{path}{name} {NOT_TEXT}")
            return text
        beside[field.key] = field.value
        self._repairs.append(f"{path}{name} is not a string")
        return None

    def _session(self, session_id: str | None) -> tuple[str | None, str | None, str | None]:
        """Session id, device type and browser; the session's own id fills in, or stays beside where it differs."""
        session = self._fields.get("session", _ABSENT)
        if session.value == _NULL:
            return session_id, None, None
        fields = _fields(session.value)
        if fields is None:
            self._beside[session.key] = session.value
            self._repairs.append("session is not an object")
            return session_id, None, None
        beside = _unknown(fields, _SESSION_FIELDS)
        device_type = self._text(fields, "deviceType", beside, "session.")
        browser = self._text(fields, "browser", beside, "session.")
        own_id = self._text(fields, "id", beside, "session.")
        if own_id is not None and session_id is not None and own_id != session_id:
            beside[fields["id"].key] = fields["id"].value
        if beside:
            self._beside[session.key] = _joined(beside)
        return session_id if session_id is not None else own_id, device_type, browser

    def _properties(self) -> str | None:
        raw = self._fields.get("properties", _ABSENT).value
        return None if raw == _NULL else self._json("properties", raw)

    def _occurred_at(self) -> str | None:
        field = _timestamp(self._fields)
        ts = self._fields.get("ts", _ABSENT)
        if ts.value != _NULL and ts != field:
            self._beside[ts.key] = ts.value
        if field.value == _NULL:
            return None
        occurred_at = to_text(_moment(field.value))
        if occurred_at is None:
            self._beside[field.key] = field.value
            self._repairs.append("the timestamp is none, or an ambiguous one")
        return occurred_at

    def _extra(self) -> str | None:
        """Unknown fields, and the originals of unreadable ones; what is no JSON in any way is left out alone."""
        kept = _unknown(self._fields, _FIELDS) | self._beside
        texts = {self._json("extra", key): self._json("extra", value) for key, value in kept.items()}
        members = [f"{key}:{value}" for key, value in texts.items() if value is not None]
        return "{" + ",".join(members) + "}" if members else None

    def _json(self, column: str, raw: bytes) -> str | None:
        text, changes = as_json(raw)
        self._repairs += [repair for change in changes if (repair := f"{column} {change}") not in self._repairs]
        return text


def _unknown(fields: _Fields, known: frozenset[str]) -> dict[bytes, bytes]:
    return {field.key: field.value for name, field in fields.items() if name not in known}


def _joined(members: Mapping[bytes, bytes]) -> bytes:
    return b"{" + b",".join(key + b":" + value for key, value in members.items()) + b"}"
