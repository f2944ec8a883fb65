"""Durations, sizes and counts: as people type them in settings, and as they are shown to people."""

from __future__ import annotations

import math
import re

_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_BYTES = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")


def parse_seconds(text: str) -> float:
    """`90`, `90s`, `1.5 min`, `15m`, `2h` in seconds. Raises ValueError."""
    number, unit = _quantity(text)
    if unit not in _SECONDS:
        raise ValueError("is not a duration (a number of seconds, or a number with s, min or h)")
    return number * _SECONDS[unit]


def parse_bytes(text: str) -> int:
    """`67108864`, `64 MiB`, `2GiB` in bytes. Raises ValueError."""
    number, unit = _quantity(text)
    if unit not in _BYTES:
        raise ValueError("is not a size (a number of bytes, or a number with KiB, MiB or GiB)")
    return round(number * _BYTES[unit])


def parse_count(text: str, *, lowest: int, highest: int) -> int:
    """A whole number from `lowest` to `highest`. Raises ValueError."""
    if not re.fullmatch(r"\s*\d{1,18}\s*", text):
        raise ValueError(f"is not a whole number from {lowest} to {highest}")
    number = int(text)
    if not lowest <= number <= highest:
        raise ValueError(f"is not from {lowest} to {highest}")
    return number


def _quantity(text: str) -> tuple[float, str]:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError("is not a number with an optional unit")
    return float(match[1]), match[2].lower()


def show_seconds(seconds: float) -> str:
    """`8 s`, `4 min 10 s`, `2 h 05 min`: rounded up, so that a wait is never shown as over too early."""
    whole = max(0, math.ceil(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def show_bytes(size: int) -> str:
    """`512 bytes`, `1.7 MiB`."""
    value = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{size} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
