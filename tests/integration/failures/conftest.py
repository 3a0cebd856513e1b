"""One gateway over a real PostgreSQL, all of whose servers are killed, paused and slowed in turn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.failures import QUICK, TENANTS, Fleet
from support.gateway import DEEP, Gateway
from support.postgresql import PostgreSQL


@pytest.fixture(scope="package")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with PostgreSQL() as postgresql:
        database = postgresql.database()
        url = database._engine.url.render_as_string(hide_password=False)
        with Gateway(
            tmp_path_factory.mktemp("gw"), pools=(QUICK, DEEP), tenants=TENANTS, copies={"fast": 2}, database=url
        ) as gateway:
            yield Fleet(gateway, postgresql, database)
        database.close()


@pytest.fixture(autouse=True)
def whole(fleet: Fleet) -> Iterator[None]:
    """Each test begins and ends with a fleet that misses nothing, and with books that balance."""
    fleet.recovers()
    yield
    fleet.recovers()
    fleet.balances()
