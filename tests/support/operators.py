"""The operator's process as the chart runs it: under the chart's ServiceAccount, with its rules and no others."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import httpx
import yaml

from pointsman.contracts.names import Env
from support import forking
from support.control_plane import REPOSITORY, Cluster
from support.gateway import SECRET, Gateway, Process, free_port, wait_for

IMAGE = "registry.example/pointsman/serving:1"
CRDS = sorted((REPOSITORY / "charts/pointsman/crds").glob("*.yaml"))
RELEASE = "pm"
ACCOUNT = f"{RELEASE}-pointsman-operator"


def install_account(cluster: Cluster, namespace: str, *also: str) -> None:
    """Give the chart's ServiceAccount in `namespace` the chart's rules for that namespace, and for `also`."""
    rendered = subprocess.run(
        [
            *(cluster.program("helm"), "template", RELEASE, str(REPOSITORY / "charts/pointsman")),
            *("--namespace", namespace, "--set", f"operator.namespaces={{{','.join((namespace, *also))}}}"),
            *("--show-only", "templates/operator/rbac.yaml", "--show-only", "templates/serviceaccounts.yaml"),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    documents = [each for each in yaml.safe_load_all(rendered) if each]
    for place in (namespace, *also):
        there = [each for each in documents if each["metadata"].get("namespace", namespace) == place]
        cluster.apply(*there, namespace=place)


class Operator:
    """One operator for `namespace` and `also`, before a gateway. Use as a context manager."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        gateway: Gateway,
        folder: Path,
        *,
        identity: str = "operator-1",
        lease_seconds: float = 10.0,
        kubeconfig: Path | None = None,
        also: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        self.identity = identity
        self._gateway = gateway
        self._namespace = namespace
        self._lease_seconds = lease_seconds
        self._kubeconfig = kubeconfig or cluster.kubeconfig_of(
            namespace, ACCOUNT, folder / f"{identity}.kubeconfig"
        )
        self._watched = [f"--namespace={watched}" for watched in (namespace, *also)]
        self._started = 0
        self.process: Process

    def __enter__(self) -> Operator:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it; `leads` says when it works."""
        self._started += 1
        self.port = free_port()
        environment = {
            Env.URL: self._gateway.url,
            Env.ADMIN_KEY: self._gateway.admin_key,
            Env.REDIS_URL: self._gateway.redis_url,
            Env.REPLICA_SECRET: SECRET,
            Env.SERVING_IMAGE: IMAGE,
            Env.RELEASE: RELEASE,
            Env.POD_NAME: self.identity,
            Env.POD_NAMESPACE: self._namespace,
        }
        self.process = Process(
            [
                *(*forking.COMMAND, "operator", *self._watched),
                *("--kubeconfig", str(self._kubeconfig), "--host", "127.0.0.1", "--port", str(self.port)),
                *("--lease-seconds", str(self._lease_seconds)),
            ],
            self.folder / f"{self.identity}-{self._started}.log",
            environment,
        )

    def kill(self) -> None:
        """SIGKILL."""
        if self.process.popen.poll() is None:
            self.process.popen.send_signal(signal.SIGKILL)
            self.process.popen.wait()

    def state(self) -> str:
        """`leading`, `waiting`, or empty where it does not answer."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port}/healthz", timeout=5)
        except httpx.TransportError:
            return ""
        return str(answer.json()["state"])

    def until_leading(self) -> None:
        wait_for(lambda: self.state() == "leading", "the operator to lead", self.process)

    def log(self) -> str:
        return "".join(file.read_text() for file in sorted(self.folder.glob(f"{self.identity}-*.log")))
