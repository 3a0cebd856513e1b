"""Decisions from outside: what an answer's headers said can be looked up, corrected and reviewed, and survives."""

from __future__ import annotations

import itertools
import os
import signal
import time
from decimal import Decimal
from typing import Any

import httpx
import orjson
import pytest
from redis import Redis
from typer.testing import CliRunner

from pointsman.cli.main import app
from pointsman.contracts.names import Env, Header, Metric, RedisKey
from pointsman.contracts.pricing import NANO
from pointsman.store.database import Database, database_url
from pointsman.store.decisions import DecisionStore
from support.gateway import Gateway, wait_for
from support.records import identity, record

EASY = "What is the capital of France?"
HARD = "Prove that the square root of 2 is irrational."

_numbers = itertools.count()


def ask(gateway: Gateway, tenant: str, question: str = EASY, **fields: Any) -> httpx.Response:
    """One question of `tenant`; `headers` among `fields` are sent along."""
    headers = {"authorization": f"Bearer {gateway.keys[tenant]}", **fields.pop("headers", {})}
    body = {"model": "smollm2", "messages": [{"role": "user", "content": question}], **fields}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=30)


def get(gateway: Gateway, path: str, key: str, **params: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.get(f"{gateway.url}{path}", headers=headers, params=params, timeout=30)


def post(gateway: Gateway, path: str, key: str, body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{gateway.url}{path}", json=body, headers=headers, timeout=30)


def made(answer: httpx.Response) -> str:
    """The id of the decision behind `answer`."""
    return answer.headers[Header.DECISION_ID]


@pytest.mark.parametrize(
    ("question", "fields"),
    [
        (EASY, {}),
        (HARD, {}),
        (HARD, {"model": "smollm2:no_think"}),
        (EASY, {"stream": True, "headers": {Header.MODE: "think", Header.REQUEST_ID: "mine-1"}}),
    ],
)
def test_what_the_headers_said_is_what_is_kept(gateway: Gateway, question: str, fields: dict[str, Any]) -> None:
    answer = ask(gateway, "demo", question, **fields)
    headers = answer.headers
    kept = get(gateway, f"/v1/decisions/{made(answer)}", gateway.keys["demo"]).raise_for_status().json()
    assert kept["mode"] == headers[Header.MODE]
    assert kept["source"] == headers[Header.MODE_SOURCE]
    assert kept["request_id"] == headers[Header.REQUEST_ID]
    assert kept["pool"] == headers[Header.POOL]
    assert f"{kept['probability']:.4f}" == headers[Header.THINK_PROBABILITY]
    assert f"{kept['threshold']:.4g}" == headers[Header.THRESHOLD]
    if Header.COST_USD in headers:
        assert kept["cost"] == int(Decimal(headers[Header.COST_USD]) * NANO)
    assert bool(kept["first_byte"]) == fields.get("stream", False)
    assert kept["status"] == 200
    assert kept["usage"]["answer"] > 0
    assert abs(kept["at"] - time.time()) < 300
    assert bool(kept["wishes"]) == bool(fields)
    assert question not in orjson.dumps(kept).decode()


def test_a_request_that_failed_is_kept_with_its_error(gateway: Gateway) -> None:
    gateway.engines["fast"][0].faults({"kind": "error", "times": 5})
    answer = ask(gateway, "demo", headers={Header.MODE: "no_think"})
    gateway.engines["fast"][0].forget()
    assert answer.status_code == 502
    kept = get(gateway, f"/v1/decisions/{made(answer)}", gateway.keys["demo"]).raise_for_status().json()
    assert (kept["status"], kept["error"], kept["mode"]) == (502, "engine_failed", "no_think")


def test_a_tenant_sees_its_own_decisions_only(gateway: Gateway) -> None:
    mine, others = made(ask(gateway, "demo")), made(ask(gateway, "open"))
    demo, other, admin = gateway.keys["demo"], gateway.keys["open"], gateway.admin_key
    get(gateway, f"/v1/decisions/{mine}", demo).raise_for_status()
    assert get(gateway, f"/v1/decisions/{others}", other).status_code == 200
    began = time.monotonic()
    foreign = get(gateway, f"/v1/decisions/{others}", demo)
    unknown = get(gateway, f"/v1/decisions/{identity(0)}", demo)
    assert time.monotonic() - began < 25
    for refused in (
        foreign,
        unknown,
        post(gateway, f"/v1/decisions/{others}/feedback", demo, {"should_think": True}),
    ):
        assert refused.status_code == 404
        assert refused.json()["error"]["code"] == "decision_not_found"
    assert foreign.json() == unknown.json()
    assert {one["tenant"] for one in get(gateway, "/v1/decisions", demo, limit=200).json()["data"]} == {"demo"}
    assert {"demo", "open"} <= {
        one["tenant"] for one in get(gateway, "/admin/v1/decisions", admin, limit=200).json()["data"]
    }
    only = get(gateway, "/admin/v1/decisions", admin, tenant="open").json()["data"]
    assert {one["tenant"] for one in only} == {"open"}
    for path in (
        "/admin/v1/decisions",
        f"/admin/v1/decisions/{mine}",
        "/admin/v1/reviews",
        "/admin/v1/training-rows",
    ):
        assert get(gateway, path, demo).status_code == 401
    assert get(gateway, "/v1/decisions", admin).status_code == 401


def test_pages_and_filters_of_the_list(gateway: Gateway) -> None:
    before = time.time()
    thinking = [made(ask(gateway, "demo", headers={Header.MODE: "think"})) for _ in range(3)]
    made(ask(gateway, "demo"))
    key = gateway.keys["demo"]
    get(gateway, f"/v1/decisions/{thinking[-1]}", key).raise_for_status()
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = get(
            gateway, "/v1/decisions", key, since=before, mode="think", source="client", limit=2, **after
        ).json()
        seen += [one["id"] for one in page["data"]]
        if page["after"] is None:
            break
        after = {"after": page["after"]}
    assert seen == thinking[::-1]
    assert get(gateway, "/v1/decisions", key, since="2100-01-01").json() == {"data": [], "after": None}
    assert get(gateway, "/v1/decisions", key, model="smollm2", escalated="true", limit=1).json()["data"] == []


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"mode": "deep"}, "mode"),
        ({"since": "yesterday"}, "since"),
        ({"limit": 0}, "limit"),
        ({"limit": 201}, "limit"),
        ({"after": "x"}, "after"),
        ({"source": "me"}, "source"),
        ({"modes": "think"}, "modes"),
        ({"tenant": "open"}, "tenant"),
        ({"model": "a\0"}, "model"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused_by_its_field(
    gateway: Gateway, params: dict[str, Any], field: str
) -> None:
    refused = get(gateway, "/v1/decisions", gateway.keys["demo"], **params)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == field


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "should_think"),
        ({"should_think": "true"}, "should_think"),
        ({"should_think": True, "comment": "x" * 2001}, "comment"),
        ({"should_think": True, "mode": "think"}, "mode"),
        ({"should_think": True, "comment": "a\0"}, "comment"),
        ([], None),
    ],
)
def test_feedback_that_makes_no_sense_is_refused_by_its_field(
    gateway: Gateway, body: Any, field: str | None
) -> None:
    refused = post(gateway, f"/v1/decisions/{identity(1)}/feedback", gateway.keys["demo"], body)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == field


