"""What a router makes of the projection: changes taken up, nonsense left out, nothing lost while Redis is away."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from pointsman.contracts.config import Config
from pointsman.router.policy_watch import MANY, PolicyWatch
from pointsman.router.snapshot import Snapshot, compile_snapshot
from pointsman.store.tenant_projection import encoded_entry

TENANTS = [f"t{number}" for number in range(2 * MANY)]


class Projection:
    """Stands in for Redis, as one that can't tell what has changed."""

    def __init__(self) -> None:
        self.entries_by_tenant: dict[str, bytes] = {}
        self.word = 0
        self.away = False
        self.read = 0
        self.written_meanwhile = False

    def put(self, tenant: str, document: object, version: int = 1) -> None:
        self.entries_by_tenant[tenant] = orjson.dumps({"version": version, "document": document})
        self.word += 1

    async def revision(self) -> str | None:
        if self.away:
            raise RedisConnectionError
        return str(self.word) if self.word else None

    async def changes(self, since: str, until: str) -> None:
        return None

    async def all(self) -> AsyncIterator[tuple[str, bytes]]:
        self.read += 1
        for item in list(self.entries_by_tenant.items()):
            yield item
        if self.written_meanwhile:
            self.word += 1


class Counting(Projection):
    """As one that can."""

    def __init__(self) -> None:
        super().__init__()
        self.changed: list[str] = []
        self.asked: list[set[str]] = []

    def put(self, tenant: str, document: object, version: int = 1) -> None:
        super().put(tenant, document, version)
        self.changed.append(tenant)

    async def changes(self, since: str, until: str) -> Any:
        return set(self.changed[int(since) : int(until)])

    async def some(self, names: set[str]) -> dict[str, bytes | None]:
        self.asked.append(names)
        return {name: self.entries_by_tenant.get(name) for name in names}


@pytest.fixture
def known(tmp_path: Path) -> Path:
    return tmp_path / "policies.json"


@pytest.fixture
def snapshot() -> Snapshot:
    return fresh_snapshot()


def fresh_snapshot() -> Snapshot:
    pool = {
        "name": "p",
        "model": "m",
        "modes": ["think"],
        "engine": "simulated",
        "prices": {"input": 1, "output": 1},
    }
    tenants = [{"name": name, "key_digests": [f"{number:064x}"]} for number, name in enumerate(TENANTS)]
    return compile_snapshot(Config.model_validate({"pools": [pool], "tenants": tenants}))


def thresholds(snapshot: Snapshot) -> dict[str, float]:
    return {view.name: view.policy.policy.threshold for view in snapshot.tenants.views.values()}


def test_what_changes_is_taken_up_and_nothing_else_is_compiled(snapshot: Snapshot, known: Path) -> None:
    projection = Projection()
    watch = PolicyWatch(projection, snapshot, known)  # type: ignore[arg-type]

    async def scenario() -> None:
        await watch.look()
        assert projection.read == 0
        for tenant in (*TENANTS, "a tenant of another configuration"):
            projection.put(tenant, {"policy": {"threshold": 0.25}})
        await watch.look()
        assert set(thresholds(snapshot).values()) == {0.25}
        views = {view.name: view.policy for view in snapshot.tenants.views.values()}
        assert views["t1"].version == "1"
        await watch.look()
        assert projection.read == 1
        projection.put("t0", {"policy": {"threshold": 0.75}}, version=2)
        await watch.look()
        now = {view.name: view.policy for view in snapshot.tenants.views.values()}
        assert [name for name in TENANTS if now[name] is not views[name]] == ["t0"]
        projection.put("t0", None, version=3)
        projection.put("t1", None, version=2)
        await watch.look()
        assert (thresholds(snapshot)["t0"], thresholds(snapshot)["t1"]) == (0.5, 0.5)
        assert {snapshot.tenants.views[name].policy.version for name in ("t0", "t1")} == {"0"}

    asyncio.run(scenario())


def test_of_many_policies_those_alone_are_read_that_have_changed(snapshot: Snapshot, known: Path) -> None:
    projection = Counting()
    watch = PolicyWatch(projection, snapshot, known)  # type: ignore[arg-type]
    for tenant in TENANTS:
        projection.put(tenant, {"policy": {"threshold": 0.25}})
    asyncio.run(watch.look())
    projection.put("t1", {"policy": {"threshold": 0.75}}, version=2)
    projection.put("t1", {"policy": {"threshold": 0.5}}, version=3)
    projection.put("t2", None, version=2)
    projection.put("t3", {"policy": {"threshold": 0.75}}, version=2)
    del projection.entries_by_tenant["t3"]  # lost: what it says can't be known
    asyncio.run(watch.look())
    assert (projection.read, projection.asked) == (1, [{"t1", "t2", "t3"}])
    found = thresholds(snapshot)
    assert [found[name] for name in ("t0", "t1", "t2", "t3")] == [0.25, 0.5, 0.5, 0.5]
    assert snapshot.tenants.named("t1").policy.version == "3"  # type: ignore[union-attr]


