"""How the revisions of a pool fare, from what all routers have told: what an upgrade is judged by.

Stands in the store because the routers write it, with their live reports, and the admin process reads it. Times to
the first byte come as numbers in buckets, which can be added up over routers; a percentile could not be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

WINDOW = 60.0
"""Seconds that the counts of a revision are taken over."""

_STEP = 2 ** (1 / 4)

FIRST_BYTE_BOUNDS = tuple(0.001 * _STEP**number for number in range(76))
"""Upper bounds in seconds of the buckets of first-byte times, a fifth apart: from a millisecond to 441 seconds."""


class RevisionReport(NamedTuple):
    """
    One revision of a pool. `replicas` that requests may be placed on: as the router sees them that sees most; the
    rest is of all routers together. `running`: requests that its replicas work on now, whether more come or not.

    `requests` that ended within `window` seconds, and `errors` of them that a replica failed; `streams` that began;
    `ttft_mean` and `ttft_p95` are seconds from the sending of a streamed request to its first byte, None where
    there was none. `weight`: its share of new requests beside the others' weights, None where they are not divided.
    """

    replicas: int
    running: int
    weight: float | None
    requests: int
    errors: int
    streams: int
    ttft_mean: float | None
    ttft_p95: float | None
    window: float = WINDOW


def revisions_of(reports: Iterable[Mapping[str, Any]], pool: str) -> dict[str, RevisionReport]:
    """The revisions of `pool` in the live `reports` of all routers, by name; what makes no sense is left out."""
    told: dict[str, list[Mapping[str, Any]]] = {}
    for report in reports:
        pools = report.get("pools")
        of_pool = pools.get(pool) if isinstance(pools, dict) else None
        revisions = of_pool.get("revisions") if isinstance(of_pool, dict) else None
        if isinstance(revisions, dict):
            for name, counts in revisions.items():
                if isinstance(counts, dict):
                    told.setdefault(str(name), []).append(counts)
    return {name: _together(counts) for name, counts in sorted(told.items())}


def _together(counts: list[Mapping[str, Any]]) -> RevisionReport:
    def total(field: str) -> float:
        return sum(_number(one.get(field)) for one in counts)

    buckets: Counter[int] = Counter()
    for one in counts:
        first_byte = one.get("first_byte")
        if isinstance(first_byte, dict):
            for at, number in first_byte.items():
                if str(at).isdecimal() and int(at) <= len(FIRST_BYTE_BOUNDS):
                    buckets[int(at)] += int(_number(number))
    streams = int(total("streams"))
    weights = [_number(one["weight"]) for one in counts if one.get("weight") is not None]
    return RevisionReport(
        replicas=int(max(_number(one.get("replicas")) for one in counts)),
        running=int(total("running")),
        weight=weights[-1] if weights else None,
        requests=int(total("requests")),
        errors=int(total("errors")),
        streams=streams,
        ttft_mean=total("first_byte_seconds") / streams if streams else None,
        ttft_p95=percentile(buckets, 0.95),
    )


def percentile(buckets: Mapping[int, int], share: float) -> float | None:
    """
    The time in seconds that `share` of those counted in `buckets` did not exceed; None where there are none.

    Within a bucket they are taken to be spread evenly, so that it is off by a tenth at most.
    """
    everything = sum(buckets.values())
    if not everything:
        return None
    wanted, seen = share * everything, 0
    for at in sorted(buckets):
        number = buckets[at]
        if number and seen + number >= wanted:
            low = FIRST_BYTE_BOUNDS[at - 1] if at else 0.0
            high = FIRST_BYTE_BOUNDS[at] if at < len(FIRST_BYTE_BOUNDS) else low
            return low + (high - low) * (wanted - seen) / number
        seen += number
    raise AssertionError("a share of all is reached before all are counted")


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else 0
