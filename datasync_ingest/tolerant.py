"""One event, however odd: what of it fits its column, what is kept beside, and why it was rejected if it was.

Works on the bytes of each value, so that what is kept is kept as it came: no number is rounded on its way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from .timestamps import to_text

LONGEST_ID_BYTES = 1000  # far below what an index entry can hold (2,704 bytes), far above any id that was met

NOT_AN_OBJECT = "the event is not an object"
NO_ID = "no id"
ID_OF_ANOTHER_TYPE = "the id is neither a string nor an integer"
ID_EMPTY = "the id is empty"
ID_WITH_CONTROL_CHARACTERS = "the id holds control characters or half a surrogate pair"
ID_TOO_LONG = f"the id is longer than {LONGEST_ID_BYTES} bytes"


class EventRow(NamedTuple):
    """The columns of `ingested_events`, in their order; `properties` and `extra` are JSON texts, `occurred_at` is ISO
    8601 in UTC."""

    id: str
    session_id: str | None
    user_id: str | None
    type: str | None
    name: str | None
    properties: str | None
    occurred_at: str | None
    device_type: str | None
    browser: str | None
    extra: str | None


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


@dataclass(slots=True)
class ReadEvent:
    """A row, and what had to be done to get it."""

    row: EventRow
    repairs: list[str] = field(default_factory=list)


# What a JSON text can say and PostgreSQL's text cannot hold: U+0000, and half of a surrogate pair.
_SUSPECT = (b"\\u0000", b"\\ud", b"\\uD")
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a whole pair, kept
    r"|(\\u0000|\\u[dD][89a-fA-F][0-9a-fA-F]{2})"  # what has to go
    r"|\\."  # any other escape, so that `\\u0000` behind a backslash is not one
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_INTEGER = re.compile(rb"-?\d+")
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.json.Decoder()

_TEXTS = {"sessionId": "session_id", "userId": "user_id", "type": "type", "name": "name"}
_KNOWN = {"id", "properties", "timestamp", "session", *_TEXTS}


def needs_care(body: bytes) -> bool:
    """Whether a body may hold what PostgreSQL cannot: a bytes search, and a check of the encoding where it matters."""
    if b"\\" in body and any(suspect in body for suspect in _SUSPECT):  # one byte is found 20 times faster than six
        return True
    if body.isascii():
        return False
    try:
        body.decode()
    except UnicodeDecodeError:
        return True
    return False


def is_plain_id(event_id: str) -> bool:
    """Whether a text can be an id as it is."""
    if event_id.isascii() and event_id.isprintable():
        return 0 < len(event_id) <= LONGEST_ID_BYTES
    return _refusal(event_id) is None


def read_event(raw: msgspec.Raw | bytes) -> ReadEvent | str:
    """The row of any JSON value, or the reason why it can have none. Never raises."""
    fields = _object(bytes(raw))
    if fields is None:
        return NOT_AN_OBJECT
    event_id = _id(fields)
    if isinstance(event_id, _Refused):
        return event_id.reason
    return _Reading(fields).event(event_id)


def read_id(raw: msgspec.Raw | bytes) -> str | None:
    """The usable id of an event, None where it has none."""
    fields = _object(bytes(raw))
    event_id = None if fields is None else _id(fields)
    return event_id if isinstance(event_id, str) else None


def bare_row(raw: bytes, event_id: str) -> EventRow:
    """The last resort for an event whose row PostgreSQL refuses: its id alone. `raw` goes to the repairs."""
    del raw
    return EventRow(event_id, None, None, None, None, None, None, None, None, None)


@dataclass(frozen=True, slots=True)
class _Refused:
    reason: str


def _object(raw: bytes) -> dict[str, msgspec.Raw] | None:
    """The values of an object as bytes, by key; the last of a repeated key wins."""
    try:
        return _OBJECT.decode(raw)
    except msgspec.DecodeError:
        pass
    try:  # a key may hold what msgspec refuses
        return _OBJECT.decode(_clean(raw)[0])
    except msgspec.DecodeError:
        return None


def _id(fields: Mapping[str, msgspec.Raw]) -> str | _Refused:
    raw = bytes(fields.get("id", b"null"))
    if raw == b"null":
        return _Refused(NO_ID)
    if _INTEGER.fullmatch(raw):
        return raw.decode() if len(raw) <= LONGEST_ID_BYTES else _Refused(ID_TOO_LONG)
    text, changed = _clean(raw)
    value = _decoded(text)
    if not isinstance(value, str):
        return _Refused(ID_OF_ANOTHER_TYPE)
    if changed:
        return _Refused(ID_WITH_CONTROL_CHARACTERS)
    reason = _refusal(value)
    return value if reason is None else _Refused(reason)


def _refusal(event_id: str) -> str | None:
    if not event_id:
        return ID_EMPTY
    if _CONTROL.search(event_id):
        return ID_WITH_CONTROL_CHARACTERS
    return ID_TOO_LONG if len(event_id.encode(errors="surrogatepass")) > LONGEST_ID_BYTES else None


class _Reading:
    """The reading of one event: what goes beside its columns, and why."""

    def __init__(self, fields: dict[str, msgspec.Raw]) -> None:
        self._fields = fields
        self._extra: dict[str, bytes] = {}
        self._repairs: list[str] = []

    def event(self, event_id: str) -> ReadEvent:
        texts = {column: self._text(self._fields, name, self._extra, name) for name, column in _TEXTS.items()}
        session_id, device_type, browser = self._session(texts.pop("session_id"))
        row = EventRow(
            id=event_id,
            session_id=session_id,
            user_id=texts["user_id"],
            type=texts["type"],
            name=texts["name"],
            properties=self._json("properties", bytes(self._fields.get("properties", b"null"))),
            occurred_at=self._occurred_at(),
            device_type=device_type,
            browser=browser,
            extra=self._extra_text(),
        )
        return ReadEvent(row, self._repairs)

    def _text(self, fields: Mapping[str, msgspec.Raw], name: str, beside: dict[str, bytes], path: str) -> str | None:
        """A column of text; a value that is none stays beside, as it came."""
        raw = bytes(fields.get(name, b"null"))
        if raw == b"null":
            return None
        text, changed = _clean(raw)
        value = _decoded(text)
        if isinstance(value, str):
            self._note(changed, path)
            return value
        beside[name] = raw
        self._repairs.append(f"{path} is not a string")
        return None

    def _session(self, session_id: str | None) -> tuple[str | None, str | None, str | None]:
        """Session id, device type and browser; the session's own id fills in, or stays beside where it differs."""
        raw = bytes(self._fields.get("session", b"null"))
        if raw == b"null":
            return session_id, None, None
        fields = _object(raw)
        if fields is None:
            self._extra["session"] = raw
            self._repairs.append("session is not an object")
            return session_id, None, None
        beside = {name: bytes(value) for name, value in fields.items() if name not in ("id", "deviceType", "browser")}
        device_type = self._text(fields, "deviceType", beside, "session.deviceType")
        browser = self._text(fields, "browser", beside, "session.browser")
        own_id = self._text(fields, "id", beside, "session.id")
        if own_id is not None and session_id is not None and own_id != session_id:
            beside["id"] = bytes(fields["id"])
        if beside:
            self._extra["session"] = _joined(beside)
        return session_id if session_id is not None else own_id, device_type, browser

    def _occurred_at(self) -> str | None:
        name = "timestamp"
        if bytes(self._fields.get(name, b"null")) == b"null" and "ts" in self._fields:
            name = "ts"
        elif "ts" in self._fields:
            self._extra["ts"] = bytes(self._fields["ts"])
        raw = bytes(self._fields.get(name, b"null"))
        if raw == b"null":
            return None
        occurred_at = to_text(_decoded(_clean(raw)[0]))
        if occurred_at is None:
            self._extra[name] = raw
            self._repairs.append(f"{name} is not a timestamp, or an ambiguous one")
        return occurred_at

    def _extra_text(self) -> str | None:
        """Unknown fields, and the originals of unreadable ones."""
        unknown = {name: bytes(raw) for name, raw in self._fields.items() if name not in _KNOWN and name != "ts"}
        kept = {**unknown, **self._extra}
        return self._json("extra", _joined(kept)) if kept else None

    def _json(self, name: str, raw: bytes) -> str | None:
        if raw == b"null":
            return None
        text, changed = _clean(raw)
        self._note(changed, name)
        return text

    def _note(self, changed: bool, name: str) -> None:
        if changed:
            self._repairs.append(f"{name} held what PostgreSQL cannot: it is U+FFFD there")


def _joined(values: Mapping[str, bytes]) -> bytes:
    return b"{" + b",".join(msgspec.json.encode(name) + b":" + raw for name, raw in values.items()) + b"}"


def _decoded(text: str) -> Any:
    """Any JSON value; an unreadable one, which msgspec may still find inside a raw value, is None."""
    try:
        return _ANY.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def _clean(raw: bytes) -> tuple[str, bool]:
    """The JSON text with U+FFFD for all that PostgreSQL's text cannot hold, and whether there was any."""
    text = raw.decode("utf-8", errors="replace")
    cleaned = _ESCAPE.sub(lambda match: "\\ufffd" if match[1] else match[0], text) if "\\u" in text else text
    return cleaned, cleaned != text or ("�" in text and not _is_utf8(raw))


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
