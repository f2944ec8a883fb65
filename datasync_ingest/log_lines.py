"""What a log line says beside its message: when, how grave, and which run, page, attempt and request it is about."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any

_ABOUT: ContextVar[dict[str, Any] | None] = ContextVar("about", default=None)
_FIELDS = {"run": "run", "page": "page", "attempt": "attempt", "request_id": "request"}  # and their words in a text
_PAGE = re.compile(r"\bpage ([0-9a-f]{8}/[0-9]+)\b")


@contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Every line that this thread logs in the block has these fields, beside those of the blocks around it.

    Another thread has them where it runs in a copy of this one's context (`contextvars.copy_context`).
    """
    token = _ABOUT.set({**(_ABOUT.get() or {}), **fields})
    try:
        yield
    finally:
        _ABOUT.reset(token)


def note(**fields: Any) -> None:
    """Adds fields to the innermost block of this thread, until its end; None takes one away. No block: no effect."""
    if (innermost := _ABOUT.get()) is not None:
        innermost.update(fields)


def stamp(room: str, message: str, *, at: float | None = None, level: str = "info") -> dict[str, Any]:
    """The fields of a line that is written now, or at `at` (epoch seconds): those that are known, in their order."""
    found = {name: value for name, value in (_ABOUT.get() or {}).items() if value is not None}
    if "page" not in found and (page := _PAGE.search(message)):
        found["page"] = page[1]
    moment = datetime.fromtimestamp(time.time() if at is None else at, timezone.utc)
    known = {name: found[name] for name in _FIELDS if name in found}
    return {
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": level,
        "room": room,
        "message": message,
        **{name: value if isinstance(value, int) else str(value) for name, value in known.items()},
    }


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """`stamp` for a record of the package; to be asked by a handler, in the thread that logs.

    What was given as `extra={"facts": {...}}` is for machines alone and comes last.
    """
    room = record.name.partition(".")[2]
    fields = stamp(room, record.getMessage(), at=record.created, level=record.levelname.lower())
    return {**fields, **getattr(record, "facts", {})}


def as_json(fields: Mapping[str, Any]) -> str:
    """One JSON object, for LOG_FORMAT=json."""
    return json.dumps(fields, default=str)


def as_text(fields: Mapping[str, Any]) -> str:
    """`12:00:00 warning: message [run 3, page 7d1f0000/12, attempt 2, request 5c1e]`; what the message says itself is
    not said twice. The time is local."""
    moment = datetime.fromisoformat(fields["time"].replace("Z", "+00:00")).astimezone()
    level = "" if fields["level"] == "info" else f"{fields['level']}: "
    said = [f"{word} {fields[name]}" for name, word in _FIELDS.items() if name in fields]
    new = ", ".join(one for one in said if not re.search(rf"\b{re.escape(one)}\b", fields["message"]))
    return f"{moment:%H:%M:%S} {level}{fields['message']}" + (f" [{new}]" if new else "")
