"""What a router holds when nothing runs, and whether that is what it held before.

Idle connections to engines are as many as were busy at once, so their sockets differ from time to time; all else
must be alike to the last object. Reads a `SoakGateway` that is observed.
"""

from __future__ import annotations

import time
from time import monotonic

from soak.gateways import SoakGateway

BY_LABEL = {"Cell", "Account", "Histogram", "Seen", "Counts"}
"""Objects of which there is one for each combination of labels ever seen, or a few for the last minute, and not
one for each request."""

IDLE = {"UpstreamConnection", "ChunkDecoder", "RedisConnection"}
"""Objects that idle connections to engines and to Redis hold; connections are compared with the sockets."""

MOST_TO_REDIS = 6
"""Connections to Redis at most: its client keeps as many as the router's background tasks used at once."""


class Rest:
    """What a router holds at rest: sockets, live objects, memory in MiB."""

    def __init__(self, gateway: SoakGateway) -> None:
        self.sockets = gateway.sockets()
        self.alive = gateway.alive()
        self.memory = gateway.memory()

    @property
    def own_files(self) -> int:
        """Open files that are no sockets of clients, engines, Redis or the admin process."""
        sockets = self.sockets
        return sockets["files"] - sockets["clients"] - sockets["engines"] - sockets["unix"]

    @property
    def dead(self) -> int:
        """Connections to others than clients that are objects and no sockets, but for a constant."""
        connections = self.alive.get("UpstreamConnection", 0) + self.alive.get("RedisConnection", 0)
        return connections - self.sockets["engines"] - self.sockets["unix"]

    def like(self, other: Rest) -> bool:
        """Whether nothing was left behind between the two."""
        same_sockets = self.dead == other.dead and self.own_files == other.own_files
        few_to_redis = self.alive.get("RedisConnection", 0) <= MOST_TO_REDIS
        return same_sockets and few_to_redis and lasting(self.alive) == lasting(other.alive)

    def beside(self, before: Rest) -> dict[str, object]:
        """Figures of both."""
        names = sorted(before.alive.keys() | self.alive.keys())
        counts = {name: (before.alive.get(name, 0), self.alive.get(name, 0)) for name in names}
        return {
            "router's sockets before": dict(before.sockets),
            "router's sockets after": dict(self.sockets),
            "router's unfinished tasks before, after": f"{before.alive['Task']}, {self.alive['Task']}",
            "objects that differ": {name: f"{was} to {now}" for name, (was, now) in counts.items() if was != now},
            "connections without a socket, less a constant": f"{before.dead}, {self.dead}",
            "router's memory before, after (MiB)": f"{before.memory:.1f}, {self.memory:.1f}",
        }


def at_rest(gateway: SoakGateway, alike: Rest | None = None) -> Rest:
    """What the router holds once it has come to rest, and is `alike` if it ever will; looks for 20 seconds."""
    gateway.settle()
    deadline = monotonic() + 20
    last = Rest(gateway)
    while True:
        rest = Rest(gateway)
        if monotonic() > deadline or rest.like(alike or last):
            return rest
        last = rest
        time.sleep(0.2)


def lasting(alive: dict[str, int]) -> dict[str, int]:
    """The objects of which a request leaves none behind."""
    return {name: count for name, count in alive.items() if count and name not in BY_LABEL | IDLE}
