"""Numbers as people read them: dollars to the last nano-dollar, times, shares, moments.

Dollars are written from whole nano-dollars without a detour over floats, so that what a page shows is what the bill
says. Moments are in UTC, as in every report.
"""

from __future__ import annotations

from datetime import UTC, datetime

NANO = 1_000_000_000
"""Nano-dollars in a dollar."""

NOTHING = "–"
"""Stands where nothing is known."""


def dollars(nano: int | None, *, sign: bool = False) -> str:
    """Nano-dollars as dollars, exactly: two digits after the point at least, and no more zeros than that."""
    if nano is None:
        return NOTHING
    whole, rest = divmod(abs(nano), NANO)
    digits = f"{rest:09}".rstrip("0").ljust(2, "0")
    before = "−" if nano < 0 else "+" if sign and nano else ""
    return f"{before}${whole:,}.{digits}"


def seconds(value: float | None, *, sign: bool = False) -> str:
    """A span of time: microseconds never matter here."""
    if value is None:
        return NOTHING
    before = "−" if value < 0 else "+" if sign and value else ""
    span = abs(value)
    if span < 1:
        return f"{before}{span * 1000:.0f} ms"
    if span < 100:
        return f"{before}{span:.2f} s"
    minutes, rest = divmod(round(span), 60)
    return f"{before}{minutes} min {rest:02} s"


def percent(value: float | None, *, digits: int = 1) -> str:
    """A share of 1."""
    return NOTHING if value is None else f"{value * 100:.{digits}f} %"


def count(value: int | None) -> str:
    """A whole number with its thousands apart."""
    return NOTHING if value is None else f"{value:,}"


def clock(at: float | None, *, date: bool = True) -> str:
    """Seconds since 1970 as a moment in UTC."""
    if at is None:
        return NOTHING
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S")


def times(value: float) -> str:
    """How many times as much."""
    return f"{value:.1f}×" if value < 10 else f"{value:.0f}×"
