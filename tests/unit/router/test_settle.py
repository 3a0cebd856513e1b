"""What is settled beyond what was set aside: billed as it is, counted, and told once."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pointsman.contracts.names import Metric
from pointsman.contracts.pricing import Usage
from pointsman.router.metrics import Metrics
from pointsman.router.pipeline.settle import Settle
from pointsman.router.snapshot import compile_snapshot
from support.exchanges import NoBooks, unnoted, unspared
from support.relayings import CONFIG, Relayings


class Aside:
    """Nano-dollars that were set aside, and those that were settled."""

    def __init__(self, reserved: int) -> None:
        self.reserved = reserved
        self.settled: list[int] = []

    def settle(self, usage: Usage | None, nano: int) -> None:
        self.settled.append(nano)


def test_what_costs_more_than_was_set_aside_is_billed_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics(tmp_path)
    books = NoBooks()
    settle = Settle(compile_snapshot(CONFIG), metrics, unnoted, books, unspared)
    counter = metrics.counter(Metric.BEYOND_RESERVED, {"pool": "p"})
    cost = 3 * 1000 + 4 * 2000
    with caplog.at_level(logging.WARNING):
        for reserved in (cost, cost - 1, 0):
            exchange = Relayings(tmp_path).exchange()
            exchange.usage = Usage(input=3, answer=4)
            aside = Aside(reserved)
            exchange.admission = aside
            settle(exchange)
            assert aside.settled == [cost]
    assert books.settled == [(200, cost)] * 3
    assert counter.value == 2
    assert len(caplog.records) == 1
