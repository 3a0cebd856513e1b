"""How new requests are divided between the revisions of a pool, and how those fare."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.names import Metric
from pointsman.router.fleet import PoolState
from pointsman.router.fleet.breaker import CONNECT
from pointsman.router.fleet.tally import SLOT, Tally
from pointsman.router.metrics import OTHERS, Metrics
from pointsman.router.revision_metrics import MAX_REVISIONS, RevisionMetrics
from pointsman.store.revisions import FIRST_BYTE_BOUNDS, WINDOW, percentile, revisions_of
from support.fleets import add, pool_of

KEYS = [crc32(f"conversation {number}".encode()) for number in range(4000)]


def two(folder: Path, *, old: int = 3, new: int = 1, **fields: Any) -> PoolState:
    """A pool of an old and a new revision."""
    state = pool_of(0, folder, **{"max_ongoing_requests": 10_000, **fields})
    add(state, [f"10.0.0.{number}:80" for number in range(old)], revision="old")
    add(state, [f"10.0.1.{number}:80" for number in range(new)], revision="new")
    return state


def homes(state: PoolState, keys: list[int] = KEYS) -> list[str]:
    """The revision that takes each conversation while nothing else runs."""
    found = []
    for key in keys:
        replica = state.take(key, 1)
        assert replica is not None
        found.append(replica.revision)
        state.give_back(replica, 1)
    return found


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 0.9])
def test_conversations_are_divided_by_the_weights_and_stay_as_one_grows(tmp_path: Path, share: float) -> None:
    state = two(tmp_path)
    state.direct({"old": 1 - share, "new": share})
    first = homes(state)
    assert first == homes(state)
    assert abs(first.count("new") / len(first) - share) < 0.02
    state.direct({"old": 100 * (0.9 - 0.9 * share), "new": 100 * (0.1 + 0.9 * share)})
    moved = [(before, after) for before, after in zip(first, homes(state), strict=True) if before != after]
    assert set(moved) == {("old", "new")}


def test_within_a_revision_a_conversation_stays_at_its_replica_and_load_is_shared(tmp_path: Path) -> None:
    state = two(tmp_path, old=4, new=4)
    state.direct({"old": 1, "new": 1})
    running = [state.take(key, 100) for key in KEYS]
    loads = Counter(replica.address for replica in running if replica is not None)
    assert len(loads) == 8
    assert max(loads.values()) <= 1.35 * len(KEYS) / 8
    assert {name: one.load for name, one in state.revisions.items()} == {
        name: 100 * sum(replica is not None and replica.revision == name for replica in running)
        for name in ("old", "new")
    }
    for replica in running:
        assert replica is not None
        state.give_back(replica, 100)
    assert [one.load for one in state.revisions.values()] == [0, 0]
    assert homes(state)[:100] == homes(state)[:100]


@pytest.mark.parametrize(
    ("traffic", "taken"),
    [
        ({}, ["old", "new"]),
        ({"old": 1}, ["old"]),
        ({"old": 1, "new": 0}, ["old"]),
        ({"old": 0, "new": 3}, ["new"]),
        ({"old": 0}, ["new"]),
        ({"older": 1}, ["old", "new"]),
        ({"older": 1, "new": 0}, ["old"]),
    ],
    ids=str,
)
def test_who_has_no_weight_gets_no_requests(tmp_path: Path, traffic: dict[str, float], taken: list[str]) -> None:
    state = two(tmp_path)
    state.direct(traffic)
    assert set(homes(state)) == set(taken)
    assert {replica.revision for replica in state.members} == set(taken)
    state.direct({})
    assert set(homes(state)) == {"old", "new"}


def test_a_pool_whose_only_weighted_revision_dies_uses_what_is_left_but_never_one_of_weight_zero(
    tmp_path: Path,
) -> None:
    state = two(tmp_path, old=1, new=1)
    add(state, ["10.0.2.0:80"], revision="bad")
    state.direct({"old": 1, "bad": 0})
    assert set(homes(state, KEYS[:50])) == {"old"}
    state.replicas["10.0.0.0:80"].breaker.failed(CONNECT, 0.0)
    state.refresh()
    assert set(homes(state, KEYS[:50])) == {"new"}
    state.remove("10.0.1.0:80")
    state.refresh()
    assert state.take(1, 1) is None
    assert not state.can_answer()


def test_a_request_goes_to_the_other_revision_where_its_own_is_full_or_has_just_failed_it(tmp_path: Path) -> None:
    state = two(tmp_path, old=1, new=1, max_ongoing_requests=2)
    state.direct({"old": 1, "new": 1})
    taken = [state.take(KEYS[0], 1) for _ in range(4)]
    assert Counter(replica.revision for replica in taken if replica) == {"old": 2, "new": 2}
    assert state.take(KEYS[0], 1) is None
    for replica in taken:
        assert replica is not None
        state.give_back(replica, 1)
    first = state.take(KEYS[0], 1)
    assert first is not None
    state.give_back(first, 1)
    second = state.take(KEYS[0], 1, first)
    assert second is not None
    assert second.revision != first.revision


def test_a_replica_of_another_pool_that_failed_is_never_taken_here(tmp_path: Path) -> None:
    here, there = two(tmp_path, old=2, new=0, max_ongoing_requests=1), pool_of(1, tmp_path)
    (failed,) = there.members
    for _ in range(2):
        assert here.take(1, 1) is not None
    assert here.take(1, 1, failed) is None
    assert (failed.outstanding, failed.tokens) == (0, 0)
    assert [replica.outstanding for replica in here.members] == [1, 1]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("take"), st.sampled_from(KEYS)),
            st.tuples(st.just("end"), st.integers(0, 50)),
            st.tuples(
                st.just("direct"),
                st.dictionaries(st.sampled_from(["", "old", "new"]), st.sampled_from([0, 0.1, 1]), max_size=3),
            ),
            st.tuples(st.just("fail"), st.integers(0, 3)),
            st.tuples(st.just("heal"), st.integers(0, 3)),
        ),
        max_size=60,
    )
)
def test_whatever_happens_nothing_is_miscounted(tmp_path_factory: Any, steps: list[tuple[str, Any]]) -> None:
    state = two(tmp_path_factory.mktemp("m"), old=2, new=2)
    replicas = list(state.replicas.values())
    running = []
    for what, with_it in steps:
        if what == "take":
            replica = state.take(with_it, 7)
            if replica is not None:
                running.append(replica)
                assert replica.member
        elif what == "end" and running:
            state.give_back(running.pop(with_it % len(running)), 7)
        elif what == "direct":
            state.direct(with_it)
        elif what in ("fail", "heal"):
            replicas[with_it].healthy = what == "heal"
            state.refresh()
        counted = Counter(replica.address for replica in running)
        assert all(replica.outstanding == counted[replica.address] for replica in replicas)
        assert state.load == 7 * sum(counted[replica.address] for replica in state.members)
        assert state.running == sum(counted[replica.address] for replica in state.members)
        if len(state._divided) > 1:
            for one in state._divided:
                assert one.load == 7 * sum(counted[replica.address] for replica in one.members)


# -- how they fare


def told(tally: Tally, *, replicas: int = 1, weight: float | None = None) -> dict[str, Any]:
    return {"pools": {"p": {"revisions": {"new": {"replicas": replicas, "weight": weight, **tally.report()}}}}}


def test_routers_are_added_up_and_times_are_those_of_the_window(tmp_path: Path) -> None:
    tallies = [Tally(), Tally()]
    now = 1000.0
    for tally in tallies:
        tally.requests, tally.errors = 50, 5  # long ago
        tally.began(200.0)
    for _ in range(int(2 * WINDOW / SLOT)):
        now += SLOT
        for tally in tallies:
            tally.look(now)
    assert all(tally.idle and tally.report() == {} for tally in tallies)
    for number, tally in enumerate(tallies):
        for request in range(100):
            tally.requests += 1
            tally.errors += request < 3
            tally.began(0.1 if request < 92 + number else 2.0)
    odd = [{}, {"pools": 3}, {"pools": {"p": {"revisions": {"new": 7, "x": {"first_byte": {"a": 1}}}}}}]
    found = revisions_of([*(told(tally, weight=0.1) for tally in tallies), *odd, told(Tally(), replicas=4)], "p")
    new = found["new"]
    assert (new.requests, new.errors, new.streams, new.replicas, new.weight) == (200, 6, 200, 4, 0.1)
    assert new.ttft_mean == pytest.approx((0.1 * 185 + 2.0 * 15) / 200)
    assert new.ttft_p95 == pytest.approx(2.0, rel=0.2)
    assert found["x"].ttft_p95 is None
    assert revisions_of([told(tallies[0])], "q") == {}


@given(st.lists(st.floats(0.0012, 400), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 1.0]))
def test_a_percentile_from_buckets_is_in_the_bucket_of_the_true_one(times: list[float], share: float) -> None:
    tally = Tally()
    for seconds in times:
        tally.began(seconds)
    buckets = {int(at): number for at, number in tally.report()["first_byte"].items()}
    found = percentile(buckets, share)
    true = sorted(times)[-int(-share * len(times) // 1) - 1]
    assert found is not None
    assert true / (FIRST_BYTE_BOUNDS[1] / FIRST_BYTE_BOUNDS[0]) * 0.999 <= found <= true * 1.2


def test_the_metrics_count_what_the_tallies_count_and_never_grow_without_bound(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    shown = RevisionMetrics(metrics)
    state = two(tmp_path)
    labels = {"pool": "p", "model": "m"}
    for number in range(3 * MAX_REVISIONS):
        add(state, [f"10.1.0.{number}:80"], revision=f"r{number}")
        tally = state.revisions[f"r{number}"].tally
        for _ in range(2):
            tally.requests += 3
            tally.errors += 1
            tally.began(0.5)
            shown.note(state, labels)
        state.remove(f"10.1.0.{number}:80")
        state.refresh()
        for seconds in (SLOT, 2 * WINDOW, 4 * WINDOW):
            state.look(1000.0 * (number + 1) + seconds)
        assert f"r{number}" not in state.revisions

    def value(name: str, revision: str) -> float:
        return metrics.counter(name, {**labels, "revision": revision}).value

    assert value(Metric.REVISION_REQUESTS, "r0") == 6
    assert value(Metric.REVISION_ERRORS, "r0") == 2
    assert value(Metric.REVISION_STREAMS, "r0") == 2
    assert value(Metric.REVISION_TTFT, "r0") == 1.0
    others = 3 * MAX_REVISIONS - (MAX_REVISIONS - 3)  # one place each for old, new and none
    assert value(Metric.REVISION_REQUESTS, OTHERS) in (6 * others, 6 * (others - 1))
    assert metrics.gauge(Metric.REVISION_REPLICAS, {**labels, "revision": "old"}).value == 3
    assert len(shown._shown["p"]) == MAX_REVISIONS + 1
