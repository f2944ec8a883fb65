"""How long the API key still lives: it runs out three hours after its first call, whichever command made that call."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .ledger import Ledger
from .secret import Secret

KEY_LIFE_S = 3 * 3600.0
KEY_FACT = "key_first_used"


@dataclass(frozen=True, slots=True)
class FirstUse:
    """When a key was first used, epoch seconds, and the salted digest that tells it from other keys."""

    salt: str
    digest: str
    at: float

    def is_of(self, key: Secret) -> bool:
        return self.digest == _digest(self.salt, key)


class KeyClock:
    """The ledger keeps when each key was first used, under a salted digest of it and never the key itself.

    The salt is kept with the digest, so that a call before the first ingest is known to it. `ledger` is not used after
    `first_call`.
    """

    def __init__(self, ledger: Ledger, key: Secret, *, wall: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._key = key
        self._wall = wall
        self._uses = _first_uses({name: ledger.fact(name) for name in (KEY_FACT, "database_id")})
        self._use = _use_of(key, self._uses)

    def first_call(self) -> None:
        """The first keyed call is about to be made; later ones change nothing."""
        if self._use is None:
            salt = secrets.token_hex(8)
            self._use = FirstUse(salt, _digest(salt, self._key), self._wall())
            self._ledger.keep(**{KEY_FACT: [asdict(use) for use in (*self._uses, self._use)]})

    @property
    def first_used_at(self) -> float | None:
        """Epoch seconds; None before its first call, as far as the ledger knows."""
        return None if self._use is None else self._use.at

    @property
    def mark(self) -> str | None:
        """What tells this key from others in this ledger, and says nothing of it; None before its first call."""
        return None if self._use is None else self._use.digest

    def left_s(self) -> float | None:
        """Seconds until the key ends; None before its first call."""
        return None if self._use is None else self._use.at + KEY_LIFE_S - self._wall()


@dataclass(frozen=True, slots=True)
class KeyEnd:
    """When a key ends, epoch seconds; whether it is the settings' key, None without one there."""

    ends_at: float
    is_ours: bool | None


def key_end(facts: Mapping[str, Any], key: Secret | None) -> KeyEnd | None:
    """What the ledger's facts say of the settings' key, or, where it is not known, of the one that came last.

    None before the first call. Raises TypeError, KeyError, ValueError for damaged facts.
    """
    uses = _first_uses(facts)
    if not uses:
        return None
    ours = None if key is None else _use_of(key, uses)
    return KeyEnd((ours or uses[-1]).at + KEY_LIFE_S, None if key is None else ours is not None)


def _first_uses(facts: Mapping[str, Any]) -> list[FirstUse]:
    """In the order in which the keys came.

    Earlier versions kept the last key alone, and the first of them a digest that was salted with the database's id.
    """
    kept = facts.get(KEY_FACT)
    if kept is None:
        return []
    salt = facts.get("database_id")
    uses = [kept] if isinstance(kept, dict) else list(kept)
    return [FirstUse(str(use.get("salt", salt)), str(use["digest"]), float(use["at"])) for use in map(dict, uses)]


def _use_of(key: Secret, uses: list[FirstUse]) -> FirstUse | None:
    return next((use for use in uses if use.is_of(key)), None)


def _digest(salt: str, key: Secret) -> str:
    return hashlib.sha256(f"{salt}:{key.reveal()}".encode()).hexdigest()[:12]
