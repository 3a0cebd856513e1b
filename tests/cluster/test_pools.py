"""ModelPools on a real API server: what people write is what routers serve, and the status says how that stands."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from support.control_plane import Cluster, neighbours
from support.gateway import Gateway, wait_for
from support.kuberay import KubeRay
from support.operators import CRDS, Operator, install_account

CONVERGED = 30.0
"""Seconds within which everything is as it should be."""

SPEC: dict[str, Any] = {
    "model": "smollm2",
    "modes": ["no_think"],
    "engine": "simulated",
    "modelPath": "/models/one",
    "replicas": 2,
    "prices": {"input": "0.02", "output": "0.06"},
    "engineArgs": {"simulated": {"decode_speed": 2000, "answer_tokens": 4}},
    "upgrade": {"shares": [0.5], "hold": 2.0, "atLeast": 5},
    "deployment": {"drainTimeout": 20.0},
}


class Stage:
    """A namespace with an operator, the stand-in for KubeRay, and a gateway that has no pools of its own."""

    def __init__(
        self, cluster: Cluster, namespace: str, gateway: Gateway, kuberay: KubeRay, operator: Operator
    ) -> None:
        self.cluster, self.namespace = cluster, namespace
        self.gateway, self.kuberay, self.operator = gateway, kuberay, operator

    def apply(self, name: str, **changes: Any) -> None:
        document = {
            "apiVersion": "pointsman.dev/v1alpha1",
            "kind": "ModelPool",
            "metadata": {"name": name},
            "spec": {**SPEC, "model": name, **changes},
        }
        self.cluster.kubectl(
            *("apply", "--server-side", "--force-conflicts", "-n", self.namespace, "-f", "-"),
            stdin=json.dumps(document),
        )

    def pool(self, name: str) -> dict[str, Any]:
        found = self.cluster.get("modelpool", name, namespace=self.namespace)
        return dict(found or {})

    def status(self, name: str) -> dict[str, Any]:
        return dict(self.pool(name).get("status") or {})

    def condition(self, name: str, kind: str) -> dict[str, Any]:
        conditions = self.status(name).get("conditions") or []
        return dict(next((each for each in conditions if each["type"] == kind), {}))

    def services(self, name: str) -> list[str]:
        selector = f"pointsman.dev/pool={name}"
        found = self.cluster.list("rayservice", "-l", selector, namespace=self.namespace)
        return [each["metadata"]["name"] for each in found]

    def ask(self, model: str) -> httpx.Response:
        with self.gateway.client() as client:
            return client.post(
                "/v1/chat/completions",
                json={"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8},
            )

    def events(self, name: str) -> set[str]:
        found = self.cluster.list("events", namespace=self.namespace)
        return {each["reason"] for each in found if each["involvedObject"]["name"] == name}

    def until(self, holds: Callable[[], bool], what: str, seconds: float = CONVERGED) -> None:
        wait_for(holds, what, self.operator.process, seconds=seconds)

    def until_ready(self, name: str, replicas: int = 2) -> None:
        def ready() -> bool:
            status = self.status(name)
            return bool(status.get("phase") == "Ready" and status.get("readyReplicas") == replicas)

        self.until(ready, f"pool {name} to be ready with {replicas} replicas")

    def delete(self, name: str) -> None:
        self.cluster.kubectl("delete", "modelpool", name, "-n", self.namespace, "--timeout=60s")


@pytest.fixture(scope="module")
def stage(fork_server: None, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    if not neighbours():
        pytest.skip("KubeRay's CRDs are not beside the control plane")
    cluster.install_crds(*CRDS)
    folder = tmp_path_factory.mktemp("pl")
    with (
        cluster.namespace("pools") as namespace,
        Gateway(folder, pools=()) as gateway,
        KubeRay(cluster, namespace, folder, gateway.redis_url, _fails) as kuberay,
    ):
        install_account(cluster, namespace)
        with Operator(cluster, namespace, gateway, folder) as operator:
            operator.until_leading()
            yield Stage(cluster, namespace, gateway, kuberay, operator)


def _fails(args: dict[str, Any]) -> str | None:
    return "no such folder: /models/missing" if args["pool"]["model_path"] == "/models/missing" else None


def test_a_pool_comes_answers_changes_and_goes(stage: Stage) -> None:
    stage.apply("chat")
    stage.until_ready("chat")
    assert stage.ask("chat").json()["choices"][0]["message"]["content"]
    status = stage.status("chat")
    assert status["observedGeneration"] == stage.pool("chat")["metadata"]["generation"]
    assert status["replicas"] == 2
    assert stage.services("chat") == [f"chat-{status['revision']}"]
    budget = stage.cluster.get("poddisruptionbudget", "chat", namespace=stage.namespace)
    assert budget["spec"]["minAvailable"] == 1
    assert stage.cluster.get("networkpolicy", "chat", namespace=stage.namespace)

    stage.apply("chat", replicas=3, prices={"input": "0.03", "output": "0.09"})
    stage.until_ready("chat", 3)
    assert stage.status("chat")["revision"] == status["revision"], "nothing is restarted for that"

    with stage.gateway.client() as client:
        slow = {**_chat("chat"), "stream": True, "max_tokens": 400}
        with client.stream("POST", "/v1/chat/completions", json=slow) as answer:
            lines = answer.iter_lines()
            next(lines)
            stage.cluster.kubectl("delete", "modelpool", "chat", "-n", stage.namespace, "--wait=false")
            assert list(lines)[-2:].count("data: [DONE]") == 1, "a running answer is finished"
    stage.until(lambda: not stage.pool("chat"), "the pool to go")
    stage.until(lambda: not stage.services("chat"), "its RayService to go")
    stage.until(lambda: stage.kuberay.running() == {}, "its replicas to go")
    stage.until(
        lambda: not stage.cluster.list("secret", "-l", "pointsman.dev/pool=chat", namespace=stage.namespace),
        "its Secret to go",
    )
    assert stage.ask("chat").status_code == 404
    assert {"VersionStarted", "Draining"} <= stage.events("chat")


def _chat(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
