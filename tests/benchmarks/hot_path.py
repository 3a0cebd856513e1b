"""What a request costs in the data plane without sockets: `python -m benchmarks.hot_path`, microseconds of CPU.

From the bytes that a client sent to the bytes that leave for it, by way of the bytes to and from an engine: every
step is the real one, with the ledger's spool and the metrics in files as always, and only the sockets and Redis are
played. So a figure is the work of this code alone; what the kernel takes for the sockets comes to it, and is
measured by `benchmarks.gateway`. Each figure is the best of many rounds in processor time, so that what else the
machine does matters little. With `--against FOLDER`, another checkout of this repository, processes of both take
turns and the ratio is told too: that is how to see a few per cent. With `--tenants NUMBER` or
`--replicas NUMBER`, routers that know few and many of them take turns in one process.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import json
import os
import pstats
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, cast

import orjson
from redis.asyncio import Redis

from pointsman.contracts.config import Config
from pointsman.contracts.tenants import key_digest, new_key
from pointsman.router.application import Application
from pointsman.router.data_plane import DataPlane
from pointsman.router.http.clients import Clients
from pointsman.router.http.server import ClientConnection
from pointsman.router.http.upstream import UpstreamConnection
from pointsman.store.tenant_projection import encoded_entry

ROOT = Path(__file__).parents[2]
TOKENS = 64
REQUESTS = 200
"""Requests in one round: some ten milliseconds."""

_TEXT = "the track is long and points are thrown by hand before each train that comes down the line from north"
_WORDS = _TEXT.split()
_SHARED = {
    "model": "bench",
    "family": "qwen3",
    "reasoning_parser": "qwen3",
    "engine": "openai",
    "max_ongoing_requests": 10_000,
    "prices": {"input": 0.02, "output": 0.06},
}


class _Transport:
    """A socket's stand-in: keeps the last thing that was written."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written = data

    def get_extra_info(self, name: str) -> Any:
        return None

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


class _EngineSide(_Transport):
    """The same for the connection to an engine: tells who is asked."""

    def __init__(self, connection: UpstreamConnection, asked: list[UpstreamConnection]) -> None:
        super().__init__()
        self._connection = connection
        self._asked = asked

    def write(self, data: bytes) -> None:
        super().write(data)
        self._asked.append(self._connection)


class HotPath:
    """
    One client's connection, the real steps, and engines that answer at once.

    The router knows `tenants`, as the admin process has made them; the first `asking` of them ask in turn. Each of
    the two pools has so many `replicas`.
    """

    def __init__(self, folder: Path, *, tenants: int = 1, asking: int = 1, replicas: int = 1) -> None:
        keys = [new_key() for _ in range(asking)]
        urls = [f"http://127.0.0.1:{port}" for port in range(1, 1 + 2 * replicas)]
        pools = [
            {"name": name, "modes": [mode], "urls": where, **_SHARED}
            for name, mode, where in (("fast", "no_think", urls[:replicas]), ("deep", "think", urls[replicas:]))
        ]
        config = Config.model_validate({"pools": pools, "router": {"decisions_per_second": 1}})
        redis = Redis.from_url("unix:///nowhere")  # which no request waits for, and nobody connects to here
        plane = self._plane = DataPlane(config, state_dir=folder, secret="s", redis=redis, impatient_redis=redis)
        for state in plane.fleet.pools.values():
            for replica in state.replicas.values():
                replica.healthy = True
            state.refresh()
        for number in range(tenants):
            digest = key_digest(keys[number]) if number < asking else secrets.token_hex(32)
            document = json.dumps({"name": f"tenant-{number}"})
            made = encoded_entry(1, document, [{"id": f"key-{number:016x}", "digest": digest}])
            plane.snapshot.tenants.take(f"tenant-{number}", made)
        nobody = cast(Any, None)
        application = Application(plane.snapshot, plane.pipeline, plane.health, nobody, plane.metrics)
        self._client = ClientConnection(Clients(application, config.router))
        self._client_side = _Transport()
        self._client.connection_made(cast(Any, self._client_side))
        self._in_use: list[UpstreamConnection] = []
        for state in plane.fleet.pools.values():
            for replica in state.replicas.values():
                connection = UpstreamConnection(replica.site)
                connection.connection_made(cast(Any, _EngineSide(connection, self._in_use)))
                replica.site.release(connection)
        self._heads = [
            (
                "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
                f"accept: */*\r\nauthorization: Bearer {key}\r\ncontent-length: "
            ).encode()
            for key in keys
        ]
        self._asked = 0

    def ask(self, request: bytes, reads: list[bytes]) -> None:
        """One `request` whose engine's answer comes in `reads`."""
        self._client.data_received(request)
        if not self._in_use:
            raise AssertionError(f"refused: {self._client_side.written[:500]!r}")
        connection = self._in_use.pop()
        for data in reads:
            connection.data_received(data)
        if connection.busy or not self._client_side.written.endswith((b"}", b"0\r\n\r\n")):
            raise AssertionError(f"no answer: {self._client_side.written[:200]!r}")

    def tidy(self) -> None:
        """What the ledger's task does beside the requests: what the database has needs no place on the disk."""
        ledger = self._plane.ledger
        ledger._spool.forget(ledger._spool.number)
        ledger._fresh.clear()

    def request(self, *, stream: bool) -> bytes:
        """About half a kilobyte, and no question twice."""
        self._asked += 1
        words = [_WORDS[(self._asked * 7 + place * place) % len(_WORDS)] for place in range(70)]
        content = f"Question {self._asked}: {' '.join(words)}?"
        asked = {"model": "bench", "messages": [{"role": "user", "content": content}], "max_tokens": 256}
        body = orjson.dumps(
            {**asked, "stream": True, "stream_options": {"include_usage": True}} if stream else asked
        )
        return b"%b%d\r\n\r\n%b" % (self._heads[self._asked % len(self._heads)], len(body), body)


