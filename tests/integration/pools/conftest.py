"""One gateway whose pool is small, and whose tenants are not alike."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.gateway import DEEP, FAST, Gateway

SMALL = {
    **FAST,
    "max_ongoing_requests": 2,
    "max_waiting": 40,
    "place_timeout": 30.0,
    "engine_args": {"simulated": {"decode_speed": 120, "answer_tokens": 12, "keep_requests": 0}},
}
TENANTS = (
    {"name": "demo"},
    {"name": "asked"},
    {"name": "plain"},
    {"name": "favoured", "weight": 3.0},
    {"name": "late", "priority": 2},
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gw"), pools=(SMALL, DEEP), tenants=TENANTS) as gateway:
        yield gateway
