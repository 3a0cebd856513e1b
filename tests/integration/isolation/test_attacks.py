"""A table of attacks by a tenant, or by somebody without a key: each is tried on the running gateway, and fails."""

from __future__ import annotations

import itertools
import json
import re
import socket
from typing import Any

import httpx
import pytest

from pointsman.contracts.names import Header
from pointsman.contracts.tenants import new_key
from pointsman.router.wire import private_fields
from support.admin import wait_until_known
from support.gateway import Gateway, looked_up, wait_for

CHAT = "/v1/chat/completions"
SECRET = "the merger of Umbrella and Tyrell"

_numbers = itertools.count()


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def ask(gateway: Gateway, tenant: str, question: str, /, **fields: Any) -> httpx.Response:
    headers = {**bearer(gateway.keys[tenant]), **fields.pop("headers", {})}
    body = {"model": "smollm2:no_think", "messages": [{"role": "user", "content": question}], **fields}

    def asked() -> httpx.Response:
        return httpx.post(f"{gateway.url}{CHAT}", json=body, headers=headers, timeout=30)

    cached = fields.get("temperature") == 0 and headers.get(Header.CACHE_CONTROL) != "bypass"
    return looked_up(asked) if cached else asked()


def received(gateway: Gateway) -> list[dict[str, Any]]:
    """What the engines without thinking have got."""
    return gateway.engines["fast"][0].received()


def fresh() -> str:
    return f"A question that nobody has asked before: number {next(_numbers)}?"


# -- what a client says of itself


@pytest.mark.parametrize(
    "headers",
    [
        {Header.REPLICA_SECRET: "the-replicas-secret"},
        {Header.PEER: "10.0.0.1"},
        {Header.CACHE: "hit"},
        {Header.POOL: "deep"},
        {Header.MODE_SOURCE: "policy"},
        {Header.DECISION_ID: "dec-" + "0" * 32},
        {Header.COST_USD: "0"},
        {Header.BUDGET: "none"},
        {Header.OVERRULED: "client"},
        {"x-pointsman-tenant": "beta"},
        {"x-tenant": "beta", "x-forwarded-user": "beta"},
        {"x-forwarded-for": "127.0.0.1", "forwarded": "for=127.0.0.1"},
        {"x-data-parallel-rank": "1", "x-smg-target-worker": "evil", "x-request-rid": "1"},
    ],
    ids=str,
)
def test_forged_headers_change_nothing_and_go_nowhere(gateway: Gateway, headers: dict[str, str]) -> None:
    gateway.engines["fast"][0].forget()
    answer = ask(gateway, "alpha", fresh(), temperature=0, headers=headers)
    assert answer.status_code == 200
    assert answer.headers[Header.POOL] == "fast"
    assert answer.headers[Header.CACHE] == "miss"
    assert answer.headers[Header.MODE_SOURCE] == "client"
    assert answer.headers[Header.DECISION_ID] != headers.get(Header.DECISION_ID)
    assert float(answer.headers[Header.COST_USD]) > 0
    got = received(gateway)[-1]
    theirs = {name.lower() for name in got["headers"]}
    assert theirs.isdisjoint(set(headers) - {Header.REPLICA_SECRET})
    decision = mine(gateway, "alpha", answer.headers[Header.DECISION_ID])
    assert decision.json()["tenant"] == "alpha"


def mine(gateway: Gateway, tenant: str, identity: str) -> httpx.Response:
    return httpx.get(f"{gateway.url}/v1/decisions/{identity}", headers=bearer(gateway.keys[tenant]), timeout=10)


PRIVATE = (
    *sorted(private_fields._PRIVATE),
    *(f"{prefix}x" for prefix in private_fields._PRIVATE_PREFIXES),
    *(f"x{suffix}" for suffix in private_fields._PRIVATE_SUFFIXES),
    *("tenant", "decision_id", "__proto__", "extra_body", "nvext", "ignore_eos_token", "x-pointsman-mode"),
)


def test_fields_that_are_the_routers_own_reach_no_engine(gateway: Gateway) -> None:
    gateway.engines["fast"][0].forget()
    for field in PRIVATE:
        for value in ("beta", 1, True, ["beta"], {"rid": "beta"}):
            answer = ask(gateway, "alpha", "Hello?", **{field: value})
            assert answer.status_code == 400, field
            assert answer.json()["error"]["param"] == field
    assert received(gateway) == []


