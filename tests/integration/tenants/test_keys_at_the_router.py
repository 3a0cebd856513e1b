"""What the data plane makes of keys that come and go: how soon, for what, and how long with Redis away."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from pointsman.contracts.names import Header, StateFile
from pointsman.contracts.tenants import new_key
from support.gateway import DEEP, FAST, Gateway, wait_for

SOON = 10.0
"""Seconds after which a key that was made or revoked is so for the data plane: two, where the machine has time."""

MAX_AGE = 30.0
"""Seconds without word from Redis after which nobody is let in."""

CHAT = "/v1/chat/completions"
ONE_TRACK = {**FAST, "name": "single", "model": "small"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    pools = (FAST, DEEP, ONE_TRACK)
    folder = tmp_path_factory.mktemp("gw")
    with Gateway(folder, pools=pools, router={"max_snapshot_age": MAX_AGE}) as gateway:
        made = admin(gateway, "POST", "/tenants", json={"name": "acme"})
        assert made.status_code == 201, made.text
        yield gateway


def admin(gateway: Gateway, method: str, path: str, **options: Any) -> httpx.Response:
    """One request below `/admin/v1`, with the file's admin key."""
    headers = {"authorization": f"Bearer {gateway.admin_key}", **options.pop("headers", {})}
    return httpx.request(method, f"{gateway.url}/admin/v1{path}", headers=headers, timeout=30, **options)


def make_key(gateway: Gateway, **scope: Any) -> dict[str, Any]:
    """A key of `acme` that the data plane knows."""
    answer = admin(gateway, "POST", "/keys", json={"tenant": "acme", **scope})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    soon(lambda: ask(gateway, made["key"], path="/v1/completions", model=5)[1] != "invalid_api_key")
    return made


