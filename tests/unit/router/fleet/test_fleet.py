"""What requests and health checks tell of a replica, and what becomes of it."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

import pytest

from pointsman.router.fleet import Fleet, Replica
from pointsman.router.fleet.breaker import IN_A_ROW, Circuit
from pointsman.router.fleet.fleet import MISSES
from pointsman.router.health import Health
from pointsman.router.tenants import Tenants
from support.fleets import config_with, fleet_of

FAILURES = ("timeout", "closed", "garbage", "refused")


def fleet_with(count: int, folder: Path) -> tuple[Fleet, list[Replica]]:
    urls = [f"http://127.0.0.1:{port}" for port in range(1, count + 1)]
    fleet = fleet_of(config_with({"urls": urls}), folder)
    replicas = list(fleet.pools["p"].replicas.values())
    for replica in replicas:
        fleet._checked(replica, True)
    return fleet, replicas


def told(fleet: Fleet, replica: Replica, healthy: bool) -> None:
    """A health check came back."""
    replica.failing = 0 if healthy else replica.failing + 1
    fleet._checked(replica, healthy)


def over(replica: Replica) -> None:
    """The replica's rest is over."""
    replica.breaker.open_until = monotonic() - 1


def test_two_checks_in_a_row_take_it_out_and_one_brings_it_back(tmp_path: Path) -> None:
    fleet, (replica,) = fleet_with(1, tmp_path)
    for _ in range(3):
        for _ in range(MISSES - 1):
            told(fleet, replica, False)
            assert fleet.pools["p"].can_answer()
        told(fleet, replica, True)
        assert fleet.pools["p"].can_answer()
    for _ in range(MISSES):
        told(fleet, replica, False)
    assert not fleet.pools["p"].can_answer()
    told(fleet, replica, True)
    assert fleet.pools["p"].can_answer()


@pytest.mark.parametrize("reason", FAILURES)
def test_one_slow_answer_does_not_take_a_replica_from_everybody(tmp_path: Path, reason: str) -> None:
    fleet, replicas = fleet_with(2, tmp_path)
    fleet.failed(replicas[0], reason)
    assert fleet.pools["p"].members == replicas


def test_a_refused_connection_does_and_the_way_back_has_two_steps(tmp_path: Path) -> None:
    fleet, replicas = fleet_with(2, tmp_path)
    broken, other = replicas
    state = fleet.pools["p"]
    fleet.failed(broken, "connect")
    assert state.members == [other]
    assert broken.next_check == broken.breaker.open_until
    told(fleet, broken, True)  # an answer to a question asked before
    assert state.members == [other]
    over(broken)
    told(fleet, broken, True)
    assert state.members == replicas
    assert broken.usable
    other.outstanding = 64
    assert state.take(1, 1) is broken
    assert state.take(1, 1) is None
    fleet.succeeded(broken)
    assert broken.breaker.state is Circuit.CLOSED
    assert state.take(1, 1) is broken


def test_a_trial_that_fails_sends_it_to_rest_for_longer(tmp_path: Path) -> None:
    fleet, (broken, _) = fleet_with(2, tmp_path)
    fleet.failed(broken, "connect")
    first = broken.breaker.open_until - monotonic()
    over(broken)
    told(fleet, broken, True)
    fleet.failed(broken, "garbage")
    assert broken.breaker.state is Circuit.OPEN
    assert broken.breaker.open_until - monotonic() > 1.2 * first


@pytest.mark.parametrize("reason", FAILURES)
@pytest.mark.parametrize(("count", "may_rest"), [(1, 0), (2, 1), (3, 1), (8, 4)])
def test_requests_that_fail_everywhere_never_close_a_pool(
    tmp_path: Path, reason: str, count: int, may_rest: int
) -> None:
    """A tenant whose requests make engines fail must not take the pool from the others."""
    fleet, replicas = fleet_with(count, tmp_path)
    for _ in range(5 * IN_A_ROW):
        for replica in replicas:
            fleet.failed(replica, reason)
    assert fleet.pools["p"].count(Circuit.OPEN) == may_rest
    assert len(fleet.pools["p"].members) == count - may_rest


def test_replicas_that_can_not_be_connected_to_all_rest(tmp_path: Path) -> None:
    fleet, replicas = fleet_with(4, tmp_path)
    for replica in replicas:
        fleet.failed(replica, "connect")
    assert not fleet.pools["p"].can_answer()


def test_what_is_told_of_a_replica_that_has_left_changes_nothing(tmp_path: Path) -> None:
    fleet, (gone, other) = fleet_with(2, tmp_path)
    state = fleet.pools["p"]
    state.remove(gone.address)
    state.refresh()
    for reason in ("connect", *FAILURES):
        fleet.failed(gone, reason)
    fleet.succeeded(gone)
    told(fleet, gone, True)
    assert state.members == [other]


def test_a_doubtful_failure_has_the_health_looked_at_soon(tmp_path: Path) -> None:
    fleet, (replica, _) = fleet_with(2, tmp_path)
    fleet._checks.at(replica, monotonic() + 100)
    fleet.failed(replica, "refused")
    assert replica.next_check > monotonic() + 50  # it has just answered, though with an error
    fleet.failed(replica, "timeout")
    assert replica.next_check < monotonic() + 1


def test_readyz_and_the_gauges_show_circuits(tmp_path: Path) -> None:
    fleet, (broken, _, _) = fleet_with(3, tmp_path)
    able, resting = fleet.pools["p"]._gauges
    assert (able.value, resting.value) == (3, 0)
    fleet.failed(broken, "connect")
    assert (able.value, resting.value) == (2, 1)
    over(broken)
    told(fleet, broken, True)
    assert (able.value, resting.value) == (3, 1)
    status, body = Health(fleet, Tenants(config_with())).answer("/readyz")
    assert status == 200
    assert b'"circuits":{"closed":2,"open":0,"half_open":1}' in body
