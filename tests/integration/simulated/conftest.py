"""Replicas that several tests share; each test finds them without faults and without records."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from behaviour.engine import EngineUnderTest
from behaviour.simulated_replica import SimulatedReplica, flags
from pointsman.contracts.modes import Mode


@pytest.fixture(scope="session")
def shared_replica() -> Iterator[SimulatedReplica]:
    with SimulatedReplica(*flags(model="smollm2", decode_speed=500, answer_tokens=12)) as running:
        yield running


@pytest.fixture
def replica(shared_replica: SimulatedReplica) -> SimulatedReplica:
    """A replica that does not think: 500 tokens a second, answers of 12 tokens."""
    shared_replica.clear_faults()
    shared_replica.forget()
    return shared_replica


@pytest.fixture
def plain(replica: SimulatedReplica) -> EngineUnderTest:
    """The same one, to talk to."""
    return EngineUnderTest(replica.base_url, replica.secret, "smollm2", Mode.NO_THINK)
