"""Tenants and keys that come and go: whose key opens what at each moment, and what is made of an entry when."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.config import Config
from pointsman.contracts.errors import KeyOutOfScope, Unauthenticated
from pointsman.contracts.keys import Role
from pointsman.contracts.modes import Mode
from pointsman.contracts.policies import PolicyDocument
from pointsman.contracts.tenants import new_key
from pointsman.router.key_scope import Scope
from pointsman.router.policies import compile_policy
from pointsman.router.tenant_view import TenantView
from pointsman.router.tenants import Key, Tenants
from pointsman.store.tenant_projection import encoded_entry

KEYS = [new_key() for _ in range(6)]
NAMES = ("a", "b", "c")
OWN_ADMIN = bytes(31) + b"\1"


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def tenants_of(*configured: dict[str, Any]) -> Tenants:
    pools = [
        {
            "name": f"{model}-{mode}",
            "model": model,
            "modes": [mode],
            "engine": "simulated",
            "prices": {"input": 1, "output": 1},
        }
        for model, mode in (("m", "think"), ("m", "no_think"), ("fast", "no_think"))
    ]
    router = {"admin_key_digests": [OWN_ADMIN.hex()]}
    return Tenants(Config.model_validate({"pools": pools, "tenants": configured, "router": router}))


def entry(version: int, tenant: dict[str, Any] | str | None, *keys: str, **scope: Any) -> bytes:
    """An entry of the projection; `tenant`: its fields but for the name, `file`, or None: it is deleted."""
    document = {"name": "x", **tenant} if isinstance(tenant, dict) else tenant
    text = json.dumps(document) if isinstance(document, dict) else document
    made = [{"id": f"key-{key[-8:]}", "digest": digest(key).hex(), **scope} for key in keys]
    return encoded_entry(version, text, made)


def show(tenants: Tenants, key: str) -> Key | None:
    try:
        return tenants.show(key.encode(), digest(key))
    except Unauthenticated:
        return None


def test_a_tenant_is_made_when_a_key_of_his_is_shown() -> None:
    tenants = tenants_of()
    told: list[tuple[str, int, bool]] = []

    def listen(view: TenantView) -> None:
        told.append((view.name, view.priority, view.gone))

    tenants.listen(listen)
    tenants.take("a", entry(1, {"priority": 7, "models": ["fast", "gone"]}, KEYS[0], KEYS[1]))
    tenants.take("b", entry(2, {"priority": 7, "models": ["fast", "gone"]}, KEYS[2]))
    assert (tenants.views, told) == ({}, [])
    first, second, other = (show(tenants, key) for key in KEYS[:3])
    assert first is not None
    assert second is not None
    assert other is not None
    assert (first.tenant.name, other.tenant.name, set(first.tenant.models)) == ("a", "b", {"fast"})
    assert first.tenant is second.tenant
    assert first.tenant.cache_salt != other.tenant.cache_salt
    assert first.tenant.policy is other.tenant.policy  # of one kind: compiled once
    assert told == [("a", 7, False), ("b", 7, False)]
    tenants.take("a", entry(3, {"priority": 2}, KEYS[0]))
    assert (first.tenant.priority, other.tenant.priority) == (2, 7)
    assert set(first.tenant.models) == {"m", "fast"}
    assert show(tenants, KEYS[1]) is None  # revoked
    tenants.take("b", entry(4, None))
    assert other.tenant.gone
    assert show(tenants, KEYS[2]) is None
    assert tenants.named("b") is None
    assert told[2:] == [("a", 2, False), ("b", 7, True)]


def test_a_policy_of_the_admin_api_goes_before_the_documents_own() -> None:
    tenants = tenants_of()
    of_api = compile_policy(PolicyDocument.model_validate({"policy": {"threshold": 0.9}}), version="3")
    tenants.policy_of = {"a": of_api}.get
    tenants.take("a", entry(1, {"policy": {"threshold": 0.1}}, KEYS[0]))
    tenants.take("b", entry(2, {"policy": {"threshold": 0.1}}, KEYS[1]))
    view, other = tenants.named("a"), tenants.named("b")
    assert view is not None
    assert other is not None
    tenants.take("a", entry(3, {"policy": {"threshold": 0.2}}, KEYS[0]))
    tenants.take("b", entry(4, {"policy": {"threshold": 0.2}}, KEYS[1]))
    assert (view.policy, other.policy.policy.threshold) == (of_api, 0.2)
    assert view.own is other.own


def test_the_configuration_wins() -> None:
    tenants = tenants_of({"name": "a", "key_digests": [digest(KEYS[0]).hex()], "priority": 9})
    view = tenants.views["a"]
    tenants.take("a", entry(1, {"priority": 1}, KEYS[0], KEYS[1]))
    tenants.take("b", entry(2, "file", KEYS[2]))
    assert (view.priority, show(tenants, KEYS[1])) == (9, Key(view, None))
    assert show(tenants, KEYS[2]) is None  # a tenant of a configuration that is not this one
    tenants.take("a", entry(3, "file"))
    assert (show(tenants, KEYS[0]), show(tenants, KEYS[1])) == (Key(view, None), None)
    tenants.take("a", None)
    assert (show(tenants, KEYS[0]), view.gone) == (Key(view, None), False)
    assert tenants.admins == {OWN_ADMIN: Role.OWNER}
    tenants.take_admins({bytes(32): Role.VIEWER, OWN_ADMIN: Role.VIEWER})
    assert tenants.admins == {OWN_ADMIN: Role.OWNER, bytes(32): Role.VIEWER}


@pytest.mark.parametrize(
    "broken",
    [
        b"SECRET",
        b"5",
        b'{"version":"SECRET","tenant":null,"keys":[]}',
        b'{"version":9,"tenant":{"SECRET":1},"keys":[]}',
        b'{"version":9,"tenant":{"priority":"SECRET"},"keys":[null]}',
    ],
)
def test_nonsense_is_left_out_and_told_without_what_it_says(
    broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    tenants = tenants_of()
    tenants.take("a", entry(1, {"priority": 7}, KEYS[0]))
    view = tenants.named("a")
    assert view is not None
    tenants.take("a", broken)
    tenants.take("b", broken)
    assert (view.priority, view.gone, tenants.named("b")) == (7, False, None)
    assert "the tenant a can't be read" in caplog.text
    assert "SECRET" not in caplog.text


def test_a_key_whose_scope_makes_no_sense_opens_nothing(caplog: pytest.LogCaptureFixture) -> None:
    tenants = tenants_of()
    for number, scope in enumerate(({"networks": ["10.0.0.0/99"]}, {"modes": ["ponder"]}, {"expires_at": "soon"})):
        tenants.take("a", entry(number + 1, {}, KEYS[0], **scope))
        with caplog.at_level(logging.ERROR):
            assert show(tenants, KEYS[0]) is None
    assert caplog.text.count("a key of the tenant a can't be read") == 3


def test_a_misspelled_key_is_told_apart_and_looked_up_nowhere() -> None:
    tenants = tenants_of()
    tenants.take("a", entry(1, {}, KEYS[0]))
    misspelled = KEYS[0][:-1] + ("A" if KEYS[0][-1] != "A" else "B")
    for key in (misspelled, "pk-", "", "sk-" + KEYS[0][3:], "pk-é"):
        tenants._owners[hashlib.sha256(key.encode("latin-1")).digest()] = "a"  # even if somebody had it
        with pytest.raises(Unauthenticated, match="misspelled"):
            tenants.show(key.encode("latin-1"), hashlib.sha256(key.encode("latin-1")).digest())
    with pytest.raises(Unauthenticated, match="not known"):
        tenants.show(KEYS[1].encode(), digest(KEYS[1]))


class World:
    """What a hash of entries means: the truth that `Tenants` is compared with."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[int, bool, frozenset[str]]] = {}

    def owner(self, key: str) -> str | None:
        for name, (_, exists, keys) in self.entries.items():
            if exists and key in keys:
                return name
        return None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(NAMES),
            st.integers(1, 9),
            st.booleans(),
            st.frozensets(st.integers(0, 1), max_size=2),
            st.booleans(),
        ),
        max_size=25,
    )
)
def test_a_key_opens_what_the_newest_entry_says(changes: list[tuple[str, int, bool, frozenset[int], bool]]) -> None:
    tenants, world = tenants_of(), World()
    views: dict[str, TenantView] = {}
    for name, version, exists, numbers, anew in changes:
        keys = frozenset(KEYS[2 * NAMES.index(name) + number] for number in numbers)
        if version >= world.entries.get(name, (0,))[0] or anew:
            world.entries[name] = (version, exists, keys)
        made = entry(version, {} if exists else None, *sorted(keys) if exists else ())
        tenants.take(name, made, anew=anew)
        for key in KEYS:
            found = show(tenants, key)
            assert (None if found is None else found.tenant.name) == world.owner(key)
            if found is not None:
                known = views.setdefault(found.tenant.name, found.tenant)
                assert known is found.tenant or known.gone
                views[found.tenant.name] = found.tenant


