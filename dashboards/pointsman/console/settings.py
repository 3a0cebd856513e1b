"""What the console is told when it is started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """
    `host` and `port`: where to listen. `router_url`: the router, without a path. `redis_url`: where sessions are.

    `router_certificate`: a PEM file with the certificate that the router must show, or its authority's; its name is
    not checked then. None: as the system does.
    """

    host: str
    port: int
    router_url: str
    redis_url: str
    router_certificate: Path | None = None
