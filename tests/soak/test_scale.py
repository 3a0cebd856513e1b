"""A ledger of a million rows, and a hundred thousand tenants: how long questions to the one and a start with the
others take, in how much memory, and what a request costs beside them."""

from __future__ import annotations

import contextlib
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

import psutil
import pytest
import uvloop
from redis import Redis

from pointsman.contracts.names import Env, StateFile
from pointsman.contracts.tenants import key_digest, new_key
from pointsman.store.ledger_tables import CLASSES, HOUR
from pointsman.store.tenant_projection import Change, TenantProjection, encoded_entry
from soak.client import Answer, Connection
from soak.gateways import MIB, SoakGateway
from soak.mix import simulated
from soak.streams import chat
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

MOST_DEARER = 1.1
"""What a request may cost beside all of them, against a router that knows nobody but those who ask."""

MOST_DEARER_IN_SHORT = 1.3
"""The same in the short profile: two routers that do the same differ by some per cent, however long one looks."""

ASKING = 10
"""Tenants that ask in turn."""

REQUESTS = 1000
"""Requests of one round: some hundred milliseconds of processor time, of which Linux counts hundredths."""

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
        key = new_key()
        began = time.monotonic()
        know(gateway, number, [key])
        wall = time.monotonic() - began
        process = psutil.Process(gateway.router.popen.pid)
        cpu = sum(process.cpu_times()[:2])
        (answer,) = uvloop.run(asked(gateway, [chat(key, "smollm2:no_think", "hello", stream=False)]))
        assert answer.status == 200, answer.body
        grown = memory(process.pid) - alone
    say("tenants", f"{number:,}")
    say("they are in Redis, and the router is ready, after (s)", f"{wall:.1f}")
    say("... and this much processor time of the router (s)", f"{cpu:.1f} (bound: {START:g})")
    say("its memory, more (MiB)", f"{grown / MIB:.0f} (bound: {MOST_MEMORY / MIB:.0f})")
    assert cpu <= START
    assert grown <= MOST_MEMORY


def test_a_request_costs_the_same_beside_a_hundred_thousand_tenants(
    tmp_path_factory: pytest.TempPathFactory, short: bool, say: Callable[[str, object], None]
) -> None:
    sizes = (ASKING, 10_000 if short else MOST_TENANTS)
    keys = [new_key() for _ in range(ASKING)]
    requests = [chat(key, "sound", "hello", stream=False) for key in keys] * (REQUESTS // ASKING)
    pool = simulated("fast", "sound", "no_think", decode_speed=1e9, answer_tokens=4)
    with contextlib.ExitStack() as stack:
        gateways = []
        for size in sizes:
            gateway = SoakGateway(tmp_path_factory.mktemp("soak"), pools=[pool])
            know(stack.enter_context(gateway), size, keys)
            uvloop.run(asked(gateway, requests))
            gateways.append(gateway)
        rounds = [tuple(spent(gateway, requests) for gateway in gateways) for _ in range(7 if short else 31)]
    ratios = [beside / alone for alone, beside in rounds]
    for place, size in enumerate(sizes):
        each = median(both[place] for both in rounds) / len(requests)
        say(f"processor time of a request, {ASKING} tenants of {size:,} (us)", f"{each * 1e6:.0f}")
    say("ratio, of all rounds", f"{min(ratios):.3f} .. {max(ratios):.3f}")
    most = MOST_DEARER_IN_SHORT if short else MOST_DEARER
    say("ratio, median of rounds", f"{median(ratios):.3f} (bound: {most:g})")
    assert median(ratios) <= most


def know(gateway: SoakGateway, number: int, keys: list[str]) -> None:
    """Let the router of `gateway` start anew with so many tenants, the last ones of which hold `keys`."""
    gateway.router.stop()
    gateway.admin.stop()  # whose database has none of them, and would put the copy right
    with Redis.from_url(gateway.redis_url) as redis:
        assert TenantProjection(redis).replace(tenants(number, keys)) is not None
    gateway.start_router()
    wait_for(lambda: gateway.startupz() == 200, "the router to start", gateway.router)


def spent(gateway: SoakGateway, requests: list[bytes]) -> float:
    """Seconds of processor time of the router for `requests`."""
    process = psutil.Process(gateway.router.popen.pid)
    before = sum(process.cpu_times()[:2])
    for answer in uvloop.run(asked(gateway, requests)):
        assert answer.status == 200, answer.body
    return float(sum(process.cpu_times()[:2]) - before)


async def asked(gateway: SoakGateway, requests: list[bytes]) -> list[Answer]:
    """What is answered to `requests`, one after the other on one connection."""
    answers = []
    async with Connection(gateway.port) as connection:
        for request in requests:
            connection.write(request)
            answers.append(await connection.answer())
    return answers


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


def tenants(number: int, keys: list[str]) -> Iterator[Change]:
    """As the admin process projects them; the last ones hold `keys`."""
    for index in range(1, number + 1):
        document = {
            "name": f"tenant-{index:06d}",
            "limits": {"requests_per_minute": 600_000, "tokens_per_minute": 600_000_000},
            "priority": 4 + index % 3,
        }
        left = number - index
        digest = key_digest(keys[left]) if left < len(keys) else secrets.token_hex(32)
        held = [{"id": f"key-{index:016x}", "digest": digest}]
        yield Change(f"tenant-{index:06d}", index, encoded_entry(index, json.dumps(document), held))


def memory(pid: int) -> int:
    """Bytes that are the process's own."""
    return int(psutil.Process(pid).memory_full_info().uss)
