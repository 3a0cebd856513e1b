"""One gateway that keeps all there is to keep of two tenants who must not know of each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.gateway import DEEP, FAST, Gateway

SEEN = {
    **FAST,
    "engine_args": {"simulated": {"decode_speed": 2000, "answer_tokens": 12, "keep_requests": 5000}},
}
KEPT = {"cache": {"enabled": True}, "decisions": {"prompts": True, "review": True}}
TENANTS = ({"name": "alpha", **KEPT}, {"name": "beta", **KEPT})


@pytest.fixture(scope="package")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gw"), pools=(SEEN, DEEP), tenants=TENANTS) as gateway:
        yield gateway
