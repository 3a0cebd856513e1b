"""The books balance: parts are killed with SIGKILL at counted points, and no cent is lost or billed twice.

Four router workers, two hundred tenants, requests of every kind and fate. Redis, the ledger writer, a worker and an
engine are killed when so many requests have been made, as the seed says. Then every entry of the ledger is held
against what the client of its request was told, sums against sums, and what was spent against the budgets.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import pytest
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from pointsman.contracts.ledger import Entry, Outcome
from pointsman.contracts.names import Metric, StateFile
from pointsman.contracts.pricing import NANO
from pointsman.store.database import Database, database_url
from pointsman.store.ledger import LedgerStore, day_of
from soak.books import Clients, End, Told
from soak.gateways import SoakGateway
from soak.mix import simulated
from support import forking
from support.gateway import sample_sum, wait_for

WORKERS = 4
TENANTS = 200
AT_ONCE = 32
AWAY = 1.0
"""Seconds that a part stays away."""

FAULTS = {
    "error": 0.1,
    "error_midstream": 0.05,
    "die": 0.01,
    "die_midstream": 0.01,
    "garbage": 0.02,
    "truncate": 0.02,
}
TIMES: dict[str, Any] = {"first_byte_timeout": 10, "answer_timeout": 10, "idle_timeout": 10, "place_timeout": 20}
QUICK: dict[str, Any] = {"decode_speed": 2000, "prefill_speed": 1e9, **TIMES}
POOLS = [
    simulated("fast", "sound", "no_think", answer_tokens="3:9", **QUICK),
    simulated("deep", "sound", "think", answer_tokens="3:9", thinking_tokens="3:9", **QUICK),
    simulated("curt", "brief", "no_think", answer_tokens="0:2", **QUICK),
    simulated("long", "brief", "think", answer_tokens="3:9", thinking_tokens="3:9", **QUICK),
    simulated("shaky", "shaky", "no_think", answer_tokens="3:9", fault_rates=FAULTS, **QUICK),
]
COPIES = {"fast": 2, "shaky": 2}
PARTS = ("redis", "ledger writer", "worker", "engine")


class Profile:
    """How much is asked, how often each part is killed, and what the tenants with a budget may spend."""

    def __init__(self, *, short: bool) -> None:
        self.requests = 1500 if short else 20_000
        self.kills = 1 if short else 4
        self.limited = 2 if short else 20
        self.hard = 1_000_000  # nano-dollars: some three hundred requests, and fifty times what one sets aside


def kill_points(profile: Profile, seed: int) -> dict[int, str]:
    """After how many requests which part is killed."""
    draw = random.Random(seed)
    order = [part for part in PARTS for _ in range(profile.kills)]
    draw.shuffle(order)
    stretch = int(profile.requests * 0.9) // len(order)
    return {
        int(profile.requests * 0.05) + stretch * at + draw.randrange(stretch // 2): part
        for at, part in enumerate(order)
    }


class Killer:
    """
    Kills parts at their points, each point in a thread. A part that is still away is killed once it is back: two
    ledger writers at once are no fault, but each one's gauges know the other's work a minute later.
    """

    def __init__(self, gateway: SoakGateway, points: dict[int, str], say: Callable[[str, object], None]) -> None:
        self._gateway = gateway
        self._due = dict(points)
        self._say = say
        self._threads: list[Thread] = []
        self._turns = {part: Lock() for part in PARTS}
        self.killed: Counter[str] = Counter()
        self.failed: list[BaseException] = []

    def at(self, request: int) -> None:
        part = self._due.pop(request, None)
        if part is not None:
            thread = Thread(target=self._kill, args=(part, request))
            thread.start()
            self._threads.append(thread)

    def wait(self) -> None:
        for thread in self._threads:
            thread.join()
        assert not self._due, "not all points were reached"
        assert not self.failed, self.failed

    def _kill(self, part: str, request: int) -> None:
        with self._turns[part]:
            try:
                self._kill_now(part, request)
            except BaseException as error:
                self.failed.append(error)
            self.killed[part] += 1
        self._say(f"killed at request {request}", part)

    def _kill_now(self, part: str, request: int) -> None:
        gateway = self._gateway
        if part == "redis":
            gateway.valkey.stop(signal.SIGKILL)
            time.sleep(AWAY)
            gateway.start_valkey()
        elif part == "ledger writer":
            gateway.ledger_writer.stop(signal.SIGKILL)
            time.sleep(AWAY)
            gateway.start_ledger_writer()
        elif part == "worker":
            os.kill(gateway.workers()[request % WORKERS], signal.SIGKILL)
        else:
            victim = gateway.engines["fast"].pop(0)
            victim.process.stop(signal.SIGKILL)
            time.sleep(AWAY)
            gateway.start_engine("fast")


@pytest.fixture
def forked() -> Iterator[None]:
    """Processes that are forked: this run starts many, some of them in the middle of the load, and times none."""
    with contextlib.closing(forking.use()):
        yield


@pytest.fixture
def seed() -> int:
    return int(os.environ.get("POINTSMAN_SOAK_SEED") or time.time_ns() % 1_000_000)


@pytest.mark.usefixtures("forked")
def test_the_books_balance(folder: Path, short: bool, seed: int, say: Callable[[str, object], None]) -> None:
    profile = Profile(short=short)
    say("seed (POINTSMAN_SOAK_SEED draws the same again)", seed)
    names = [f"t{number:03}" for number in range(TENANTS)]
    limited = names[: profile.limited]
    hard = {"budgets": {"daily": {"hard_usd": profile.hard / NANO}}}
    policy = {"policy": {"threshold": 0.999}}
    tenants = [{"name": name, **policy, **(hard if name in limited else {})} for name in names]
    began = time.monotonic()
    with SoakGateway(folder, pools=POOLS, copies=COPIES, tenants=tenants, workers=WORKERS) as gateway:
        killer = Killer(gateway, kill_points(profile, seed), say)
        clients = Clients(gateway.port, gateway.keys, seed=seed, on_request=killer.at, favoured=limited)
        uvloop.run(clients.run(profile.requests, clients=AT_ONCE))
        killer.wait()
        say("seconds under load", f"{time.monotonic() - began:.0f}")
        wait_for(lambda: gateway.readyz()["status"] == "ready", "every part to be back", seconds=60)
        uvloop.run(spend_all(clients, limited))
        say("seconds until the budgets were spent", f"{time.monotonic() - began:.0f}")
        say("requests", clients.begun)
        say("how they ended for their clients", dict(Counter(str(told.end) for told in clients.told.values())))
        codes = Counter(f"{told.status} {told.code}".strip() for told in clients.told.values() if told.status)
        say("answers", dict(sorted(codes.items())))

        store = LedgerStore(Database(database_url(None, gateway.state)))
        settled = time.monotonic()
        wait_for(lambda: at_rest(gateway), "the ledger to be whole", gateway.ledger_writer, seconds=60)
        say("seconds until all was in the database", f"{time.monotonic() - settled:.1f}")
        entries = list(all_entries(store))
        say("entries by outcome", dict(Counter(str(entry.outcome) for entry in entries)))
        page = gateway.metrics()

        check_each(entries, clients.told)
        check_sums(entries, clients.told, store, page)
        spent = check_budgets(entries, limited, profile.hard)
        say("least share of a budget that was used", f"{min(spent.values()) / profile.hard:.4f}")
        escalated = sample_sum(page, Metric.ESCALATIONS)
        retried = sample_sum(page, Metric.RETRIES)
        say("escalations, retries", f"{escalated:.0f}, {retried:.0f}")
        assert "ended (status" not in gateway.router.output(), "a worker ended by itself"
        assert killer.killed == Counter(dict.fromkeys(PARTS, profile.kills))
        assert escalated > 0
        assert retried > 0
        assert sum(told.end is End.ANSWERED for told in clients.told.values()) > 0.5 * profile.requests
        assert time.monotonic() - began < 8 * 60


async def spend_all(clients: Clients, tenants: Iterable[str]) -> None:
    """Spend what is left of each tenant's budget."""
    async with asyncio.TaskGroup() as group:
        for tenant in tenants:
            for _ in range(4):
                group.create_task(clients.spend(tenant))


