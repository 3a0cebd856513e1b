"""One gateway whose tenants keep their decisions in different ways."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.gateway import Gateway

TENANTS = (
    {"name": "demo"},
    {"name": "open", "decisions": {"prompts": True, "review": True}},
    {"name": "mute", "decisions": {"keep": False}},
    {"name": "shy", "policy": {"show_cost": False}},
    {"name": "ruled", "decisions": {"prompts": True, "review": True}},
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gw"), tenants=TENANTS) as gateway:
        yield gateway
