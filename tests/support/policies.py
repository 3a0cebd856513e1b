"""Two workers behind one port, a connection to each of them, and the admin API of policies."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import psutil

from pointsman.contracts.names import Header
from support.gateway import Gateway, wait_for


@dataclass(frozen=True)
class Answered:
    """What a client saw of one answer: status, headers in lower case, body."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def mode(self) -> str | None:
        return self.headers.get(Header.MODE)

    @property
    def source(self) -> str | None:
        return self.headers.get(Header.MODE_SOURCE)


class Worker:
    """A kept connection, which is one to always the same worker."""

    def __init__(self, gateway: Gateway) -> None:
        self._wire = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        self._wire.connect()
        self.port: int = self._wire.sock.getsockname()[1]

    def ask(
        self, key: str, question: str = "hello", *, headers: dict[str, str] | None = None, **fields: Any
    ) -> Answered:
        """One short question that is not streamed."""
        body = {"model": "smollm2", "max_tokens": 64, "messages": [{"role": "user", "content": question}], **fields}
        self._wire.request(
            "POST",
            "/v1/chat/completions",
            json.dumps(body),
            {"authorization": f"Bearer {key}", "content-type": "application/json", **(headers or {})},
        )
        answer = self._wire.getresponse()
        return Answered(
            answer.status,
            {name.lower(): value for name, value in answer.getheaders()},
            json.loads(answer.read()),
        )

    def close(self) -> None:
        self._wire.close()


class PolicyGateway(Gateway):
    """A gateway whose router is two processes, which can be asked one by one."""

    def start_router(self) -> None:
        self.router = self._command(
            "router",
            *("--config", str(self.config), "--redis-url", self.redis_url, "--state-dir", str(self.state)),
            *("--port", str(self.port), "--workers", "2"),
        )

    def workers(self) -> list[Worker]:
        """A connection to each of the two workers, once both listen."""

        def listening() -> bool:
            said = re.findall(r"router\.process\[\d+\]: listening", self.router.output())
            return len(said) == 2

        wait_for(listening, "both workers to listen", self.router)
        found: dict[int, Worker] = {}
        processes = psutil.Process(self.router.popen.pid).children()
        while len(found) < 2:
            worker = Worker(self)
            worker.ask(self.key)  # it is accepted by now
            (owner,) = [
                process.pid
                for process in processes
                if any(end.raddr and end.raddr.port == worker.port for end in process.net_connections("tcp"))
            ]
            if owner in found:
                worker.close()
            else:
                found[owner] = worker
        return list(found.values())

    def admin_api(self, method: str, path: str = "", *, key: str | None = None, **options: Any) -> httpx.Response:
        """One request to `/admin/v1/policies` and what is below it, with the admin key."""
        headers = {"authorization": f"Bearer {key or self.admin_key}", **options.pop("headers", {})}
        url = f"{self.url}/admin/v1/policies{path}"
        return httpx.request(method, url, headers=headers, timeout=30, **options)

    def set_policy(self, tenant: str, document: dict[str, Any]) -> httpx.Response:
        """Let `document` hold for `tenant`, whatever held before."""
        tag = self.admin_api("GET", f"/{tenant}").headers["etag"]
        answer = self.admin_api("PUT", f"/{tenant}", json=document, headers={"if-match": tag})
        assert answer.status_code == 200, answer.text
        return answer


def within(seconds: float, condition: Callable[[], bool]) -> float:
    """Seconds until `condition` held; fails where that takes longer than `seconds`."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, f"not within {seconds} s"
        time.sleep(0.02)
    took = time.monotonic() - begun
    assert took < seconds, f"took {took:.2f} s"
    return took
