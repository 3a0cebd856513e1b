"""Policies that change while the gateway runs: for every worker, soon, for whom they should, and back again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from pointsman.contracts.names import RedisKey
from support.policies import PolicyGateway, Worker, within

TENANTS = (
    {"name": "demo", "policy": {"threshold": 1.0, "default_mode": "no_think"}},
    {"name": "other"},
    {"name": "staged", "policy": {"rules": [{"name": "never", "mode": "no_think"}]}},
)
ALWAYS = {"policy": {"rules": [{"name": "always", "mode": "think"}]}}

SOON = 2.0
"""Seconds in which a change has to reach every worker."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicyGateway]:
    with PolicyGateway(tmp_path_factory.mktemp("gw"), tenants=TENANTS) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def workers(gateway: PolicyGateway) -> Iterator[list[Worker]]:
    workers = gateway.workers()
    yield workers
    for worker in workers:
        worker.close()


def test_a_change_holds_for_the_next_request_of_every_worker(gateway: PolicyGateway, workers: list[Worker]) -> None:
    def all_said(mode: str, source: str) -> bool:
        said = [worker.ask(gateway.keys["demo"]) for worker in workers]
        return all((answer.mode, answer.source) == (mode, source) for answer in said)

    assert all_said("no_think", "predictor")
    put = gateway.admin_api("PUT", "/demo", json=ALWAYS, params={"comment": "finance always thinks"})
    assert (put.status_code, put.headers["etag"], put.json()["version"]) == (200, '"1"', 1)
    took = within(SOON, lambda: all_said("think", "policy"))
    other = workers[0].ask(gateway.keys["other"])
    assert other.source != "policy"  # nobody else's

    gone = gateway.admin_api("DELETE", "/demo", headers={"if-match": '"1"'})
    assert (gone.status_code, gone.json()["source"], gone.json()["version"]) == (200, "config", 0)
    back = within(SOON, lambda: all_said("no_think", "predictor"))
    print(f"PUT {took:.2f} s, DELETE {back:.2f} s")

    history = gateway.admin_api("GET", "/demo/history").json()["data"]
    assert [(one["version"], one["comment"]) for one in history] == [(2, ""), (1, "finance always thinks")]
    assert history[0]["document"] is None
    assert history[1]["document"] == ALWAYS
    assert history[1]["updated_by"].startswith("admin key ")
