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


def test_a_paused_redis_delays_nobody_and_refuses_those_alone_whose_money_is_not_known(fleet: Fleet) -> None:
    for each in TENANTS:
        assert fleet.statuses(each["name"]) == {200}
    usual, late = [], []
    for _ in range(8):  # whatever else runs on the machine delays one phase or another, but not all of them
        usual.append(ninety_nine(fleet.seconds("plain", 200)))
        with paused(fleet):
            late.append(ninety_nine(fleet.seconds("plain", 200)))
        if min(late) <= min(usual) + MOST_ADDED:
            break
    assert min(late) <= min(usual) + MOST_ADDED

    with paused(fleet):
        fleet.shows("redis")
        assert fleet.ask("cached", temperature=0).headers[Header.CACHE] == "bypass"
        wait_for(lambda: fleet.ask("budgeted").status_code == 503, "the lease to run out", seconds=20)
        refused = fleet.ask("budgeted")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "limits_unavailable")
        assert int(refused.headers["retry-after"]) >= 1
        for tenant in ("plain", "limited", "cached"):
            assert fleet.statuses(tenant, 20) == {200}
            slow = min(ninety_nine(fleet.seconds(tenant, 100)) for _ in range(3))
            assert slow <= min(usual) + 10 * MOST_ADDED, "and it stays so, for whoever has no hard budget"
    wait_for(lambda: fleet.ask("budgeted").status_code == 200, "the budget to be known again", seconds=20)


def test_a_slow_redis_slows_nobody_down_for_long(fleet: Fleet) -> None:
    with slowed(fleet):
        for tenant in ("plain", "limited", "cached"):
            times = fleet.seconds(tenant, 100)
            assert times[50] < 0.05
            assert times[-1] < 1.0
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
    wait_for(lambda: fleet.ask("budgeted").status_code == 200, "budgets to be counted anew", seconds=30)
    assert fleet.ask("cached", "the same", temperature=0).status_code == 200
    wait_for(
        lambda: fleet.ask("cached", "the same", temperature=0).headers.get(Header.CACHE) == "hit",
        "the cache to work",
    )
