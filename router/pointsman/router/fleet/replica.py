"""One replica: where it is, how it is, and what this router has running on it.

Data for the rest of the package; the flags that `place` reads per request are worked out in `refresh`, which
runs when something changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pointsman.router.fleet.breaker import Breaker, Circuit
from pointsman.router.fleet.tally import Tally
from pointsman.router.http.site import Site, tcp_site

if TYPE_CHECKING:
    from pointsman.router.fleet.group import Group


class Replica:
    """
    One replica.

    `outstanding`: requests of this router that run on it; `tokens`: what they were predicted to cost;
    `member`: requests may be placed on it, as far as its health and its circuit go; `usable`: one may be
    placed on it right now.
    """

    __slots__ = (
        "address",
        "barred",
        "breaker",
        "checked_at",
        "checking",
        "failing",
        "group",
        "healthy",
        "host",
        "instance",
        "member",
        "missing_since",
        "next_check",
        "outstanding",
        "pool",
        "port",
        "revision",
        "site",
        "tally",
        "tokens",
        "usable",
        "version",
    )

    def __init__(self, pool: str, address: str, instance: str, version: str = "", revision: str = "") -> None:
        self.pool = pool
        self.address = address
        self.instance = instance
        self.version = version
        """The engine's name and version; empty where nobody has said."""
        self.revision = revision
        """Which description of the pool it was started by; empty where nobody has said."""
        self.tally = Tally()
        """What its requests are counted in: its revision's, once the pool knows it."""
        self.group: Group | None = None
        """Its revision, while requests are divided between several."""
        self.barred = False
        """Its revision is to have no new requests."""
        host, _, port = address.rpartition(":")
        self.host = host.strip("[]")
        self.port = int(port)
        self.site: Site = tcp_site(self.host, self.port)
        self.breaker = Breaker()
        self.outstanding = 0
        self.tokens = 0
        self.member = False
        self.usable = False
        self.healthy = False
        self.failing = 0
        """Health checks in a row that failed."""
        self.checking = False
        """A health check runs now."""
        self.checked_at = 0.0
        """When the last one began (`monotonic` seconds)."""
        self.next_check = 0.0
        """When the next one is due (`monotonic` seconds)."""
        self.missing_since: float | None = None
        """Since when its registration is missing, where it is kept all the same."""

    def refresh(self) -> None:
        """Work out `member` and `usable`."""
        breaker = self.breaker
        self.member = self.healthy and not self.barred and breaker.state is not Circuit.OPEN
        self.usable = self.member and not breaker.trial
