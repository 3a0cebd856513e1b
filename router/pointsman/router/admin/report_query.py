"""What a report is asked for: a period, what to split by, whose use to look at.

Shared by the pages that add up; separate from them, since each error names the same field in the same words.

(FastAPI reads the annotations of `asked`, which use its names: hence they are no strings here.)
"""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, NamedTuple

from fastapi import Query

from pointsman.contracts.errors import InvalidRequest
from pointsman.store.ledger_tables import HOUR
from pointsman.store.usage import DAY, Dimension

_SPANS = {"h": HOUR, "d": DAY, "w": 7 * DAY}
_SPAN = re.compile(r"(\d{1,5})([hdw])")

_MOMENT = (
    "A moment (`2026-01-01T00:00:00Z`, `2026-01-01`) or a span back from now (`12h`, `7d`, `4w`); whole hours."
)
Since = Annotated[str, Query(max_length=40, description=f"From when on. {_MOMENT}")]
Until = Annotated[
    str | None, Query(max_length=40, description="Up to when, that moment not included. Default: now.")
]
By = Annotated[
    str, Query(max_length=100, description="What to split by, with commas between: " + ", ".join(Dimension) + ".")
]
Only = Annotated[str | None, Query(max_length=128)]


class Asked(NamedTuple):
    """What to add up: from `since` up to `until`, beginnings of hours in milliseconds since 1970."""

    by: tuple[Dimension, ...]
    since: int
    until: int
    where: Mapping[Dimension, str]


def asked(
    by: By = "tenant",
    since: Since = "30d",
    until: Until = None,
    tenant: Only = None,
    key: Only = None,
    model: Only = None,
    mode: Only = None,
    pool: Only = None,
) -> Asked:
    """What a query asks for; a dependency of FastAPI's. Raises `InvalidRequest` that names the field."""
    only = {"tenant": tenant, "key": key, "model": model, "mode": mode, "pool": pool}
    where = {Dimension(name): value for name, value in only.items() if value is not None}
    return Asked(_dimensions(by), *period(since, until), where)


def _dimensions(by: str) -> tuple[Dimension, ...]:
    names = [name.strip() for name in by.split(",") if name.strip()]
    known = {dimension.value for dimension in Dimension}
    if not set(names) <= known:
        raise wrong("by", f"takes {', '.join(Dimension)}")
    return tuple(Dimension(name) for name in dict.fromkeys(names))


def period(since: str, until: str | None) -> tuple[int, int]:
    """The whole hours that `since` and `until` name; the running one is part of what ends now."""
    now = time.time_ns() // 1_000_000
    first = _said("since", since, now)
    last = now if until is None else _said("until", until, now)
    first -= first % HOUR
    last += -last % HOUR
    if first >= last:
        raise wrong("until", "must be after `since`")
    return first, last


def _said(field: str, text: str, now: int) -> int:
    if match := _SPAN.fullmatch(text):
        return now - int(match[1]) * _SPANS[match[2]]
    try:
        told = datetime.fromisoformat(text)
        milliseconds = round((told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise wrong(field, "takes a moment such as 2026-01-01T00:00:00Z or a span such as 7d") from None
    if not 0 <= milliseconds < 2**47:
        raise wrong(field, "is too far away")
    return milliseconds


def wrong(field: str, message: str) -> InvalidRequest:
    """The refusal of a query whose `field` can't be."""
    return InvalidRequest(f"'{field}': {message}.", param=field, code="invalid_value")


def moment(milliseconds: int) -> datetime:
    """`milliseconds` since 1970, in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
