"""A simulated replica as a process of its own, for tests: start, order faults, look at what it received, stop."""

from __future__ import annotations

import os
import re
import signal
import tempfile
from collections.abc import Iterable
from typing import Any, Self

import httpx

from pointsman.contracts.names import Env, Header
from support import forking

SECRET = "a secret for tests"


class SimulatedReplica:
    """
    `pointsman simulate-engine` with `options`, running while the block does.

    `base_url` is `http://127.0.0.1:PORT`. It keeps the last 1,000 requests, so that `requests()` can show them.
    """

    def __init__(self, *options: str, secret: str = SECRET) -> None:
        self.secret = secret
        self._client = httpx.Client(timeout=10)
        self._options = options
        self._process: forking.Started | None = None
        self.base_url = ""

    def __enter__(self) -> Self:
        self._errors = tempfile.TemporaryFile("w+")
        reading, writing = os.pipe()
        self._said = open(reading)
        self._process = forking.start(
            ["simulate-engine", "--port", "0", "--keep-requests", "1000", *self._options],
            env={**os.environ, Env.REPLICA_SECRET: self.secret},
            stdout=writing,
            stderr=self._errors.fileno(),
        )
        os.close(writing)
        line = self._said.readline()
        found = re.search(r"on (http://\S+)$", line.strip())
        if found is None:
            self.kill()
            raise AssertionError(f"the simulated engine did not start: {line!r} {self.errors()!r}")
        self.base_url = found[1]
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._errors.close()
        self._client.close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def address(self) -> str:
        """`host:port`, as it registers."""
        return self.base_url.removeprefix("http://")

    @property
    def headers(self) -> dict[str, str]:
        return {Header.REPLICA_SECRET: self.secret}

    def order(self, *faults: dict[str, Any], **order: Any) -> None:
        """Order `faults` for the next requests; `order` is the rest of the body of `POST /simulated/faults`."""
        self._call("POST", "/simulated/faults", json={"next": list(faults), **order})

    def clear_faults(self) -> None:
        self._call("DELETE", "/simulated/faults")

    def received(self) -> int:
        """Requests with the secret since the start or `forget`."""
        return int(self._call("GET", "/simulated/requests")["received"])

    def requests(self) -> list[dict[str, Any]]:
        """What it received: `path`, `headers` (names), `body`, `fault`, `outcome`."""
        kept: list[dict[str, Any]] = self._call("GET", "/simulated/requests")["requests"]
        return kept

    def forget(self) -> None:
        self._call("DELETE", "/simulated/requests")

    def stop(self) -> int:
        """Stop it in order; its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """Kill it as a crash would."""
        return self._end(signal.SIGKILL)

    def ended(self) -> int:
        """Wait for its end, that something else has brought about; its exit code."""
        assert self._process is not None
        return self._process.wait(timeout=15)

    def errors(self) -> str:
        """What it wrote to stderr."""
        self._errors.seek(0)
        return self._errors.read()

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(number)
        code = self._process.wait(timeout=15)
        self._said.close()
        return code

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        response = self._client.request(method, self.base_url + path, headers=self.headers, **arguments)
        assert response.status_code == 200, response.text
        content: dict[str, Any] = response.json()
        return content


def flags(**options: object) -> Iterable[str]:
    """`decode_speed=50` as `--decode-speed 50`, for `SimulatedReplica(*flags(...))`."""
    for name, value in options.items():
        yield f"--{name.replace('_', '-')}"
        yield str(value)
