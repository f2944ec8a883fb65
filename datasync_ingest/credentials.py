"""The settings that are secret, out of the environment that `settings.py` has read: key, stream token, database."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from . import conversions
from .errors import ConfigurationError
from .secret import Secret

# The libpq variables that name a database, https://www.postgresql.org/docs/current/libpq-envars.html;
# each of the first three says by itself that the user has one.
_LIBPQ = {
    "PGHOST": "host",
    "PGSERVICE": "service",
    "PGDATABASE": "dbname",
    "PGHOSTADDR": "hostaddr",
    "PGPORT": "port",
    "PGUSER": "user",
    "PGPASSWORD": "password",
    "PGPASSFILE": "passfile",
    "PGSSLMODE": "sslmode",
    "PGSSLROOTCERT": "sslrootcert",
    "PGSSLCERT": "sslcert",
    "PGSSLKEY": "sslkey",
}
API_SECRETS = ("TARGET_API_KEY", "TARGET_API_KEY_FILE", "TARGET_STREAM_TOKEN")
_LIBPQ_NAMES_A_DATABASE = ("PGHOST", "PGSERVICE", "PGDATABASE")


def api_key(environment: Mapping[str, str], directory: Path) -> Secret | None:
    """From the variable, or the file that another one names. Raises ConfigurationError."""
    text = environment.get("TARGET_API_KEY")
    path = environment.get("TARGET_API_KEY_FILE")
    if text is None and path is not None:
        try:
            text = (directory / path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"TARGET_API_KEY_FILE={path!r} cannot be read: {error}.",
                hint="It must hold the key and nothing else.",
            ) from None
    if text is None:
        return None
    key = text.strip()
    if not conversions.is_header_word(key):
        raise ConfigurationError(
            "The API key is empty or holds characters that no HTTP header can carry.",
            hint="Set TARGET_API_KEY to the key exactly as it was given to you.",
        )
    return Secret(key)


def stream_token(environment: Mapping[str, str], path: str | None) -> Secret | None:
    """A token is worth nothing without the path that it was given out for, nor the path without it.

    Raises ConfigurationError.
    """
    token = environment.get("TARGET_STREAM_TOKEN", "").strip() or None
    if token is not None and not conversions.is_header_word(token):
        raise ConfigurationError(
            "The stream token holds characters that no HTTP header can carry.",
            hint="Set TARGET_STREAM_TOKEN to the token exactly as the dashboard's requests have it.",
        )
    if (token is None) != (path is None):
        raise ConfigurationError(
            "TARGET_STREAM_TOKEN and TARGET_STREAM_PATH go together, and one of them is not set.",
            hint="Set both, as the dashboard's requests have them, or neither: then the program asks for a token.",
        )
    return None if token is None else Secret(token)


def database(environment: Mapping[str, str]) -> Secret | None:
    """A libpq conninfo or URL; None where the user names no database."""
    url = environment.get("DATABASE_URL")
    if url is not None:
        return Secret(url)
    if not any(name in environment for name in _LIBPQ_NAMES_A_DATABASE):
        return None
    parts = {word: environment[name] for name, word in _LIBPQ.items() if name in environment}
    return Secret(" ".join(f"{word}={_quoted(text)}" for word, text in parts.items()))


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def passwords_in(conninfo: str) -> list[str]:
    """Every password in it, in each of the forms that libpq takes."""
    found = re.findall(r"password\s*=\s*'((?:[^'\\]|\\.)*)'|password\s*=\s*([^\s'&]+)", conninfo)
    in_url = re.findall(r"://[^/@:]*:([^/@]+)@", conninfo)
    return [text for pair in found for text in pair if text] + in_url
