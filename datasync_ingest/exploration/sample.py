"""The events of one page as a sample: their fields and types, how their timestamps are spelled, where they stand."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import timestamps
from ..lenient_json import StructureError
from ..lenient_page import events_of, members_by_name

TIMESTAMP_FIELDS = ("timestamp", "ts")
_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object", list: "array"}
_ISO = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:[.,](\d+))?)?(Z|z|[+-]\d\d:?\d\d)?", re.ASCII)
_DECIMAL = re.compile(r"\d+(?:\.\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the events; `of` is the number of objects that could have it. Rates are shares of these."""

    name: str
    types: Mapping[str, int]
    of: int

    @property
    def missing(self) -> float:
        return 1 - sum(self.types.values()) / self.of

    @property
    def null(self) -> float:
        return self.types.get("null", 0) / self.of


@dataclass(frozen=True, slots=True)
class Sample:
    """The events of a page that are JSON objects, in the page's order; `unreadable` counts the others."""

    events: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    unreadable: int = 0

    @property
    def ids(self) -> list[Any]:
        return [event.get("id") for event in self.events]

    def times_ms(self) -> list[int | None]:
        """Epoch milliseconds of each event, None where its timestamp cannot be read."""
        microseconds = [timestamps.parse(_stamp(event)) for event in self.events]
        return [None if one is None else one // 1000 for one in microseconds]

    def spellings(self) -> dict[str, int]:
        """How often each way of writing a timestamp occurs, the most frequent first."""
        return dict(Counter(spelling(event) for event in self.events).most_common())

    def fields(self) -> list[Field]:
        """Every field, and below each object its own fields, one level deep, in the order in which they came."""
        found: dict[tuple[str, str], Counter[str]] = {}
        holders = Counter({"": len(self.events)})
        for event in self.events:
            for parent, name, value in _members(event):
                found.setdefault((parent, name), Counter())[_type(value)] += 1
                if not parent and isinstance(value, dict):
                    holders[name] += 1
        return [
            Field(f"{parent}.{name}" if parent else name, types, holders[parent])
            for (parent, name), types in found.items()
        ]


def sample_of(body: bytes) -> Sample:
    """The events of a page of either envelope. Raises StructureError for what is no page."""
    found = [_read(raw) for raw in events_of(body, members_by_name(body))]
    events = [event for event in found if event is not None]
    return Sample(events, len(found) - len(events))


def spelling(event: Mapping[str, Any]) -> str:
    """How an event writes its timestamp, in words."""
    name = next((name for name in TIMESTAMP_FIELDS if name in event), None)
    if name is None:
        return "missing"
    value = event[name]
    if value is None:
        return "null"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return f"unreadable ({_type(value)})"
    text = str(value)
    if _DECIMAL.fullmatch(text):
        return f"epoch {_unit(float(text))}, {'text' if isinstance(value, str) else 'number'}"
    match = _ISO.fullmatch(text)
    if match is None or timestamps.parse(value) is None:
        return "unreadable"
    decimals = f", {len(match[1])} decimals" if match[1] else ", whole seconds"
    zone = "Z" if match[2] in ("Z", "z") else "an offset"
    return f"ISO 8601 with {zone}{decimals}"


def _unit(number: float) -> str:
    return "s" if number < 1e11 else "ms" if number < 1e14 else "us" if number < 1e17 else "ns or finer"


def _stamp(event: Mapping[str, Any]) -> Any:
    return next((event[name] for name in TIMESTAMP_FIELDS if event.get(name) is not None), None)


def _members(event: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for name, value in event.items():
        yield "", name, value
        if isinstance(value, dict):
            yield from ((name, inner, one) for inner, one in value.items())


def _type(value: Any) -> str:
    return "null" if value is None else _TYPES[type(value)]


def _read(raw: bytes) -> dict[str, Any] | None:
    """As Python's own reader takes it, which knows NaN and raw control characters; None for what is no object."""
    try:
        found = json.loads(bytes(raw).decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


__all__ = ["Field", "Sample", "StructureError", "sample_of", "spelling"]
