"""Redis paused, slowed, killed and empty: who is answered, who is refused, what is told of it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from pointsman.contracts.names import Header
from support.failures import TENANTS, Fleet
from support.gateway import wait_for

MOST_ADDED = 0.005
"""Seconds that a request may take longer with Redis paused, at the 99th percentile."""


@contextmanager
def paused(fleet: Fleet) -> Iterator[None]:
    fleet.gateway.valkey.popen.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        fleet.gateway.valkey.popen.send_signal(signal.SIGCONT)


@contextmanager
def slowed(fleet: Fleet) -> Iterator[None]:
    """Redis works for 30 ms of each 150."""
    valkey, over = fleet.gateway.valkey.popen, Event()

    def stutter() -> None:
        while not over.wait(0.03):
            valkey.send_signal(signal.SIGSTOP)
            over.wait(0.12)
            valkey.send_signal(signal.SIGCONT)

    thread = Thread(target=stutter)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        valkey.send_signal(signal.SIGCONT)


def ninety_nine(times: list[float]) -> float:
    return times[int(len(times) * 0.99) - 1]


def ninety(times: list[float]) -> float:
    """Where a machine that stands still now and then does not show: no more than one in ten waits for that."""
    return times[int(len(times) * 0.9) - 1]


def test_a_paused_redis_delays_nobody_and_refuses_those_alone_whose_money_is_not_known(fleet: Fleet) -> None:
    for each in TENANTS:
        assert fleet.statuses(each["name"]) == {200}
    usual: list[list[float]] = []
    late: list[list[float]] = []
    for _ in range(10):  # whatever else runs on the machine delays one phase or another, but not all of them
        usual.append(fleet.seconds("plain", 200))
        with paused(fleet):
            late.append(fleet.seconds("plain", 200))
        if ninety_nine(late[-1]) <= ninety_nine(usual[-1]) + MOST_ADDED:
            break
    else:
        raise AssertionError(f"usually {[*map(ninety_nine, usual)]}, with Redis paused {[*map(ninety_nine, late)]}")
    least = min(map(ninety, usual))

    with paused(fleet):
        fleet.shows("redis")
        assert fleet.ask("cached", temperature=0).headers[Header.CACHE] == "bypass"
        wait_for(lambda: fleet.ask("budgeted").status_code == 503, "the lease to run out")
        refused = fleet.ask("budgeted")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "limits_unavailable")
        assert int(refused.headers["retry-after"]) >= 1
        for tenant in ("plain", "limited", "cached"):
            assert fleet.statuses(tenant, 20) == {200}
            slow = [ninety(fleet.seconds(tenant, 50)) for _ in range(5)]
            assert min(slow) <= least + 10 * MOST_ADDED, "and it stays so, for whoever has no hard budget"
    wait_for(lambda: fleet.ask("budgeted").status_code == 200, "the budget to be known again")


def test_a_slow_redis_slows_nobody_down_for_long(fleet: Fleet) -> None:
    for tenant in ("plain", "limited", "cached"):
        more = []
        for _ in range(5):  # likewise
            usual = fleet.seconds(tenant, 60)
            with slowed(fleet):
                times = fleet.seconds(tenant, 60)
            more.append((times[30] - usual[30], times[-1] - usual[-1]))
            if more[-1][0] < 0.03 and more[-1][1] < 0.5:
                break
        else:
            raise AssertionError(f"{tenant}: added at the median and at most {more}")
    with slowed(fleet):
        assert fleet.statuses("budgeted", 30) == {200}


def test_redis_may_be_killed_and_come_back_with_nothing_in_it(fleet: Fleet) -> None:
    gateway = fleet.gateway
    assert fleet.statuses("budgeted") == {200}
    gateway.valkey.stop(signal.SIGKILL)
    for _ in range(20):
        for tenant in ("plain", "limited", "cached"):
            assert fleet.ask(tenant).status_code == 200
    fleet.shows("redis")
    gateway.start_valkey()
    assert fleet.statuses("plain", 50) == {200}
    wait_for(lambda: fleet.ask("budgeted").status_code == 200, "budgets to be counted anew")
    assert fleet.ask("cached", "the same", temperature=0).status_code == 200
    wait_for(
        lambda: fleet.ask("cached", "the same", temperature=0).headers.get(Header.CACHE) == "hit",
        "the cache to work",
    )
