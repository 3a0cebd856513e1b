"""Live policies on a database of their own, and a Redis that is away."""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

import pytest
from redis import Redis

from pointsman.contracts.config import Config
from pointsman.router.admin.live_policies import LivePolicies
from pointsman.store.database import Database, database_url

POOL = {
    "name": "p",
    "model": "m",
    "modes": ["no_think"],
    "engine": "simulated",
    "prices": {"input": 1, "output": 1},
}
NOWHERE = "unix:///nowhere/valkey.sock"


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = Database(database_url(None, tmp_path_factory.mktemp("db")))
    yield database
    database.close()


@pytest.fixture
def policies(database: Database, request: pytest.FixtureRequest) -> LivePolicies:
    """Of two tenants that no other test has: `staged`, whose file has a candidate in enforce, and `plain`."""
    candidate = {"policy": {"threshold": 0.2}, "stage": "enforce", "limits": {"at_least": 10, "window": 60.0}}
    tenants = [{"name": tenant_of(request, "a"), "candidate": candidate}, {"name": tenant_of(request, "b")}]
    config = Config.model_validate({"pools": [POOL], "tenants": tenants})
    return LivePolicies(config, database, Redis.from_url(NOWHERE))


def tenant_of(request: pytest.FixtureRequest, name: str) -> str:
    """The name of one of the test's own tenants."""
    return f"{crc32(request.node.nodeid.encode())}.{name}"


@pytest.fixture
def staged(request: pytest.FixtureRequest) -> str:
    """The tenant with a candidate."""
    return tenant_of(request, "a")


@pytest.fixture
def plain(request: pytest.FixtureRequest) -> str:
    """The tenant without one."""
    return tenant_of(request, "b")
