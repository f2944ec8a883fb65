"""How long the API key still lives: it runs out three hours after its first call, whichever command made that call."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .ledger import Ledger
from .settings import Secret

KEY_LIFE_S = 3 * 3600.0
KEY_FACT = "key_first_used"


class KeyClock:
    """The ledger keeps when a key was first used, under a salted digest of it and never the key itself.

    The salt is kept with the digest, so that a call before the first ingest is known to it. A digest without one was
    salted with the database's id, by an earlier version. `ledger` is not used after `first_call`.
    """

    def __init__(self, ledger: Ledger, key: Secret, *, wall: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._key = key
        self._wall = wall
        self._first_used_at: float | None = self._known()

    def first_call(self) -> None:
        """The first keyed call is about to be made; later ones change nothing."""
        if self._first_used_at is None:
            self._first_used_at = self._wall()
            salt = secrets.token_hex(8)
            fact = {"salt": salt, "digest": _digest(salt, self._key), "at": self._first_used_at}
            self._ledger.keep(**{KEY_FACT: fact})

    @property
    def first_used_at(self) -> float | None:
        """Epoch seconds; None before its first call, as far as the ledger knows."""
        return self._first_used_at

    def left_s(self) -> float | None:
        """Seconds until the key ends; None before its first call."""
        return None if self._first_used_at is None else self._first_used_at + KEY_LIFE_S - self._wall()

    def _known(self) -> float | None:
        facts = {name: self._ledger.fact(name) for name in (KEY_FACT, "database_id")}
        end = key_end(facts, self._key)
        return end.ends_at - KEY_LIFE_S if end is not None and end.is_ours else None


@dataclass(frozen=True, slots=True)
class KeyEnd:
    """When the key that was used last ends, epoch seconds; whether it is the settings' key, None without one there."""

    ends_at: float
    is_ours: bool | None


def key_end(facts: Mapping[str, Any], key: Secret | None) -> KeyEnd | None:
    """What the ledger's facts say of it; None before the first call. Raises TypeError, KeyError for damaged facts."""
    fact = facts.get(KEY_FACT)
    if fact is None:
        return None
    salt = fact["salt"] if "salt" in fact else facts.get("database_id")
    is_ours = None if key is None else fact["digest"] == _digest(salt, key)
    return KeyEnd(float(fact["at"]) + KEY_LIFE_S, is_ours)


def _digest(salt: Any, key: Secret) -> str:
    return hashlib.sha256(f"{salt}:{key.reveal()}".encode()).hexdigest()[:12]
