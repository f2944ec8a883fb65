"""Damages of single events: each takes an event's JSON text and gives back one that a server should not have sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

Damage = Callable[[bytes, Random], bytes]

_WRONG: tuple[Any, ...] = (True, 3.5, ["a", "list"], {"an": "object"})
_NO_TIMESTAMPS: tuple[Any, ...] = (
    "yesterday",
    "2026-13-45T99:99:99Z",
    "2026-01-27",
    "2026-01-27T19:20:12",
    -1,
    True,
    {"seconds": 1},
    "",
    10**18,
)
_UNKNOWN = {"schemaVersion": 3, "geo": {"country": "NL", "hops": [1, 2.50, None]}}
_DEEP = 100_000
_LONG_STRING = 50 * 2**20
_LONG_ID = 6_000


def _missing_field(event: bytes, random: Random) -> bytes:
    fields = json.loads(event)
    del fields[random.choice(sorted(fields))]
    return _text(fields)


def _null_field(event: bytes, random: Random) -> bytes:
    fields = json.loads(event)
    fields[random.choice(sorted(fields))] = None
    return _text(fields)


def _wrong_type(event: bytes, random: Random) -> bytes:
    fields = json.loads(event)
    fields[random.choice(sorted(fields))] = random.choice(_WRONG)
    return _text(fields)


def _unknown_field(event: bytes, random: Random) -> bytes:
    del random
    return _text({**json.loads(event), **_UNKNOWN})


def _bad_timestamp(event: bytes, random: Random) -> bytes:
    fields = json.loads(event)
    fields["ts" if "ts" in fields else "timestamp"] = random.choice(_NO_TIMESTAMPS)
    return _text(fields)


def _long_id(event: bytes, random: Random) -> bytes:
    del random
    return _text({**json.loads(event), "id": "x" * _LONG_ID})


def _with(member: bytes) -> Damage:
    """Adds a member as it stands, valid JSON or not."""

    def damage(event: bytes, random: Random) -> bytes:
        del random
        return event[:-1] + b"," + member + b"}"

    return damage


def _text(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


# Name -> damage. Those behind the line are beyond what strict parsers read.
DAMAGES: dict[str, Damage] = {
    "missing-field": _missing_field,
    "null-field": _null_field,
    "wrong-type": _wrong_type,
    "unknown-field": _unknown_field,
    "bad-timestamp": _bad_timestamp,
    "nul": _with(rb'"name":"before\u0000after"'),
    "long-id": _long_id,
    "big-number": _with(b'"extraNumber":123456789012345678901234567890'),
    "duplicate-key": _with(b'"type":"first","type":"last"'),
    # ---
    "nan": _with(b'"ratio":NaN'),
    "surrogate": _with(rb'"note":"half \ud800 a pair"'),
    "control-character": _with(b'"note":"a raw\nline end"'),
    "invalid-utf8": _with(b'"note":"\xff\xfe"'),
    "deep": _with(b'"deep":' + b"[" * _DEEP + b"]" * _DEEP),
    "long-string": _with(b'"long":"' + b"x" * 1024 + b'"'),
}


def damaged(event: bytes, name: str, random: Random) -> bytes:
    """The event with the damage called `name`."""
    if name == "long-string":  # not kept in memory until somebody wants it
        return event[:-1] + b',"long":"' + b"x" * _LONG_STRING + b'"}'
    return DAMAGES[name](event, random)