def test_what_the_router_sets_is_not_the_clients_to_choose(gateway: Gateway) -> None:
    gateway.engines["fast"][0].forget()
    same = {"headers": {Header.REQUEST_ID: "alphas-own", Header.CACHE_CONTROL: "bypass"}, "user": "alpha"}
    for tenant in ("alpha", "beta"):
        assert ask(gateway, tenant, "Word for word the same?", **same).headers[Header.REQUEST_ID] == "alphas-own"
    one, other = (got["body"] for got in received(gateway))
    assert one["rid"] != other["rid"]
    assert one["cache_salt"] != other["cache_salt"], "no prefix cache is shared"
    assert "alphas-own" not in (one["rid"], other["rid"])
    assert not one["rid"].startswith(other["rid"])


# -- whose key it is


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Basic YWxwaGE6",
        "Bearer alpha",
        "Bearer null",
        pytest.param(f"Bearer {new_key()}", id="a key of nobody's"),
        "Bearer {alpha}x",
        "Bearer {SHORT}",
        "Bearer {OTHER}",
        "Bearer {alpha}, Bearer {beta}",
        "Bearer {alpha} {beta}",
    ],
)
def test_only_a_key_is_a_key(gateway: Gateway, authorization: str | None) -> None:
    keys = gateway.keys
    headers = {}
    if authorization is not None:
        variants = {"SHORT": keys["alpha"][:-1], "OTHER": keys["alpha"].swapcase()}
        headers["authorization"] = authorization.format(**keys, **variants)
    body = {"model": "smollm2", "messages": [{"role": "user", "content": "Hello?"}]}
    for method, path in (
        ("POST", CHAT),
        ("GET", "/v1/models"),
        ("GET", "/v1/decisions"),
        ("GET", "/admin/v1/pools"),
    ):
        options: dict[str, Any] = {"json": body} if method == "POST" else {}
        answer = httpx.request(method, gateway.url + path, headers=headers, timeout=10, **options)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert not any(key in answer.text for key in keys.values())


def test_a_scoped_key_opens_nothing_by_a_forged_address(gateway: Gateway) -> None:
    admin = bearer(gateway.admin_key)
    fields = {"tenant": "alpha", "networks": ["10.9.8.0/24"]}
    made = httpx.post(f"{gateway.url}/admin/v1/keys", json=fields, headers=admin, timeout=20).json()
    forged = {
        **bearer(made["key"]),
        Header.PEER: "10.9.8.7",
        "x-forwarded-for": "10.9.8.7",
        "x-real-ip": "10.9.8.7",
        "forwarded": "for=10.9.8.7",
    }
    body = {"model": "smollm2", "messages": [{"role": "user", "content": "Hello?"}]}

    def asked(method: str, path: str) -> int:
        options: dict[str, Any] = {"json": body} if method == "POST" else {}
        return httpx.request(method, gateway.url + path, headers=forged, timeout=10, **options).status_code

    wait_for(lambda: asked("POST", CHAT) == 403, "the key to be known")
    assert asked("GET", "/v1/models") == asked("GET", "/v1/decisions") == 403


def test_who_shares_a_connection_shares_nothing_else(gateway: Gateway) -> None:
    """As behind a proxy that keeps few connections for everybody: requests of both, one right behind the other."""
    tenants = ("alpha", "beta") * 20
    question = fresh()
    sent = b""
    for number, tenant in enumerate(tenants):
        said = [{"role": "user", "content": f"{question} {number // 4}"}]
        body = json.dumps({"model": "smollm2:no_think", "messages": said, "temperature": 0}).encode()
        sent += f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.keys[tenant]}\r\n".encode()
        sent += b"content-length: %d\r\n\r\n" % len(body) + body
    sent += b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as wire:
        wire.sendall(sent)
        told = b""
        while piece := wire.recv(65536):
            told += piece
    given = re.findall(rb"x-pointsman-decision-id: (\S+)", told)
    assert len(given) == len(tenants)
    engines = re.findall(rb'\r\n\r\n{"id":"([^"]+)"', told)
    assert len(engines) == len(set(engines)) == len(tenants)
    for tenant, identity in zip(tenants, given, strict=True):
        whose = identity.decode()
        wait_for(lambda who=tenant, it=whose: mine(gateway, who, it).status_code == 200, "the decision")
    other = {"alpha": "beta", "beta": "alpha"}
    for tenant, identity in list(zip(tenants, given, strict=True))[-4:]:
        assert mine(gateway, other[tenant], identity.decode()).status_code == 404


