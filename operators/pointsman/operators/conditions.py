"""Conditions of a status: what an object's owner reads first, and what `kubectl wait` waits for.

Pure. A condition keeps the time at which it last turned; with unchanged content nothing is written again.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

Condition = dict[str, Any]

_STATUS = {True: "True", False: "False", None: "Unknown"}

LONGEST_MESSAGE = 1024
"""Characters of a message at most."""


def condition(kind: str, holds: bool | None, reason: str, message: str, generation: int) -> Condition:
    """Whether `kind` holds (None: nobody knows), one word why, and a sentence; as of `generation`."""
    return {
        "type": kind,
        "status": _STATUS[holds],
        "reason": reason,
        "message": message[:LONGEST_MESSAGE],
        "observedGeneration": generation,
    }


def merged(old: Iterable[Condition], new: Iterable[Condition]) -> list[Condition]:
    """`new`, each with the time at which its status last turned, as `old` tells it; others of `old` are dropped."""
    before = {one.get("type"): one for one in old}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = []
    for one in new:
        known = before.get(one["type"], {})
        same = known.get("status") == one["status"]
        turned = known.get("lastTransitionTime") if same else None
        found.append({**one, "lastTransitionTime": turned or now})
    return found


def status_of(conditions: Iterable[Condition], kind: str) -> str | None:
    """`True`, `False` or `Unknown`; None where there is no condition `kind`."""
    return next((str(one.get("status")) for one in conditions if one.get("type") == kind), None)
