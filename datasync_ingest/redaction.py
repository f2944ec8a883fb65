"""What must not be printed, wherever a text came from: secrets are masked, cursors cut short, control characters shown.

A cursor is told by what stands before it (`cursor=`, `"nextCursor":"`), by its known form (see `api/cursors`), or, an
opaque one, by being the one that was asked with.
"""

from __future__ import annotations

import json
import re
from urllib.parse import quote, quote_plus

from .settings import Settings

_SHOWN = 6  # characters of a cursor: enough to tell two apart that are asked for in turn
_TELLING_LENGTH = 12  # characters; a shorter cursor may stand in a text by chance
_CUT = "…"
_BEFORE_A_VALUE = r"""(?:=|%3D|\\*["']\s*:\s*\\*["'])"""
_VALUE = r"""[^\s"'\\&<>,;)}]+"""
_NAMED_CURSOR = re.compile(rf"((?:\b|next_?)cursor{_BEFORE_A_VALUE})({_VALUE})", re.IGNORECASE)
_SECRETS_NAME = r"\b(?:x-)?(?:api[_-]?key|(?:access_|stream[_-])?token)"
_NAMED_SECRET = re.compile(
    rf"({_SECRETS_NAME}{_BEFORE_A_VALUE}|\bx-(?:api-key|stream-token):\s*)({_VALUE})", re.IGNORECASE
)
_PLAIN_CURSOR = re.compile(r"eyJ[A-Za-z0-9_-]{16,}(?:=|%3D){0,2}")  # base64url of an object: `{"`


def without_secrets(text: str, settings: Settings | None) -> str:
    """`text` without any of the settings' secrets, as they are and as URLs and JSON spell them."""
    for secret in settings.secrets if settings is not None else ():
        for form in (secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]):
            text = text.replace(form, "***")
    return text


def mask(text: str, settings: Settings | None, cursor: str | None = None) -> str:
    """For sentences, which may hold others' words: without secrets, nor what is called one, nor a whole cursor.

    `cursor`: one that may be in it.
    """
    text = _NAMED_SECRET.sub(r"\1***", without_secrets(text, settings))
    if cursor is not None and len(cursor) >= _TELLING_LENGTH:
        for form in (cursor, quote(cursor, safe="")):
            text = text.replace(form, shortened(form))
    text = _NAMED_CURSOR.sub(lambda found: found[1] + shortened(found[2]), text)
    return _PLAIN_CURSOR.sub(lambda found: shortened(found[0]), text)


def shortened(cursor: str) -> str:
    """The beginning of a cursor, at most half of it; one that is cut already stays as it is."""
    return cursor if cursor.endswith(_CUT) else cursor[: min(_SHOWN, len(cursor) // 2)] + _CUT


def foreign(text: str, settings: Settings | None, cursor: str | None = None) -> str:
    """What may be told of a text that somebody else wrote: masked, and one line. White space is a blank in it, other
    control characters are `?`."""
    line = " ".join(text.split())
    return mask("".join(one if one.isprintable() else "?" for one in line), settings, cursor)
