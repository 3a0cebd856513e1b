"""The router, with a window into its process: how many objects of each kind are alive in it.

Runs `pointsman.cli` unchanged, beside a thread that sleeps until somebody connects to a Unix socket and then
counts what the garbage collector knows of. So that asyncio tasks, connections and exchanges left behind are
counted themselves instead of guessed at from memory; the router needs no page or signal for it.

    python observed_router.py SOCKET router --config …
"""

from __future__ import annotations

import asyncio
import gc
import json
import runpy
import socket
import sys
import threading
from collections import Counter

from redis.asyncio.connection import AbstractConnection

ROOM = "pointsman.router"


def alive() -> dict[str, int]:
    """
    Instances of the router's classes by the class's name, unfinished tasks under `Task`, and open connections to
    Redis under `RedisConnection`.
    """
    counts: Counter[str] = Counter()
    gc.collect()
    for item in gc.get_objects():
        kind = type(item)
        if kind is asyncio.Task:
            counts["Task"] += not item.done()
        elif isinstance(item, AbstractConnection):
            counts["RedisConnection"] += item.is_connected
        elif str(getattr(kind, "__module__", "")).startswith(ROOM):
            counts[kind.__qualname__] += 1
    return dict(counts)


def _answer(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(json.dumps(alive()).encode())


def main() -> None:
    path, *arguments = sys.argv[1:]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    threading.Thread(target=_answer, args=(listener,), daemon=True).start()
    sys.argv = ["pointsman", *arguments]
    runpy.run_module("pointsman.cli", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
