"""Tenants and keys that are made while the gateway runs: by whom, for what, how long, and what is left of it."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from typer.testing import CliRunner, Result

from pointsman.cli import keys, tenants
from pointsman.cli.main import app
from pointsman.contracts.keys import Role
from pointsman.contracts.names import Env, RedisKey
from pointsman.contracts.tenants import is_well_formed, key_digest
from pointsman.store.tenant_projection import TenantProjection, tenant_entry
from support.gateway import Gateway, wait_for
from support.policies import within

LATER = 60.0
"""Seconds for what is not measured, on a busy machine."""

ACME = {"name": "acme", "models": ["smollm2"], "limits": {"requests_per_minute": 600}, "priority": 7}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gw"), tenants=({"name": "demo"}, {"name": "other"})) as gateway:
        with Redis.from_url(gateway.redis_url) as redis:
            wait_for(lambda: redis.exists(RedisKey.TENANTS_REVISION), "the projection", gateway.admin)
        yield gateway


def admin(gateway: Gateway, method: str, path: str, *, key: str | None = None, **options: Any) -> httpx.Response:
    """One request below `/admin/v1`, with the file's admin key."""
    headers = {"authorization": f"Bearer {key or gateway.admin_key}", **options.pop("headers", {})}
    return httpx.request(method, f"{gateway.url}/admin/v1{path}", headers=headers, timeout=30, **options)


def refused(gateway: Gateway, method: str, path: str, **options: Any) -> tuple[int, str, str | None]:
    answer = admin(gateway, method, path, **options)
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


def make_key(gateway: Gateway, **fields: Any) -> dict[str, Any]:
    answer = admin(gateway, "POST", "/keys", json=fields)
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    made: dict[str, Any] = answer.json()
    assert is_well_formed(made["key"])
    assert key_digest(made["key"]) == made["digest"]
    return made


def models(gateway: Gateway, key: str) -> int:
    return httpx.get(f"{gateway.url}/v1/models", headers={"authorization": f"Bearer {key}"}, timeout=30).status_code


def answers(redis: Redis) -> bool:
    with contextlib.suppress(RedisConnectionError):
        return bool(redis.ping())
    return False


