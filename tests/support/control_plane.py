"""
A real Kubernetes API server for the tests: etcd, kube-apiserver and, where present, kube-controller-manager.

Where it comes from, the first that is there: the cluster of `KUBECONFIG`; the programs in the folder
`KUBEBUILDER_ASSETS` (the convention of envtest); the folder `POINTSMAN_CONTROL_PLANE`, which is
`../shared/tools/control-plane` beside the repository unless it is set. With none of them `NoControlPlane` says
what was looked for, and the tests skip with that.

A process of its own starts and ends it, so that the workers of one run of pytest share one: each holds a lock on a
file for as long as it uses it, and the process ends once nobody does, whatever became of the workers. A worker that
comes later, when all others have left, starts another.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from support.envtest import Envtest, die_with_parent

REPOSITORY = Path(__file__).resolve().parents[2]
READY = 120.0  # seconds until a control plane answers, on a busy machine


class NoControlPlane(Exception):
    """There is nothing here to start a control plane from; the message says what was looked for."""


class Started(Protocol):
    """What both ways to start a control plane offer."""

    kubeconfig: Any
    processes: dict[str, subprocess.Popen[bytes]]

    def start(self) -> Any: ...

    def stop(self) -> None: ...

    def dead(self) -> list[str]: ...


def folder() -> Path:
    """Where the unpacked programs of the default control plane are looked for; need not exist."""
    return Path(os.environ.get("POINTSMAN_CONTROL_PLANE") or REPOSITORY.parent / "shared/tools/control-plane")


def neighbours() -> list[Path]:
    """The CRDs of those whose objects Pointsman writes: KubeRay, prometheus-operator, Gateway API, KEDA."""
    return sorted((folder().parents[1] / "data/crds").glob("*.yaml"))


def programs() -> Path:
    """The folder of kubectl, etcd and kube-apiserver; unpacks the default ones on their first use."""
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        if not (Path(assets) / "kube-apiserver").exists():
            raise NoControlPlane(f"KUBEBUILDER_ASSETS is {assets}, where there is no kube-apiserver")
        return Path(assets)
    if not (folder() / "unpack.sh").exists():
        raise NoControlPlane(
            f"no cluster to test on: KUBECONFIG and KUBEBUILDER_ASSETS are not set, and {folder()} is not there"
        )
    done = subprocess.run([folder() / "unpack.sh"], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def prepared(work: Path) -> Started:
    """A control plane that will keep its files in `work`, not started yet."""
    if os.environ.get("KUBEBUILDER_ASSETS"):
        return Envtest(programs(), work)
    spec = importlib.util.spec_from_file_location("start_control_plane", folder() / "start_control_plane.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    started: Started = module.ControlPlane(bin_dir=str(programs()), work_dir=str(work), timeout=READY)
    return started


@dataclass(frozen=True)
class Cluster:
    """A running API server, and its administrator."""

    kubeconfig: Path
    bin: Path | None
    """Where kubectl and helm are; None: on the PATH."""

    def program(self, name: str) -> str:
        return str(self.bin / name) if self.bin and (self.bin / name).exists() else name

    def kubectl(
        self, *args: str, stdin: str | None = None, check: bool = True, kubeconfig: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`kubectl ARGS` as the administrator, or with another kubeconfig; an error carries what it printed."""
        done = subprocess.run(
            [self.program("kubectl"), "--kubeconfig", str(kubeconfig or self.kubeconfig), *args],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(args)}: {done.stdout}{done.stderr}")
        return done

    def apply(self, *documents: dict[str, Any], namespace: str = "default") -> None:
        """Apply the documents on the server's side."""
        self.kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=yaml.safe_dump_all(documents))

    def get(self, *args: str, namespace: str = "default") -> Any:
        """What `kubectl get ARGS -o json` prints, or None where there is no such object."""
        done = self.kubectl("get", *args, "-n", namespace, "-o", "json", "--ignore-not-found")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def list(self, *args: str, namespace: str = "default") -> list[Any]:
        """The items of `kubectl get ARGS -o json`, where ARGS name a kind and perhaps a selector."""
        found = self.get(*args, namespace=namespace)
        return found["items"] if found else []

    def install_crds(self, *files: Path) -> None:
        """
        Apply the CRDs and wait until the API server takes objects of them.

        Unvalidated by kubectl, since the default control plane's own schema of a CRD is older than CEL rules.
        """
        if not files:
            return
        names = [f"--filename={file}" for file in files]
        self.kubectl("apply", "--server-side", "--force-conflicts", "--validate=false", *names)
        self.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)

    @contextlib.contextmanager
    def namespace(self, prefix: str = "test") -> Iterator[str]:
        """A fresh namespace, deleted afterwards without waiting for it."""
        name = f"{prefix}-{uuid.uuid4().hex[:8]}"
        self.kubectl("create", "namespace", name)
        try:
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false")

    def kubeconfig_of(self, namespace: str, service_account: str, to: Path, *, seconds: int = 3600) -> Path:
        """Write a kubeconfig for `service_account` with a token of TokenRequest to the file `to`."""
        answer = self.kubectl(
            *("create", "--raw", f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token"),
            *("-f", "-"),
            stdin=json.dumps(
                {
                    "apiVersion": "authentication.k8s.io/v1",
                    "kind": "TokenRequest",
                    "spec": {"expirationSeconds": seconds},
                }
            ),
        )
        config = yaml.safe_load(self.kubeconfig.read_text())
        current = next(c for c in config["contexts"] if c["name"] == config["current-context"])["context"]
        config["users"] = [
            {"name": current["user"], "user": {"token": json.loads(answer.stdout)["status"]["token"]}}
        ]
        current["namespace"] = namespace
        to.touch(0o600)
        to.write_text(yaml.safe_dump(config))
        return to


@contextlib.contextmanager
def shared(work: Path) -> Iterator[Cluster]:
    """
    The control plane of this run of tests, with the neighbours' CRDs; `work` is a folder that all workers share.

    Raises `NoControlPlane` where there is none.
    """
    if given := os.environ.get("KUBECONFIG"):
        cluster = Cluster(Path(given), None)
        cluster.install_crds(*neighbours())
        yield cluster
        return
    binaries = programs()
    work.mkdir(parents=True, exist_ok=True)
    with (work / "users.lock").open("w") as users, (work / "start.lock").open("w") as starting:
        fcntl.flock(users, fcntl.LOCK_SH)  # held by everyone who uses it, for as long as they do
        fcntl.flock(starting, fcntl.LOCK_EX)
        said = work / "started.json"
        fresh = not said.exists()
        if fresh:
            start_keeper(work, said)
        cluster = Cluster(Path(json.loads(said.read_text())["kubeconfig"]), binaries)
        if fresh:
            cluster.install_crds(*neighbours())
        fcntl.flock(starting, fcntl.LOCK_UN)
        yield cluster


@contextlib.contextmanager
def private(work: Path) -> Iterator[tuple[Cluster, Started]]:
    """A control plane of one's own, for tests that stop or restart its parts; ends with the block."""
    if os.environ.get("KUBECONFIG"):
        raise NoControlPlane("KUBECONFIG names a cluster whose parts are not ours to restart")
    started = prepared(work)
    started.start()
    try:
        cluster = Cluster(Path(started.kubeconfig), programs())
        cluster.install_crds(*neighbours())
        yield cluster, started
    finally:
        started.stop()


@contextlib.contextmanager
def away(plane: Started, name: str) -> Iterator[None]:
    """Kill the process `name` of a private control plane; it is started again, as it was, after the block."""
    process = plane.processes[name]
    environment = dict(
        entry.split("=", 1) for entry in Path(f"/proc/{process.pid}/environ").read_text().split("\0") if entry
    )
    process.kill()
    process.wait()
    try:
        yield
    finally:
        plane.processes[name] = subprocess.Popen(
            process.args,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )


def start_keeper(work: Path, said: Path) -> None:
    """Start the process that keeps the shared control plane, and wait until it says that all answers."""
    with (work / "keeper.log").open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "support.control_plane", str(work)],
            cwd=REPOSITORY / "tests",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + READY + 10
    while not said.exists():
        if keeper.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"the control plane did not start: {(work / 'keeper.log').read_text()[-3000:]}")
        time.sleep(0.1)


def keep(work: Path) -> None:
    """Start a control plane below `work`, keep it for as long as somebody holds `users.lock`, and stop it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    plane = prepared(Path(tempfile.mkdtemp(prefix="plane-", dir=work)))
    said = work / "started.json"
    try:
        plane.start()
        (work / "started.new").write_text(json.dumps({"kubeconfig": str(plane.kubeconfig)}))
        (work / "started.new").rename(said)
        with (work / "users.lock").open("r") as users:
            while not plane.dead():
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    said.unlink()  # who comes now waits for the lock, finds nothing said, and starts another
                    return
                time.sleep(0.5)
            raise SystemExit(f"ended by itself: {', '.join(plane.dead())}")
    finally:
        plane.stop()


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
