"""What a key opens: the scope of a tenant's key, and the role of an admin key.

Beside `tenants.py`, which says how a key is spelled and stored: one schema for the admin API, the store and the
routers. Without pydantic's strictness a misspelled scope would be no scope, so unknown fields are errors.
"""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from pointsman.contracts.config_types import ModelName, Strict
from pointsman.contracts.modes import Mode

MOST_ENTRIES = 100
"""Models, endpoints or networks of one key at most."""


class Role(StrEnum):
    """What an admin key may do; each role may do what those after it may."""

    OWNER = "owner"
    """Everything: tenants, keys, prices, and other admin keys."""
    OPERATOR = "operator"
    """Read, change policies, review decisions, clear the response cache."""
    VIEWER = "viewer"
    """Read."""

    def covers(self, needed: Role) -> bool:
        """Whether who has this role may do what asks for `needed`."""
        return _RANK[self] >= _RANK[needed]


_RANK = {role: rank for rank, role in enumerate(reversed(Role))}


class ScopedEndpoint(StrEnum):
    """A path that a key can be limited to."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    MESSAGES = "/v1/messages"
    RESPONSES = "/v1/responses"
    MODELS = "/v1/models"
    DECISIONS = "/v1/decisions"


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise ValueError(
            "must be an IP address or a network such as `10.0.0.0/8`, with no bits set outside its prefix"
        ) from None


Network = Annotated[str, Field(max_length=64), AfterValidator(_network)]
"""An address or a network of IPv4 or IPv6 in CIDR notation."""


class KeyScope(Strict):
    """What a tenant's key is limited to. What is not set is not limited."""

    models: Annotated[tuple[ModelName, ...], Field(min_length=1, max_length=MOST_ENTRIES)] | None = None
    """Models it may ask for, of those that the tenant may. Default: all of them."""
    modes: Annotated[tuple[Mode, ...], Field(min_length=1, max_length=len(Mode))] | None = None
    """Modes it may be answered in. Default: both."""
    endpoints: Annotated[tuple[ScopedEndpoint, ...], Field(min_length=1, max_length=MOST_ENTRIES)] | None = None
    """Paths it opens; what is below a path goes with it. Default: all."""
    networks: Annotated[tuple[Network, ...], Field(min_length=1, max_length=MOST_ENTRIES)] | None = None
    """Networks that it may be used from, by the address of the connection. Default: any."""
