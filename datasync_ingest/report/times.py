"""Moments as a report shows them: in UTC, which is said where they stand."""

from __future__ import annotations

import time


def clock_time(at: float) -> str:
    """`14:03:59`."""
    return time.strftime("%H:%M:%S", time.gmtime(at))


def moment(at: float) -> str:
    """`2026-01-27 14:03:59`."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))
