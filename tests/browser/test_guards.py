"""What watches the pages does see what it should: each guard, on a page with just that fault."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from playwright.sync_api import Browser

from support.browser import LOOKS, Visitor, scrolls_sideways, violations

PAGES = {
    "/well": "<main><h1>Well</h1></main>",
    "/error": "<main><script>console.error('it hurts')</script></main>",
    "/throws": "<main><script>throw new Error('it broke')</script></main>",
    "/missing": "<main><img src='/nowhere.png' alt='x'></main>",
    "/elsewhere": "<main><script>fetch('http://192.0.2.1/').catch(() => 0)</script></main>",
    "/by-name": "<main><script>fetch('https://fonts.example/').catch(() => 0)</script></main>",
    "/pale": "<main><h1>Pale</h1><p style='color:#ddd;background:#fff'>Words</p><img src='data:,'></main>",
    "/wide": "<main><div style='width:2000px'>Wide</div></main>",
}
HEAD = '<!doctype html><html lang="en"><head><title>T</title><link rel="icon" href="data:,"></head><body>'


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = PAGES.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(f"{HEAD}{body}".encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/error", "it hurts"),
        ("/throws", "it broke"),
        ("/missing", "answered 404"),
        ("/elsewhere", "asked another host"),
        ("/by-name", "asked another host"),
    ],
)
def test_what_nobody_sees_fails_a_test(browser: Browser, url: str, path: str, told: str) -> None:
    visitor = Visitor(browser, url)
    visitor.page.goto(path, wait_until="networkidle")
    assert any(told in problem for problem in visitor.taken_problems())
    assert visitor.taken_problems() == []
    visitor.close()


def test_a_page_without_a_fault_passes_and_is_pictured(browser: Browser, url: str) -> None:
    visitor = Visitor(browser, url, LOOKS[-1])
    visitor.page.goto("/well", wait_until="networkidle")
    assert visitor.taken_problems() == []
    assert violations(visitor.page) == []
    assert not scrolls_sideways(visitor.page)
    picture = visitor.picture("guard")
    assert picture.read_bytes().startswith(b"\x89PNG")
    picture.unlink()
    visitor.page.goto("/pale")
    assert {line.split()[0] for line in violations(visitor.page)} == {"color-contrast", "image-alt"}
    visitor.page.goto("/wide")
    assert scrolls_sideways(visitor.page)
    visitor.close()
