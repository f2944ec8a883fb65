"""The API's cursors: base64url of `{"id", "ts", "v": 2, "exp"}`, unsigned and without padding, or in another style.

A signed one is `<plain cursor>.<signature>`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any

from .dataset import EventId, Position

VERSION = 2
_SIGNING_KEY = b"known to the server alone"


class CursorError(Exception):
    """Raised for a cursor that leads nowhere: `expired`, or not a cursor at all."""

    def __init__(self, *, expired: bool) -> None:
        super().__init__("the cursor has expired" if expired else "the cursor is not one of this API")
        self.expired = expired


def encode(position: Position, *, now: float, life_s: float, style: str = "plain") -> str:
    """The cursor that goes on after `position`; `now` is epoch seconds of the server's clock."""
    fields = {
        "id": position.identifier,
        "ts": position.timestamp_ms,
        "v": VERSION,
        "exp": round((now + life_s) * 1000),
    }
    padded = base64.urlsafe_b64encode(json.dumps(fields, separators=(",", ":")).encode()).decode()
    plain = padded.rstrip("=")
    return {"plain": plain, "padded": padded, "signed": f"{plain}.{_signature(plain)}"}[style]


def decode(cursor: str, *, now: float, id_type: type[EventId], style: str = "plain") -> Position:
    """Where the cursor goes on after. Raises CursorError."""
    fields = _fields(_verified(cursor) if style == "signed" else cursor)
    if set(fields) != {"id", "ts", "v", "exp"} or fields["v"] != VERSION:
        raise CursorError(expired=False)
    if type(fields["id"]) is not id_type or type(fields["ts"]) is not int or type(fields["exp"]) is not int:
        raise CursorError(expired=False)
    if fields["exp"] <= now * 1000:
        raise CursorError(expired=True)
    return Position(fields["ts"], fields["id"])


def _signature(plain: str) -> str:
    return hmac.new(_SIGNING_KEY, plain.encode(), hashlib.sha256).hexdigest()


def _verified(cursor: str) -> str:
    plain, _, signature = cursor.partition(".")
    if not hmac.compare_digest(signature.encode(), _signature(plain).encode()):
        raise CursorError(expired=False)
    return plain


def _fields(cursor: str) -> dict[str, Any]:
    try:
        fields = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        raise CursorError(expired=False) from None
    if not isinstance(fields, dict):
        raise CursorError(expired=False)
    return fields
