"""What a missing registration means: one that was withdrawn, one that ran out, a Redis that was emptied."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock, call

import pytest
from redis.exceptions import ConnectionError as RedisAway

from pointsman.router.fleet import Fleet, Replica
from pointsman.router.fleet.last_known import LastKnown
from pointsman.router.fleet.registrations import GRACE, Registrations
from pointsman.store.replicas import Reading
from pointsman.store.replicas import Replica as Registration
from support.fleets import config_with, fleet_of, metrics_in

ONE = Registration("p", "127.0.0.1:1001", "a", "v")
TWO = Registration("p", "127.0.0.1:1002", "b", "v")
OTHER = Registration("q", "127.0.0.1:1003", "c", "v")


def reading(*replicas: Registration, expired: tuple[Registration, ...] = (), epoch: str | None = "e1") -> Reading:
    return Reading(replicas, frozenset(item.address for item in expired), epoch)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """Two pools whose three replicas are registered and answer."""
    fleet = fleet_of(config_with({"name": "p"}, {"name": "q", "model": "n"}), tmp_path)
    read(fleet, reading(ONE, TWO, OTHER), 0.0)
    for name in ("p", "q"):
        answer(fleet, name)
    return fleet


def read(fleet: Fleet, found: Reading, now: float) -> None:
    fleet._registrations.apply(found, now)


def answer(fleet: Fleet, name: str) -> None:
    """All replicas of the pool `name` answer their health endpoint."""
    for replica in fleet.pools[name].replicas.values():
        fleet._checked(replica, True)


def members(fleet: Fleet, name: str = "p") -> set[str]:
    return {replica.address for replica in fleet.pools[name].members}


def known(fleet: Fleet, name: str = "p") -> set[str]:
    return set(fleet.pools[name].replicas)


def test_a_replica_is_used_once_it_has_answered(tmp_path: Path) -> None:
    fleet = fleet_of(config_with(), tmp_path)
    read(fleet, reading(ONE), 0.0)
    assert members(fleet) == set()
    answer(fleet, "p")
    assert members(fleet) == {ONE.address}


def test_who_withdraws_gets_nothing_more_though_it_still_answers(fleet: Fleet) -> None:
    read(fleet, reading(TWO, OTHER), 1.0)
    assert known(fleet) == {TWO.address}
    read(fleet, reading(OTHER), 2.0)
    assert known(fleet) == set()


def test_one_registration_of_several_that_runs_out_is_a_dead_replica(fleet: Fleet) -> None:
    read(fleet, reading(TWO, OTHER, expired=(ONE,)), 1.0)
    assert known(fleet) == {TWO.address}


def test_when_all_of_a_pool_run_out_those_that_answer_stay_for_a_while(fleet: Fleet) -> None:
    gone = reading(OTHER, expired=(ONE, TWO))
    read(fleet, gone, 1.0)
    assert members(fleet) == set()  # in doubt
    one, two = fleet.pools["p"].replicas.values()
    fleet._checked(one, True)
    two.failing = 1
    read(fleet, gone, 2.0)
    assert members(fleet) == known(fleet) == {ONE.address}
    read(fleet, gone, 1.0 + GRACE - 0.1)
    assert members(fleet) == {ONE.address}
    read(fleet, gone, 1.0 + GRACE)
    assert known(fleet) == set()


@pytest.mark.parametrize("epoch", [None, "e2"])
def test_when_redis_was_emptied_all_that_answer_stay_until_they_register_again(
    fleet: Fleet, epoch: str | None
) -> None:
    read(fleet, reading(epoch=epoch), 1.0)
    answer(fleet, "p")
    answer(fleet, "q")
    assert members(fleet) == {ONE.address, TWO.address}
    assert members(fleet, "q") == {OTHER.address}
    one = fleet.pools["p"].replicas[ONE.address]
    read(fleet, reading(ONE, epoch="e2"), 2.0)
    assert fleet.pools["p"].replicas[ONE.address] is one  # the same, with what runs there
    assert members(fleet) == {ONE.address, TWO.address}
    read(fleet, reading(ONE, epoch="e2"), 1.0 + GRACE)
    assert members(fleet) == {ONE.address}
    assert known(fleet, "q") == set()


def test_an_address_that_went_to_another_pool_is_never_kept(fleet: Fleet) -> None:
    """Else a request could be answered in the wrong mode."""
    moved = Registration("q", ONE.address, "z", "v")
    read(fleet, reading(moved, epoch="e2"), 1.0)
    assert ONE.address not in known(fleet)
    assert fleet.pools["q"].replicas[ONE.address].instance == "z"


def test_a_successor_at_the_same_address_begins_afresh(fleet: Fleet) -> None:
    before = fleet.pools["p"].replicas[ONE.address]
    fleet.failed(before, "connect")
    read(fleet, reading(Registration("p", ONE.address, "a2", "v"), TWO, OTHER), 1.0)
    after = fleet.pools["p"].replicas[ONE.address]
    assert after is not before
    assert not after.member
    answer(fleet, "p")
    assert after.member


class Store:
    """A registry that answers what it is told to, or is away."""

    def __init__(self) -> None:
        self.says: Reading | None = None
        self.asked = asyncio.Queue[None]()

    async def read(self) -> Reading:
        self.asked.put_nowait(None)
        if self.says is None:
            raise RedisAway
        return self.says


async def follow(store: Store, file: Path, folder: Path) -> Fleet:
    """A fleet that has asked the registry, and has done what the answer is to lead to."""
    store.asked = asyncio.Queue()
    config = config_with({"name": "p"}, {"name": "q", "model": "n"}, router={"registry_interval": 0.02})
    fleet = Fleet(config, cast(Any, store), metrics_in(folder), secret="s", last_known=LastKnown(file))
    task = asyncio.create_task(fleet._registrations.follow())
    for _ in range(2):  # with its second question it is done with the first
        await asyncio.wait_for(store.asked.get(), 60)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return fleet


def test_a_router_that_starts_while_redis_is_away_finds_the_replicas_of_the_last_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        store, file = Store(), tmp_path / "replicas.json"
        store.says = reading(ONE, OTHER)
        await follow(store, file, tmp_path)
        assert file.stat().st_mode & 0o777 == 0o600
        store.says = None
        fleet = await follow(store, file, tmp_path)
        assert (known(fleet), known(fleet, "q")) == ({ONE.address}, {OTHER.address})
        assert not fleet.store_reachable
        assert members(fleet) == set()  # nothing before its health is known
        answer(fleet, "p")
        assert members(fleet) == {ONE.address}

    asyncio.run(scenario())


def test_where_redis_answers_the_file_is_not_asked(tmp_path: Path) -> None:
    async def scenario() -> None:
        store, file = Store(), tmp_path / "replicas.json"
        store.says = reading(ONE)
        await follow(store, file, tmp_path)
        store.says = reading()
        assert known(await follow(store, file, tmp_path)) == set()

    asyncio.run(scenario())


def test_when_redis_comes_back_empty_what_the_file_told_is_kept_for_the_grace(tmp_path: Path) -> None:
    registrations = fleet_of(config_with(), tmp_path)._registrations
    file = tmp_path / "replicas.json"
    asyncio.run(LastKnown(file).keep([ONE]))
    registrations._last_known = LastKnown(file)
    registrations._unreachable("ConnectionError")
    state = registrations._pools()[0]
    registrations.apply(reading(epoch=None), 1.0)
    assert set(state.replicas) == {ONE.address}
    registrations.apply(reading(epoch="e"), 1.0 + GRACE)
    assert set(state.replicas) == set()


def test_what_still_runs_on_a_replica_that_left_keeps_its_count_and_its_deadlines(fleet: Fleet) -> None:
    state = fleet.pools["p"]
    running = [state.take(key, 10) for key in range(0, 2**32, 2**28)]
    assert all(running)
    site = state.replicas[ONE.address].site = Mock(active=True)
    read(fleet, reading(OTHER), 1.0)
    fleet.sweep(5.0)
    fleet.sweep(6.0)
    site.active = False
    fleet.sweep(7.0)
    fleet.sweep(8.0)
    assert site.sweep.mock_calls == [call(5.0), call(6.0), call(7.0)]
    assert site.leave.mock_calls == [call()]
    for replica in running:
        assert isinstance(replica, Replica)
        fleet.released(replica, 10)
        assert replica.tokens == 10 * replica.outstanding
    assert state.load == 0


def test_registrations_and_fleet_speak_of_the_same_pools(tmp_path: Path) -> None:
    config = config_with({"name": "p"}, {"name": "u", "model": "n", "urls": ["http://127.0.0.1:9"]})
    fleet = fleet_of(config, tmp_path)
    assert isinstance(fleet._registrations, Registrations)
    read(fleet, reading(Registration("u", "127.0.0.1:7", "x", "v")), 0.0)
    assert known(fleet, "u") == {"127.0.0.1:9"}  # nobody can register as what the configuration lists