def at_rest(gateway: SoakGateway) -> bool:
    """Whether all that was settled is in the database, and no dead router's spool is left."""
    page = gateway.metrics()
    spools = list((gateway.state / StateFile.SPOOL).iterdir())
    unwritten = sample_sum(page, Metric.LEDGER_UNWRITTEN)
    return len(spools) == WORKERS and unwritten == 0 and sample_sum(page, Metric.IN_FLIGHT) == 0


def all_entries(store: LedgerStore) -> Iterable[Entry]:
    after = 0
    while found := store.entries(after=after):
        assert [seq for seq, _ in found] == list(range(after + 1, after + 1 + len(found)))
        after = found[-1][0]
        yield from (entry for _, entry in found)


def check_each(entries: list[Entry], told: dict[str, Told]) -> None:
    """Each answered request has one entry, which says what the client was told; no entry is anybody else's."""
    by_request: dict[str, Entry] = {}
    for entry in entries:
        assert entry.request_id not in by_request, f"{entry.request_id} has two entries"
        by_request[entry.request_id] = entry
    assert by_request.keys() <= told.keys()
    allowed = {
        End.ANSWERED: {Outcome.ANSWERED},
        End.REFUSED: {Outcome.FAILED},
        End.LEFT: set(Outcome),
        End.CUT: set(Outcome),
    }
    for request, what in told.items():
        entry_of = by_request.get(request)
        if entry_of is None:
            assert what.end is not End.ANSWERED, f"{request} was answered and has no entry"
            continue
        assert entry_of.tenant == what.tenant
        assert entry_of.outcome in allowed[what.end], f"{request}: {entry_of.outcome}, told: {what}"
        if what.end is End.ANSWERED:
            used = {name: sum(getattr(part.usage, name) for part in entry_of.parts) for name in what.usage}
            assert (entry_of.total, used) == (what.nano, what.usage), request
        if entry_of.outcome is Outcome.LOST:
            assert (entry_of.total, entry_of.parts) == (0, ())


