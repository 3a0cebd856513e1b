"""A ledger of a million rows, and a hundred thousand tenants: how long questions to the one and a start with the
others take, and in how much memory."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import httpx
import psutil
from redis import Redis

from pointsman.contracts.names import Env, StateFile
from pointsman.contracts.tenants import key_digest, new_key
from pointsman.store.ledger_tables import CLASSES, HOUR
from pointsman.store.tenant_projection import Change, TenantProjection, encoded_entry
from soak.gateways import MIB, SoakGateway
from support.gateway import FAST, wait_for

DAYS = 30
TENANTS_WITH_BILLS = 200
MOST_SECONDS = 2.0
"""What `pointsman costs` may take, by tenant and mode, over `DAYS`."""

MOST_TENANTS = 100_000
START = 5.0
"""Seconds of processor time in which a router has taken up all of them and can answer."""

MOST_MEMORY = 400 * MIB
"""What they may add to the router's memory."""

_COLUMNS = ", ".join(f"{name}, {name}_cost" for name in CLASSES)
_ROWS = f"""
    WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :rows),
    drawn AS (
        SELECT n, n * 7919 % {TENANTS_WITH_BILLS} AS tenant, n % 3 = 0 AS thinks, n * 104729 % 2000 AS used
        FROM numbers
    )
    INSERT INTO ledger SELECT n + 1, 'r' || n, 'request', :since + n * :step, :since + n * :step + 900,
        printf('tenant-%03d', tenant), printf('%08x', tenant * 2 + n % 2), 'q' || n, 'smollm2',
        CASE WHEN thinks THEN 'think' ELSE 'no_think' END, 200, 'answered', 1, '', used * 300, 'run', n, '', ''
    FROM drawn
"""
_PARTS = f"""
    INSERT INTO ledger_parts (seq, part, pool, mode, estimated, price_version, {_COLUMNS})
    SELECT seq, 0, CASE mode WHEN 'think' THEN 'deep' ELSE 'fast' END, mode, 0, 0,
        total / 300, total / 6, 0, 0, 0, 0, total / 300, total - total / 6{", 0, 0" * (len(CLASSES) - 4)}
    FROM ledger
"""
_HOURS = f"""
    INSERT INTO usage_hours (hour, tenant, key, model, mode, pool, cache, total, requests, estimated, {_COLUMNS})
    SELECT at - at % {HOUR}, tenant, key, model, ledger.mode, pool, cache, sum(total), count(*), 0,
        {", ".join(f"sum({name}), sum({name}_cost)" for name in CLASSES)}
    FROM ledger JOIN ledger_parts USING (seq) GROUP BY 1, 2, 3, 4, 5, 6, 7
"""


def test_the_costs_of_a_month_of_a_million_requests(
    folder: Path, short: bool, say: Callable[[str, object], None]
) -> None:
    rows = 50_000 if short else 1_000_000
    with SoakGateway(folder, pools=[FAST]) as gateway:
        spent = fill(gateway.state / StateFile.DATABASE, rows)
        seconds, before = [], memory(gateway.admin.popen.pid)
        for _ in range(4):
            began = time.monotonic()
            sums = costs(gateway)
            seconds.append(time.monotonic() - began)
        grown = memory(gateway.admin.popen.pid) - before
    assert len(sums) == 2 * TENANTS_WITH_BILLS
    assert sum(row["requests"] for row in sums) == rows
    assert sum(row["cost"] for row in sums) == spent
    say("rows of the ledger", f"{rows:,}")
    say("`pointsman costs --by tenant,mode`, the first time (s)", f"{seconds[0]:.2f}")
    say("... and then, median of three (s)", f"{median(seconds[1:]):.2f} (bound: {MOST_SECONDS:g})")
    say("memory of the admin process, more (MiB)", f"{grown / MIB:.0f} (bound: 64)")
    assert median(seconds[1:]) <= MOST_SECONDS
    assert grown < 64 * MIB


def test_a_router_starts_with_a_hundred_thousand_tenants(
    folder: Path, short: bool, say: Callable[[str, object], None]
) -> None:
    number = 10_000 if short else MOST_TENANTS
    with SoakGateway(folder, pools=[FAST]) as gateway:
        alone = memory(gateway.router.popen.pid)
        gateway.router.stop()
        gateway.admin.stop()  # whose database has none of them, and would put the copy right
        key = new_key()
        with Redis.from_url(gateway.redis_url) as redis:
            assert TenantProjection(redis).replace(tenants(number, key)) is not None
        began = time.monotonic()
        gateway.start_router()
        wait_for(lambda: gateway.startupz() == 200, "the router to start", gateway.router)
        wall = time.monotonic() - began
        process = psutil.Process(gateway.router.popen.pid)
        cpu = sum(process.cpu_times()[:2])
        body = {"model": "smollm2:no_think", "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]}
        answer = httpx.post(
            f"{gateway.url}/v1/chat/completions",
            json=body,
            headers={"authorization": f"Bearer {key}"},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        grown = memory(process.pid) - alone
    say("tenants", f"{number:,}")
    say("the router is ready after (s)", f"{wall:.1f}")
    say("... and this much processor time (s)", f"{cpu:.1f} (bound: {START:g})")
    say("its memory, more (MiB)", f"{grown / MIB:.0f} (bound: {MOST_MEMORY / MIB:.0f})")
    assert cpu <= START
    assert grown <= MOST_MEMORY


def fill(database: Path, rows: int) -> int:
    """Make `rows` entries, spread evenly over the last `DAYS`, and their sums; returns what they cost together."""
    since = int(time.time() * 1000) - DAYS * 24 * HOUR + HOUR
    with sqlite3.connect(database, timeout=60) as connection:
        connection.execute(_ROWS, {"rows": rows, "since": since, "step": (DAYS * 24 - 2) * HOUR // rows})
        connection.execute(_PARTS)
        connection.execute(_HOURS)
        (spent,) = connection.execute("SELECT sum(total) FROM ledger").fetchone()
    connection.close()
    return int(spent)


def costs(gateway: SoakGateway) -> list[dict[str, int]]:
    """What the command says, as a new process."""
    argv = [sys.executable, "-m", "pointsman.cli", "costs", "--by", "tenant,mode", "--since", f"{DAYS}d"]
    environment = {**os.environ, Env.URL: gateway.url, Env.ADMIN_KEY: gateway.admin_key}
    said = subprocess.run([*argv, "--format", "json"], env=environment, check=True, capture_output=True, text=True)
    found: list[dict[str, int]] = json.loads(said.stdout)["data"]
    return found


def tenants(number: int, key: str) -> Iterator[Change]:
    """As the admin process projects them; the last one holds `key`."""
    for index in range(1, number + 1):
        document = {
            "name": f"tenant-{index:06d}",
            "limits": {"requests_per_minute": 600, "tokens_per_minute": 100_000},
            "priority": 4 + index % 3,
        }
        digest = key_digest(key) if index == number else secrets.token_hex(32)
        keys = [{"id": f"key-{index:016x}", "digest": digest}]
        yield Change(f"tenant-{index:06d}", index, encoded_entry(index, json.dumps(document), keys))


def memory(pid: int) -> int:
    """Bytes that are the process's own."""
    return int(psutil.Process(pid).memory_full_info().uss)
