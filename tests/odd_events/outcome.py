"""What becomes of an odd event, how one is written down, and when two rows say the same."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from datasync_ingest.events import EventRow

CUT = "held what PostgreSQL cannot: it is U+FFFD there"
NO_WORD = "held what JSON has no word for: it is a string there"
BEYOND = "held a number beyond PostgreSQL's: it is a string there"
LEFT_OUT = "is no JSON, or nested deeper than 1000 levels: it is left out"
NO_TEXT = "is not a string"
NO_TIME = "the timestamp is none, or an ambiguous one"
BAD_ID = "the id holds control characters, or what is no Unicode text"
TYPE_OF_ID = "the id is neither a string nor an integer"
LONG_ID = "the id is longer than 1000 bytes"
NO_OBJECT = "the event is not a JSON object"


@dataclass(frozen=True)
class Odd:
    """An event, byte for byte, and its outcome: `columns` that are not NULL, why it was `repaired`, why `rejected`.

    `passed_on`: columns that the strict decoder hands on as they came, for PostgreSQL to refuse; the outcome is that of
    the refusal then.
    """

    raw: bytes
    columns: dict[str, str] = field(default_factory=dict)
    repaired: str | None = None
    rejected: str | None = None
    passed_on: dict[str, str] = field(default_factory=dict)

    @property
    def row(self) -> EventRow | None:
        return None if self.rejected else row_of(self.columns)

    @property
    def row_passed_on(self) -> EventRow | None:
        return row_of({**self.columns, **self.passed_on}) if self.passed_on else self.row


def row_of(columns: dict[str, str]) -> EventRow:
    return EventRow(**{**dict.fromkeys(EventRow._fields), **columns})  # type: ignore[arg-type]


def comparable(row: EventRow | None) -> Any:
    """A row by the meaning of its columns: how moments and JSON are spelled does not count. No number is rounded."""
    if row is None:
        return None
    return row._replace(
        properties=_meaning(row.properties),
        extra=_meaning(row.extra),
        occurred_at=row.occurred_at and datetime.fromisoformat(row.occurred_at.replace("Z", "+00:00")),  # type: ignore[arg-type]
    )


def _meaning(text: str | None) -> Any:
    """None only for NULL: JSON's null is another value."""
    if text is None:
        return None
    if text.count("[") + text.count("{") > 500:  # too deep for the parser: compared as it stands
        return text.replace(" ", "")
    return "json", json.loads(text, parse_int=_number, parse_float=_number)


def _number(text: str) -> Decimal | str:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent that no Decimal can have
        return text


def kept(fields: str | bytes, repaired: str | None = None, /, **columns: str) -> Odd:
    """An event with an id, whose other fields are these."""
    raw = fields if isinstance(fields, bytes) else fields.encode()
    return Odd(b'{"id": "odd", ' + raw + b"}", {"id": "odd", **columns}, repaired)
