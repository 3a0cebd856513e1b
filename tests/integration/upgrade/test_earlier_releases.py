"""What earlier releases left behind, read by this one: tables, Redis, the spool, and what a router knew last.

`samples/` holds a folder of state for each of some earlier revisions, which `support/leave_behind.py` has made.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from pointsman.contracts.names import Header
from support.admin import admin
from support.gateway import DEEP, FAST, Gateway, wait_for
from support.leave_behind import ask, requests_of, told

SAMPLES = sorted(Path(__file__).with_name("samples").glob("*.tar.xz"))


class Successor(Gateway):
    """This release where an earlier one has been. `facts`: what must be so."""

    def __init__(self, folder: Path, sample: Path) -> None:
        super().__init__(folder, pools=(FAST, DEEP))
        shutil.unpack_archive(sample, folder)
        for known in (folder / "state").glob("*.json"):
            os.utime(known)  # the earlier one has only just gone: what is known of tenants is let in by for minutes
        self.facts: dict[str, Any] = json.loads((folder / "facts.json").read_text())
        self.keys, self.admin_key = self.facts["keys"], self.facts["admin_key"]


@pytest.fixture(params=SAMPLES, ids=lambda sample: sample.name.partition(".")[0])
def successor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Successor:
    return Successor(tmp_path_factory.mktemp("up"), request.param)


def there(gateway: Gateway, requests: dict[str, int]) -> None:
    """Wait until SQL has so many requests of each tenant."""

    def as_many() -> bool:
        return all(requests_of(gateway, tenant) == number for tenant, number in requests.items())

    wait_for(as_many, f"{requests} to be in SQL", gateway.ledger_writer)


def test_there_are_samples() -> None:
    assert len(SAMPLES) >= 2


def test_all_of_it_is_taken_up(successor: Successor) -> None:
    facts = successor.facts
    with successor as gateway:
        there(gateway, facts["requests"])  # those that were in the spool alone, too, and none twice
        assert ask(gateway, gateway.key).status_code == 200
        theirs = ask(gateway, facts["keys"]["team"])
        assert (theirs.status_code, theirs.headers[Header.MODE_SOURCE]) == (200, "policy")
        assert ask(gateway, facts["revoked"]).status_code == 401
        team = told(admin(gateway, "GET", "/tenants/team"))
        assert (team["document"]["priority"], team["document"]["limits"]["concurrency"]) == (7, 9)
        assert told(admin(gateway, "GET", "/policies/team"))["comment"] == "as ever"
        assert "2035" in json.dumps(told(admin(gateway, "GET", "/prices/deep")))
        for pool in facts["pools"]:
            assert told(admin(gateway, "GET", f"/pools/{pool}"))["pool"]["model"] == pool
        assert "tenants.create" in json.dumps(told(admin(gateway, "GET", "/audit", params={"limit": 1000})))
        changed = admin(gateway, "PUT", "/tenants/team", json={"priority": 2}, headers={"if-match": '"1"'})
        assert changed.status_code == 200, changed.text
        there(gateway, {tenant: number + 1 for tenant, number in facts["requests"].items()})


def test_a_router_alone_goes_on_with_what_the_earlier_one_knew(successor: Successor) -> None:
    """Redis is empty, and there is no admin process that could fill it."""
    (successor.folder / "dump.rdb").unlink()
    successor.start_valkey()
    try:
        for pool in successor.pools:
            successor.start_engine(pool["name"])
        successor.start_router()
        wait_for(lambda: successor.startupz() == 200, "the router to start", successor.router)
        assert Redis.from_url(successor.redis_url).exists("pointsman:tenants") == 0
        for tenant, source in (("demo", "predictor"), ("team", "policy")):
            answer = ask(successor, successor.facts["keys"][tenant])
            assert (answer.status_code, answer.headers[Header.MODE_SOURCE]) == (200, source)
        assert ask(successor, successor.facts["revoked"]).status_code == 401
    finally:
        successor.__exit__(None, None, None)
