"""The simulated engine does what SGLang does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from behaviour.engine import EngineUnderTest
from behaviour.engine_behaviour import DirectBehaviour, ThinkingBehaviour, ToolBehaviour
from behaviour.simulated_replica import SimulatedReplica, flags
from pointsman.contracts.modes import Mode


@pytest.fixture(scope="class")
def engine(request: pytest.FixtureRequest) -> Iterator[EngineUnderTest]:
    mode: Mode = request.cls.MODE
    with SimulatedReplica(*flags(model="smollm2", mode=mode, decode_speed=200)) as replica:
        yield EngineUnderTest(replica.base_url, replica.secret, "smollm2", mode)


class TestDirect(DirectBehaviour, ToolBehaviour):
    MODE = Mode.NO_THINK


class TestThinking(ThinkingBehaviour, ToolBehaviour):
    MODE = Mode.THINK
