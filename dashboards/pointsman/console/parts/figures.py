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


def moment(told: str) -> str:
    """A moment as the router tells it in ISO 8601, in UTC to the second."""
    return datetime.fromisoformat(told).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def about_dollars(usd: float) -> str:
    """About so many dollars, in three or four digits: for rates and estimates, never for a bill."""
    if usd == 0:
        return "$0"
    size = abs(usd)
    if size >= 1000:
        return f"${usd:,.0f}"
    if size >= 1:
        return f"${usd:,.2f}"
    return f"${usd:.4f}" if size >= 0.001 else f"${usd:.2g}"


def short(number: float) -> str:
    """A number in about three digits: `950`, `1.2k`, `34M`."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            value = number / size
            return f"{value:.0f}{unit}" if value >= 100 else f"{value:.1f}{unit}"
    return f"{number:.0f}" if number == int(number) or abs(number) >= 100 else f"{number:.1f}"