def audited(gateway: Gateway, thing: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = admin(gateway, "GET", "/audit", params={"object": thing}).json()["data"]
    return rows


def test_a_tenant_from_its_making_to_its_end(gateway: Gateway) -> None:
    made = admin(gateway, "POST", "/tenants", json=ACME)
    assert (made.status_code, made.headers["etag"], made.headers["location"]) == (
        201,
        '"1"',
        "/admin/v1/tenants/acme",
    )
    assert (made.json()["document"], made.json()["managed_by"], made.json()["live"]) == (ACME, "api", True)
    assert refused(gateway, "POST", "/tenants", json=ACME) == (409, "already_exists", "name")
    changed = {**ACME, "budgets": {"daily": {"hard_usd": "12.5"}}}
    assert refused(gateway, "PUT", "/tenants/acme", json=changed) == (428, "precondition_required", None)
    put = admin(gateway, "PUT", "/tenants/acme", json=changed, headers={"if-match": '"1"'})
    assert (put.status_code, put.headers["etag"], put.json()["document"]) == (200, '"2"', changed)
    late = refused(gateway, "PUT", "/tenants/acme", json=ACME, headers={"if-match": '"1"'})
    assert late == (412, "precondition_failed", None)
    full = admin(gateway, "GET", "/tenants/acme", params={"defaults": True}).json()["document"]
    assert (full["weight"], full["policy"]["threshold"], "key_digests" in full) == (1.0, 0.5, False)

    policy = {"policy": {"threshold": 0.25}}
    assert admin(gateway, "PUT", "/policies/acme", json=policy).status_code == 200
    assert admin(gateway, "GET", "/policies/acme").json()["document"] == policy
    key = make_key(gateway, tenant="acme", label="ci")
    within(LATER, lambda: models(gateway, key["key"]) == 200)
    assert admin(gateway, "GET", "/tenants/acme").json()["keys"] == 1

    assert refused(gateway, "DELETE", "/tenants/acme", headers={"if-match": '"1"'})[0] == 412
    assert admin(gateway, "DELETE", "/tenants/acme", headers={"if-match": '"2"'}).status_code == 204
    assert refused(gateway, "GET", "/tenants/acme") == (404, "tenant_not_found", None)
    assert refused(gateway, "GET", "/policies/acme") == (404, "tenant_not_found", None)
    within(LATER, lambda: models(gateway, key["key"]) == 401)
    assert admin(gateway, "GET", f"/keys/{key['id']}").json()["state"] == "revoked"
    assert refused(gateway, "POST", "/keys", json={"tenant": "acme"})[1] == "tenant_not_found"
    again = admin(gateway, "POST", "/tenants", json=ACME).json()["error"]  # bills go by names
    assert (again["code"], 'If-Match: "3"' in again["message"]) == ("already_exists", True)
    back = admin(gateway, "PUT", "/tenants/acme", json=ACME, headers={"if-match": '"3"'})
    assert (back.status_code, back.json()["version"], back.json()["keys"]) == (200, 4, 0)
    assert admin(gateway, "GET", "/policies/acme").json()["version"] == 0  # not that of its former life

    rows = audited(gateway, "tenant:acme")
    assert [row["action"] for row in rows] == ["tenants.create", "tenants.delete", "tenants.put", "tenants.create"]
    assert (rows[2]["before"], rows[2]["after"]) == (ACME, changed)
    assert all(row["actor"] == f"admin key {key_digest(gateway.admin_key)[:8]}" for row in rows)
    assert [row["action"] for row in audited(gateway, "policy:acme")] == ["policies.delete", "policies.put"]


def test_a_manager_and_the_object_it_made_a_tenant_of(gateway: Gateway) -> None:
    """What a writer looks after is changed by that writer alone, and of the one object that it was made of."""
    mine = {"manager": "kubernetes", "origin": "team-a/shop"}
    made = admin(gateway, "PUT", "/tenants/shop", json={}, params=mine)
    assert (made.status_code, made.json()["managed_by"], made.json()["origin"]) == (
        200,
        "kubernetes",
        "team-a/shop",
    )
    theirs = {"manager": "kubernetes", "origin": "team-b/shop"}
    now = {"if-match": made.headers["etag"]}
    for wrong in ({}, {"manager": "terraform"}, {"manager": "kubernetes"}, theirs):
        managed = (409, "managed_elsewhere", None)
        assert refused(gateway, "PUT", "/tenants/shop", json={}, params=wrong, headers=now) == managed
        assert refused(gateway, "DELETE", "/tenants/shop", params=wrong) == managed
    took = admin(gateway, "PUT", "/tenants/shop", json={}, params={"take_from": "kubernetes"}, headers=now)
    assert (took.json()["managed_by"], took.json()["origin"]) == ("api", None)
    given = {**mine, "take_from": "api"}
    now = {"if-match": took.headers["etag"]}
    assert (
        admin(gateway, "PUT", "/tenants/shop", json={}, params=given, headers=now).json()["origin"] == "team-a/shop"
    )

    policy = {"policy": {"threshold": 0.25}, "candidate": {"policy": {"threshold": 0.5}, "stage": "canary"}}
    assert admin(gateway, "PUT", "/policies/shop", json=policy, params={"manager": "kubernetes"}).status_code == 200
    assert admin(gateway, "PUT", "/policies/other", json=policy).json()["managed_by"] == "api"
    for method, path, body in (
        ("PUT", "", policy),
        ("DELETE", "", None),
        ("POST", "/stage", {"stage": "enforce"}),
        ("POST", "/promote", None),
    ):
        refusal = refused(gateway, method, f"/policies/shop{path}", json=body, headers={"if-match": '"1"'})
        assert refusal == (409, "managed_elsewhere", None), (method, path)
    moved = admin(
        gateway, "POST", "/policies/shop/stage", json={"stage": "enforce"}, params={"manager": "kubernetes"}
    )
    assert (moved.json()["version"], moved.json()["managed_by"]) == (2, "kubernetes")
    listed = admin(gateway, "GET", "/policies", params={"managed_by": "kubernetes"}).json()
    assert [(one["tenant"], one["version"]) for one in listed["data"]] == [("shop", 2)]
    first = admin(gateway, "GET", "/policies", params={"limit": 1}).json()
    second = admin(gateway, "GET", "/policies", params={"limit": 1, "after": first["after"]}).json()
    assert [page["data"][0]["tenant"] for page in (first, second)] == ["other", "shop"]
    assert second["after"] is None
    assert admin(gateway, "DELETE", "/policies/other").json()["managed_by"] is None

    digest = key_digest("a key that they have already")
    known = admin(gateway, "POST", "/keys", json={"tenant": "shop", "digest": digest, "label": "old"}).json()
    assert (known["digest"], "key" in known) == (digest, False)
    assert refused(gateway, "POST", "/keys", json={"tenant": "shop", "digest": digest})[1:] == (
        "already_exists",
        "digest",
    )
    of_file = {"tenant": "shop", "digest": key_digest(gateway.admin_key)}
    assert refused(gateway, "POST", "/keys", json=of_file) == (400, "invalid_value", "digest")
    narrower = {"overlap": 0, "scope": {"modes": ["no_think"]}}
    rotated = admin(gateway, "POST", f"/keys/{known['id']}/rotate", json=narrower).json()
    assert (rotated["label"], rotated["scope"]["modes"], len(rotated["key"])) == ("old", ["no_think"], 52)
    wrong_scope = {"scope": {"models": ["nobody/answers-this"]}}
    assert refused(gateway, "POST", f"/keys/{rotated['id']}/rotate", json=wrong_scope)[2] == "models[0]"
    live = admin(gateway, "GET", "/keys", params={"tenant": "shop", "live": True}).json()["data"]
    assert [one["id"] for one in live] == [rotated["id"]]

    assert admin(gateway, "DELETE", "/tenants/shop", params=mine).status_code == 204
    assert (
        refused(gateway, "PUT", "/tenants/shop", json={}, params={**theirs, "revive": True})[1] == "already_exists"
    )
    assert refused(gateway, "PUT", "/tenants/shop", json={}, params={"revive": True})[1] == "already_exists"
    back = admin(gateway, "PUT", "/tenants/shop", json={}, params={**mine, "revive": True}).json()
    assert (back["version"], back["keys"], back["origin"]) == (5, 0, "team-a/shop")
    assert admin(gateway, "DELETE", "/tenants/shop", params=mine).status_code == 204


def test_what_is_no_tenant_and_who_may_not_change_one(gateway: Gateway) -> None:
    for body, field in (
        ({"name": "Bad Name"}, "name"),
        ({"name": "a", "limits": {"requests_per_minute": 0}}, "limits.requests_per_minute"),
        ({"name": "a", "budgets": {"daily": {"hard_usd": -1}}}, "budgets.daily.hard_usd"),
        ({"name": "a", "budgets": {"monthly": {"hard_usd": 1, "soft_usd": 2}}}, "budgets.monthly"),
        ({"name": "a", "limit": {}}, "limit"),
        ({"name": "a", "key_digests": ["0" * 64]}, "key_digests"),
        ({"name": "a", "models": ["smollm2", "gpt"]}, "models[1]"),
        ({"models": []}, "name"),
    ):
        assert refused(gateway, "POST", "/tenants", json=body) == (400, "invalid_value", field)
    assert refused(gateway, "POST", "/tenants", content=b"{") == (400, "invalid_json", None)
    assert refused(gateway, "POST", "/tenants", content=b" " * 1_100_000)[0] == 413
    assert refused(gateway, "PUT", "/tenants/a", json={"name": "b"}) == (400, "invalid_value", "name")
    assert refused(gateway, "GET", "/tenants/a")[0] == 404  # nothing of all that was written
    for method, path in (("PUT", "/tenants/demo"), ("DELETE", "/tenants/demo")):
        assert refused(gateway, method, path, json={"name": "demo"}) == (409, "managed_elsewhere", None)
    shown = admin(gateway, "GET", "/tenants/demo").json()
    assert (shown["managed_by"], shown["version"], shown["document"]) == ("file", 0, {"name": "demo"})

    by_operator: dict[str, Any] = {"params": {"manager": "kubernetes"}}
    made = admin(gateway, "PUT", "/tenants/from-k8s", json={}, **by_operator)
    assert (made.status_code, made.json()["managed_by"]) == (200, "kubernetes")
    tag: dict[str, Any] = {"headers": {"if-match": '"1"'}}
    assert refused(gateway, "PUT", "/tenants/from-k8s", json={"weight": 2.0}, **tag)[1] == "managed_elsewhere"
    assert refused(gateway, "DELETE", "/tenants/from-k8s")[1] == "managed_elsewhere"
    assert admin(gateway, "PUT", "/tenants/from-k8s", json={"weight": 2.0}, **tag, **by_operator).is_success
    assert refused(gateway, "PUT", "/tenants/x", json={}, params={"manager": "file"})[2] == "manager"


def test_tenants_page_by_page(gateway: Gateway) -> None:
    made = [f"page-{number:02}" for number in range(7)]
    for name in made:
        assert admin(gateway, "POST", "/tenants", json={"name": name}).is_success
    found: list[str] = []
    after = None
    while True:
        page = admin(gateway, "GET", "/tenants", params={"limit": 3, **({"after": after} if after else {})}).json()
        found += [one["name"] for one in page["data"]]
        after = page["after"]
        if after is None:
            break
    assert found == sorted(found)
    assert {*made, "demo", "other"} <= set(found)
    some = admin(gateway, "GET", "/tenants", params={"prefix": "page-0", "limit": 7}).json()
    assert ([one["name"] for one in some["data"]], some["after"]) == (made, None)
    of_file = admin(gateway, "GET", "/tenants", params={"managed_by": "file"}).json()
    assert [one["name"] for one in of_file["data"]] == ["demo", "other"]


def test_keys_that_are_no_keys(gateway: Gateway) -> None:
    for body, field in (
        ({}, "tenant"),
        ({"tenant": "demo", "role": "owner"}, "tenant"),
        ({"tenant": "demo", "models": ["gpt"]}, "models[0]"),
        ({"tenant": "demo", "models": []}, "models"),
        ({"tenant": "demo", "modes": ["fast"]}, "modes.0"),
        ({"tenant": "demo", "endpoints": ["/admin"]}, "endpoints.0"),
        ({"tenant": "demo", "networks": ["10.0.0.1/8"]}, "networks.0"),
        ({"tenant": "demo", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"tenant": "demo", "expires_at": "2120-01-01T00:00:00Z"}, "expires_at"),
        ({"tenant": "demo", "expires_in": 0}, "expires_in"),
        ({"tenant": "demo", "expires_in": True}, "expires_in"),
        ({"tenant": "demo", "expires_in": 5, "expires_at": "2030-01-01T00:00:00Z"}, "expires_in"),
        ({"tenant": "demo", "scopes": []}, "scopes"),
        ({"role": "viewer", "models": ["smollm2"]}, "models"),
        ({"role": "root"}, "role"),
    ):
        assert refused(gateway, "POST", "/keys", json=body) == (400, "invalid_value", field), body
    assert refused(gateway, "POST", "/keys", json={"tenant": "nobody"})[1] == "tenant_not_found"
    assert refused(gateway, "GET", f"/keys/key-{'0' * 16}") == (404, "key_not_found", None)


def test_a_key_is_rotated_with_an_overlap_and_revoked(gateway: Gateway) -> None:
    first = make_key(gateway, tenant="other", label="batch", expires_in=3600, networks=["127.0.0.0/8", "::1"])
    assert models(gateway, first["key"]) == 200
    answer = admin(gateway, "POST", f"/keys/{first['id']}/rotate", json={"overlap": 5})
    turned = time.time()
    second = answer.json()
    assert answer.status_code == 201
    assert (second["replaces"], second["scope"], second["label"]) == (first["id"], first["scope"], "batch")
    assert second["replaced"]["replaced_by"] == second["id"]
    assert refused(gateway, "POST", f"/keys/{first['id']}/rotate") == (409, "key_ended", None)
    assert (models(gateway, first["key"]), models(gateway, second["key"])) == (200, 200)
    within(LATER, lambda: models(gateway, first["key"]) == 401)
    assert time.time() - turned > 1
    assert models(gateway, second["key"]) == 200

    revoked = admin(gateway, "DELETE", f"/keys/{second['id']}").json()
    assert (revoked["state"], "key" in revoked) == ("revoked", False)
    assert models(gateway, second["key"]) == 401
    assert admin(gateway, "DELETE", f"/keys/{second['id']}").json()["revoked_at"] == revoked["revoked_at"]
    assert refused(gateway, "POST", f"/keys/{second['id']}/rotate")[1] == "key_ended"
    assert [row["action"] for row in audited(gateway, f"key:{second['id']}")] == ["keys.revoke", "keys.rotate"]
    shown = admin(gateway, "GET", "/keys", params={"tenant": "other"}).text
    with Redis.from_url(gateway.redis_url) as redis:
        projected = redis.hget(RedisKey.TENANTS, "other")
    for key in (first["key"], second["key"]):
        assert key not in shown + gateway.logs() + str(projected) + admin(gateway, "GET", "/audit").text
        assert key.encode() not in b"".join(file.read_bytes() for file in gateway.state.glob("pointsman.db*"))


def test_scopes_hold_in_the_admin_process_too(gateway: Gateway) -> None:
    def said(key: dict[str, Any], path: str = "/v1/models") -> tuple[int, Any]:
        answer = httpx.get(gateway.url + path, headers={"authorization": f"Bearer {key['key']}"}, timeout=30)
        return answer.status_code, answer.json().get("error", {}).get("code")

    far = make_key(gateway, tenant="demo", networks=["192.0.2.0/24", "2001:db8::/32"])
    assert said(far) == (403, "key_out_of_scope")
    one_path = make_key(gateway, tenant="demo", endpoints=["/v1/models"])
    assert said(one_path) == (200, None)
    assert said(one_path, "/v1/models/smollm2") == (200, None)
    assert said(one_path, "/v1/decisions") == (403, "key_out_of_scope")
    assert refused(gateway, "GET", "/tenants", key=one_path["key"])[:2] == (401, "invalid_api_key")


def test_roles(gateway: Gateway) -> None:
    made = {role: make_key(gateway, role=role.value, label=role.value) for role in Role}
    allowed = {
        ("GET", "/tenants"): Role.VIEWER,
        ("GET", "/keys"): Role.VIEWER,
        ("GET", "/audit"): Role.VIEWER,
        ("GET", "/policies"): Role.VIEWER,
        ("GET", "/decisions"): Role.VIEWER,
        ("PUT", "/policies/nobody"): Role.OPERATOR,
        ("DELETE", "/policies/nobody"): Role.OPERATOR,
        ("POST", "/policies/nobody/promote"): Role.OPERATOR,
        ("GET", "/training-rows"): Role.OPERATOR,
        ("GET", "/predictors"): Role.VIEWER,
        ("POST", "/predictors"): Role.OPERATOR,
        ("DELETE", "/predictors/none"): Role.OPERATOR,
        ("PUT", "/tenants/nobody"): Role.OWNER,
        ("DELETE", "/tenants/nobody"): Role.OWNER,
        ("POST", "/keys"): Role.OWNER,
        ("DELETE", f"/keys/key-{'0' * 16}"): Role.OWNER,
    }
    for (method, path), needed in allowed.items():
        for role in Role:
            answer = admin(gateway, method, path, key=made[role]["key"])
            refusal = answer.status_code == 403 and answer.json()["error"]["code"] == "insufficient_role"
            assert refusal is not role.covers(needed), (method, path, role, answer.text)
            assert answer.status_code != 401
    with Redis.from_url(gateway.redis_url) as redis:
        assert {key["digest"].encode(): role.value.encode() for role, key in made.items()} == redis.hgetall(
            RedisKey.ADMIN_KEYS
        )
        assert admin(gateway, "DELETE", f"/keys/{made[Role.OWNER]['id']}").is_success
        assert not redis.hexists(RedisKey.ADMIN_KEYS, made[Role.OWNER]["digest"])
    assert refused(gateway, "GET", "/keys", key=made[Role.OWNER]["key"])[:2] == (401, "invalid_api_key")


def test_redis_emptied_and_away(gateway: Gateway) -> None:
    key = make_key(gateway, tenant="other")
    with Redis.from_url(gateway.redis_url) as redis:

        def ids() -> set[str]:
            entry = redis.hget(RedisKey.TENANTS, "other")
            return {one.id for one in tenant_entry(entry).keys} if entry else set()

        assert key["id"] in ids()
        before = redis.hgetall(RedisKey.TENANTS)
        redis.flushall()
        second = make_key(gateway, tenant="other")  # at once: it alone must not look like all there is
        within(LATER, lambda: {key["id"], second["id"]} <= ids())
        assert before.keys() <= redis.hgetall(RedisKey.TENANTS).keys()
        revision = redis.get(RedisKey.TENANTS_REVISION)
        redis.hset(RedisKey.TENANTS, "other", before[b"other"])  # as one that comes back with what it had long ago
        redis.hdel(RedisKey.TENANTS, "acme")
        redis.set(RedisKey.TENANTS_REVISION, "0123456789abcdef.7")
        within(LATER, lambda: second["id"] in ids() and bool(redis.hexists(RedisKey.TENANTS, "acme")))
        assert redis.get(RedisKey.TENANTS_REVISION) != revision
        assert TenantProjection(redis).revision() is not None

        gateway.valkey.stop(signal.SIGKILL)
        gone = admin(gateway, "DELETE", f"/keys/{key['id']}").json()
        assert (gone["state"], gone["live"]) == ("revoked", False)
        gateway.start_valkey()
        wait_for(lambda: answers(redis), "Redis to be back", gateway.valkey)
        within(LATER, lambda: second["id"] in ids())
        assert key["id"] not in ids()
        within(LATER, lambda: admin(gateway, "GET", f"/keys/{key['id']}").json()["live"] is True)


def test_openapi_describes_it(gateway: Gateway) -> None:
    page = gateway.client().get("/openapi.json").json()
    assert {"get", "post"} <= set(page["paths"]["/admin/v1/tenants"])
    assert {"get", "put", "delete"} <= set(page["paths"]["/admin/v1/tenants/{tenant}"])
    assert {"get", "post"} <= set(page["paths"]["/admin/v1/keys"])
    assert "post" in page["paths"]["/admin/v1/keys/{id}/rotate"]
    reference = page["paths"]["/admin/v1/tenants"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "budgets" in page["components"]["schemas"][reference["$ref"].rpartition("/")[2]]["properties"]
    assert json.dumps(page).count("key_digests") <= 2  # the schema of a tenant alone


def test_the_command_line(gateway: Gateway, tmp_path: Path) -> None:
    def pointsman(*arguments: str | Path, key: str | None = None) -> Result:
        variables = {Env.URL: gateway.url, Env.ADMIN_KEY: key or gateway.admin_key}
        command, *others = map(str, arguments)
        # The group itself where it is one: to build all commands of the root takes a tenth of a second each time.
        group = {"tenants": tenants.app, "keys": keys.app}.get(command)
        return CliRunner().invoke(group or app, others if group else [command, *others], env=variables)

    file = tmp_path / "tenant.yaml"
    file.write_text("priority: 8\nbudgets:\n  daily:\n    hard_usd: -1\n")
    wrong = pointsman("tenants", "create", "finance", file)
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith(
        f"{file}: budgets.daily.hard_usd: must be greater than or equal to 0, not -1 (line 4)"
    )
    file.write_text("priority: 8\nbudgets:\n  monthly:\n    hard_usd: 250\n")
    made = pointsman("tenants", "create", "finance", file)
    assert (made.exit_code, made.stdout) == (0, "finance: version 1, managed by api\n")
    shown = pointsman("tenants", "show", "finance")
    file.write_text(shown.stdout.replace("priority: 8", "priority: 9"))
    assert pointsman("tenants", "set", "finance", file).stdout == "finance: version 2, managed by api\n"
    assert pointsman("tenants", "set", "finance", file, "--if-version", "1").exit_code == 1
    listed = pointsman("tenants", "list", "--prefix", "fin").stdout.splitlines()
    assert [line.split()[:7] for line in listed[1:]] == [
        ["finance", "2", "api", "0", "9", "$250", listed[1].split()[6]]
    ]

    key = pointsman("keys", "create", "finance", "--label", "erp", "--mode", "think", "--expires-in", "90d")
    assert is_well_formed(key.stdout.strip())
    (one,) = map(json.loads, pointsman("keys", "list", "finance", "--json").stdout.splitlines())
    assert (one["label"], one["scope"], one["state"]) == ("erp", {"modes": ["think"]}, "live")
    rotated = pointsman("keys", "rotate", one["id"], "--overlap", "12h")
    assert is_well_formed(rotated.stdout.strip())
    assert f"{one['id']} stays good until" in rotated.stderr
    old = json.loads(pointsman("keys", "show", one["id"], "--json").stdout)
    assert 12 * 3600 - 300 < datetime.fromisoformat(old["expires_at"]).timestamp() - time.time() < 12 * 3600 + 300
    assert pointsman("keys", "revoke", old["replaced_by"]).stdout == f"{old['replaced_by']}: revoked\n"
    table = pointsman("keys", "list", "finance").stdout.splitlines()
    assert sorted(line.split()[2] for line in table[1:]) == ["live", "revoked"]
    assert pointsman("keys", "create").exit_code == 2
    assert pointsman("keys", "create", "finance", "--expires-in", "soon").exit_code == 2
    viewer = pointsman("keys", "create", "--role", "viewer").stdout.strip()
    needs = "needs an admin key with the role owner; this one has viewer"
    within(LATER, lambda: needs in pointsman("keys", "create", "finance", key=viewer).stderr)
    told = pointsman("keys", "create", "finance", key=viewer)
    assert (told.exit_code, told.stdout) == (1, "")

    assert pointsman("tenants", "delete", "finance").exit_code == 0
    rows = pointsman("audit", "tenant:finance").stdout.splitlines()
    assert [line.split()[5] for line in rows[1:]] == ["tenants.delete", "tenants.put", "tenants.create"]
    assert pointsman("audit", "--action", "keys.rotate", "--limit", "1", "--json").stdout.count("\n") == 1
