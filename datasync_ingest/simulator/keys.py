"""API keys and stream tokens: who may come in, since when, and for how long still."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message

from .answers import RefusedError
from .options import Options


@dataclass(frozen=True, slots=True)
class Caller:
    """A request with a valid key; `by_query`: the key came in the URL."""

    key: str
    by_query: bool


class Keys:
    """The clocks of keys, each started by its first call, and the tokens given out for the feed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._first_calls: dict[str, float] = {}
        self._tokens: dict[str, float] = {}
        digits = hashlib.sha256(f"feed {seed}".encode()).hexdigest()
        self.feed_path = f"/api/v1/events/{digits[:4]}/{digits[4:8]}/feed"

    def note(self, headers: Message, query: Mapping[str, str], options: Options, now: float) -> Caller | None:
        """Starts the clock of a valid key, whatever it was called for; None where the key is none."""
        key = headers.get("X-API-Key") or query.get("api_key")
        if key not in options.api_key:
            return None
        assert key is not None
        self._first_calls.setdefault(key, now)
        return Caller(key, by_query=not headers.get("X-API-Key"))

    def require(self, caller: Caller | None, options: Options, now: float) -> Caller:
        """Raises RefusedError for a missing, wrong or dead key."""
        if caller is None:
            raise RefusedError(options.key_refused_status, "INVALID_API_KEY", "the API key is missing or unknown")
        if now >= self._first_calls[caller.key] + options.key_life:
            raise RefusedError(options.key_refused_status, "API_KEY_EXPIRED", "the API key has run out")
        return caller

    def stream_access(
        self, headers: Message, origin: str, caller: Caller, options: Options, now: float
    ) -> dict[str, object]:
        """What the dashboard is told. Raises RefusedError for somebody who does not look like it."""
        looks = {
            "origin": headers.get("Origin") == origin,
            "user-agent": headers.get("User-Agent", "").startswith("Mozilla/"),
            "x-requested-with": headers.get("X-Requested-With") == "XMLHttpRequest",
            "sec-fetch-site": headers.get("Sec-Fetch-Site") == "same-origin",
            "cookie": f"dashboard_api_key={caller.key}" in headers.get("Cookie", ""),
        }
        if not all(looks.get(need, False) for need in options.dashboard_needs):
            raise RefusedError(403, "DASHBOARD_REQUIRED", "stream access is for the dashboard")
        token = hashlib.sha256(f"token {self._seed} {len(self._tokens)}".encode()).hexdigest()
        self._tokens[token] = now + options.token_life
        access = {
            "endpoint": self.feed_path,
            "token": token,
            "expiresIn": round(options.token_life),
            "tokenHeader": "X-Stream-Token",
        }
        return {"streamAccess": access}

    def require_token(self, headers: Message, now: float) -> None:
        """Raises RefusedError."""
        if now >= self._tokens.get(headers.get("X-Stream-Token", ""), 0):
            raise RefusedError(403, "INVALID_STREAM_TOKEN", "the stream token is missing, unknown or has run out")
