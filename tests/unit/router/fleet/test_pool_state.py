"""Which replica takes a request: the preferred one within its bound, else the least loaded; and no miscount."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.router.fleet import PoolState, Replica
from pointsman.router.fleet.breaker import CONNECT, Circuit
from pointsman.router.fleet.group import BOUND, HANDFUL
from support.fleets import add, pool_of


def keys(count: int) -> list[int]:
    return [crc32(f"conversation {number}".encode()) for number in range(count)]


def taken(state: PoolState, key: int, tokens: int = 300, avoid: Replica | None = None) -> Replica:
    replica = state.take(key, tokens, avoid)
    assert replica is not None
    return replica


@pytest.mark.parametrize("count", [2, 8, 9, 64])
def test_a_conversation_stays_where_it_is_while_there_is_little_to_do(tmp_path: Path, count: int) -> None:
    state = pool_of(count, tmp_path)
    for key in keys(100):
        first = taken(state, key)
        again = taken(state, key)
        assert again is first
        state.give_back(first, 300)
        state.give_back(again, 300)


def test_a_replica_that_leaves_and_returns_gets_its_conversations_back(tmp_path: Path) -> None:
    state = pool_of(5, tmp_path)

    def homes() -> list[str]:
        found = []
        for key in keys(200):
            replica = taken(state, key)
            found.append(replica.address)
            state.give_back(replica, 300)
        return found

    before = homes()
    gone = "10.0.0.2:80"
    state.remove(gone)
    state.refresh()
    without = homes()
    assert [a for a, b in zip(before, without, strict=True) if a != b] == [gone] * before.count(gone)
    add(state, [gone])
    assert homes() == before


@pytest.mark.parametrize("count", [2, 8, 64])
def test_load_is_shared_although_everybody_asks_the_same(tmp_path: Path, count: int) -> None:
    """One conversation of a whole company: its replica gets its share and not much more."""
    state = pool_of(count, tmp_path, max_ongoing_requests=1000)
    for _ in range(count * 40):
        taken(state, 12345)
    loads = sorted(replica.outstanding for replica in state.members)
    assert sum(loads) == count * 40
    assert loads[-1] <= BOUND * 40 + 6
    assert loads[0] >= (sum(loads) - loads[-1]) / (count - 1) - 2  # the rest is shared evenly


@pytest.mark.parametrize("count", [2, 8, 64])
def test_load_is_shared_between_many_conversations(tmp_path: Path, count: int) -> None:
    state = pool_of(count, tmp_path, max_ongoing_requests=1000)
    for key in keys(count * 40):
        taken(state, key)
    assert max(replica.outstanding for replica in state.members) <= BOUND * 40 + 6


def test_what_counts_is_the_predicted_tokens_not_the_requests(tmp_path: Path) -> None:
    state = pool_of(2, tmp_path, max_ongoing_requests=1000)
    long = taken(state, 1, 100_000)
    others = Counter(taken(state, 1, 100).address for _ in range(50))
    assert long.address not in others


def test_a_full_replica_takes_no_more_however_light_its_load_is(tmp_path: Path) -> None:
    state = pool_of(3, tmp_path, max_ongoing_requests=4)
    assert len([taken(state, key, 1) for key in keys(12)]) == 12
    assert [replica.outstanding for replica in state.members] == [4, 4, 4]
    assert state.take(7, 1) is None
    state.give_back(state.members[1], 1)
    assert taken(state, 7, 1) is state.members[1]
    assert state.take(7, 1) is None


@pytest.mark.parametrize("count", [1, 2, HANDFUL + 1])
def test_the_failed_replica_is_avoided_where_there_is_another(tmp_path: Path, count: int) -> None:
    state = pool_of(count, tmp_path)
    for key in keys(30):
        failed = taken(state, key)
        state.give_back(failed, 300)
        again = taken(state, key, avoid=failed)
        assert (again is failed) == (count == 1)
        state.give_back(again, 300)


def test_a_pool_without_replicas_has_no_place(tmp_path: Path) -> None:
    state = pool_of(0, tmp_path)
    assert state.take(1, 1) is None
    assert not state.can_answer()


def test_of_a_half_open_replica_one_request_at_a_time_is_asked(tmp_path: Path) -> None:
    state = pool_of(1, tmp_path)
    (replica,) = state.members
    replica.breaker.failed(CONNECT, 0.0)
    state.refresh()
    assert state.take(1, 10) is None
    replica.breaker.health_told(True, replica.breaker.open_until)
    state.refresh()
    assert taken(state, 1, 10) is replica
    assert state.take(1, 10) is None
    state.give_back(replica, 10)  # its client left: nothing was learnt
    assert taken(state, 1, 10) is replica
    replica.breaker.succeeded()
    state.refresh()
    assert taken(state, 1, 10) is replica


def test_the_end_of_an_older_request_lets_no_second_trial_through(tmp_path: Path) -> None:
    state = pool_of(1, tmp_path)
    replica = taken(state, 1, 10)
    replica.breaker.failed(CONNECT, 0.0)
    replica.breaker.health_told(True, replica.breaker.open_until)
    state.refresh()
    assert taken(state, 1, 20) is replica
    state.give_back(replica, 10)  # the older one's client left
    assert state.take(1, 10) is None
    state.give_back(replica, 20)  # so did the trial's
    assert taken(state, 1, 10) is replica

    replica.healthy = False  # and the next one's, while the replica did not answer
    state.refresh()
    state.give_back(replica, 10)
    replica.healthy = True
    state.refresh()
    assert taken(state, 1, 10) is replica


class Waiter:
    """Waits, and notes when its turn comes."""

    tenant, priority, weight, tokens = "t", 5, 1.0, 1

    def __init__(self, name: str, served: list[str]) -> None:
        self.name = name
        self.served = served

    def try_again(self, state: PoolState) -> bool:
        if state.take(1, 1) is None:
            return False
        state.serve(self)
        self.served.append(self.name)
        return True

    def pushed_out(self, state: PoolState) -> None:
        state.leave(self)

    moved = pushed_out


def test_those_that_wait_are_served_in_turn_and_no_more_than_there_are_places(tmp_path: Path) -> None:
    state = pool_of(2, tmp_path, max_ongoing_requests=1)
    first, second = taken(state, 1, 1), taken(state, 1, 1)
    served: list[str] = []
    for name in "abcd":
        state.join(Waiter(name, served))
    state.wake()
    assert served == []
    state.give_back(second, 1)
    assert served == ["a"]
    state.give_back(first, 1)
    assert served == ["a", "b"]
    add(state, ["10.9.9.9:80"])
    assert served == ["a", "b", "c"]


def test_thousands_that_fail_at_once_do_not_pile_up_on_the_stack(tmp_path: Path) -> None:
    state = pool_of(1, tmp_path, max_ongoing_requests=1)
    served = []

    class Failing(Waiter):
        def try_again(self, state: PoolState) -> bool:
            replica = taken(state, 1, 1)
            state.serve(self)
            served.append(self)
            state.give_back(replica, 1)
            return True

    busy = taken(state, 1, 1)
    for _ in range(5000):
        state.join(Failing("f", []))
    state.give_back(busy, 1)
    assert len(served) == 5000


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "take", "give", "sick", "well", "leave", "join", "fail", "half"]),
        st.integers(0, 11),
        st.integers(0, 5000),
    ),
    max_size=120,
)


@given(steps=STEPS, limit=st.integers(1, 5), count=st.integers(0, 12))
@settings(max_examples=150, deadline=None)
def test_nothing_is_miscounted_and_no_place_is_overlooked(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]], limit: int, count: int
) -> None:
    """Against the plain reading of the rules, whatever happens in whatever order."""
    state = pool_of(count, tmp_path_factory.getbasetemp(), max_ongoing_requests=limit)
    running: list[tuple[Replica, int]] = []
    for step, number, tokens in steps:
        address = f"10.0.0.{number}:80"
        replica = state.replicas.get(address)
        if step == "take":
            free = [
                item
                for item in state.replicas.values()
                if item.healthy
                and item.outstanding < limit
                and (
                    item.breaker.state is Circuit.CLOSED
                    or (item.breaker.state is Circuit.HALF_OPEN and not item.breaker.trial)
                )
            ]
            got = state.take(tokens * 800_000 % 2**32, tokens, replica)
            assert (got is None) == (not free)
            if got is not None:
                assert got in free
                assert got is not replica or free == [replica]
                running.append((got, tokens))
        elif step == "give" and running:
            state.give_back(*running.pop(number % len(running)))
        elif step == "join" and replica is None:
            add(state, [address])
        elif replica is not None:
            if step == "leave":
                state.remove(address)
            elif step in ("sick", "well"):
                replica.healthy = step == "well"
            elif step == "fail":
                replica.breaker.failed(CONNECT, 0.0)
            elif step == "half":
                replica.breaker.health_told(True, 1e9)
            state.refresh()
        assert state.load == sum(item.tokens for item in state.members)
        for item in state.replicas.values():
            assert item.outstanding == sum(one is item for one, _ in running)
            assert item.tokens == sum(cost for one, cost in running if one is item)
            assert item.outstanding <= limit
            assert item.outstanding or not item.breaker.trial, "a trial that nobody runs is never decided"
