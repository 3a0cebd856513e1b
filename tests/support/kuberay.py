"""
A stand-in for KubeRay and Ray, which can't run here: it plays what they say of a RayService and what replicas do.

For each RayService of a namespace it runs as many simulated engines as its `serveConfigV2` asks for, which register
with the platform's Redis under the revision they are told, as the replicas of a real one do; and it writes the
status that KubeRay would. What is wrong with a document the real CRD says, in the real API server.
"""

from __future__ import annotations

import json
import signal
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml

from pointsman.contracts.names import Env
from support import forking
from support.control_plane import Cluster
from support.gateway import SECRET, Process, url_of

LOOK = 0.2
"""Seconds between two looks at the RayServices."""


class KubeRay:
    """The stand-in, in a thread. Use as a context manager. `fails`: by `args`, why an application can't start."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        folder: Path,
        redis_url: str,
        fails: Callable[[dict[str, Any]], str | None] = lambda args: None,
    ) -> None:
        self.fails = fails
        self.faults: dict[str, list[str]] = {}
        """Arguments `--fault` of the engines of a model path, given before they start."""
        self.stopped = False
        """Whether it holds still: nothing starts, nothing is written."""
        self.crashed: BaseException | None = None
        self._folder = folder
        self._redis_url = redis_url
        self._replicas: dict[str, list[Process]] = {}
        self._started = 0
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        server = config["clusters"][0]["cluster"]
        self._http = httpx.Client(
            base_url=server["server"],
            verify=ssl.create_default_context(cafile=server["certificate-authority"]),
            headers={"authorization": f"Bearer {config['users'][0]['user']['token']}"},
            timeout=10,
        )
        self._path = f"/apis/ray.io/v1/namespaces/{namespace}/rayservices"
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)

    def __enter__(self) -> KubeRay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        for replicas in self._replicas.values():
            for replica in replicas:
                if replica.popen.poll() is None:
                    replica.popen.kill()
                    replica.popen.wait()
        self._http.close()
        if self.crashed is not None:
            raise self.crashed

    def running(self) -> dict[str, int]:
        """How many replicas each RayService has."""
        return {name: len(replicas) for name, replicas in self._replicas.items() if replicas}

    def replica_url(self, service: str) -> str:
        """Where a replica of the RayService answers."""
        return url_of(self._replicas[service][0])

    def _play(self) -> None:
        while not self._end.wait(LOOK):
            if self.stopped:
                continue
            try:
                answer = self._http.get(self._path).raise_for_status()
                found = {each["metadata"]["name"]: each for each in answer.json()["items"]}
                for name in self._replicas.keys() - found.keys():
                    self._scale(name, 0, {})
                for name, service in found.items():
                    self._bring_up(name, service)
            except httpx.HTTPError:
                continue  # an API server that is away, or a RayService that has just gone
            except BaseException as error:
                self.crashed = error
                return

    def _bring_up(self, name: str, service: dict[str, Any]) -> None:
        application = json.loads(service["spec"]["serveConfigV2"])["applications"][0]
        deployment = application["deployments"][0]
        why = self.fails(application["args"])
        number = deployment["num_replicas"]
        if number == "auto":
            number = deployment["autoscaling_config"]["min_replicas"]
        number = 0 if why else number
        self._scale(name, number, application["args"])
        status = {
            "observedGeneration": service["metadata"]["generation"],
            "numServeEndpoints": number,
            "serviceStatus": "Running" if number else "",
            "activeServiceStatus": {
                "rayClusterName": f"{name}-raycluster",
                "applicationStatuses": {
                    application["name"]: {
                        "status": "DEPLOY_FAILED" if why else "RUNNING",
                        "message": why or "",
                    }
                },
            },
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True" if number else "False",
                    "reason": "NonZeroServeEndpoints" if number else "ZeroServeEndpoints",
                    "message": "",
                    "lastTransitionTime": service["metadata"]["creationTimestamp"],
                }
            ],
        }
        if all((service.get("status") or {}).get(key) == value for key, value in status.items()):
            return
        self._http.patch(
            f"{self._path}/{name}/status",
            content=json.dumps({"status": status}),
            headers={"content-type": "application/merge-patch+json"},
        ).raise_for_status()

    def _scale(self, name: str, number: int, args: dict[str, Any]) -> None:
        replicas = self._replicas.setdefault(name, [])
        while len(replicas) > number:
            replicas.pop().popen.send_signal(signal.SIGTERM)
        while len(replicas) < number:
            replicas.append(self._start(name, args))

    def _start(self, name: str, args: dict[str, Any]) -> Process:
        self._started += 1
        config = self._folder / f"{name}.yaml"
        pool = {**args["pool"], "prices": {"input": 0, "output": 0}}
        config.write_text(yaml.safe_dump({"pools": [pool]}))
        arguments = ["--config", str(config), "--pool", pool["name"], "--revision", args["revision"]]
        for fault in self.faults.get(pool.get("model_path", ""), ()):
            arguments += ["--fault", fault]
        return Process(
            [*forking.COMMAND, "simulate-engine", *arguments, "--redis-url", self._redis_url],
            self._folder / f"{name}-{self._started}.log",
            {Env.REPLICA_SECRET: SECRET},
        )
