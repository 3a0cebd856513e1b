"""Policies that change while the gateway runs: for every worker, soon, for whom they should, and back again."""

from __future__ import annotations

import json
import math
import re
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pytest
import yaml
from redis import Redis
from typer.testing import CliRunner, Result

from pointsman.cli.main import app
from pointsman.contracts.names import Env, Header, Metric, RedisKey
from pointsman.store.policy_projection import PolicyProjection, PolicyVersion, change_of
from support.gateway import DEEP, FAST
from support.policies import Answered, PolicyGateway, Worker, within

TENANTS = (
    {"name": "demo", "policy": {"threshold": 1.0, "default_mode": "no_think"}},
    {"name": "other"},
    {"name": "staged", "policy": {"rules": [{"name": "never", "mode": "no_think"}]}},
    {"name": "failing"},
    {"name": "returning"},
    {"name": "thinker", "policy": {"daily_thinking_tokens": 50}},
)
HASTY = {"place_timeout": 0.3}
ALWAYS = {"policy": {"rules": [{"name": "always", "mode": "think"}]}}
NEVER = {"policy": {"rules": [{"name": "never", "mode": "no_think"}]}}

PROMISED = 2.0
"""Seconds in which a change has reached every worker, of the median of some: one may have to share the machine."""

SOON = 10.0
"""Seconds in which any change has, and in which a candidate has gone back."""

