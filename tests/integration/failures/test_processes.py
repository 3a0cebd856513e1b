"""Admin process, ledger writer, database, router and engines paused and killed: queries go on, nothing is lost."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from pointsman.contracts.names import Header, Metric
from support.failures import Fleet
from support.gateway import wait_for


def whole(fleet: Fleet) -> bool:
    """Whether both replicas of the pool are used."""
    pool = fleet.gateway.readyz()["pools"]["fast"]
    return bool(pool["healthy"] == pool["circuits"]["closed"] == 2)


def test_paused_processes_are_missed_and_catch_up(fleet: Fleet) -> None:
    gateway = fleet.gateway
    paused = (gateway.admin, gateway.ledger_writer, gateway.engines["fast"][0].process)
    for process in paused:
        process.popen.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: not whole(fleet), "the replica to be noticed")
        for tenant in ("plain", "limited", "budgeted", "cached"):
            assert fleet.statuses(tenant) == {200}
        wait_for(lambda: {"admin", "ledger-writer"} <= set(fleet.missing()), "both to be missed")
    finally:
        for process in paused:
            process.popen.send_signal(signal.SIGCONT)
    wait_for(lambda: whole(fleet), "the replica to be used again")


def test_killed_processes_are_missed_and_their_successors_catch_up(fleet: Fleet) -> None:
    gateway = fleet.gateway
    replica = gateway.engines["fast"].pop(0)
    for process in (gateway.ledger_writer, gateway.admin, replica.process):
        process.stop(signal.SIGKILL)
    assert fleet.statuses("plain", 30) == {200}, "what the replica drops before the first byte the other answers"
    fleet.shows("ledger-writer")
    fleet.shows("admin")
    refused = httpx.get(f"{gateway.url}/v1/models", headers={"authorization": f"Bearer {gateway.key}"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "admin_unavailable")
    assert fleet.statuses("budgeted", 30) == {200}
    gateway.start_ledger_writer()
    gateway.start_admin()
    gateway.start_engine("fast")
    wait_for(lambda: whole(fleet), "the new replica to be used")


@pytest.mark.parametrize("how", ["paused", "killed"])
def test_without_the_database_queries_go_on_and_changes_are_refused(fleet: Fleet, how: str) -> None:
    gateway, postgresql = fleet.gateway, fleet.postgresql
    admin = {"authorization": f"Bearer {gateway.admin_key}"}
    if how == "paused":
        postgresql.signal(signal.SIGSTOP)
    else:
        postgresql.kill()
    try:
        assert fleet.statuses("plain", 20) == fleet.statuses("budgeted", 20) == {200}
        fleet.shows("database")
        live = httpx.get(f"{gateway.url}/admin/v1/pools", headers=admin, timeout=20)
        assert live.json()["data"][0]["state"] == "ready", "the live state is not in the database"
        assert "database" in httpx.get(f"{gateway.url}/admin/v1/live", headers=admin, timeout=20).json()["troubles"]
        if how == "killed":
            change = httpx.put(
                f"{gateway.url}/admin/v1/policies/plain", headers=admin, json={"policy": {}}, timeout=30
            )
            assert (change.status_code, change.json()["error"]["code"]) == (503, "database_unavailable")
    finally:
        if how == "paused":
            postgresql.signal(signal.SIGCONT)
        else:
            postgresql.start()


def test_a_killed_router_has_a_successor_that_bills_nothing_twice(fleet: Fleet) -> None:
    gateway = fleet.gateway

    def keep_asking(tenant: str) -> int:
        answered = 0
        for _ in range(400):
            try:
                answered += fleet.ask(tenant).status_code == 200
            except httpx.TransportError:
                return answered
        return answered

    before = len(fleet.told)
    with ThreadPoolExecutor(4) as clients:
        asked = [clients.submit(keep_asking, tenant) for tenant in ("plain", "limited", "budgeted", "cached")]
        wait_for(lambda: len(fleet.told) > before, "some to be answered")
        gateway.router.stop(signal.SIGKILL)
        assert sum(one.result() for one in asked) > 0
    gateway.start_router()
    wait_for(lambda: gateway.startupz() == 200, "the successor", gateway.router)
    assert fleet.statuses("plain") == {200}
    wait_for(lambda: fleet.ask("budgeted").status_code == 200, "the budget to be leased again")


def test_a_pool_that_is_gone_refuses_in_its_own_mode(fleet: Fleet) -> None:
    gateway = fleet.gateway
    for engine in gateway.engines["fast"]:
        engine.process.stop(signal.SIGKILL)
    gateway.engines["fast"].clear()
    fleet.shows("pool fast")
    refused = fleet.ask()
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "pool_unavailable")
    assert int(refused.headers["retry-after"]) >= 1
    thought = fleet.ask(model="smollm2:think")
    assert (thought.status_code, thought.headers[Header.POOL]) == (200, "deep")
    wait_for(lambda: gateway.total(Metric.REPLICAS, pool="fast") == 0, "the gauge to follow")
    for _ in range(2):
        gateway.start_engine("fast")
    wait_for(lambda: whole(fleet), "new replicas")
    assert fleet.statuses() == {200}
