"""
A control plane from the programs of envtest: etcd, kube-apiserver, and kube-controller-manager if it is there.

Beside `control_plane` because it is one of its sources: only flags that every version since 1.20 knows are used.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import yaml

PATIENCE = 90.0  # seconds that each part may take until it answers


def free_ports(count: int) -> list[int]:
    """Distinct free ports of loopback: all are held until the last is found."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Envtest:
    """etcd, kube-apiserver and perhaps kube-controller-manager, on loopback, with the files in `work`."""

    def __init__(self, programs: Path, work: Path) -> None:
        self.programs = programs
        self.work = work
        self.kubeconfig = work / "kubeconfig"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._token = secrets.token_hex(24)

    def start(self) -> None:
        """Start all and return when they answer; raises RuntimeError with the end of the log of what did not."""
        self.work.mkdir(parents=True, exist_ok=True)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all processes, etcd last."""
        for process in reversed(self.processes.values()):
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    def dead(self) -> list[str]:
        """Names of the processes that have ended."""
        return [name for name, process in self.processes.items() if process.poll() is not None]

    def _start(self) -> None:
        client, peer, secure = free_ports(3)
        etcd, self.url = f"http://127.0.0.1:{client}", f"https://127.0.0.1:{secure}"
        self._certify()
        tokens = self.work / "tokens.csv"
        tokens.touch(0o600)
        tokens.write_text(f'{self._token},admin,admin,"system:masters"\n')
        self._spawn(
            "etcd",
            f"--data-dir={self.work / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
        )
        self._until("etcd", lambda: self._answers(f"{etcd}/health"))
        manager = (self.programs / "kube-controller-manager").exists()
        self._spawn(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={secure}",
            f"--tls-cert-file={self._file('server.crt')}",
            f"--tls-private-key-file={self._file('server.key')}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            f"--service-account-key-file={self._file('sa.pub')}",
            f"--service-account-signing-key-file={self._file('sa.key')}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--allow-privileged=true",
            *([] if manager else ["--disable-admission-plugins=ServiceAccount"]),
        )
        self._until("kube-apiserver", lambda: self._answers(f"{self.url}/readyz"))
        self._write_kubeconfig()
        if manager:
            self._spawn(
                "kube-controller-manager",
                f"--kubeconfig={self.kubeconfig}",
                "--leader-elect=false",
                "--secure-port=0",
                f"--service-account-private-key-file={self._file('sa.key')}",
                f"--root-ca-file={self._file('server.crt')}",
            )
            account = f"{self.url}/api/v1/namespaces/default/serviceaccounts/default"
            self._until("kube-controller-manager", lambda: self._answers(account))

    def _file(self, name: str) -> Path:
        return self.work / name

    def _certify(self) -> None:
        def openssl(*args: str) -> None:
            subprocess.run(["openssl", *args], check=True, capture_output=True)

        openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=kube-apiserver"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost,IP:10.0.0.1"),
            *("-keyout", str(self._file("server.key")), "-out", str(self._file("server.crt"))),
        )
        openssl("genrsa", "-out", str(self._file("sa.key")), "2048")
        openssl("rsa", "-in", str(self._file("sa.key")), "-pubout", "-out", str(self._file("sa.pub")))

    def _write_kubeconfig(self) -> None:
        self.kubeconfig.touch(0o600)
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "local",
                    "clusters": [
                        {
                            "name": "local",
                            "cluster": {
                                "server": self.url,
                                "certificate-authority": str(self._file("server.crt")),
                            },
                        }
                    ],
                    "users": [{"name": "local", "user": {"token": self._token}}],
                    "contexts": [{"name": "local", "context": {"cluster": "local", "user": "local"}}],
                }
            )
        )

    def _spawn(self, name: str, *args: str) -> None:
        with self._file(f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [str(self.programs / name), *args],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.work,
                env=dict(os.environ),
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def _answers(self, url: str) -> bool:
        context = None
        if url.startswith("https"):
            context = ssl.create_default_context(cafile=str(self._file("server.crt")))
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self._token}"})
        try:
            with urllib.request.urlopen(request, timeout=5, context=context) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _until(self, name: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not ready():
            if self.dead() or time.monotonic() > deadline:
                log = self._file(f"{name}.log").read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{name} did not start:\n{log}")
            time.sleep(0.1)
