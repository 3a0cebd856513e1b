"""What the slowest page of the admin process costs the streams that run beside it.

Apart from the matrix, because it needs a client of another kind. The pages live in a process of their own; what is
measured is whether asking for one, over and over, holds up tokens on their way through the router all the same.
"""

from __future__ import annotations

import http.client
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.gateway import subjects
from benchmarks.gateway.figures import error_count, row
from benchmarks.gateway.subjects import Subject
from benchmarks.gateway.tools import Cell, Tools

PAGES = ("/metrics", "/v1/models", "/docs", "/openapi.json")
TENANTS = 1000
"""As many as the page of metrics is to be large for."""
STREAMS = Cell("stream", 50, 512)
INTERVAL = 20
"""Milliseconds between two tokens of a stream: the router is to be busy, but not full."""


def pages(tools: Tools, folder: Path, repeats: int, seconds: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The slowest page, its milliseconds, and what it adds to the p99 between tokens; and the samples."""
    with (
        tools.upstream(ports=2, interval=INTERVAL) as upstream,
        subjects.pointsman(
            tools.cores, folder, upstream.ports[:1], upstream.ports[1:], tenants=TENANTS, name="pages"
        ) as subject,
    ):
        # Every tenant asks once, so that the page of metrics has all of them.
        tools.measure(subject.target, Cell("unary", 32, 512), seconds=1.0)
        took = {page: min(_seconds(subject, page) for _ in range(3)) for page in PAGES}
        slowest = max(took, key=lambda page: took[page])
        calm, asked = [], []
        for repeat in range(repeats):
            calm.append(_sample(tools, subject, repeat, seconds, "calm"))
            with _asking(subject, slowest):
                asked.append(_sample(tools, subject, repeat, seconds, "pages"))
    found = row(asked, {sample["repeat"]: sample for sample in calm}, tools.tokens)
    return {
        "page": slowest,
        "milliseconds": round(took[slowest] * 1000, 2),
        "added_gap_p99": found.added_gap_p99.median if found.added_gap_p99 else None,
        "errors": found.errors,
    }, calm + asked


def _sample(tools: Tools, subject: Subject, repeat: int, seconds: float, name: str) -> dict[str, Any]:
    taken = tools.measure(subject.target, STREAMS, seconds=seconds, warm_up=0.5, patience=1)
    gap = taken["gap"]["p99"] / 1000 if taken["gap"] else 0
    told = f"[{repeat + 1}] {STREAMS}, {name}: p99 between tokens {gap:.2f} ms, {error_count(taken)} errors"
    print(told, file=sys.stderr, flush=True)
    return taken | {"subject": name, "repeat": repeat, **vars(STREAMS)}


def _seconds(subject: Subject, page: str) -> float:
    """How long `page` takes. Raises `RuntimeError` where its status is not 200."""
    assert subject.target.keys
    key = subject.target.keys.read_text().split("\n", 1)[0]
    started = time.monotonic()
    client = http.client.HTTPConnection("127.0.0.1", subject.target.port, timeout=30)
    try:
        client.request("GET", page, headers={"authorization": f"Bearer {key}"})
        answer = client.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{page} answered {answer.status}")
    finally:
        client.close()
    return time.monotonic() - started


@contextmanager
def _asking(subject: Subject, page: str) -> Iterator[None]:
    """Ask for `page` again and again meanwhile."""
    enough = threading.Event()

    def ask() -> None:
        while not enough.is_set():
            _seconds(subject, page)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield
    finally:
        enough.set()
        asker.join()
