"""Dates as HTTP headers spell them."""

from __future__ import annotations

from email.utils import parsedate_to_datetime


def http_date(text: str | None) -> float | None:
    """`Tue, 27 Jan 2026 19:20:12 GMT` in epoch seconds; None for what is no date."""
    try:
        return parsedate_to_datetime(text or "").timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
