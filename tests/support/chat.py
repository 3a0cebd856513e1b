"""A router in a hundred lines for `pointsman chat`: it speaks the format and does as each test says."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support import forking

KEY = "pk-test"
TRACK = {
    "x-request-id": "req-1",
    "x-pointsman-mode": "think",
    "x-pointsman-mode-source": "predictor",
    "x-pointsman-think-probability": "0.9312",
    "x-pointsman-threshold": "0.5",
    "x-pointsman-pool": "deep",
}
USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 30,
    "prompt_tokens_details": {"cached_tokens": 4},
    "reasoning_tokens": 20,
}


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


END: list[Any] = [
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": USAGE, "pointsman": {"cost_usd": "0.000001234"}},
    "[DONE]",
]


class Call(BaseHTTPRequestHandler):
    """One request of the command; its test decides how it is answered."""

    protocol_version = "HTTP/1.1"
    server: StubServer

    def do_GET(self) -> None:
        if self.headers["authorization"] != f"Bearer {KEY}":
            self.refuse(401, "wrong key", "invalid_api_key")
            return
        self.whole(200, json.dumps({"object": "list", "data": [{"id": "small"}, {"id": "large"}]}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.stub.calls.append((dict(self.headers), body))
        self.server.stub.answer(self)

    def whole(self, status: int, text: str, **headers: str) -> None:
        data = text.encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status: int, message: str, code: str, **headers: str) -> None:
        error = {"message": message, "type": "x", "param": None, "code": code}
        self.whole(status, json.dumps({"error": error}), **headers)

    def start(self, headers: dict[str, str] = TRACK) -> None:
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()

    def send(self, *events: Any, cut: int = 1 << 20) -> None:
        """Send `events`, `cut` bytes at a time."""
        for event in events:
            data = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
            text = f"data: {data}\n\n".encode()
            for start in range(0, len(text), cut):
                self.wfile.write(text[start : start + cut])
                self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class StubServer(ThreadingHTTPServer):
    daemon_threads = True
    stub: StubRouter


@dataclass
class StubRouter:
    """`answer` answers each question; `calls` are the headers and bodies that came."""

    answer: Callable[[Call], None]
    url: str = ""
    calls: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)

    def says(self, *events: Any, headers: dict[str, str] = TRACK, cut: int = 1 << 20) -> None:
        def answer(call: Call) -> None:
            call.start(headers)
            call.send(*events, cut=cut)

        self.answer = answer


def environment(**extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}
    return {**kept, "COLUMNS": "200", "TERM": "xterm", **extra}


def chat(
    *arguments: str, stdin: str | None = None, key: str | None = KEY, **extra: str
) -> subprocess.CompletedProcess[str]:
    """`pointsman chat` as a script calls it."""
    env = environment(**extra, **({"POINTSMAN_API_KEY": key} if key else {}))
    return forking.run(["chat", *arguments], stdin=stdin or "", env=env, timeout=200)


class Terminal:
    """`pointsman chat` in a pseudo-terminal: type, read, press Ctrl-C."""

    def __init__(self, *arguments: str) -> None:
        self.screen = ""
        self._descriptor, theirs = os.openpty()
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        env = environment(POINTSMAN_API_KEY=KEY)
        self._process = forking.start(["chat", *arguments], **streams, env=env, terminal=True)
        os.close(theirs)

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def until(self, pattern: str, *, seconds: float = 90) -> str:
        """All that was shown since the last call, up to `pattern`."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.screen, re.DOTALL)):
            readable, _, _ = select.select([self._descriptor], [], [], max(0, deadline - time.monotonic()))
            assert readable, f"no {pattern!r} in {self.screen!r}"
            try:
                self.screen += os.read(self._descriptor, 65536).decode(errors="replace")
            except OSError:
                raise AssertionError(f"ended without {pattern!r}: {self.screen!r}") from None
        shown, self.screen = self.screen[: found.end()], self.screen[found.end() :]
        return shown

    def interrupt_until(self, pattern: str) -> None:
        """Press Ctrl-C until `pattern` is shown: one just before readline begins to wait is lost."""
        for _ in range(20):
            self.type("\x03")
            try:
                self.until(pattern, seconds=1)
            except AssertionError:
                continue
            return
        raise AssertionError(f"no {pattern!r} in {self.screen!r}")

    def exit_code(self) -> int:
        while True:  # drain, or the child waits for us for ever
            try:
                if not os.read(self._descriptor, 65536):
                    break
            except OSError:
                break
        return self._process.wait(90)

    def close(self) -> None:
        """Take the terminal away: the command gets SIGHUP."""
        os.close(self._descriptor)
