"""The ledger through a real gateway, whose parts are killed: what clients were told is what is booked, once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from pointsman.contracts.ledger import Entry, Outcome
from pointsman.contracts.names import Header, Metric, StateFile
from pointsman.contracts.pricing import NANO
from pointsman.store.database import Database, database_url
from pointsman.store.ledger import LedgerStore
from support.gateway import Gateway, sample_sum, wait_for


class Desk:
    """A gateway, its ledger, and the nano-dollars that answers were said to cost, by their request ids."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.store = LedgerStore(Database(database_url(None, gateway.state)))
        self.told: dict[str, int] = {}

    def ask(self, times: int) -> None:
        with self.gateway.client() as client:
            for number in range(times):
                model = "smollm2:think" if number % 2 else "smollm2:no_think"
                body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
                answer = client.post("/v1/chat/completions", json=body)
                assert answer.status_code == 200, answer.text
                cost = answer.headers[Header.COST_USD].replace(".", "")
                self.told[answer.headers[Header.REQUEST_ID]] = int(cost)

    def entries(self) -> dict[str, Entry]:
        found = [entry for _, entry in self.store.entries()]
        by_request = {entry.request_id: entry for entry in found}
        assert len(by_request) == len(found)
        return by_request

    def booked(self) -> bool:
        """Whether the entries of answered requests are what was told."""
        answered = {
            request: entry.total for request, entry in self.entries().items() if entry.outcome is Outcome.ANSWERED
        }
        return answered == self.told

    def wait(self) -> None:
        wait_for(self.booked, "the entries", self.gateway.ledger_writer)

    def runs(self) -> set[str]:
        return {path.name for path in (self.gateway.state / StateFile.SPOOL).iterdir()}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with Gateway(tmp_path_factory.mktemp("gw")) as gateway:
        yield Desk(gateway)


def test_the_gauges_show_what_the_bills_add_up_to(desk: Desk) -> None:
    desk.ask(4)
    desk.wait()
    wait_for(lambda: desk.gateway.total(Metric.LEDGER_ENTRIES) == 4, "the gauges")
    page = desk.gateway.metrics()
    assert round(sample_sum(page, Metric.LEDGER_COST) * NANO) == sum(desk.told.values())
    for mode in ("think", "no_think"):
        assert sample_sum(page, Metric.LEDGER_TOKENS, mode=mode) == sample_sum(page, Metric.TOKENS, mode=mode) > 0


def test_a_router_that_is_killed_leaves_its_entries_to_its_successor(desk: Desk) -> None:
    """With the ledger writer away meanwhile, and one request at work, of which nobody will ever know the use."""
    gateway = desk.gateway
    gateway.ledger_writer.stop(signal.SIGKILL)
    desk.ask(3)
    (before,) = desk.runs()
    for engine in gateway.engines["fast"]:
        engine.faults({"kind": "hang_midstream"})
    body = {"model": "smollm2:no_think", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    headers = {Header.REQUEST_ID: "cut-short"}
    with (
        gateway.client() as client,
        client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as sent,
    ):
        pieces = sent.iter_bytes()
        next(pieces)  # of an iterator that is kept: one that is dropped closes the connection
        gateway.router.stop(signal.SIGKILL)
    gateway.start_router()
    wait_for(lambda: gateway.startupz() == 200, "the router", gateway.router)
    desk.ask(2)
    gateway.start_ledger_writer()
    desk.wait()
    wait_for(lambda: "cut-short" in desk.entries(), "the entry of the request that was cut short")
    lost = desk.entries()["cut-short"]
    assert (lost.outcome, lost.total, lost.parts, lost.router) == (Outcome.LOST, 0, (), before)
    wait_for(lambda: before not in desk.runs(), "the dead router's spool to go")
    assert len(desk.runs()) == 1


def test_a_redis_that_is_emptied_loses_no_entry(desk: Desk) -> None:
    gateway = desk.gateway
    gateway.ledger_writer.stop(signal.SIGKILL)
    desk.ask(2)
    time.sleep(0.5)  # the entries are in the stream
    gateway.valkey.stop(signal.SIGKILL)
    desk.ask(2)
    gateway.start_valkey()
    gateway.start_ledger_writer()
    desk.wait()
    assert gateway.total(Metric.LEDGER_REFUSED) == 0


def test_a_router_that_is_stopped_leaves_nothing_behind(desk: Desk) -> None:
    desk.ask(1)
    assert desk.gateway.router.stop() == 0
    assert desk.runs() == set()
    assert desk.booked()
    assert not desk.store.has_open_runs()