def test_nonsense_is_left_out_and_told_without_what_it_says(
    snapshot: Snapshot, known: Path, caplog: pytest.LogCaptureFixture
) -> None:
    projection = Projection()
    watch = PolicyWatch(projection, snapshot, known)  # type: ignore[arg-type]
    projection.put("t0", {"policy": {"threshold": 0.25}})
    asyncio.run(watch.look())
    for nonsense in (
        b'{"version":2,"document":{"policy":{"threshold":"SECRET"}}}',
        b'{"version":"SECRET","document":{}}',
        b"SECRET",
        b"[]",
        b"\xff",
    ):
        projection.entries_by_tenant["t0"] = nonsense
        projection.word += 1
        projection.put("t1", {"policy": {"threshold": 0.75}}, version=projection.word)
        with caplog.at_level(logging.INFO):
            asyncio.run(watch.look())
        assert thresholds(snapshot)["t0"] == 0.25
        assert thresholds(snapshot)["t1"] == 0.75
    assert caplog.text.count("the policy of t0 can't be read: the one before it holds on") == 5
    assert "SECRET" not in caplog.text


def test_the_policy_of_a_tenant_who_is_not_in_use_is_looked_at_when_he_is(
    snapshot: Snapshot, known: Path, caplog: pytest.LogCaptureFixture
) -> None:
    projection, tenants = Projection(), snapshot.tenants
    watch = PolicyWatch(projection, snapshot, known)  # type: ignore[arg-type]
    for name in ("early", "broken", "own"):
        tenants.take(name, encoded_entry(1, '{"name":"x","policy":{"threshold":0.125}}', []))
    projection.put("early", {"policy": {"threshold": 0.25}})
    projection.put("late", {"policy": {"threshold": 0.25}})
    projection.put("broken", {"policy": {"threshold": 0.25}})
    asyncio.run(watch.look())
    projection.put("broken", {"policy": {"threshold": "SECRET"}}, version=2)
    projection.put("own", {"policy": {"threshold": "SECRET"}}, version=2)
    asyncio.run(watch.look())
    assert not caplog.text
    tenants.take("late", encoded_entry(2, '{"name":"late"}', []))
    views = {name: tenants.named(name) for name in ("early", "late", "broken", "own")}
    found = {name: view.policy.policy.threshold for name, view in views.items() if view is not None}
    assert found == {"early": 0.25, "late": 0.25, "broken": 0.25, "own": 0.125}
    assert caplog.text.count("can't be read: the one before it holds") == 2
    assert "SECRET" not in caplog.text
    projection.put("early", None, version=2)
    del projection.entries_by_tenant["late"]
    asyncio.run(watch.look())
    assert [view.policy.policy.threshold for view in (views["early"], views["late"]) if view] == [0.125, 0.5]


def test_what_is_known_holds_while_redis_is_away_or_empty(snapshot: Snapshot, known: Path) -> None:
    projection = Projection()
    watch = PolicyWatch(projection, snapshot, known)  # type: ignore[arg-type]

    async def following() -> None:
        projection.put("t0", {"policy": {"threshold": 0.25}})
        await watch.begin()
        projection.away = True
        task = asyncio.create_task(watch.follow())
        await asyncio.sleep(0.01)
        projection.away = False
        projection.word, projection.entries_by_tenant = 0, {}
        await watch.look()
        assert thresholds(snapshot)["t0"] == 0.25
        projection.put("t1", {"policy": {"threshold": 0.75}})
        projection.word += 10
        projection.written_meanwhile = True
        await watch.look()  # what is not there may only not be there yet
        assert thresholds(snapshot)["t0"] == 0.25
        projection.written_meanwhile = False
        await watch.look()
        assert (thresholds(snapshot)["t0"], thresholds(snapshot)["t1"]) == (0.5, 0.75)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(following())


@pytest.mark.parametrize("empty", [True, False], ids=["empty", "away"])
def test_a_process_that_starts_without_redis_begins_with_what_was_known(
    snapshot: Snapshot, known: Path, empty: bool
) -> None:
    projection = Projection()
    projection.put("t0", {"policy": {"threshold": 0.25}}, version=7)
    projection.put("t1", None, version=2)
    projection.entries_by_tenant["t2"] = b"nonsense"
    asyncio.run(PolicyWatch(projection, snapshot, known).begin())  # type: ignore[arg-type]
    assert known.stat().st_mode & 0o777 == 0o600

    later = fresh_snapshot()
    projection.word, projection.away = 0, not empty
    watch = PolicyWatch(projection, later, known)  # type: ignore[arg-type]
    asyncio.run(watch.begin())
    versions = {name: view.policy.version for name, view in later.tenants.views.items()}
    assert {name: version for name, version in versions.items() if version != "0"} == {"t0": "7"}
    assert thresholds(later)["t0"] == 0.25
    projection.away, projection.entries_by_tenant = False, {}
    projection.word = 9
    asyncio.run(watch.look())
    assert thresholds(later)["t0"] == 0.5

    for broken in (b"", b"[1]", b'{"t0": 1}', b'{"t0": {"version": 1, "document": {"policy": 5}}}'):
        known.write_bytes(broken)
        projection.away = True
        asyncio.run(PolicyWatch(projection, fresh_snapshot(), known).begin())  # type: ignore[arg-type]


def test_streams_go_on_while_many_policies_are_taken_up(snapshot: Snapshot, known: Path) -> None:
    projection = Projection()
    for tenant in TENANTS:
        projection.put(tenant, {"policy": {"threshold": 0.25}})
    turns = 0

    async def scenario() -> None:
        async def stream() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        streaming = asyncio.create_task(stream())
        await PolicyWatch(projection, snapshot, known).look()  # type: ignore[arg-type]
        streaming.cancel()

    asyncio.run(scenario())
    assert turns >= len(TENANTS)
    assert gc.isenabled()