def test_a_policy_may_hide_the_cost_from_its_tenant(gateway: Gateway) -> None:
    decision = made(ask(gateway, "shy"))
    shown = get(gateway, f"/v1/decisions/{decision}", gateway.keys["shy"]).raise_for_status().json()
    listed = get(gateway, "/v1/decisions", gateway.keys["shy"]).json()["data"][0]
    assert shown["cost"] is listed["cost"] is None
    assert get(gateway, f"/admin/v1/decisions/{decision}", gateway.admin_key).json()["cost"] > 0


def test_a_tenant_that_keeps_nothing_finds_nothing(gateway: Gateway) -> None:
    decision = made(ask(gateway, "mute"))
    assert get(gateway, f"/v1/decisions/{decision}", gateway.keys["mute"]).status_code == 404
    assert get(gateway, "/v1/decisions", gateway.keys["mute"]).json()["data"] == []


def test_what_tenants_and_reviewers_say_becomes_a_rule_and_a_training_row(gateway: Gateway) -> None:
    admin, key = gateway.admin_key, gateway.keys["ruled"]
    doubtful, plain = made(ask(gateway, "ruled", HARD)), made(ask(gateway, "demo", HARD))
    said = {"should_think": False, "comment": "everybody knows that"}
    for decision, owner in ((doubtful, key), (plain, gateway.keys["demo"])):
        post(gateway, f"/v1/decisions/{decision}/feedback", owner, {"should_think": True}).raise_for_status()
        kept = post(gateway, f"/v1/decisions/{decision}/feedback", owner, said).raise_for_status().json()
        assert [(one["should_think"], one["comment"]) for one in kept["feedback"]] == [(False, said["comment"])]
    waiting = get(gateway, "/admin/v1/reviews", admin).json()["data"]
    assert plain not in [one["id"] for one in waiting]  # whose tenant lets nobody see it
    waiting = [one for one in waiting if one["tenant"] == "ruled"]
    assert [one["id"] for one in waiting] == [doubtful]
    assert waiting[0]["question"]["text"] == HARD
    assert waiting[0]["doubtful"] == ["feedback"]
    (row,) = map(orjson.loads, get(gateway, "/admin/v1/training-rows", admin).text.splitlines())
    assert (row["text"], row["label"], row["source"], row["tier"]) == (HARD, 0, "decisions/ruled", "feedback")
    assert post(gateway, f"/admin/v1/reviews/{plain}", admin, said).status_code == 404
    pin = {"name": "known-proofs", "match": {"endpoints": ["/v1/chat/completions"]}, "mode": "no_think"}
    wrong = post(gateway, f"/admin/v1/reviews/{doubtful}", admin, {**said, "pin": {**pin, "match": {"model": "x"}}})
    assert wrong.status_code == 400
    judged = post(gateway, f"/admin/v1/reviews/{doubtful}", admin, {**said, "pin": pin}).raise_for_status().json()
    assert judged["reviewed"]["pinned"] == "known-proofs"
    assert get(gateway, "/admin/v1/reviews", admin, tenant="ruled").json()["data"] == []
    wait_for(lambda: ask(gateway, "ruled", HARD).headers[Header.MODE_SOURCE] == "policy", "the pinned rule")
    answer = ask(gateway, "ruled", HARD)
    kept = get(gateway, f"/v1/decisions/{made(answer)}", key).json()
    assert (kept["mode"], kept["rule"], kept["policy_version"]) == ("no_think", "known-proofs", "1")


