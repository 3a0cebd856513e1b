"""Who looks after a pool, a tenant or a policy, and alone may change it: how the requests of all three say it.

(No postponed annotations here either: see `policies.py`.)
"""

from typing import Annotated

from fastapi import Query

from pointsman.contracts.config_types import NAME_PATTERN
from pointsman.contracts.errors import InvalidRequest
from pointsman.router.admin.bodies import PLAIN
from pointsman.store.policies import API

__all__ = ["API", "FILE", "Manager", "Origin", "TakeFrom", "check_manager"]

FILE = "file"
"""Who manages what stands in the configuration file."""

Manager = Annotated[
    str,
    Query(
        pattern=NAME_PATTERN,
        description=f"Who looks after it from now on, and alone may change it. Never `{FILE}`.",
    ),
]
Origin = Annotated[
    str | None,
    Query(
        max_length=320,
        pattern=PLAIN,
        description="Which of its manager's objects it is made of: of that one alone it is changed from then on.",
    ),
]
TakeFrom = Annotated[
    str | None,
    Query(max_length=63, pattern=PLAIN, description="The manager that gives it up, where there is one."),
]


def check_manager(manager: str) -> None:
    """Raises `InvalidRequest` where `manager` claims to be the configuration file."""
    if manager == FILE:
        raise InvalidRequest(
            f"manager: {FILE!r} stands for the configuration file.", param="manager", code="invalid_value"
        )
