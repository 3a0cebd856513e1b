"""A replica whose engine is simulated, in Ray Serve like any other: for clusters without accelerators, and tests.

Stands beside `server.py`, which runs the same engine as a process of its own.
"""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp

from pointsman.contracts.config import Pool
from pointsman.serving.replica import ServedReplica
from pointsman.serving.simulated.app import SimulatedEngine
from pointsman.serving.simulated.connection import OpenProtocol
from pointsman.serving.simulated.settings import identity_of, pool_settings, settings_from
from pointsman.serving.simulated.wire import FINGERPRINT


class SimulatedReplica(ServedReplica):
    """Raises in the constructor, further, where the pool's `engine_args.simulated` make no sense."""

    async def _start(self, pool: Pool, secret: str) -> tuple[ASGIApp, str]:
        self._engine = SimulatedEngine(identity_of(pool), settings_from(pool_settings(pool)), secret=secret)
        return self._engine.app, FINGERPRINT

    def _http_options(self) -> dict[str, Any]:
        return {"http": OpenProtocol, "ws": "none", "server_header": False, "proxy_headers": False}

    def _load(self) -> int:
        return self._engine.load

    def _engine_is_alive(self) -> bool:
        return True

    def _stop(self) -> None:
        """It ends with its process."""