def check_sums(entries: list[Entry], told: dict[str, Told], store: LedgerStore, page: str) -> None:
    """By tenant, entries of answered requests add up to what was told, and all entries to each of the sums kept."""
    answered: Counter[str] = Counter()
    everything: Counter[str] = Counter()
    for entry in entries:
        everything[entry.tenant] += entry.total
        if told[entry.request_id].end is End.ANSWERED:
            answered[entry.tenant] += entry.total
    clients: Counter[str] = Counter()
    for what in told.values():
        if what.end is End.ANSWERED:
            clients[what.tenant] += what.nano
    assert answered == clients
    by_hour: Counter[str] = Counter()
    for (tenant, _, _, _), totals in store.totals().items():
        by_hour[tenant] += sum(totals.costs)
    by_day: Counter[str] = Counter()
    for tenant, _, _, spent in store.spent_since("0000-00-00"):
        by_day[tenant] += spent
    assert by_hour == by_day == everything
    shown: Counter[str] = Counter()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == Metric.LEDGER_COST:
                shown[sample.labels["tenant"]] += round(sample.value * NANO)
    assert shown == everything


def check_budgets(entries: list[Entry], tenants: Iterable[str], hard: int) -> dict[str, int]:
    """On no day more was spent than allowed; what was spent on the last one, by tenant, is nearly all."""
    spent: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for entry in entries:
        spent[entry.tenant][day_of(entry.at)] += entry.total
    today = day_of(max(entry.at for entry in entries))
    for tenant in tenants:
        for day, amount in spent[tenant].items():
            assert amount <= hard, f"{tenant} has spent {amount} of {hard} on {day}"
        assert spent[tenant][today] >= 0.95 * hard, f"{tenant} could spend only {spent[tenant][today]} of {hard}"
    return {tenant: spent[tenant][today] for tenant in tenants}