def refused(check: Callable[[], None]) -> type[Exception] | None:
    try:
        check()
    except (Unauthenticated, KeyOutOfScope) as error:
        return type(error)
    return None


@pytest.mark.parametrize(
    ("scope", "path", "peer", "error"),
    [
        ({"expires_at": 0.0}, "/v1/models", "10.0.0.1", Unauthenticated),
        ({"expires_at": 1e11}, "/v1/models", "10.0.0.1", None),
        ({"networks": ["10.0.0.0/8", "2001:db8::/32"]}, "/v1/models", "10.200.0.1", None),
        ({"networks": ["10.0.0.0/8", "2001:db8::/32"]}, "/v1/models", "::ffff:10.200.0.1", None),
        ({"networks": ["10.0.0.0/8", "2001:db8::/32"]}, "/v1/models", "2001:db8::5", None),
        ({"networks": ["10.0.0.0/8", "2001:db8::/32"]}, "/v1/models", "11.0.0.1", KeyOutOfScope),
        ({"networks": ["10.0.0.0/8"]}, "/v1/models", "::ffff:11.0.0.1", KeyOutOfScope),
        ({"networks": ["0.0.0.0/0", "::/0"]}, "/v1/models", "", KeyOutOfScope),
        ({"endpoints": ["/v1/models"]}, "/v1/models", "10.0.0.1", None),
        ({"endpoints": ["/v1/models"]}, "/v1/models/m", "10.0.0.1", None),
        ({"endpoints": ["/v1/models"]}, "/v1/modelship", "10.0.0.1", KeyOutOfScope),
        ({"endpoints": ["/v1/models"]}, "/v1/chat/completions", "10.0.0.1", KeyOutOfScope),
    ],
)
def test_what_a_key_is_limited_to(
    scope: dict[str, Any], path: str, peer: str, error: type[Exception] | None
) -> None:
    limits = Scope(**scope)
    for _ in range(2):  # the second time it is remembered
        assert refused(lambda: limits.check(path, peer)) is error


def test_modes_and_models_of_a_key() -> None:
    models = tenants_of()._models
    scope = Scope(models=["m"], modes=["no_think"])
    assert (scope.allows_model("m"), scope.allows_model("fast")) == (True, False)
    assert scope.offered(models["m"]) == {Mode.NO_THINK}
    assert Scope(modes=["think"]).offered(models["fast"]) == set()
    assert Scope().offered(models["m"]) == set(Mode)