def soon(condition: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < SOON
        time.sleep(0.02)


def ask(
    gateway: Gateway, key: str, *, path: str = CHAT, headers: dict[str, str] | None = None, **body: Any
) -> tuple[int, str | None, str | None]:
    """Status, code and field of the answer."""
    question = {"messages": [{"role": "user", "content": "Why?"}]} if path == CHAT else {"prompt": "Why?"}
    fields = {"model": "smollm2", "max_tokens": 4, **question, **body}
    named = {"authorization": f"Bearer {key}", **(headers or {})}
    answer = httpx.post(f"{gateway.url}{path}", json=fields, headers=named, timeout=30)
    error = answer.json().get("error", {})
    return answer.status_code, error.get("code"), error.get("param")


def test_a_key_opens_soon_and_closes_soon(gateway: Gateway) -> None:
    key = make_key(gateway)
    assert ask(gateway, key["key"]) == (200, None, None)
    assert ask(gateway, key["key"][:-1] + "~") == (401, "invalid_api_key", None)
    assert admin(gateway, "DELETE", f"/keys/{key['id']}").status_code == 200
    soon(lambda: ask(gateway, key["key"]) == (401, "invalid_api_key", None))

    brief = make_key(gateway, expires_in=6)
    assert ask(gateway, brief["key"]) == (200, None, None)
    wait_for(lambda: ask(gateway, brief["key"]) == (401, "invalid_api_key", None), "it to expire")


def test_a_tenant_is_changed_and_ends(gateway: Gateway) -> None:
    assert admin(gateway, "POST", "/tenants", json={"name": "brief"}).status_code == 201
    key = admin(gateway, "POST", "/keys", json={"tenant": "brief"}).json()["key"]
    soon(lambda: ask(gateway, key) == (200, None, None))
    assert ask(gateway, key, model="small") == (200, None, None)
    document = {"name": "brief", "models": ["smollm2"], "policy": {"substitute": True}}
    present = admin(gateway, "GET", "/tenants/brief")
    changed = admin(gateway, "PUT", "/tenants/brief", json=document, headers={"if-match": present.headers["etag"]})
    assert changed.status_code == 200, changed.text
    soon(lambda: ask(gateway, key, model="small") == (404, "model_not_found", "model"))
    gone = admin(gateway, "DELETE", "/tenants/brief", headers={"if-match": changed.headers["etag"]})
    assert gone.status_code == 204, gone.text
    soon(lambda: ask(gateway, key) == (401, "invalid_api_key", None))


def test_policies_of_a_tenant_who_was_made_while_the_router_ran(gateway: Gateway) -> None:
    assert admin(gateway, "POST", "/tenants", json={"name": "thinker"}).status_code == 201
    key = admin(gateway, "POST", "/keys", json={"tenant": "thinker"}).json()["key"]

    def mode() -> str | None:
        named = {"authorization": f"Bearer {key}"}
        question = {"model": "smollm2", "max_tokens": 4, "messages": [{"role": "user", "content": "Hello!"}]}
        return httpx.post(f"{gateway.url}{CHAT}", json=question, headers=named, timeout=30).headers.get(Header.MODE)

    def threshold(value: float) -> None:
        tag = admin(gateway, "GET", "/policies/thinker").headers["etag"]
        document = {"policy": {"threshold": value}}
        put = admin(gateway, "PUT", "/policies/thinker", json=document, headers={"if-match": tag})
        assert put.status_code == 200, put.text

    threshold(0.0)  # before he has ever asked
    soon(lambda: mode() == "think")
    threshold(1.0)
    soon(lambda: mode() == "no_think")


def test_what_a_key_is_limited_to(gateway: Gateway) -> None:
    out_of_scope = (403, "key_out_of_scope", None)
    far = make_key(gateway, networks=["192.0.2.0/24"])["key"]
    assert ask(gateway, far) == out_of_scope
    assert ask(gateway, far, headers={Header.PEER: "192.0.2.1", "x-forwarded-for": "192.0.2.1"}) == out_of_scope
    assert ask(gateway, make_key(gateway, networks=["127.0.0.0/8"])["key"]) == (200, None, None)

    one_path = make_key(gateway, endpoints=["/v1/completions"])["key"]
    assert ask(gateway, one_path) == out_of_scope
    assert ask(gateway, one_path, path="/v1/completions") == (200, None, None)

    one_model = make_key(gateway, models=["small"])["key"]
    assert ask(gateway, one_model) == (404, "model_not_found", "model")
    assert ask(gateway, one_model, model="small:no_think") == (200, None, None)
    assert ask(gateway, one_model, model="never heard of") == (404, "model_not_found", "model")


def test_a_key_that_may_not_think(gateway: Gateway) -> None:
    key = make_key(gateway, modes=["no_think"])["key"]
    named = {"authorization": f"Bearer {key}"}
    question = {"model": "smollm2", "messages": [{"role": "user", "content": "Prove that 17 is prime."}]}
    answer = httpx.post(f"{gateway.url}{CHAT}", json=question, headers=named, timeout=30)
    assert (answer.status_code, answer.headers[Header.MODE]) == (200, "no_think")
    refused = (403, "key_out_of_scope")
    assert ask(gateway, key, reasoning_effort="high") == (*refused, "reasoning_effort")
    assert ask(gateway, key, model="smollm2:think") == (*refused, "model")
    assert ask(gateway, key, headers={Header.MODE: "think"}) == (*refused, Header.MODE)

    thinks = make_key(gateway, modes=["think"])["key"]
    assert ask(gateway, thinks, model="small") == (*refused, "model")


def test_cut_off_from_redis_the_known_keys_hold_but_not_forever(gateway: Gateway) -> None:
    made = make_key(gateway)
    key, file = made["key"], gateway.state / StateFile.KNOWN_TENANTS
    wait_for(lambda: made["digest"] in file.read_text(), "the key to be in the file")
    gateway.valkey.popen.kill()
    gateway.valkey.popen.wait()
    for age, code in ((0.0, None), (MAX_AGE, "snapshot_too_old")):
        gateway.router.stop()
        os.utime(file, (time.time() - age, time.time() - age))
        gateway.start_router()
        wait_for(lambda: gateway.startupz() == 200, "the router to start", gateway.router)
        for known in (key, gateway.key):  # the latter is one of the configuration
            assert ask(gateway, known)[:2] == ((503, code) if code else (200, None))
    assert ask(gateway, new_key()) == (401, "invalid_api_key", None)
    gateway.start_valkey()
    wait_for(lambda: ask(gateway, key)[1] != "snapshot_too_old", "the keys to be known again")
