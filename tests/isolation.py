"""Keeps tests and benchmarks off the user's data: the one list of what they must not see."""

from __future__ import annotations

from collections.abc import Mapping

from datasync_ingest.settings import setting_fields

SECRETS_AND_DATABASES = frozenset({"TARGET_API_KEY", "TARGET_API_KEY_FILE", "TARGET_STREAM_TOKEN", "DATABASE_URL"})
LIBPQ_PREFIX = "PG"


def without_user_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """A copy without every variable that names the user's API, key, database or data directory."""
    settings = {str(entry.metadata["variable"]) for entry in setting_fields()} | SECRETS_AND_DATABASES
    return {
        name: text for name, text in environment.items() if name not in settings and not name.startswith(LIBPQ_PREFIX)
    }
