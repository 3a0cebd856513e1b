"""A tenant's predictor on the running platform: brought in, chosen by a policy, named by records, rolled back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from typer.testing import CliRunner, Result

from pointsman.cli.main import app
from pointsman.contracts.names import Env, Header, RedisKey
from pointsman.router.predictor import adaptation, artefact, corpus, tenant_rows
from pointsman.router.predictor.artefact import Weights
from support.gateway import Gateway, wait_for
from support.tenant_rows import ticket_rows, written

LATER = 60.0
"""Seconds for what is not measured, on a busy machine."""

QUESTION = "Rota ticket: the scanner is slow today."
"""Needs to think, by what the tenant has taught its predictor; by the platform's own it does not."""

TENANTS = ({"name": "acme", "decisions": {"prompts": True}}, {"name": "other"})


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    rows = tenant_rows.load(written(tmp_path_factory.mktemp("rows") / "rows.jsonl", ticket_rows()))
    own = corpus.own_rows()[:: len(corpus.own_rows()) // 100]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "own_rows", lambda: own)
        return adaptation.adapt(artefact.read(), rows, name="acme", created="2026-11-22", progress=print)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gw"), tenants=TENANTS) as gateway:
        yield gateway


class Platform:
    """The gateway as its operator and its tenants see it."""

    def __init__(self, gateway: Gateway, folder: Path) -> None:
        self.gateway = gateway
        self.folder = folder

    def run(self, *arguments: str) -> Result:
        env = {Env.URL: self.gateway.url, Env.ADMIN_KEY: self.gateway.admin_key, "COLUMNS": "200"}
        return CliRunner().invoke(app, arguments, env=env)

    def said(self, *arguments: str) -> str:
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def file(self, weights: Weights, name: str) -> str:
        artefact.write(weights, self.folder / name)
        return str(self.folder / name)

    def choose(self, tenant: str, text: str) -> Result:
        (self.folder / "policy.yaml").write_text(text)
        return self.run("policies", "set", tenant, str(self.folder / "policy.yaml"))

    def ask(self, tenant: str = "acme") -> httpx.Response:
        key = {"authorization": f"Bearer {self.gateway.keys[tenant]}"}
        body = {"model": "smollm2", "max_tokens": 64, "messages": [{"role": "user", "content": QUESTION}]}
        return httpx.post(
            f"{self.gateway.url}/v1/chat/completions", json=body, headers=key, timeout=30
        ).raise_for_status()

    def mode(self, tenant: str = "acme") -> str:
        return self.ask(tenant).headers[Header.MODE]

    def record(self, answer: httpx.Response, tenant: str = "acme") -> dict[str, Any]:
        key = {"authorization": f"Bearer {self.gateway.keys[tenant]}"}
        url = f"{self.gateway.url}/v1/decisions/{answer.headers[Header.DECISION_ID]}"
        wait_for(lambda: httpx.get(url, headers=key).status_code == 200, "the record", seconds=LATER)
        found: dict[str, Any] = httpx.get(url, headers=key).json()
        return found

    def soon(self, mode: str) -> None:
        wait_for(lambda: self.mode() == mode, f"mode {mode}", seconds=LATER)

    def refused(self, method: str, path: str, **options: Any) -> tuple[int, str, str | None]:
        key = options.pop("key", self.gateway.admin_key)
        answer = httpx.request(
            method, f"{self.gateway.url}{path}", headers={"authorization": f"Bearer {key}"}, timeout=30, **options
        )
        error = answer.json()["error"]
        return answer.status_code, error["code"], error["param"]


@pytest.fixture
def platform(gateway: Gateway, tmp_path: Path) -> Platform:
    return Platform(gateway, tmp_path)


def test_from_training_to_rollback(platform: Platform, weights: Weights) -> None:
    base, version = artefact.read().version, weights.version
    unknown = platform.choose("acme", f"policy: {{predictor: {version}}}")
    assert unknown.exit_code == 1
    assert "policy.predictor: there is no predictor" in unknown.output
    before = platform.ask()
    assert (before.headers[Header.MODE], platform.record(before)["predictor"]) == ("no_think", base)

    assert platform.said("predictors", "put", platform.file(weights, "acme.weights")).strip() == version
    wait_for(lambda: (platform.gateway.state / "predictors" / f"{version}.weights").exists(), "it", seconds=LATER)
    first = platform.choose("acme", "policy: {threshold: 0.5}")
    assert first.exit_code == 0, first.output
    candidate = f"policy: {{threshold: 0.5}}\ncandidate: {{policy: {{predictor: {version}}}, stage: observe}}"
    assert platform.choose("acme", candidate).exit_code == 0

    def in_the_shadow() -> bool:
        return platform.record(platform.ask())["shadow"] == "think"

    wait_for(in_the_shadow, "the candidate's own predictor to be asked", seconds=LATER)
    observed = platform.record(platform.ask())
    assert (observed["mode"], observed["predictor"]) == ("no_think", base)
    platform.said("policies", "promote", "acme")
    platform.soon("think")
    after = platform.ask()
    record = platform.record(after)
    assert (record["mode"], record["source"], record["predictor"]) == ("think", "predictor", version)
    assert float(after.headers[Header.THINK_PROBABILITY]) == pytest.approx(record["probability"], abs=1e-3)
    assert any("Rota" in each["feature"] for each in record["evidence"])  # explained by the weights that judged
    assert sum(each["contribution"] for each in record["evidence"]) > 0
    assert platform.mode("other") == "no_think"
    assert "acme" in platform.said("predictors", "list")
    shown = json.loads(platform.said("predictors", "show", version, "--json"))
    assert (shown["base"], shown["used_by"], shown["passed"], shown["live"]) == (base, ["acme"], True, True)
    assert shown["report"]["gate"] == weights.report["gate"]
    used = platform.run("predictors", "delete", version)
    assert (used.exit_code, "acme" in used.output) == (1, True)
    path = f"/admin/v1/predictors/{version}"
    assert platform.refused("DELETE", path) == (409, "predictor_in_use", None)

    platform.said("policies", "rollback", "acme", "--to", "1")
    platform.soon("no_think")
    assert platform.record(platform.ask())["predictor"] == base
    platform.said("policies", "rollback", "acme", "--to", "3")
    platform.soon("think")
    platform.said("policies", "rollback", "acme")
    platform.soon("no_think")
    judged = json.loads(platform.said("policies", "simulate", "acme", "--threshold", "0.5", "--json"))
    assert judged["predictors"].keys() == {base, version}
    assert "configuration's" in platform.said("policies", "delete", "acme")
    platform.said("predictors", "delete", version)
    assert platform.refused("GET", path) == (404, "predictor_not_found", None)
    gone = platform.run("policies", "rollback", "acme", "--to", "3")
    assert (gone.exit_code, "there is no predictor" in gone.output) == (1, True)
    audit = platform.said("audit", f"predictor:{version}")
    assert "predictors.put" in audit
    assert "predictors.delete" in audit


def test_what_has_not_passed_the_gate_needs_force(platform: Platform, weights: Weights) -> None:
    gate = {**weights.report["gate"], "passed": False, "reason": "It is not better for the tenant."}
    failed = replace(weights, name="failed", report={"gate": gate})
    elsewhere = replace(weights, name="elsewhere", base="base-2025-01-01-0123456789")
    for made, told in ((failed, "not better for the tenant"), (elsewhere, "adapted from base-2025")):
        file = platform.file(made, f"{made.name}.weights")
        refused = platform.run("predictors", "put", file)
        assert (refused.exit_code, told in refused.output) == (1, True)
        assert platform.said("predictors", "put", file, "--force", "--comment", "a trial").strip() == made.version
        shown = platform.said("predictors", "show", made.version)
        assert "forced" in shown
        assert told in shown
        platform.said("predictors", "delete", made.version)


def test_what_is_no_tenants_predictor_is_refused(platform: Platform, weights: Weights) -> None:
    path = "/admin/v1/predictors"
    whole = artefact.packed(weights)
    wrong = (400, "invalid_value", "body")
    assert platform.refused("POST", path, content=b"") == wrong
    assert platform.refused("POST", path, content=b"PK\x03\x04") == wrong
    assert platform.refused("POST", path, content=whole[:-1]) == wrong
    assert platform.refused("POST", path, content=artefact.BUNDLED.read_bytes()) == wrong
    assert platform.refused("POST", path, content=whole + bytes(4_100_000))[:2] == (413, "request_too_large")
    tenants_key = platform.gateway.keys["acme"]
    assert platform.refused("POST", path, content=b"x", key=tenants_key)[0] == 401
    assert platform.refused("GET", path, key=tenants_key)[0] == 401
    assert platform.refused("GET", f"{path}/nobody") == (404, "predictor_not_found", None)
    asked = {"policy": {"predictor": "acme"}}
    assert platform.refused("PUT", "/admin/v1/policies/other", json=asked)[2] == "policy.predictor"
    made = {"name": "new", "candidate": {"policy": {"predictor": weights.version}}}
    assert platform.refused("POST", "/admin/v1/tenants", json=made)[2] == "candidate.policy.predictor"


def test_redis_lost_and_the_router_started_anew(platform: Platform, weights: Weights) -> None:
    platform.said("predictors", "put", platform.file(weights, "acme.weights"))
    assert platform.choose("acme", f"policy: {{predictor: {weights.version}}}").exit_code == 0
    platform.soon("think")
    gateway = platform.gateway
    Redis.from_url(gateway.redis_url).flushall()
    assert platform.mode() == "think"
    gateway.router.stop()
    gateway.start_router()
    wait_for(lambda: gateway.startupz() == 200, "the router to start", gateway.router)
    platform.soon("think")
    with Redis.from_url(gateway.redis_url) as redis:
        wait_for(lambda: redis.hlen(RedisKey.PREDICTORS) == 1, "Redis to have it again", seconds=LATER)
    assert platform.record(platform.ask())["predictor"] == weights.version
