"""A gateway with its web console, and those who log in there without a browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from support import forking
from support.chat import environment
from support.gateway import DEEP, FAST, Gateway, Process, free_port, wait_for

COOKIE = "pointsman_session"

DEAR = {"input": 400, "output": 600}
"""Dollars per million tokens at which no request costs less than a cent."""

DEAR_POOLS = (
    {**FAST, "prices": {**DEAR, "cached_input": 200}},
    {**DEEP, "prices": {**DEAR, "reasoning": 800}},
)


class ConsoleGateway(Gateway):
    """The processes of a gateway and one of `pointsman console`."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self.console_port = free_port()
        self.console_url = f"http://127.0.0.1:{self.console_port}"
        self.console: Process

    def __enter__(self) -> ConsoleGateway:
        super().__enter__()
        try:
            self.start_console()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def start_console(self) -> None:
        """Start it, and wait until it answers."""
        self.console = self._command(
            *("console", "--redis-url", self.redis_url, "--url", self.url, "--port", str(self.console_port))
        )
        wait_for(self.console_answers, "the console to start", self.console)

    def console_answers(self) -> bool:
        try:
            return httpx.get(f"{self.console_url}/healthz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def logs(self) -> str:
        return super().logs() + self.console.output()

    def traffic(self, *keys: str, rate: float = 20, seconds: int = 5, seed: int = 1) -> dict[str, Any]:
        """What `pointsman traffic` reports that asked for `seconds` with `keys`; the first tenant's by default."""
        whose = [word for key in keys or (self.key,) for word in ("--tenant-key", key)]
        options = ("--rate", str(rate), "--for", f"{seconds}s", "--seed", str(seed), "--feedback", "0.3")
        said = forking.run(
            ["traffic", "--json", "--url", self.url, *whose, *options],
            env=environment(),
            timeout=seconds + 60,
        )
        assert said.returncode == 0, said.stdout + said.stderr
        report: dict[str, Any] = json.loads(said.stdout)
        return report


def logged_in(url: str, key: str) -> httpx.Client:
    """A client that has logged in with `key` at the console at `url`; it sends what a browser sends by itself."""
    client = httpx.Client(base_url=url, timeout=30, headers={"origin": url, "sec-fetch-site": "same-origin"})
    answer = client.post("/login", data={"key": key})
    assert answer.status_code == 303, answer.text
    return client
