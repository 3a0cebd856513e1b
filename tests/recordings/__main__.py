"""Record the conversations anew: `PYTHONPATH=tests python -m recordings [simulated|sglang]`.

A small proxy stands between the SDKs and the router, which keeps what either of them sends; `sglang` starts real
engines, which takes some minutes. One line of JSON a conversation is written to `ENGINE.jsonl` beside this file.
"""

from __future__ import annotations

import http.client
import json
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anthropic
import openai

from recordings import conversations
from recordings.conversations import Conversation
from support.gateway import DEEP, FAST, Gateway
from support.platform import READY, Platform

_PASSED_ON = ("content-type", "authorization", "x-api-key", "anthropic-version", "x-pointsman-thinking-budget")
FOLDER = Path(__file__).parent
HOLD = {"chat": conversations.chat, "messages": conversations.messages, "responses": conversations.responses}
CONVERSATIONS = {"simulated": conversations.SIMULATED, "sglang": conversations.SGLANG}


class Recorder(ThreadingHTTPServer):
    """Passes requests on to the router at `target`, and keeps what was asked and answered, oldest first."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target.removeprefix("http://")
        self.kept: list[dict[str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Recorder

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        router = http.client.HTTPConnection(self.server.target, timeout=300)
        sent = {name: self.headers[name] for name in _PASSED_ON if name in self.headers}
        router.request("POST", self.path, body, sent)
        answer = router.getresponse()
        told = answer.read()
        asked = json.loads(body)
        self.server.kept.append(
            {"path": self.path.partition("?")[0], "asked": asked, "status": answer.status, "told": told.decode()}
        )
        self.send_response(answer.status)
        self.send_header("content-type", answer.headers["content-type"])
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, format: str, *arguments: Any) -> None: ...


@contextmanager
def simulated(folder: Path) -> Iterator[tuple[str, str]]:
    """A gateway's URL and key, with engines that say little."""
    able = {"capabilities": {"tools": True, "images": True}}
    short = {"simulated": {"decode_speed": 400, "answer_tokens": 8, "thinking_tokens": 6}}
    pools = [{**pool, **able, "engine_args": short} for pool in (FAST, DEEP)]
    with Gateway(folder, pools=pools) as gateway:
        yield gateway.url, gateway.key


@contextmanager
def sglang(folder: Path) -> Iterator[tuple[str, str]]:
    """The URL and key of `pointsman up` with real engines."""
    platform = Platform(folder)
    try:
        platform.until_ready(seconds=READY)
        yield platform.url, platform.key
        platform.end(signal.SIGTERM, seconds=40)
    finally:
        platform.destroy()


def recorded(url: str, key: str, told: Conversation, spoken: str, *, stream: bool) -> dict[str, Any]:
    """One conversation, held in the format `spoken`."""
    recorder = Recorder(url)
    threading.Thread(target=recorder.serve_forever, daemon=True).start()
    try:
        client: Any
        if spoken == "messages":
            client = anthropic.Anthropic(base_url=recorder.url, api_key=key, max_retries=0, timeout=300)
        else:
            client = openai.OpenAI(base_url=f"{recorder.url}/v1", api_key=key, max_retries=0, timeout=300)
        HOLD[spoken](client, told, stream=stream)
    finally:
        recorder.shutdown()
        recorder.server_close()
    return {"name": told.name, "format": spoken, "streamed": stream, "exchanges": recorder.kept}


def record(engine: str, url: str, key: str) -> None:
    """Hold all conversations that are meant for this engine at the router at `url`."""
    lines = []
    for number, told in enumerate(CONVERSATIONS[engine]):
        for place, spoken in enumerate(told.formats):
            stream = bool((number + place) % 2)
            lines.append(json.dumps(recorded(url, key, told, spoken, stream=stream), ensure_ascii=False))
            print(f"{told.name}, {spoken}{', streamed' if stream else ''}: {len(lines[-1])} bytes")
    (FOLDER / f"{engine}.jsonl").write_text("\n".join(lines) + "\n")


def main(engine: str = "simulated") -> None:
    start = {"simulated": simulated, "sglang": sglang}[engine]
    with tempfile.TemporaryDirectory() as folder, start(Path(folder)) as (url, key):
        record(engine, url, key)


if __name__ == "__main__":
    main(*sys.argv[1:2])
