"""Pools to map, as short as the configuration allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pointsman.contracts.config import Pool

MakePool = Callable[..., Pool]


@pytest.fixture
def make_pool() -> MakePool:
    def make(**fields: Any) -> Pool:
        return Pool.model_validate(
            {
                "name": "fast",
                "model": "m",
                "modes": ["no_think"],
                "engine": "sglang",
                "model_path": "local:smollm2",
                "prices": {"input": 1, "output": 1},
                **fields,
            }
        )

    return make