def run(gateway: Gateway, *arguments: str, tenant: str = "open", typed: str | None = None) -> tuple[int, str, str]:
    """`pointsman decisions ARGUMENTS`: exit code, stdout, stderr."""
    env = {
        Env.URL: gateway.url,
        Env.API_KEY: gateway.keys[tenant],
        Env.ADMIN_KEY: gateway.admin_key,
        "COLUMNS": "200",
    }
    done = CliRunner().invoke(app, ["decisions", *arguments], env=env, input=typed)
    return done.exit_code, done.stdout, done.stderr


def test_the_command_line_tells_the_story_that_explain_tells(gateway: Gateway) -> None:
    question = f"Why is the sky blue, asked for time {next(_numbers)}?"
    decision = made(ask(gateway, "open", question, headers={Header.MODE: "think"}))
    get(gateway, f"/v1/decisions/{decision}", gateway.keys["open"]).raise_for_status()
    code, shown, _ = run(gateway, "show", decision)
    explained = CliRunner().invoke(app, ["explain", question], env={"COLUMNS": "200"}).stdout
    assert code == 0
    # The line above the table differs: here the client has decided.
    table = [line for line in explained.splitlines() if line.startswith("│")]
    assert len(table) > 5
    assert [line for line in shown.splitlines() if line.startswith("│")] == table
    assert question in shown
    code, listed, _ = run(gateway, "list", "--json", "--limit", "1", "--since", "1h", "--mode", "think")
    assert (code, orjson.loads(listed)["id"]) == (0, decision)
    code, listed, _ = run(gateway, "list", "--all", "--limit", "300")
    assert code == 0
    assert any(line.split()[2:5] == [decision, "open", "think"] for line in listed.splitlines())  # whole, unbroken


