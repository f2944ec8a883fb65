"""Settings put into a `.env` file: lines that set them are replaced, others stay as they are, the key above all."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path

from dotenv.parser import parse_stream

from .errors import ConfigurationError
from .files import replace
from .settings import setting_fields

_PLAIN = re.compile(r"[A-Za-z0-9._:/+-]+")  # what needs no quotes
_MODE = 0o600  # of a new file: the key will be put there too


def put(path: Path, values: Mapping[str, str]) -> None:
    """Sets each variable in the file, made where there is none: the file is as before or whole, never in between.

    Only variables of settings that are no secrets, with plain values. Raises ConfigurationError.
    """
    allowed = {str(entry.metadata["variable"]) for entry in setting_fields()}
    assert set(values) <= allowed, "neither the key nor a database can be put here"
    assert all(_PLAIN.fullmatch(text) for text in values.values()), "a value would need quotes"
    target = path.resolve()  # a link stays a link
    try:
        before = target.read_bytes().decode("utf-8") if target.exists() else ""
        replace(target, changed(before, values).encode("utf-8"), mode=_MODE)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} cannot be changed: {getattr(error, 'strerror', None) or error}.",
            hint="Set the recommended values yourself, or mend the file and run the same command again.",
        ) from None


def changed(text: str, values: Mapping[str, str]) -> str:
    """`text` with the values set; a variable that is not there yet comes at the end."""
    newline = "\r\n" if "\r\n" in text else "\n"
    left = dict(values)
    parts = []
    for binding in parse_stream(io.StringIO(text, newline="")):
        part = binding.original.string
        name = binding.key
        if name is not None and name in values and not binding.error:
            part = _set(part, name, values[name], newline)
            left.pop(name, None)
        parts.append(part)
    whole = "".join(parts)
    if left and whole and not whole.endswith(("\n", "\r")):
        whole += newline
    return whole + "".join(f"{name}={value}{newline}" for name, value in left.items())


def _set(part: str, name: str, value: str, newline: str) -> str:
    """The binding's text with another value; blank lines before it and `export` stay, a comment behind it goes."""
    lead = part[: part.index(name)]
    return f"{lead}{name}={value}" + (newline if part.endswith(("\n", "\r")) else "")
