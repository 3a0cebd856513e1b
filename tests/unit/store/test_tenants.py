"""Tenants, keys and the audit log in SQL: numbered changes, one of two writers, no change without its record."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from pointsman.contracts.config import Tenant
from pointsman.contracts.keys import KeyScope, Role
from pointsman.contracts.tenants import key_digest, new_key
from pointsman.store import keys
from pointsman.store.audit import AuditLog
from pointsman.store.database import Database
from pointsman.store.keys import KeyConflict, KeyRow, KeyStore, TooManyKeys
from pointsman.store.tenant_changes import TenantChanges
from pointsman.store.tenant_projection import OF_FILE, tenant_entry
from pointsman.store.tenants import TenantConflict, TenantStore


class Stores:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.audit = AuditLog(database)
        self.tenants = TenantStore(database, self.audit)
        self.keys = KeyStore(database, self.audit)
        self.changes = TenantChanges(database)

    def tenant(self, name: str, *, after: int = 0) -> None:
        self.tenants.write(name, Tenant(name=name), after=after, by="a", managed_by="api")

    def key(self, tenant: str | None, *, role: Role | None = None, expires_at: int | None = None) -> KeyRow:
        return self.keys.create(
            key_digest(new_key()),
            tenant=tenant,
            role=role,
            label="",
            scope=KeyScope(),
            expires_at=expires_at,
            by="a",
        )

    def projected(self, tenant: str) -> tuple[object, set[str]]:
        change = self.changes.entry(tenant)
        assert change is not None
        entry = tenant_entry(change.entry)
        assert entry.version == change.version
        return entry.tenant, {key.id for key in entry.keys}


@pytest.fixture
def stores(database: Database) -> Stores:
    return Stores(database)


def test_each_change_has_the_next_number(stores: Stores) -> None:
    assert stores.changes.newest() == 0
    stores.tenant("b")
    stores.tenant("a.b")
    stores.tenant("a-b")
    key = stores.key("b")
    stores.key("of-file")
    admin = stores.key(None, role=Role.VIEWER)
    assert stores.changes.newest() == 6
    assert dict(stores.changes.versions()) == {"b": 4, "a.b": 2, "a-b": 3, "of-file": 5}
    assert {change.name: change.version for change in stores.changes.since(3)} == {"b": 4, "of-file": 5}
    assert {change.name for change in stores.changes.all()} == {"b", "a.b", "a-b", "of-file"}
    assert stores.projected("b") == ({"name": "b"}, {key.id})
    assert stores.projected("of-file")[0] == OF_FILE
    assert [row.name for row in stores.tenants.page(limit=9)] == ["a-b", "a.b", "b"]  # by bytes, on either database
    assert [row.name for row in stores.tenants.page(limit=1, after="a-b", prefix="a")] == ["a.b"]
    assert [row.id for row in stores.keys.admin_keys()] == [admin.id]
    stores.keys.revoke(admin, by="a")
    assert stores.keys.admin_keys() == []


def test_a_change_that_is_refused_leaves_nothing(stores: Stores) -> None:
    stores.tenant("a")
    key = stores.key("a")
    before = (stores.changes.newest(), stores.audit.page(limit=99))
    for after in (0, 2):
        with pytest.raises(TenantConflict):
            stores.tenant("a", after=after)
    stale = KeyRow(**{**{name: getattr(key, name) for name in key.__slots__}, "version": 7})
    with pytest.raises(KeyConflict):
        stores.keys.revoke(stale, by="a")
    with pytest.raises(KeyConflict):
        stores.keys.rotate(stale, "0" * 64, until=0, expires_at=None, by="a")
    assert (stores.changes.newest(), stores.audit.page(limit=99)) == before
    assert stores.projected("a") == ({"name": "a"}, {key.id})


def test_of_many_writers_each_number_goes_to_one(stores: Stores) -> None:
    stores.tenant("shared")
    together = threading.Barrier(8)

    def write(number: int) -> bool:
        together.wait()
        stores.key(f"of-file-{number}")
        try:
            stores.tenant("shared", after=1)
        except TenantConflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write, range(8)))
    assert sum(won) == 1
    numbers = [number for _, number in stores.changes.versions()]
    assert len(set(numbers)) == len(numbers) == 9
    assert stores.changes.newest() == 10
    assert len(stores.audit.page(limit=99, object="tenant:shared")) == 2


def test_who_is_deleted_takes_its_keys_along(stores: Stores) -> None:
    stores.tenant("a")
    stores.key("a")
    stores.tenants.write("a", None, after=1, by="b", managed_by="api")
    assert stores.projected("a") == (None, set())
    with pytest.raises(KeyConflict):
        stores.key("a")
    assert stores.keys.live_counts(["a"]) == {}
    stores.tenant("a", after=2)
    assert stores.projected("a") == ({"name": "a"}, set())
    rows = stores.audit.page(limit=9, object="tenant:a")
    assert [(row.action, row.actor) for row in rows] == [
        ("tenants.create", "a"),
        ("tenants.delete", "b"),
        ("tenants.create", "a"),
    ]
    assert (rows[1].before, rows[1].after) == (json.dumps({"name": "a"}, separators=(",", ":")), None)


def test_rotation_ends_the_old_key_at_the_overlap_or_before(stores: Stores) -> None:
    soon, late = 4_000_000_000_000, 5_000_000_000_000  # milliseconds: in 2096 and in 2128
    for expires, until, end in ((None, soon, soon), (soon, late, soon), (late, soon, soon)):
        key = stores.key("t", expires_at=expires)
        new, old = stores.keys.rotate(key, key_digest(new_key()), until=until, expires_at=late, by="a")
        assert (old.expires_at, old.replaced_by, new.replaces, new.expires_at) == (end, new.id, key.id, late)
        assert {new.id, old.id} <= stores.projected("t")[1]
    past = stores.key("t", expires_at=1)
    assert past.id not in stores.projected("t")[1]


def test_a_tenant_has_so_many_keys_and_no_more(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "MOST_LIVE", 3)
    stores.key("t", expires_at=1)
    first, *_ = [stores.key("t") for _ in range(3)]
    with pytest.raises(TooManyKeys):
        stores.key("t")
    with pytest.raises(TooManyKeys):
        stores.keys.rotate(first, key_digest(new_key()), until=4_000_000_000_000, expires_at=None, by="a")
    stores.key("other")
    stores.key(None, role=Role.OWNER)
    stores.keys.rotate(first, key_digest(new_key()), until=0, expires_at=None, by="a")
    assert stores.keys.live_counts(["t"]) == {"t": 3}


def test_audit_rows_are_found_by_what_they_say(stores: Stores) -> None:
    def failing() -> None:
        with stores.database.writing() as connection:
            stores.audit.record(actor="a", action="x.y", object="z", connection=connection)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert stores.audit.page(limit=9) == []  # it was part of what did not happen
    for number in range(5):
        stores.audit.record(actor=f"a{number % 2}", action="x.y", object=f"o:{number}", after={"n": number})
    assert [row.object for row in stores.audit.page(limit=9, actor="a1")] == ["o:3", "o:1"]
    newest, *_ = stores.audit.page(limit=1)
    assert [row.object for row in stores.audit.page(limit=2, before=newest.id)] == ["o:3", "o:2"]
    assert stores.audit.page(limit=9, since=newest.at + 60_000) == []
    assert len(stores.audit.page(limit=9, until=newest.at + 1, action="x.y")) == 5
    with stores.database.reading() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM audit")) == 5
