"""What a request has been through whose answer takes more than one sending, or is put together here.

Stands apart because the ordinary request has none of it: its exchange has no course, and pays for none.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pointsman.contracts.modes import ModeDecision
from pointsman.router.exchange import Exchange, Leg
from pointsman.router.pipeline.assembly import Assembly


class Kept(NamedTuple):
    """
    An answer that was not good enough, for the case that no better one can be had.

    `answer` is the whole of it; `events` are those that a stream of it consists of, where the client wants one.
    """

    answer: dict[str, Any]
    events: bytes
    leg: Leg
    decision: ModeDecision


class Course:
    """
    `assembly`: what was said so far of the answer that the client gets. `spent`: its output tokens. `closed`: its
    thinking was closed here, and what follows is the answer; `thought` is then what the model shall have thought,
    where that is not what it has said. `resort`: the answer is asked for without thinking, for want of any other
    way. `sends`: how often the request had been sent before its present part. `id`: of its chunks.
    """

    __slots__ = ("assembly", "closed", "id", "kept", "resort", "sends", "spent", "thought")

    def __init__(self) -> None:
        self.assembly = Assembly()
        self.spent = 0
        self.closed = False
        self.thought: str | None = None
        self.resort = False
        self.sends = 0
        self.id: str | None = None
        self.kept: Kept | None = None


def course_of(exchange: Exchange) -> Course:
    """The course of `exchange`, which has one from now on."""
    course = exchange.course
    if course is None:
        course = exchange.course = Course()
    return course
