"""A namespace with everything that a ModelPool needs to come true, and what tests ask of it."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from typing import Any

import httpx

from support.control_plane import Cluster
from support.gateway import Gateway, wait_for
from support.kuberay import KubeRay
from support.operators import Operator

CONVERGED = 180.0
"""Seconds to wait until everything is as it should be, on a busy machine."""

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

    def apply(self, to: str, **changes: Any) -> None:
        """Let the ModelPool `to` have the usual spec, changed by `changes`; None leaves a field out."""
        spec = {**SPEC, "model": to, **changes}
        document = {
            "apiVersion": "pointsman.dev/v1alpha1",
            "kind": "ModelPool",
            "metadata": {"name": to},
            "spec": {key: value for key, value in spec.items() if value is not None},
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
        try:
            wait_for(holds, what, self.operator.process, seconds=seconds)
        except AssertionError as error:
            pools = self.cluster.list("modelpool", namespace=self.namespace)
            found = {each["metadata"]["name"]: each.get("status") for each in pools}
            raise AssertionError(f"{error}\n{json.dumps(found, indent=1)}") from None

    def until_ready(self, name: str, replicas: int = 2) -> None:
        def ready() -> bool:
            status = self.status(name)
            return bool(status.get("phase") == "Ready" and status.get("readyReplicas") == replicas)

        self.until(ready, f"pool {name} to be ready with {replicas} replicas")

    def delete(self, name: str) -> None:
        self.cluster.kubectl("delete", "modelpool", name, "-n", self.namespace, "--timeout=180s")


class Load:
    """
    Requests for one model, one after the other, from a few threads. Use as a context manager.

    Each begins a conversation of its own, as it is these that choose between versions.
    """

    def __init__(self, gateway: Gateway, model: str) -> None:
        self._gateway, self._model = gateway, model
        self._end = threading.Event()
        self._statuses: list[int] = []
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(3)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def failed(self) -> int:
        """Requests so far that were not answered well."""
        return sum(1 for status in self._statuses if status != 200)

    def _ask(self) -> None:
        with self._gateway.client() as client:
            for number in itertools.count():
                if self._end.wait(0.02):
                    return
                question = chat(self._model, f"Hello {threading.get_ident()} {number}")
                self._statuses.append(client.post("/v1/chat/completions", json=question).status_code)


def chat(model: str, question: str = "Hello") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 8}