def _whole() -> bytes:
    message = {"role": "assistant", "content": "The points are thrown before the train comes. " * 4}
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "bench",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": TOKENS, "total_tokens": 100 + TOKENS},
    }
    body = orjson.dumps(answer)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    return head + body


def _chunk(choices: list[Any], usage: Any = None) -> bytes:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "bench"}
    event = b"data: %b\n\n" % orjson.dumps({**head, "choices": choices, "usage": usage})
    return b"%x\r\n%b\r\n" % (len(event), event)


def _streamed() -> list[bytes]:
    """Head, tokens, finish, usage and end mark, each by itself."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    tokens = [
        _chunk([{"index": 0, "delta": {"content": f" token {number}" + "." * 30}, "finish_reason": None}])
        for number in range(TOKENS)
    ]
    finish = _chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    usage = _chunk([], {"prompt_tokens": 100, "completion_tokens": TOKENS, "total_tokens": 100 + TOKENS})
    return [head + tokens[0], *tokens[1:], finish, usage, b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"]


_UNARY = [_whole()]
_STREAM = _streamed()
_TOGETHER = [b"".join(_STREAM[at : at + 8]) for at in range(0, len(_STREAM), 8)]


_READS = {"unary": _UNARY, "stream": _STREAM, "stream, several a read": _TOGETHER}
KINDS = tuple(_READS)


def _round(path: HotPath, kind: str, times: int) -> int:
    """Nanoseconds of processor time for so many requests."""
    reads, ask = _READS[kind], path.ask
    requests = [path.request(stream=kind != "unary") for _ in range(times)]
    began = time.thread_time_ns()
    for request in requests:
        ask(request, reads)
    took = time.thread_time_ns() - began
    path.tidy()
    return took


async def _measured(folder: Path, rounds: int) -> dict[str, float]:
    path = HotPath(folder)
    best = dict.fromkeys(KINDS, float("inf"))
    for _ in range(rounds):
        for kind in KINDS:
            # The best round is the one that nothing disturbed: short ones have the better chance.
            times = REQUESTS if kind == "unary" else REQUESTS // 4
            best[kind] = min(best[kind], _round(path, kind, times) / times / 1000)
    return best


async def _by_tenants(folder: Path, rounds: int, tenants: int) -> None:
    """Print what a whole answer costs where few and many tenants are known, and ask, by turns in one process."""
    shapes = [(known, asking) for known in (1, 1000, tenants) for asking in (1, 1000, tenants) if asking <= known]
    paths = {
        f"{asking:9,} of {known:9,} tenants ask": HotPath(folder / f"{at}", tenants=known, asking=asking)
        for at, (known, asking) in enumerate(dict.fromkeys(shapes))
    }
    _by_turns(paths, rounds, first=max(tenants, 1000))


async def _by_replicas(folder: Path, rounds: int, replicas: int) -> None:
    """Print what a whole answer costs with one and with `replicas` in each pool, by turns in one process."""
    paths = {f"{2 * each:4} replicas": HotPath(folder / f"{each}", replicas=each) for each in (1, replicas)}
    _by_turns(paths, rounds, first=1000)


def _by_turns(paths: dict[str, HotPath], rounds: int, *, first: int) -> None:
    """Print what a whole answer costs on each of `paths`, once each has answered the `first` requests."""
    for path in paths.values():
        for _ in range(0, first, REQUESTS):
            _round(path, "unary", REQUESTS)  # who asks for the first time is looked up
    gc.collect()
    gc.freeze()  # as the router does
    took: dict[str, list[float]] = {name: [] for name in paths}
    for turn in range(rounds):
        for name in list(paths)[:: -1 if turn % 2 else 1]:
            took[name].append(_round(paths[name], "unary", REQUESTS) / REQUESTS / 1000)
    base = next(iter(took.values()))
    for name, times in took.items():
        ratio = median(time / alone for time, alone in zip(times, base, strict=True))
        print(f"{name}: {min(times):8.1f} µs, {ratio:.3f} times the first")


async def _profiled(folder: Path, kind: str) -> None:
    path = HotPath(folder)
    _round(path, kind, REQUESTS)
    profile = cProfile.Profile()
    for _ in range(10):
        profile.enable()
        _round(path, kind, REQUESTS)
        profile.disable()
    pstats.Stats(profile).sort_stats("tottime").print_stats(45)


def _of(folder: Path, rounds: int) -> dict[str, float]:
    """The figures of the checkout in `folder`, from a process of its own."""
    portions = [str(folder / name) for name in ("platform", "router", "operators", "dashboards")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), *portions])}
    argv = [sys.executable, "-m", "benchmarks.hot_path", "--rounds", str(rounds), "--json"]
    told = subprocess.run(argv, env=environment, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(told)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hot_path", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="rounds, of which the best counts (default: 100)")
    parser.add_argument("--against", type=Path, help="another checkout, measured in turns with this one")
    parser.add_argument("--pairs", type=int, default=5, help="turns (default: 5)")
    parser.add_argument("--tenants", type=int, help="what it costs that so many tenants are known, and ask")
    parser.add_argument("--replicas", type=int, help="what it costs that each of two pools has so many replicas")
    parser.add_argument("--profile", choices=KINDS, help="show where the time goes instead")
    parser.add_argument("--json", action="store_true", help="print the figures alone")
    options = parser.parse_args()
    if options.against is not None:
        pairs = [(_of(ROOT, options.rounds), _of(options.against, options.rounds)) for _ in range(options.pairs)]
        for kind in KINDS:
            here, there = (min(pair[side][kind] for pair in pairs) for side in (0, 1))
            ratios = [one[kind] / other[kind] for one, other in pairs]
            spread = f"{median(ratios):.3f} ({min(ratios):.3f} .. {max(ratios):.3f})"
            print(f"{kind:24} {here:8.1f} µs, there {there:8.1f} µs, {here / there:.3f} times; pairs {spread}")
        return
    with tempfile.TemporaryDirectory(prefix="pointsman-hot-path-") as name:
        if options.profile is not None:
            asyncio.run(_profiled(Path(name), options.profile))
            return
        if options.tenants is not None:
            asyncio.run(_by_tenants(Path(name), options.rounds, options.tenants))
            return
        if options.replicas is not None:
            asyncio.run(_by_replicas(Path(name), options.rounds, options.replicas))
            return
        figures = asyncio.run(_measured(Path(name), options.rounds))
    if options.json:
        print(json.dumps(figures))
        return
    for kind, figure in figures.items():
        print(f"{kind:24} {figure:8.1f} µs")


if __name__ == "__main__":
    main()
