"""From the text of a setting to its value: each raises ValueError, whose text goes on after `NAME=TEXT (from ...)`."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from . import units

T = TypeVar("T")

API_PATH = "/api/v1"
NONE = "none"
_LONGEST_NAME = 63  # https://www.postgresql.org/docs/current/sql-syntax-lexical.html: what is beyond it is cut off


def count(lowest: int, highest: int) -> Callable[[str], int]:
    return partial(units.parse_count, lowest=lowest, highest=highest)


def one_of(*names: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in names:
            raise ValueError(f"is not one of {', '.join(names)}")
        return text

    return convert


def optional(convert: Callable[[str], T]) -> Callable[[str], T | None]:
    """`none` is None, anything else as `convert` says."""
    return lambda text: None if text.strip().lower() == NONE else convert(text)


def base_url(text: str) -> str:
    """The URL below which `/events` lies, whichever way it was spelled: with or without `/api/v1`, a slash, a port."""
    try:
        parts = urlsplit(text.strip())
        understood = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        understood = False
    if not understood:
        raise ValueError("is not an http:// or https:// URL with a host name")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("has more than scheme, host, port and path (a key belongs into TARGET_API_KEY)")
    path = parts.path.rstrip("/")
    path = path if path.endswith(API_PATH) else path + API_PATH
    return urlunsplit((parts.scheme, parts.netloc.lower(), path, "", ""))


def file_path(text: str) -> Path:
    if not text.strip():
        raise ValueError("is empty; it must name a file or a directory")
    return Path(text).expanduser().absolute()


def host(text: str) -> str:
    if not text.strip() or any(one in text for one in "/ @?#"):
        raise ValueError("is not a host name or an address")
    return text.strip()


def scheduler_address(text: str) -> str:
    """`tcp://HOST:PORT` or `tls://HOST:PORT`; without a scheme it is tcp, without a port Dask's own, 8786."""
    match = re.fullmatch(r"\s*(?:(tcp|tls)://)?(\[[0-9A-Fa-f:.]+\]|[^\s:/@?#\[\]]+)(?::(\d{1,5}))?\s*", text)
    if match is None or not 0 < int(match[3] or 8786) < 65_536:
        raise ValueError("is not the address of a Dask scheduler, such as tcp://10.0.0.1:8786")
    return f"{match[1] or 'tcp'}://{match[2]}:{match[3] or 8786}"


def schema_name(text: str) -> str:
    """The name of a schema of PostgreSQL that is the same with and without quotes, in every program."""
    text = text.strip()
    if re.fullmatch(r"[a-z_][a-z0-9_]*", text) is None:
        raise ValueError("is not a plain schema name: lower-case letters, digits and _, not beginning with a digit")
    if len(text) > _LONGEST_NAME:
        raise ValueError(f"is longer than the {_LONGEST_NAME} characters that PostgreSQL keeps of a name")
    if text.startswith("pg_") or text == "information_schema":
        raise ValueError("is a name that PostgreSQL keeps for itself")
    return text


def url_path(text: str) -> str:
    """A path on the API's own host, to which a secret may go."""
    if not is_own_path(text.strip()):
        raise ValueError("is not a path on the API's host, such as /api/v1/events/d4ta/x7k9/feed")
    return text.strip()


def is_own_path(text: str) -> bool:
    """Whether `text`, put behind scheme and host, is a path on that host in every reading."""
    return re.fullmatch(r"/(?!/)[!-~]*", text) is not None and not set(text) & set("\\#@")


def header_text(text: str) -> str:
    """Words that a header of HTTP can carry."""
    text = text.strip()
    if not text or not text.isascii() or not text.isprintable():
        raise ValueError("is empty, or holds characters that no HTTP header can carry")
    return text


def is_header_word(text: str) -> bool:
    """Whether a secret can go into a header as it is."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def shown(value: Any) -> str:
    """A value as a person would type it."""
    return NONE if value is None else str(value)