@pytest.mark.parametrize("name", ["authorization", "x-api-key"])
def test_two_keys_are_none(gateway: Gateway, name: str) -> None:
    word = "Bearer " if name == "authorization" else ""
    shown = [(name, word + gateway.keys[tenant]) for tenant in ("alpha", "beta")]
    answer = httpx.get(f"{gateway.url}/v1/decisions", headers=shown, timeout=10)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


# -- what others have asked


def test_nobody_is_given_or_spoils_anothers_recorded_answer(gateway: Gateway) -> None:
    question = fresh()
    first = ask(gateway, "alpha", question, temperature=0)
    assert first.headers[Header.CACHE] == "miss"
    assert ask(gateway, "beta", question, temperature=0).headers[Header.CACHE] == "miss"
    for wish in ("refresh", "force", "bypass"):
        theirs = ask(gateway, "beta", question, temperature=0, headers={Header.CACHE_CONTROL: wish})
        assert theirs.headers[Header.CACHE] == {"refresh": "miss", "force": "hit", "bypass": "bypass"}[wish]
        assert theirs.json()["id"] != first.json()["id"], "a hit is one of its own answers"
    again = ask(gateway, "alpha", question, temperature=0)
    assert again.headers[Header.CACHE] == "hit"
    assert again.json()["choices"] == first.json()["choices"]
    other = {"seed": 1, "top_p": 0.5, "max_tokens": 7, "stop": ["x"], "logprobs": True}
    for field, value in other.items():
        assert ask(gateway, "alpha", question, temperature=0, **{field: value}).headers[Header.CACHE] == "miss"
    thought = ask(gateway, "alpha", question, temperature=0, model="smollm2:think")
    assert (thought.headers[Header.CACHE], thought.headers[Header.MODE]) == ("miss", "think")


def test_an_idempotency_key_is_its_tenants_own(gateway: Gateway) -> None:
    name = {Header.IDEMPOTENCY_KEY: f"order-{next(_numbers)}"}
    question = fresh()
    first = ask(gateway, "alpha", question, headers=name)
    theirs = ask(gateway, "beta", question, headers=name)
    assert first.status_code == theirs.status_code == 200
    assert first.json()["id"] != theirs.json()["id"]
    assert ask(gateway, "alpha", question, headers=name).json()["id"] == first.json()["id"]
    assert ask(gateway, "beta", question, headers=name).json()["id"] == theirs.json()["id"]
    assert ask(gateway, "beta", "Something else?", headers=name).status_code in (409, 422)


def test_anothers_decision_looks_like_none(gateway: Gateway) -> None:
    identity = ask(gateway, "alpha", SECRET).headers[Header.DECISION_ID]
    wait_for(lambda: mine(gateway, "alpha", identity).status_code == 200, "the decision")
    never = mine(gateway, "beta", "dec-" + "f" * 32)
    theirs = mine(gateway, "beta", identity)
    assert (theirs.status_code, theirs.content) == (never.status_code, never.content) == (404, never.content)
    said = {"should_think": True, "comment": "mine"}
    path = f"{gateway.url}/v1/decisions/{identity}/feedback"
    assert httpx.post(path, json=said, headers=bearer(gateway.keys["beta"]), timeout=10).status_code == 404
    listed = httpx.get(
        f"{gateway.url}/v1/decisions", params={"limit": 200}, headers=bearer(gateway.keys["beta"]), timeout=10
    )
    assert {one["tenant"] for one in listed.json()["data"]} <= {"beta"}
    assert SECRET not in listed.text
    asked = httpx.get(
        f"{gateway.url}/v1/decisions", params={"tenant": "alpha"}, headers=bearer(gateway.keys["beta"]), timeout=10
    )
    assert asked.status_code == 400
    assert mine(gateway, "alpha", identity).json()["feedback"] == []


