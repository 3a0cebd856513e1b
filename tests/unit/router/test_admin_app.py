"""The admin process in trouble: nobody waits for somebody else's searches, and no failure quotes what was kept."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Lock
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from pointsman.contracts.config import Config
from pointsman.contracts.decisions import Page
from pointsman.contracts.tenants import key_digest, new_key
from pointsman.router.admin import decisions
from pointsman.router.admin.access import Access
from pointsman.router.admin.app import Parts, build_app
from pointsman.router.admin.key_ring import KeyRing
from pointsman.router.admin.pool_directory import PoolDirectory
from pointsman.router.admin.process import without_messages
from pointsman.store.decisions import Wanted

KEYS = {name: new_key() for name in ("greedy", "other")}
CONFIG = Config.model_validate(
    {
        "pools": [
            {
                "name": "p",
                "model": "m",
                "modes": ["think"],
                "engine": "simulated",
                "prices": {"input": 1, "output": 1},
            }
        ],
        "tenants": [{"name": name, "key_digests": [key_digest(key)]} for name, key in KEYS.items()],
    }
)

QUOTED = "our merger"


class SlowStore:
    """Answers `greedy` once it is told to; fails for `other` where it is told so."""

    def __init__(self) -> None:
        self.go = Event()
        self.full = Event()
        self.lock = Lock()
        self.running: Counter[str] = Counter()
        self.peak = 0
        self.looks = 0
        self.broken = False

    def get(self, identity: str, *, tenant: str) -> None:
        """There is no decision."""
        with self.lock:
            self.looks += 1

    def page(self, wanted: Wanted) -> Page:
        assert wanted.tenant is not None
        with self.lock:
            self.running[wanted.tenant] += 1
            self.peak = max(self.peak, self.running["greedy"])
            if self.peak == decisions.AT_ONCE:
                self.full.set()
        if wanted.tenant == "greedy":
            assert self.go.wait(20)
        elif self.broken:
            raise RuntimeError(QUOTED)
        with self.lock:
            self.running[wanted.tenant] -= 1
        return Page(data=())


@pytest.fixture
def store() -> SlowStore:
    return SlowStore()


@pytest.fixture
def app(store: SlowStore, tmp_path: Path) -> Iterator[FastAPI]:
    nothing: Any = None
    access = Access(KeyRing(CONFIG, PoolDirectory(CONFIG), nothing, nothing))
    others = dict.fromkeys(("audit", "policies", "keeper", "prices", "usage", "entries", "bookings"), nothing)
    others = dict.fromkeys(field.name for field in dataclasses.fields(Parts))
    parts = Parts(**{**others, "access": access, "decisions": store})
    yield build_app(CONFIG, tmp_path, parts, version="0")
    store.go.set()


async def ask(app: FastAPI, tenant: str, path: str = "") -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://admin", timeout=30) as client:
        return await client.get(f"/v1/decisions{path}", headers={"authorization": f"Bearer {KEYS[tenant]}"})


def test_a_tenants_searches_wait_for_each_other_and_nobody_waits_for_them(app: FastAPI, store: SlowStore) -> None:
    async def many() -> None:
        asked = [asyncio.create_task(ask(app, "greedy")) for _ in range(60)]  # more than there are threads
        assert await asyncio.to_thread(store.full.wait, 20)
        assert (await asyncio.wait_for(ask(app, "other"), 5)).json() == {"data": [], "after": None}
        store.go.set()
        assert {(await one).status_code for one in asked} == {200}

    asyncio.run(many())
    assert store.peak == decisions.AT_ONCE


def test_who_would_wait_too_long_is_told_so(
    app: FastAPI, store: SlowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "TURN", 0.05)

    async def many() -> None:
        asked = [asyncio.create_task(ask(app, "greedy")) for _ in range(5)]
        running = set(asked)
        deadline = time.monotonic() + 10
        while len(running) > decisions.AT_ONCE and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
            running = {one for one in asked if not one.done()}
        assert len(running) == decisions.AT_ONCE
        done = set(asked) - running
        for one in done:
            assert (one.result().status_code, one.result().json()["error"]["code"]) == (503, "database_unavailable")
            assert one.result().headers["retry-after"] == "2"
        store.go.set()
        await asyncio.gather(*running)
        assert (await ask(app, "greedy")).status_code == 200

    asyncio.run(many())


@pytest.mark.parametrize(
    ("path", "field"),
    [("?model=a%00b", "model"), ("?a%00b=1", "a\0b"), ("/dec-%00", None)],
)
def test_a_nul_reaches_no_database(app: FastAPI, store: SlowStore, path: str, field: str | None) -> None:
    error = asyncio.run(ask(app, "greedy", path)).json()["error"]
    assert (error["code"], error["param"]) == ("invalid_value", field)
    assert "NUL" in error["message"]
    assert not store.looks
    assert not store.running


def test_who_asks_for_many_that_are_not_there_waits_for_few(app: FastAPI, store: SlowStore) -> None:
    async def many() -> None:
        asked = [ask(app, "greedy", f"/dec-{number:032x}") for number in range(150)]
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {404}
        looks, store.looks = store.looks, 0
        most = round(decisions.PATIENCE / decisions.PAUSE) + 1
        assert 150 + decisions.WAITING < looks <= 150 + decisions.WAITING * most
        assert (await ask(app, "other", f"/dec-{0:032x}")).status_code == 404
        assert store.looks > 1  # a single one is waited for

    asyncio.run(many())


def test_a_failure_is_logged_by_its_kind_and_place(
    app: FastAPI, store: SlowStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.broken = True
    answer = asyncio.run(ask(app, "other"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    log = logging.getLogger("uvicorn.error")
    written_out = logging.Formatter().formatException

    def as_others_do(record: logging.LogRecord) -> bool:
        record.exc_text = written_out(record.exc_info) if record.exc_info else None
        return True

    log.addFilter(as_others_do)
    log.addFilter(without_messages)
    try:
        store.page(Wanted(tenant="other"))
    except RuntimeError:
        log.exception("Exception in ASGI application\n")
    finally:
        log.removeFilter(without_messages)
        log.removeFilter(as_others_do)
    assert "RuntimeError" in caplog.text
    assert "in page" in caplog.text
    assert QUOTED not in caplog.text