LATER = 60.0
"""Seconds for what is not measured, on a busy machine."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicyGateway]:
    pools = [FAST, {**DEEP, **HASTY}]
    with PolicyGateway(tmp_path_factory.mktemp("gw"), pools=pools, tenants=TENANTS) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def workers(gateway: PolicyGateway) -> Iterator[list[Worker]]:
    workers = gateway.workers()
    yield workers
    for worker in workers:
        worker.close()


def test_a_change_holds_for_the_next_request_of_every_worker(gateway: PolicyGateway, workers: list[Worker]) -> None:
    def all_said(mode: str, source: str) -> bool:
        said = [worker.ask(gateway.keys["demo"]) for worker in workers]
        return all((answer.mode, answer.source) == (mode, source) for answer in said)

    assert all_said("no_think", "predictor")
    put = gateway.admin_api("PUT", "/demo", json=ALWAYS, params={"comment": "finance always thinks"})
    assert (put.status_code, put.headers["etag"], put.json()["version"]) == (200, '"1"', 1)
    took = [within(SOON, lambda: all_said("think", "policy"))]
    other = workers[0].ask(gateway.keys["other"])
    assert other.source != "policy"  # nobody else's

    for document, mode in ((NEVER, "no_think"), (ALWAYS, "think")) * 3:
        gateway.set_policy("demo", document)
        took.append(within(SOON, lambda mode=mode: all_said(mode, "policy")))
    gone = gateway.admin_api("DELETE", "/demo", headers={"if-match": '"7"'})
    assert (gone.status_code, gone.json()["source"], gone.json()["version"]) == (200, "config", 0)
    took.append(within(SOON, lambda: all_said("no_think", "predictor")))
    print("changes after", *map("{:.2f}".format, took), "s")
    assert median(took) < PROMISED

    history = gateway.admin_api("GET", "/demo/history").json()["data"]
    assert [one["version"] for one in history] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert history[0]["document"] is None
    assert (history[-1]["document"], history[-1]["comment"]) == (ALWAYS, "finance always thinks")
    assert history[-1]["updated_by"].startswith("admin key ")


def test_a_former_version_holds_again_as_a_new_one(gateway: PolicyGateway) -> None:
    def back(**options: Any) -> tuple[int, Any]:
        answer = gateway.admin_api("POST", "/returning/rollback", **{"json": {}, **options})
        return answer.status_code, answer.json() if answer.status_code == 200 else answer.json()["error"]["param"]

    assert back() == (400, "to"), "there never was another one"
    for document in (ALWAYS, NEVER):
        gateway.set_policy("returning", document)
    assert back(headers={"if-match": '"1"'})[0] == 412, "of a version that is not the newest"
    assert back(params={"manager": "somebody"})[0] == 409
    status, first = back()
    assert (status, first["version"], first["document"], first["comment"]) == (200, 3, ALWAYS, "back to version 1")
    assert back(json={"to": 2}, params={"comment": "rather not"})[1]["document"] == NEVER
    for nonsense in ({"to": 9}, {"to": -1}, {"to": 2**40}, {"to": "two"}):
        assert back(json=nonsense) == (400, "to")
    assert back(json={"back": 1}) == (400, "back")
    configured = back(json={"to": 0})[1]
    assert (configured["version"], configured["source"]) == (0, "config")
    assert back()[1]["document"] == NEVER, "what held before the configuration's did"
    history = gateway.admin_api("GET", "/returning/history").json()["data"]
    assert [one["comment"] for one in history[:3]] == [
        "back to version 4",
        "back to the configuration's policy",
        "rather not",
    ]


def test_two_writers_and_what_is_no_policy(gateway: PolicyGateway) -> None:
    def refused(method: str, path: str, **options: Any) -> tuple[int, str, str | None]:
        answer = gateway.admin_api(method, path, **options)
        error = answer.json()["error"]
        return answer.status_code, error["code"], error["param"]

    first = gateway.set_policy("other", ALWAYS)
    tag = first.headers["etag"]
    assert gateway.admin_api("PUT", "/other", json=NEVER, headers={"if-match": tag}).status_code == 200
    assert refused("PUT", "/other", json=ALWAYS) == (428, "precondition_required", None)
    for method, path, body in (
        ("PUT", "/other", ALWAYS),
        ("DELETE", "/other", None),
        ("POST", "/other/promote", None),
    ):
        late = refused(method, path, json=body, headers={"if-match": tag})
        assert late == (412, "precondition_failed", None)
    assert refused("PUT", "/other", json=NEVER, headers={"if-match": "W/x"}) == (400, "invalid_value", "if-match")
    assert gateway.admin_api("GET", "/other").json()["document"] == NEVER

    bad = {"candidate": {"policy": {"rules": [{"name": "a", "mode": "fast"}]}}}
    assert refused("PUT", "/other", json=bad) == (400, "invalid_value", "candidate.policy.rules[0].mode")
    misspelt = gateway.admin_api("PUT", "/other", json={"policy": {"treshold": 0.5}}).json()["error"]
    assert misspelt["param"] == "policy.treshold"
    assert "did you mean `threshold`?" in misspelt["message"]
    assert refused("PUT", "/other", content=b"{") == (400, "invalid_json", None)
    assert refused("PUT", "/other", content=b" " * 1_100_000) == (413, "request_too_large", None)
    unknown = b"{%b}" % b",".join(b'"%x":1' % number for number in range(90_000))
    many = gateway.admin_api("PUT", "/other", content=unknown)
    assert (many.status_code, many.json()["error"]["param"]) == (400, "['0']")
    assert many.json()["error"]["message"].endswith("; and more.")
    assert many.elapsed.total_seconds() < 20  # telling all of them takes far longer
    feedback = f"{gateway.url}/v1/decisions/dec-{'0' * 32}/feedback"
    tenant = {"authorization": f"Bearer {gateway.key}"}
    large = httpx.post(feedback, content=unknown, headers=tenant)  # what is wrong with that is not even looked for
    assert (large.status_code, large.json()["error"]["code"]) == (413, "request_too_large")
    longest = httpx.post(feedback, json={"should_think": True, "comment": "\U0001f689" * 2000}, headers=tenant)
    assert longest.json()["error"]["code"] == "decision_not_found"
    assert refused("PUT", "/nobody", json=ALWAYS) == (404, "tenant_not_found", None)
    assert refused("GET", "/nobody/history") == (404, "tenant_not_found", None)
    assert refused("POST", "/other/stage", json={"stage": "canary"}) == (409, "no_candidate", None)
    assert refused("POST", "/other/stage", json={"stage": "live"})[::2] == (400, "stage")
    for method, path in (("GET", ""), ("PUT", "/other"), ("DELETE", "/other"), ("POST", "/other/promote")):
        assert refused(method, path, key=gateway.keys["other"])[:2] == (401, "invalid_api_key")
    page = gateway.client().get("/openapi.json").json()
    described = page["paths"]["/admin/v1/policies/{tenant}"]
    assert {"get", "put", "delete"} <= set(described)
    reference = described["put"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert "candidate" in page["components"]["schemas"][reference.rpartition("/")[2]]["properties"]


def test_redis_emptied(gateway: PolicyGateway, workers: list[Worker]) -> None:
    key = gateway.keys["other"]
    gateway.set_policy("other", NEVER)
    within(LATER, lambda: all(worker.ask(key).source == "policy" for worker in workers))
    with Redis.from_url(gateway.redis_url) as redis:
        redis.flushall()
        gateway.set_policy("demo", NEVER)  # at once: it alone must not look like all there is
        for _ in range(20):
            assert all(worker.ask(key).source == "policy" for worker in workers)  # what is known holds

        def projected() -> bool:
            entry = redis.hget(RedisKey.POLICIES, "other")
            return redis.exists(RedisKey.POLICIES_REVISION) == 1 and entry is not None

        within(LATER, projected)
        entry = json.loads(redis.hget(RedisKey.POLICIES, "other") or b"")
        assert entry["document"] == NEVER
        assert all(worker.ask(key).source == "policy" for worker in workers)
        assert redis.hexists(RedisKey.POLICIES, "demo")
        redis.hdel(RedisKey.POLICIES, "other")  # as one that comes back with what it had long ago
        redis.set(RedisKey.POLICIES_REVISION, "long ago")
        within(LATER, lambda: redis.hexists(RedisKey.POLICIES, "other") == 1)
        late = PolicyVersion("other", 1, json.dumps(ALWAYS), 0, "an admin process that was stopped for a while", "")
        PolicyProjection(redis).put([change_of(late)])
        assert json.loads(redis.hget(RedisKey.POLICIES, "other") or b"")["document"] == NEVER
    gateway.set_policy("other", ALWAYS)
    within(LATER, lambda: all(worker.ask(key).mode == "think" for worker in workers))


def test_a_canary_is_for_its_share_of_conversations_and_always_the_same(
    gateway: PolicyGateway, workers: list[Worker]
) -> None:
    key, share, conversations = gateway.keys["staged"], 0.3, 150
    patient = {"disagreement": 1.0, "errors": 1.0, "escalations": 1.0}  # else it would soon be sent back
    candidate = {**ALWAYS, "stage": "observe", "share": share, "limits": patient}
    gateway.set_policy("staged", {**NEVER, "candidate": candidate})
    assert all(worker.ask(key).mode == "no_think" for worker in workers)
    moved = gateway.admin_api("POST", "/staged/stage", json={"stage": "canary"})
    assert moved.json()["document"]["candidate"] == {**candidate, "stage": "canary"}

    def canaries(worker: Worker) -> set[int]:
        asked = ((number, worker.ask(key, f"question {number}", max_tokens=1)) for number in range(conversations))
        return {number for number, answer in asked if answer.mode == "think"}

    first, second = workers
    within(LATER, lambda: any(first.ask(key, f"x{number}").mode == "think" for number in range(30)))
    within(LATER, lambda: any(second.ask(key, f"x{number}").mode == "think" for number in range(30)))
    chosen = canaries(first)
    assert chosen == canaries(second)
    deviation = math.sqrt(conversations * share * (1 - share))
    assert abs(len(chosen) - conversations * share) < 4 * deviation
    turns = [{"role": "user", "content": "question 0"}, {"role": "assistant", "content": "a"}]
    turns.append({"role": "user", "content": "and then?"})
    assert (first.ask(key, messages=turns, max_tokens=1).mode == "think") == (0 in chosen)

    gateway.admin_api("POST", "/staged/stage", json={"stage": "enforce"}).raise_for_status()
    within(LATER, lambda: all(worker.ask(key, f"y{n}").mode == "think" for worker in workers for n in range(5)))
    promoted = gateway.admin_api("POST", "/staged/promote").json()
    assert promoted["document"] == ALWAYS


def test_thinking_tokens_of_a_day(gateway: PolicyGateway, workers: list[Worker]) -> None:
    key, wish = gateway.keys["thinker"], {Header.MODE: "think"}
    first, second = workers
    spent = 0
    while spent < 50:
        answer = first.ask(key, headers=wish)
        assert (answer.mode, answer.source) == ("think", "client")
        spent += answer.body["usage"]["reasoning_tokens"]
    within(LATER, lambda: all(worker.ask(key, headers=wish).source == "budget" for worker in workers))
    degraded = second.ask(key, headers=wish)
    assert (degraded.status, degraded.mode, degraded.headers[Header.OVERRULED]) == (200, "no_think", "client")
    with Redis.from_url(gateway.redis_url) as redis:
        (name,) = redis.keys(RedisKey.THINKING.format(day="*"))
        assert int(redis.hget(name, "thinker") or 0) >= spent
        assert 0 < redis.ttl(name) <= 2 * 86_400

    refusing = {"policy": {"daily_thinking_tokens": 50, "on_thinking_budget_spent": "refuse"}}
    gateway.set_policy("thinker", refusing)
    within(LATER, lambda: all(worker.ask(key, headers=wish).status == 429 for worker in workers))
    refused = first.ask(key, headers=wish)
    assert refused.body["error"]["code"] == "thinking_budget_spent"
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    assert first.ask(key, headers={Header.MODE: "no_think"}).status == 200
    gateway.set_policy("thinker", {"policy": {"daily_thinking_tokens": 100_000}})
    within(LATER, lambda: all(worker.ask(key, headers=wish).mode == "think" for worker in workers))


def test_a_candidate_under_which_engines_fail_goes_back_by_itself(
    gateway: PolicyGateway, workers: list[Worker]
) -> None:
    key, (deep,) = gateway.keys["failing"], gateway.engines["deep"]
    limits = {"errors": 0.2, "disagreement": 1.0, "at_least": 10, "window": 60.0}
    candidate = {**ALWAYS, "stage": "enforce", "limits": limits}
    gateway.set_policy("failing", {**NEVER, "candidate": candidate})
    ended: list[float] = []

    def ask(worker: Worker) -> Answered:
        answer = worker.ask(key, "a secret question")
        if answer.mode == "think":
            ended.append(time.time())
        return answer

    within(LATER, lambda: all(ask(worker).mode == "think" for worker in workers))
    deep.faults({"kind": "error", "times": None})
    try:
        within(LATER, lambda: all(ask(worker).status == 200 for worker in workers))
    finally:
        deep.forget()
    newest = gateway.admin_api("GET", "/failing/history").json()["data"][0]
    counted = re.search(r" in (\d+) requests of the last 60 s ", newest["comment"])
    assert counted
    took = datetime.fromisoformat(newest["updated_at"]).timestamp() - ended[int(counted[1]) - 1]
    print(f"back {took:.2f} s after the last request that counted")
    assert took < SOON + 1
    assert newest["updated_by"] == "pointsman"
    assert newest["comment"].startswith("back from enforce to canary: errors ")
    labels = {"tenant": "failing", "stage": "enforce", "reason": "errors"}
    assert gateway.total(Metric.STAGE_RETURNS, **labels) == 1
    assert "the new policy of failing went back from enforce to canary" in gateway.logs()
    assert "secret" not in gateway.logs()


def test_redis_away(gateway: PolicyGateway, workers: list[Worker]) -> None:
    key = gateway.keys["other"]
    gateway.set_policy("other", NEVER)
    within(LATER, lambda: all(worker.ask(key).mode == "no_think" for worker in workers))
    gateway.valkey.stop(signal.SIGKILL)
    assert not gateway.set_policy("other", ALWAYS).json()["live"]
    assert all(worker.ask(key).mode == "no_think" for worker in workers)  # what is known holds
    gateway.start_valkey()
    within(LATER, lambda: all(worker.ask(key).mode == "think" for worker in workers))
    assert gateway.admin_api("GET", "/other").json()["live"]


def test_the_command_line(gateway: PolicyGateway, workers: list[Worker], tmp_path: Path) -> None:
    def pointsman(*arguments: str | Path, key: str | None = None) -> Result:
        variables = {Env.URL: gateway.url, Env.ADMIN_KEY: key or gateway.admin_key}
        return CliRunner().invoke(app, ["policies", *map(str, arguments)], env=variables)

    file = tmp_path / "policy.yaml"
    file.write_text(
        "policy:\n  threshold: 0.25\ncandidate:\n  policy:\n    rules:\n      - {name: a, mode: maybe}\n"
    )
    wrong = pointsman("set", "demo", file)
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert (
        wrong.stderr == f"{file}: candidate.policy.rules[0].mode: must be think or no_think, not maybe (line 6)\n"
    )
    file.write_text(file.read_text().replace("maybe", "think"))
    done = pointsman("set", "demo", file, "--comment", "trial")
    assert done.exit_code == 0, done.stderr
    version = int(done.stdout.split()[2].rstrip(","))
    assert done.stdout == f"demo: version {version}, candidate in observe\n"
    shown = pointsman("show", "demo")
    assert yaml.safe_load(shown.stdout) == yaml.safe_load(file.read_text())
    assert "default_mode: think" in pointsman("show", "demo", "--defaults").stdout
    moved = pointsman("stage", "demo", "canary", "--share", "0.2")
    assert moved.stdout == f"demo: version {version + 1}, candidate in canary 0.2\n"
    late = pointsman("promote", "demo", "--if-version", version)
    assert (late.exit_code, late.stderr[:25]) == (1, "This policy has been chan")
    assert pointsman("promote", "demo").stdout == f"demo: version {version + 2}\n"
    lines = pointsman("history", "demo").stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == [str(version + 2), str(version + 1), str(version)]
    assert lines[2].endswith("trial")
    assert json.loads(pointsman("history", "demo", "--json").stdout)["data"][0]["comment"] == "promoted"
    (line,) = [line for line in pointsman("list").stdout.splitlines() if line.startswith("demo ")]
    assert line.split()[1:4] == [str(version + 2), "1", "-"]
    assert pointsman("delete", "demo").stdout == "demo: the configuration's\n"
    nobody = pointsman("show", "nobody")
    assert (nobody.exit_code, nobody.stderr) == (1, "There is no tenant of this name.\n")
    assert "wants an admin key" in pointsman("list", key=gateway.key).stderr
    lost = pointsman("list", "--url", "http://127.0.0.1:1")
    assert (lost.exit_code, lost.stdout) == (2, "")
    assert lost.stderr.startswith("No router answers at http://127.0.0.1:1 (ConnectError).")