# -- what is for operators


def paths(gateway: Gateway) -> list[tuple[str, str]]:
    """Every method and path below `/admin`, as the gateway itself describes them."""
    described = httpx.get(f"{gateway.url}/openapi.json", timeout=20).json()["paths"]
    named = {"tenant": "alpha", "id": "dec-" + "0" * 32, "name": "alpha", "pool": "fast"}
    found = []
    for path, methods in described.items():
        if path.startswith("/admin/"):
            filled = path
            for name in (part.split("}")[0] for part in path.split("{")[1:]):
                filled = filled.replace("{" + name + "}", named.get(name, "alpha"))
            found += [(method.upper(), filled) for method in methods]
    return found


def test_no_tenant_gets_through_to_an_operators_path(gateway: Gateway) -> None:
    every = paths(gateway)
    assert len(every) >= 20
    assert ("GET", "/admin/v1/pools") in every
    with httpx.Client(base_url=gateway.url, timeout=20) as client:
        for method, path in every:
            for headers in (bearer(gateway.keys["alpha"]), {}, {Header.PEER: "127.0.0.1"}):
                answer = client.request(method, path, headers=headers)
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key"), path


def test_a_viewer_changes_nothing(gateway: Gateway) -> None:
    made = httpx.post(
        f"{gateway.url}/admin/v1/keys", json={"role": "viewer"}, headers=bearer(gateway.admin_key), timeout=20
    )
    assert made.status_code == 201, made.text
    viewer = bearer(made.json()["key"])
    with httpx.Client(base_url=gateway.url, headers=viewer, timeout=20) as client:
        wait_until_known(gateway, made.json()["key"])
        for method, path in paths(gateway):
            if method == "GET" or path.endswith(("/simulate", "/sweep")):
                continue
            answer = client.request(method, path, json={})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_role"), (
                method,
                path,
            )


TRICKS = [
    "/v1/../admin/v1/pools",
    "/v1/models/../../admin/v1/pools",
    "/v1/models/..%2f..%2fadmin/v1/pools",
    "/v1/models/%2e%2e/%2e%2e/admin/v1/pools",
    "//admin/v1/pools",
    "/./admin/v1/pools",
    "/admin//v1/pools",
    "/admin%2fv1%2fpools",
    "/%61dmin/v1/pools",
    "/admin/v1/pools/",
    "/admin/v1/pools?x=/v1/models",
    "/admin/v1/pools;/v1/models",
    "/admin/v1/pools%00",
    "/ADMIN/v1/pools",
    "/v1/chat/completions/../../../admin/v1/pools",
    "http://127.0.0.1/admin/v1/pools",
    "http://admin/admin/v1/pools",
    "*",
    "admin/v1/pools",
    "/\\admin\\v1\\pools",
    "/v1/decisions/../../admin/v1/decisions",
    "/v1/decisions/%2e%2e%2f%2e%2e%2fadmin%2fv1%2fdecisions",
]


@pytest.mark.parametrize("target", TRICKS)
def test_no_trick_with_a_path_leads_there(gateway: Gateway, target: str) -> None:
    """As raw bytes: a client library would tidy them up."""
    key = gateway.keys["alpha"]
    request = f"GET {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as wire:
        wire.sendall(request.encode())
        answer = b""
        while piece := wire.recv(65536):
            answer += piece
    status = int(answer.split()[1])
    assert status in (400, 401, 404, 405), answer
    assert b'"replicas"' not in answer
    assert b'"tenant"' not in answer


def test_a_second_request_in_a_bodys_clothes_is_no_request(gateway: Gateway) -> None:
    """Two lengths, or a length and chunks: what one side takes for a body the other might take for a request."""
    inner = (
        b"GET /admin/v1/pools HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "
        + gateway.admin_key.encode()
        + b"\r\n\r\n"
    )
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.keys['alpha']}\r\n".encode()
    for framing in (
        b"content-length: 4\r\ncontent-length: 0\r\n\r\n",
        b"content-length: 0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"transfer-encoding: identity\r\ncontent-length: 0\r\n\r\n",
        b"transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as wire:
            wire.sendall(head + framing + inner)
            answer = b""
            while piece := wire.recv(65536):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 400"), framing
        assert b"replicas" not in answer
