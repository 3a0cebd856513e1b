"""What the operator's process is told: where the admin API is, what pods are made of, what to watch."""

from __future__ import annotations

from dataclasses import dataclass, field

DEFAULT_RAY_VERSION = "2.60.0"
"""The Ray that the serving image is built with."""

DEFAULT_PORT = 8081
"""Port of `/healthz` and `/metrics`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """
    How the operator runs.

    `admin_url`: the router, for the admin API; `admin_key`: an owner's. `redis_url` and `replica_secret`: what
    replicas are given; None where the operator runs no replicas. `namespaces`: those that are watched, empty for
    all. `kubeconfig`: a file, None for the pod's own credentials. `identity`: who holds the Lease; `namespace`:
    where the Lease and the routers are. `release`: the name of the release whose routers reach replicas, None:
    no NetworkPolicies. `image`, `ray_version`: of serving pods, where a pool does not say. `resync`: seconds
    after which a pool that nothing happened to is looked at again.
    """

    admin_url: str
    admin_key: str = field(repr=False)
    redis_url: str | None = field(default=None, repr=False)
    replica_secret: str | None = field(default=None, repr=False)
    namespaces: tuple[str, ...] = ()
    kubeconfig: str | None = None
    identity: str = "pointsman-operator"
    namespace: str = "default"
    release: str | None = None
    image: str | None = None
    ray_version: str = DEFAULT_RAY_VERSION
    host: str = "0.0.0.0"
    port: int = DEFAULT_PORT
    resync: float = 60.0
    lease_seconds: float = 15.0
