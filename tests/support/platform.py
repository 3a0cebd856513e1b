"""`pointsman up` with real engines, for tests that look behind the router as well."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import psutil
from redis.asyncio import Redis

from pointsman.contracts.names import Env
from pointsman.store.replicas import Replica, ReplicaRegistry
from support.gateway import sample_sum
from support.instances import Up

READY = 400.0
"""Seconds for two engines to start on two busy cores."""


class Platform(Up):
    """A running `pointsman up --engine sglang`."""

    def __init__(self, folder: Path) -> None:
        super().__init__("--json", folder=folder)

    @property
    def key(self) -> str:
        return (self.state / "demo.key").read_text().strip()

    @property
    def secret(self) -> str:
        """The replicas' secret, as the router was given it."""
        secret: str = self.parts(self.state / "logs")["router"].environ()[Env.REPLICA_SECRET]
        return secret

    def replica(self, pool: str) -> Replica:
        """The one registered replica of `pool`."""

        async def registered() -> list[Replica]:
            async with Redis.from_url(f"unix://{self.state}/valkey.sock") as redis:
                return await ReplicaRegistry(redis).alive()

        (found,) = [replica for replica in asyncio.run(registered()) if replica.pool == pool]
        return found

    def replica_process(self, pool: str) -> psutil.Process:
        """The process that listens on the address of the replica of `pool`."""
        port = int(self.replica(pool).address.rsplit(":", 1)[1])
        for process in self.living():
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    return process
        raise AssertionError(f"no process listens on port {port}")

    def engine_metric(self, pool: str, name: str) -> float:
        """The sum of SGLang's own samples of `name` at the replica of `pool`."""
        page = httpx.get(f"http://{self.replica(pool).address}/metrics", timeout=10).raise_for_status().text
        return sample_sum(page, name)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the router's samples of `name` with `labels`."""
        page = httpx.get(f"{self.url}/metrics", timeout=10).raise_for_status().text
        return sample_sum(page, name, **labels)

    def readyz(self) -> dict[str, object]:
        body: dict[str, object] = httpx.get(f"{self.url}/readyz", timeout=10).json()
        return body
