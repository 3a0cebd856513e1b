"""A whole gateway whose servers are killed, paused and slowed, with the books of what its clients were told."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from decimal import Decimal
from typing import Any

import httpx

from pointsman.contracts.names import Header, Metric
from pointsman.contracts.pricing import NANO
from pointsman.store.database import Database
from pointsman.store.ledger import LedgerStore
from support.gateway import FAST, Gateway, wait_for
from support.postgresql import PostgreSQL

QUICK = {
    **FAST,
    "place_timeout": 1.0,
    "health_interval": 0.5,
    "first_byte_timeout": 2.0,
    "answer_timeout": 3.0,
    "engine_args": {"simulated": {"decode_speed": 4000, "answer_tokens": 2, "keep_requests": 0}},
}
TENANTS: tuple[dict[str, Any], ...] = (
    {"name": "plain"},
    {"name": "limited", "limits": {"requests_per_minute": 100_000, "concurrency": 1000}},
    {"name": "budgeted", "budgets": {"daily": {"hard_usd": 50}}},
    {"name": "cached", "cache": {"enabled": True}},
)
PATH = "/v1/chat/completions"


class Fleet:
    """The gateway with its database, and the books of what clients were told."""

    def __init__(self, gateway: Gateway, postgresql: PostgreSQL, database: Database) -> None:
        self.gateway = gateway
        self.postgresql = postgresql
        self.ledger = LedgerStore(database)
        self.told: dict[str, Decimal] = {}
        self._numbers = itertools.count()
        self._http = httpx.Client(base_url=gateway.url, timeout=60)

    def ask(self, tenant: str = "plain", question: str = "Hello?", **fields: Any) -> httpx.Response:
        """One question without thinking; what it cost is noted where it was answered."""
        number = f"asked-{next(self._numbers)}"
        headers = {
            "authorization": f"Bearer {self.gateway.keys[tenant]}",
            Header.REQUEST_ID: number,
            **fields.pop("headers", {}),
        }
        body = {"model": "smollm2:no_think", "messages": [{"role": "user", "content": question}], **fields}
        answer = self._http.post(PATH, json=body, headers=headers)
        if answer.status_code == 200:
            self.told[number] = Decimal(answer.headers[Header.COST_USD])
        return answer

    def statuses(self, tenant: str = "plain", count: int = 10) -> set[int]:
        """What so many questions end with."""
        return {self.ask(tenant).status_code for _ in range(count)}

    def seconds(self, tenant: str, count: int) -> list[float]:
        """How long each of so many questions takes; no two are equal, and all may be cached."""
        times = []
        for _ in range(count):
            began = time.perf_counter()
            answer = self.ask(tenant, f"Question {next(self._numbers)}?", temperature=0)
            times.append(time.perf_counter() - began)
            assert answer.status_code == 200, answer.text
        return sorted(times)

    def missing(self) -> list[str]:
        """What `/readyz` names as missing; it is 200 all the same."""
        page = self.gateway.readyz()
        assert page["http"] == 200, page
        assert page["status"] == ("degraded" if page["missing"] else "ready")
        return list(page["missing"])

    def shows(self, part: str, seconds: float = 60.0) -> None:
        """Wait until `part` is missing, on every face."""
        wait_for(lambda: part in self.missing(), f"{part} to be missed", seconds=seconds)
        wait_for(lambda: f"degraded: {part}: " in self.gateway.router.output(), "a line in the log")
        if self.gateway.admin.popen.poll() is None:  # who shows the metrics
            wait_for(lambda: self.gateway.total(Metric.DEGRADED, part=part) == 1, "the gauge to rise")

    def recovers(self) -> None:
        """Wait until nothing is missing, and some pool can answer: on a busy machine none may for a moment."""

        def whole() -> bool:
            page = self.gateway.readyz()
            return page["http"] == 200 and not page["missing"]

        wait_for(whole, "nothing to be missing", self.gateway.router)
        wait_for(lambda: self.gateway.total(Metric.DEGRADED) == 0, "the gauges to fall")

    def balances(self) -> None:
        """Each answer that a client was told of is in the ledger, once, at the price it was told."""

        def booked() -> tuple[Counter[str], dict[str, int]]:
            counts: Counter[str] = Counter()
            totals: dict[str, int] = {}
            after = 0
            while found := self.ledger.entries(after=after):
                after = found[-1][0]
                counts.update(entry.request_id for _, entry in found)
                totals.update((entry.request_id, entry.total) for _, entry in found)
            return counts, totals

        wait_for(lambda: set(self.told) <= set(booked()[0]), "the ledger to have everything")
        counts, totals = booked()
        assert max(counts.values()) == 1
        assert {number: totals[number] for number in self.told} == {
            number: int(dollars * NANO) for number, dollars in self.told.items()
        }
