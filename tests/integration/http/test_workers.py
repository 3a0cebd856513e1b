"""Several workers behind one port: all serve, one that dies is replaced, counters are summed, all drain."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from pointsman.contracts.names import Metric
from support.gateway import FAST, Gateway, refuses, wait_for

SLOW = {"decode_speed": 20, "answer_tokens": 40, "keep_requests": 200}
PATIENT = {**FAST, "engine_args": {"simulated": SLOW}}


class TwoWorkers(Gateway):
    """A gateway whose router is two processes and their parent."""

    def start_router(self) -> None:
        self.router = self._command(
            "router",
            *("--config", str(self.config), "--redis-url", self.redis_url, "--state-dir", str(self.state)),
            *("--port", str(self.port), "--workers", "2"),
        )

    def workers(self) -> list[int]:
        """The processes that the router has now; none where it has ended."""
        try:
            return sorted(child.pid for child in psutil.Process(self.router.popen.pid).children())
        except psutil.NoSuchProcess:
            return []

    def listening(self) -> set[int]:
        """The workers that have begun to listen."""
        said = re.findall(r"router\.process\[(\d+)\]: listening", self.router.output())
        return set(map(int, said)) & set(self.workers())

    def pauses(self) -> list[float]:
        """Seconds that the places of workers that ended were said to stay empty, in order."""
        return [float(said) for said in re.findall(r"its place is filled in ([\d.]+) s", self.router.output())]

    def counters(self, pid: int) -> int:
        """Requests in the counters of one process."""
        path = self.state / "metrics" / f"counter_{pid}.db"
        return path.read_bytes().count(Metric.REQUESTS.encode()) if path.exists() else 0

    def ask(self, *, max_tokens: int = 1) -> httpx.Response:
        """One request on a connection of its own."""
        body = {
            "model": "smollm2:no_think",
            "max_tokens": max_tokens,
            "messages": [{"role": "user", "content": "hello"}],
        }
        with self.client() as client:
            return client.post("/v1/chat/completions", json=body)


@pytest.fixture
def gateway(folder: Path) -> Iterator[TwoWorkers]:
    with TwoWorkers(folder, pools=[PATIENT], router={"drain_timeout": 10.0}) as gateway:
        wait_for(lambda: len(gateway.listening()) == 2, "both workers to listen", gateway.router)
        yield gateway


def test_both_serve_sums_are_right_and_a_dead_one_is_replaced(gateway: TwoWorkers) -> None:
    first, second = gateway.workers()
    for _ in range(24):
        assert gateway.ask().status_code == 200
    wait_for(lambda: gateway.counters(first) and gateway.counters(second), "both to count", gateway.router)
    wait_for(lambda: gateway.total(Metric.REQUESTS) == 24, "the sum", gateway.router)
    assert gateway.total(Metric.IN_FLIGHT) == 0
    assert gateway.total(Metric.REPLICAS, pool="fast") == 1  # every worker counts the same replica

    psutil.Process(first).kill()
    wait_for(lambda: first not in gateway.workers(), "its end to be noticed", gateway.router)
    for _ in range(12):
        assert gateway.ask().status_code == 200  # the other one serves
    wait_for(lambda: len(gateway.listening()) == 2, "the place to be filled", gateway.router)
    assert second in gateway.workers()
    assert "worker 1 ended (SIGKILL), its place is filled in 0.5 s" in gateway.router.output()
    wait_for(lambda: gateway.total(Metric.REQUESTS) == 36, "the sum", gateway.router)
    assert gateway.total(Metric.IN_FLIGHT) == 0


def test_a_parent_that_was_paused_while_a_place_was_empty_fills_it(gateway: TwoWorkers) -> None:
    """As a machine or a container is that somebody freezes for a while."""
    for times in range(1, 5):
        first, second = gateway.workers()
        psutil.Process(first).kill()
        wait_for(lambda times=times: len(gateway.pauses()) == times, "its end to be told", gateway.router)
        gateway.router.popen.send_signal(signal.SIGSTOP)
        in_time = gateway.workers() == [second]
        time.sleep(gateway.pauses()[-1] + 0.2)
        gateway.router.popen.send_signal(signal.SIGCONT)
        wait_for(lambda: len(gateway.listening()) == 2, "the place to be filled", gateway.router)
        assert second in gateway.workers()
        assert gateway.ask().status_code == 200
        if in_time:
            return
    raise AssertionError("it was never paused in time")


def stream(gateway: Gateway, tokens: int = 40) -> socket.socket:
    """A connection on which an answer has begun that takes as long as `tokens`, twenty a second."""
    body = {
        "model": "smollm2:no_think",
        "max_tokens": tokens,
        "ignore_eos": True,
        "stream": True,
        "messages": [{"role": "user", "content": "hello"}],
    }
    data = json.dumps(body).encode()
    wire = socket.create_connection(("127.0.0.1", gateway.port), timeout=60)
    wire.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
        % (gateway.key.encode(), len(data), data)
    )
    received = b""
    while b"data: " not in received:
        piece = wire.recv(100_000)
        assert piece, received
        received += piece
    return wire


def test_sigterm_drains_all_and_a_second_one_ends_at_once(folder: Path) -> None:
    with TwoWorkers(folder, pools=[PATIENT], router={"drain_timeout": 10.0}) as gateway:
        wait_for(lambda: len(gateway.listening()) == 2, "both workers to listen", gateway.router)
        pids = gateway.workers()
        wires = [stream(gateway) for _ in range(6)]
        gateway.router.popen.send_signal(signal.SIGTERM)
        wait_for(lambda: refuses(gateway.port), "new connections to be refused", gateway.router)
        for wire in wires:
            text = b""
            while piece := wire.recv(100_000):
                text += piece
            assert text.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            wire.close()
        assert gateway.router.popen.wait(60) == 0
        assert not any(psutil.pid_exists(pid) for pid in pids)

        rewritten = gateway.config.read_text().replace("drain_timeout: 10.0", "drain_timeout: 60.0")
        gateway.config.write_text(rewritten)
        gateway.start_router()
        wait_for(lambda: len(gateway.listening()) == 2, "both workers to listen", gateway.router)
        wire = stream(gateway, tokens=800)
        gateway.router.popen.send_signal(signal.SIGTERM)
        wait_for(lambda: refuses(gateway.port), "the first one to be heeded", gateway.router)
        began = time.monotonic()
        gateway.router.popen.send_signal(signal.SIGTERM)
        assert gateway.router.popen.wait(60) == 0
        assert time.monotonic() - began < 20  # the answer takes 40 s, and may
        wire.close()


def test_workers_do_not_outlive_their_parent(gateway: TwoWorkers) -> None:
    workers = [psutil.Process(pid) for pid in gateway.workers()]
    gateway.router.popen.kill()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive


def test_one_worker_needs_no_parent(folder: Path) -> None:
    with Gateway(folder, pools=[FAST]) as gateway:
        assert not psutil.Process(gateway.router.popen.pid).children()
