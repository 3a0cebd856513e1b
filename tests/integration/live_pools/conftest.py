"""One gateway that begins without any pool."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.gateway import Gateway

TENANTS = ({"name": "demo"}, {"name": "limited", "models": ["small"]})


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gw"), pools=(), tenants=TENANTS) as gateway:
        yield gateway
