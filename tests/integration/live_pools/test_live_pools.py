"""Pools that are made while the platform runs, from outside: they answer, change, are billed, and go."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import yaml

from pointsman.contracts.names import Env, Header, RedisKey
from support import forking
from support.admin import admin, pointsman, refused, wait_until_known
from support.gateway import SECRET, Gateway, Process, events, wait_for

SMALL = {"model": "small", "modes": ["no_think"], "engine": "simulated", "prices": {"input": 1, "output": 2}}
SPEED = {"decode_speed": 400, "answer_tokens": 10, "keep_requests": 0}


def engine(gateway: Gateway, name: str, **speed: Any) -> Process:
    """A replica of a pool called `name`, which registers itself, whether there is such a pool or not."""
    file = gateway.folder / f"{name}-{time.monotonic_ns()}.yaml"
    pool = {**SMALL, "name": name, "engine_args": {"simulated": {**SPEED, **speed}}}
    file.write_text(yaml.safe_dump({"pools": [pool]}))
    arguments = ["--config", str(file), "--pool", name, "--redis-url", gateway.redis_url]
    process = Process([*forking.COMMAND, "simulate-engine", *arguments], file.with_suffix(".log"), {
        Env.REPLICA_SECRET: SECRET
    })  # fmt: skip
    gateway._all.append(process)
    wait_for(lambda: "http://" in process.output(), "the engine", process)
    return process


def put(gateway: Gateway, name: str, pool: dict[str, Any], **options: Any) -> httpx.Response:
    """Make the pool, or let it be as `pool` says whatever it was."""
    there = admin(gateway, "GET", f"/pools/{name}")
    headers = {"if-match": there.headers["etag"]} if there.status_code == 200 else {}
    return admin(gateway, "PUT", f"/pools/{name}", json=pool, headers=headers, **options).raise_for_status()


def ask(gateway: Gateway, model: str = "small", *, tenant: str = "demo", **fields: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}
    headers = {"authorization": f"Bearer {gateway.keys[tenant]}"}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=30)


def seconds_until(condition: Callable[[], object]) -> float:
    began = time.monotonic()
    wait_for(condition, "what should come soon")
    return time.monotonic() - began


SOON = 10.0
"""Seconds in which a change is there: two usually, fifteen where nobody was told of it."""


def test_a_router_without_pools_lets_itself_be_told_of_some(gateway: Gateway) -> None:
    assert gateway.startupz() == 200
    ready = gateway.readyz()
    assert (ready["http"], ready["status"], ready["missing"]) == (200, "degraded", ["pools"])
    assert ask(gateway).status_code == 404
    with gateway.client() as client:
        assert client.get("/v1/models").json()["data"] == []


def test_a_pool_answers_as_soon_as_it_is_made_and_no_more_once_it_is_taken_away(gateway: Gateway) -> None:
    engine(gateway, "first")
    made = put(gateway, "first", SMALL)
    assert made.status_code == 201
    assert (made.json()["version"], made.json()["managed_by"], made.json()["live"]) == (1, "api", True)
    assert seconds_until(lambda: ask(gateway).status_code == 200) < SOON
    for tenant in ("demo", "limited"):
        answer = ask(gateway, tenant=tenant)
        usage = answer.json()["usage"]
        assert answer.headers[Header.POOL] == "first"
        cost = usage["prompt_tokens"] * 1 + usage["completion_tokens"] * 2
        assert float(answer.headers[Header.COST_USD]) == pytest.approx(cost / 1e6)
    with gateway.client() as client:
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["small"]
    assert gateway.readyz()["status"] == "ready"
    listed = admin(gateway, "GET", "/pools").json()["data"]
    assert [(pool["pool"], pool["managed_by"], pool["version"]) for pool in listed] == [("first", "api", 1)]

    def replicas() -> int:
        revisions = admin(gateway, "GET", "/pools/first").json()["revisions"] or {}
        return int(revisions.get("", {}).get("replicas", 0))

    wait_for(lambda: replicas() == 1, "the live report")
    unknown = admin(gateway, "DELETE", "/pools/other")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "pool_not_found")
    assert admin(gateway, "DELETE", "/pools/first").status_code == 204
    assert seconds_until(lambda: ask(gateway).status_code == 404) < SOON
    actions = [row["action"] for row in admin(gateway, "GET", "/audit?object=pool:first").json()["data"]]
    assert actions == ["pools.delete", "pools.create"]


def test_streams_run_on_whatever_becomes_of_their_pool(gateway: Gateway) -> None:
    engine(gateway, "slow", decode_speed=5, answer_tokens=50)
    pool = {**SMALL, "model": "slow", "max_ongoing_requests": 3}
    put(gateway, "slow", pool)
    wait_for(lambda: ask(gateway, "slow", max_tokens=1).status_code == 200, "the pool")
    told: list[tuple[int, str]] = []

    def stream() -> None:
        answer = ask(gateway, "slow", stream=True)
        told.append((answer.status_code, answer.text))

    def state() -> tuple[int, int]:
        now = admin(gateway, "GET", "/pools/slow").json()["state"]
        return now["running"], now["waiting"]

    threads = [threading.Thread(target=stream) for _ in range(5)]
    for thread in threads:
        thread.start()
    wait_for(lambda: state() == (3, 2), "three to run and two to wait")
    put(gateway, "slow", {**pool, "max_ongoing_requests": 4})
    wait_for(lambda: state() == (4, 1), "the fourth to be let in")
    admin(gateway, "DELETE", "/pools/slow").raise_for_status()

    def left() -> tuple[int, int]:
        now = admin(gateway, "GET", "/pools/slow/requests").json()
        assert now["routers"] == 1
        return now["serving"], now["running"]

    wait_for(lambda: left() == (0, 4), "the router to let the pool go")
    for thread in threads:
        thread.join()
    wait_for(lambda: left() == (0, 0), "the last to end")
    assert sorted(status for status, _ in told) == [200, 200, 200, 200, 503]
    for status, text in told:
        if status == 200:
            assert events(text)[-1] == "[DONE]"
            assert sum(bool(event["choices"][0]["delta"].get("content")) for event in events(text)[:-1]) > 20
        else:
            assert json.loads(text)["error"]["code"] == "pool_unavailable"


def test_prices_change_for_all_pools_of_a_model_at_once_and_never_for_what_came_before(gateway: Gateway) -> None:
    engine(gateway, "one")
    engine(gateway, "two")
    put(gateway, "one", {**SMALL, "model": "priced"})
    new = {"input": 10, "output": 20}
    assert refused(gateway, "PUT", "/pools/two", json={**SMALL, "model": "priced", "prices": new}) == (
        400,
        "prices",
    )
    put(gateway, "two", {**SMALL, "model": "priced"})
    wait_for(lambda: ask(gateway, "priced").status_code == 200, "the pool")

    def rate() -> float:
        answer = ask(gateway, "priced").raise_for_status()
        usage = answer.json()["usage"]
        return round(
            1e6
            * float(answer.headers[Header.COST_USD])
            / (usage["prompt_tokens"] + 2 * usage["completion_tokens"]),
            6,
        )

    changed = {**SMALL, "model": "priced", "prices": new}
    assert refused(gateway, "PUT", "/pools/one", json=changed, headers={"if-match": '"1"'}) == (400, "prices")
    began = time.monotonic()
    put(gateway, "one", changed, params={"twins": "reprice"})
    if time.monotonic() - began < 1.5:
        assert rate() == 1.0, "new prices begin two seconds later, when every router knows them"
    assert admin(gateway, "GET", "/pools/two").json()["pool"]["prices"] == {"input": "10", "output": "20"}
    wait_for(lambda: rate() == 10.0, "the new prices")
    # One that somebody else manages is not changed along with it.
    put(gateway, "three", changed, params={"manager": "kubernetes"})
    body = {**changed, "prices": {"input": 5, "output": 5}}
    headers = {"if-match": '"2"'}
    assert refused(gateway, "PUT", "/pools/one?twins=reprice", json=body, headers=headers) == (400, "prices")
    assert admin(gateway, "GET", "/pools/two").json()["pool"]["prices"] == {"input": "10", "output": "20"}
    # A price that was set for a time holds for a pool that joins them, and goes when its pool goes.
    admin(gateway, "POST", "/prices", json={"pool": "one", "prices": {"input": 7, "output": 14}}).raise_for_status()
    put(gateway, "four", changed)
    prices = {one["pool"]: one for one in admin(gateway, "GET", "/prices").json()["data"]}
    assert len(prices["four"]["versions"]) == 1
    wait_for(lambda: rate() == 7.0, "the price that was set")
    admin(gateway, "DELETE", "/pools/four").raise_for_status()
    put(gateway, "four", {**changed, "model": "apart"})
    prices = {one["pool"]: one for one in admin(gateway, "GET", "/prices").json()["data"]}
    assert prices["four"]["version"] == 0
    for name in ("one", "two", "four"):
        admin(gateway, "DELETE", f"/pools/{name}").raise_for_status()
    admin(gateway, "DELETE", "/pools/three?manager=kubernetes").raise_for_status()


KEPT = {**SMALL, "model": "kept"}
MINE = {"params": {"manager": "kubernetes", "origin": "a/kept"}}
WRONG: tuple[tuple[str, Any, int, str | None], ...] = (
    ("/pools/wrong", {"engine": "vllm"}, 400, "model"),
    ("/pools/wrong", {**SMALL, "modes": []}, 400, "modes"),
    ("/pools/wrong", {**SMALL, "urls": ["http://a:1", "ftp://b"]}, 400, "urls[1]"),
    ("/pools/wrong", {**SMALL, "name": "other"}, 400, "name"),
    ("/pools/wrong", [], 400, None),
    ("/pools/Wrong!", SMALL, 400, "name"),
    ("/pools/wrong?manager=file", SMALL, 400, "manager"),
    ("/pools/wrong?twins=maybe", SMALL, 400, "twins"),
    ("/pools/kept/traffic?manager=kubernetes", {"a": -1}, 400, "traffic.a"),
    ("/pools/kept/traffic?manager=kubernetes", {"a": 0}, 400, "traffic"),
    ("/pools/kept/traffic?manager=kubernetes", {"a": "1"}, 400, "traffic.a"),
    ("/pools/kept/traffic?manager=kubernetes", {"sp ace": 1}, 400, "traffic['sp ace']"),
    ("/pools/kept/traffic?manager=kubernetes", dict.fromkeys("abcdefghi", 1), 400, "traffic"),
    ("/pools/kept/traffic", {"a": 1}, 409, None),
    ("/pools/wrong/traffic", {"a": 1}, 404, None),
    ("/pools/kept", KEPT, 409, None),
    ("/pools/kept?manager=kubernetes", {**KEPT, "max_waiting": 1}, 409, None),
    ("/pools/kept?manager=kubernetes&origin=b/kept", {**KEPT, "max_waiting": 1}, 409, None),
    ("/pools/kept?manager=kubernetes&origin=a/kept", {**KEPT, "max_waiting": 1}, 428, None),
)


def test_what_cannot_be_is_refused_by_its_field_and_changes_nothing(gateway: Gateway) -> None:
    put(gateway, "kept", KEPT, **MINE)
    told = {(path, str(body)): refused(gateway, "PUT", path, json=body) for path, body, _, _ in WRONG}
    assert told == {(path, str(body)): (status, field) for path, body, status, field in WRONG}
    stale = {"json": {**KEPT, "max_waiting": 1}, "headers": {"if-match": '"7"'}}
    assert admin(gateway, "PUT", "/pools/kept", **MINE, **stale).status_code == 412
    again = admin(gateway, "PUT", "/pools/kept", json=KEPT, **MINE)
    assert (again.status_code, again.json()["version"]) == (200, 1), "the same once more changes nothing"
    assert admin(gateway, "GET", "/pools/wrong").status_code == 404
    taken = put(gateway, "kept", KEPT, params={"manager": "api", "take_from": "kubernetes"}).json()
    assert (taken["managed_by"], taken["origin"], taken["version"]) == ("api", None, 2)
    admin(gateway, "DELETE", "/pools/kept").raise_for_status()


def test_who_may_look_may_not_change(gateway: Gateway) -> None:
    key = admin(gateway, "POST", "/keys", json={"role": "viewer"}).json()["key"]
    headers = {"authorization": f"Bearer {key}"}
    wait_until_known(gateway, key)
    assert admin(gateway, "GET", "/pools", headers=headers).status_code == 200
    for method, path in (("PUT", "/pools/x"), ("PUT", "/pools/x/traffic"), ("DELETE", "/pools/x")):
        body = {"json": SMALL} if method == "PUT" else {}
        assert admin(gateway, method, path, headers=headers, **body).status_code == 403
    for path in ("/pools/x", "/pools/x/requests"):
        mine = {"authorization": f"Bearer {gateway.key}"}
        assert admin(gateway, "GET", path, headers=mine).status_code == 401


def test_the_command_line_makes_changes_and_takes_away_pools(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "pool.yaml"
    file.write_text(yaml.safe_dump({**SMALL, "model": "typed"}))
    assert pointsman(gateway, "pools", "create", "typed", str(file)).stdout.startswith("typed: version 1")
    shown = pointsman(gateway, "pools", "show", "typed").stdout
    assert yaml.safe_load(shown)["model"] == "typed"
    file.write_text(shown + "max_waiting: 7\n")
    assert "version 2" in pointsman(gateway, "pools", "edit", "typed", str(file)).stdout
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/max_waiting.*/max_waiting:\\ 8/ "$1"\n')
    editor.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISUAL", str(editor))
        assert "version 3" in pointsman(gateway, "pools", "edit", "typed").stdout
        assert "Nothing was changed" in pointsman(gateway, "pools", "edit", "typed").stdout
    assert json.loads(pointsman(gateway, "pools", "show", "typed", "--json").stdout)["pool"]["max_waiting"] == 8
    divided = pointsman(gateway, "pools", "traffic", "typed", "a=90", "b=10").stdout
    assert "requests are divided: a 90, b 10" in divided
    assert pointsman(gateway, "pools", "traffic", "typed").stdout.startswith("typed: version 5")
    assert "typed" in pointsman(gateway, "pools").stdout
    pointsman(gateway, "pools", "delete", "typed")
    assert "typed" not in pointsman(gateway, "pools").stdout


def test_what_was_known_last_answers_while_redis_is_new_and_the_admin_process_away(gateway: Gateway) -> None:
    engine(gateway, "lasting")
    put(gateway, "lasting", {**SMALL, "model": "lasting"})
    wait_for(lambda: ask(gateway, "lasting").status_code == 200, "the pool")
    admin(gateway, "DELETE", "/pools/first")
    gateway.admin.stop()
    store = redis.Redis.from_url(gateway.redis_url)
    store.flushall()
    time.sleep(0.5)
    assert ask(gateway, "lasting").status_code == 200, "what is known holds"
    gateway.router.stop()
    gateway.start_router()
    wait_for(lambda: gateway.startupz() == 200, "the router", gateway.router)
    wait_for(lambda: ask(gateway, "lasting").status_code == 200, "the pool that it knew")
    gateway.start_admin()
    wait_for(lambda: store.hexists(RedisKey.POOLS, "lasting"), "Redis to be put right", gateway.admin)
    wait_for(gateway.admin_listens, "the admin process", gateway.admin)
    # A change that Redis missed, since it lost it, comes again by itself.
    store.hdel(RedisKey.POOLS, "lasting")
    store.delete(RedisKey.POOLS_REVISION)
    wait_for(lambda: store.hexists(RedisKey.POOLS, "lasting"), "Redis to be put right", gateway.admin)
    assert ask(gateway, "lasting").status_code == 200
    assert admin(gateway, "GET", "/pools/lasting").json()["live"]
