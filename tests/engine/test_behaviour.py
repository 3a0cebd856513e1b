"""SGLang does what the simulated engine is held to: the same suite, against the replicas of `pointsman up`."""

from __future__ import annotations

import pytest

from behaviour.engine import EngineUnderTest
from behaviour.engine_behaviour import DirectBehaviour, ThinkingBehaviour, ToolBehaviour
from pointsman.contracts.modes import Mode
from support.platform import Platform

pytestmark = pytest.mark.timeout(600)  # the first test waits for the model's conversion and for both engines

POOLS = {Mode.NO_THINK: "fast", Mode.THINK: "deep"}


@pytest.fixture(scope="class")
def engine(request: pytest.FixtureRequest, platform: Platform) -> EngineUnderTest:
    mode: Mode = request.cls.MODE
    url = f"http://{platform.replica(POOLS[mode]).address}"
    return EngineUnderTest(url, platform.secret, "smollm2", mode)


class TestDirect(DirectBehaviour, ToolBehaviour):
    MODE = Mode.NO_THINK


class TestThinking(ThinkingBehaviour, ToolBehaviour):
    MODE = Mode.THINK