def test_the_command_line_corrects_reviews_and_exports(gateway: Gateway, tmp_path: Any) -> None:
    decision = made(ask(gateway, "open", "How far is it to the moon?", headers={Header.MODE: "no_think"}))
    assert run(gateway, "feedback", decision, "--should-think", "--comment", "it was wrong")[0] == 0
    code, asked, _ = run(gateway, "review", typed="t\nindeed\n")
    assert code == 0
    assert "it was wrong" in asked
    assert "1 judged." in asked
    assert run(gateway, "review", "--json")[:2] == (0, "")
    kept = orjson.loads(run(gateway, "show", decision, "--all", "--json")[1])
    assert kept["reviewed"]["comment"] == "indeed"
    assert run(gateway, "review", decision, "--should-not-think", "--comment", "no")[0] == 0
    assert run(gateway, "export", "--output", str(tmp_path / "train.jsonl.xz"))[0] == 0
    rows = [orjson.loads(line) for line in run(gateway, "export", "--since", "1h")[1].splitlines()]
    assert run(gateway, "export", "--tenant", "nobody")[1] == ""
    of_open = [
        orjson.loads(line) for line in run(gateway, "export", "--since", "1h", "--tenant", "open")[1].splitlines()
    ]
    assert of_open == [row for row in rows if row["source"] == "decisions/open"]
    assert {"text": "How far is it to the moon?", "label": 0, "source": "decisions/open"}.items() <= rows[0].items()
    for arguments, code, told in (
        (("show", identity(5)), 1, "no such decision"),
        (("show", "dec-1"), 1, "'id'"),
        (("list", "--since", "soon"), 2, "--since soon is no time"),
        (("list", "--since", "999999d"), 2, "--since 999999d is no time"),
        (("review", decision), 2, "--should-think or --should-not-think"),
        (("review", "--should-think"), 2, "Name the decision"),
        (("review", decision, "--should-think", "--pin", "x", "--match", "["), 2, "--match must be"),
        (("export", "--output", str(tmp_path / "no" / "rows")), 2, "cannot be written"),
    ):
        done = run(gateway, *arguments)
        assert (done[0], done[1]) == (code, "")
        assert told in done[2]


def test_redis_paused_holds_decisions_back_and_loses_none(gateway: Gateway) -> None:
    gateway.valkey.popen.send_signal(signal.SIGSTOP)
    try:
        answers = [ask(gateway, "demo") for _ in range(5)]
        time.sleep(0.6)
    finally:
        gateway.valkey.popen.send_signal(signal.SIGCONT)
    key = gateway.keys["demo"]
    for answer in answers:
        wait_for(lambda: get(gateway, f"/v1/decisions/{made(answer)}", key).status_code == 200, "it")  # noqa: B023
    assert gateway.total(Metric.UNKEPT_DECISIONS) == 0


def test_an_admin_process_that_is_killed_loses_nothing_of_the_stream_and_deletes_what_is_old(
    gateway: Gateway,
) -> None:
    redis = Redis.from_url(gateway.redis_url)
    gateway.admin.stop(signal.SIGKILL)
    answers = [ask(gateway, "demo") for _ in range(3)]
    wait_for(lambda: redis.xlen(RedisKey.DECISIONS) > 0, "the stream")
    # As if it had been killed between reading a batch and writing it: read, and never acknowledged.
    redis.xreadgroup("database", "admin", {RedisKey.DECISIONS: ">"}, count=1)
    redis.xadd(RedisKey.DECISIONS, {"batch": b"[{}, 1, null"})
    redis.xadd(RedisKey.DECISIONS, {"batch": b'[{"id": "x"}, 1]'})
    database = Database(database_url(None, gateway.state))
    old = record(7, at=time.time() - 8 * 86_400)
    DecisionStore(database).add([old, record(8, at=time.time() - 6 * 86_400)])
    database.close()
    assert get(gateway, "/v1/decisions", gateway.keys["demo"]).status_code == 503
    gateway.start_admin()
    wait_for(lambda: get(gateway, "/v1/models", gateway.keys["demo"]).status_code == 200, "admin", gateway.admin)
    for answer in answers:
        get(gateway, f"/v1/decisions/{made(answer)}", gateway.keys["demo"]).raise_for_status()
    assert get(gateway, f"/v1/decisions/{old.id}", gateway.keys["demo"]).status_code == 404
    assert get(gateway, f"/v1/decisions/{identity(8)}", gateway.keys["demo"]).status_code == 200
    wait_for(lambda: redis.xlen(RedisKey.DECISIONS) == 0, "an empty stream")
    assert "can't be read" in gateway.admin.output()


def test_redis_emptied_stops_nothing(gateway: Gateway) -> None:
    redis = Redis.from_url(gateway.redis_url)
    redis.delete(RedisKey.DECISIONS)
    answer = ask(gateway, "demo")
    wait_for(
        lambda: get(gateway, f"/v1/decisions/{made(answer)}", gateway.keys["demo"]).status_code == 200, "the next"
    )


def test_the_last_decisions_reach_the_stream_before_the_router_ends(gateway: Gateway) -> None:
    answer = ask(gateway, "demo")
    os.kill(gateway.router.popen.pid, signal.SIGTERM)
    assert gateway.router.stop() == 0
    database = Database(database_url(None, gateway.state))
    wait_for(lambda: DecisionStore(database).get(made(answer)) is not None, "the last decision")
    database.close()
