"""Gives each test its instances of `pointsman up --engine simulated`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.instances import Up


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Up]]:
    """`up(*options, state=…, port=…)` starts one; whatever is left of it at the end of the module is killed."""
    started: list[Up] = []

    def begin(*options: str, **rest: Any) -> Up:
        started.append(Up("--engine", "simulated", *options, folder=tmp_path_factory.mktemp("up"), **rest))
        return started[-1]

    yield begin
    for one in started:
        one.destroy()
