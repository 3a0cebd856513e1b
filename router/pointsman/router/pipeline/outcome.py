"""What a step wants to happen next."""

from __future__ import annotations

from enum import Enum


class Outcome(Enum):
    """The answer of a step; a refusal is raised as `ApiError` instead."""

    NEXT = "next"
    """Go on with the next step."""
    WAIT = "wait"
    """The step itself will call `resume`, `again` or `refuse` on the pipeline, once something has happened."""
