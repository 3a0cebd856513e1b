"""A stub router, and pseudo-terminals that are taken away after each test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from support.chat import END, Call, StubRouter, StubServer, Terminal, delta


@pytest.fixture
def router() -> Iterator[StubRouter]:
    stub = StubRouter(answer=lambda call: None)
    stub.says(delta(role="assistant", content=""), delta(reasoning_content="Hm. "), delta(content="Yes."), *END)
    with StubServer(("127.0.0.1", 0), Call) as server:
        server.stub = stub
        stub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield stub
        server.shutdown()
        thread.join()


@pytest.fixture
def open_terminal() -> Iterator[Callable[..., Terminal]]:
    terminals: list[Terminal] = []

    def opened(*arguments: str) -> Terminal:
        terminals.append(Terminal(*arguments))
        return terminals[-1]

    yield opened
    for terminal in terminals:
        terminal.close()
