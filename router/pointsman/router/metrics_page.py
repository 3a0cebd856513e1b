"""The page of counters, and a small server that shows it to a cluster: `/metrics` and `/healthz`.

Stands beside `metrics.py`, which writes the files that are shown here. Whoever calls the router sees the page
through the admin process, which asks for a key; a Prometheus in the cluster, and a kubelet that wants to know
whether a process that listens on no port lives, have this port of their own instead, which network policies keep
from clients. In threads of its own: neither may wait for what the process does, nor make it wait.
"""

from __future__ import annotations

import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

PATIENCE = 10.0
"""Seconds that a connection may be silent."""


def metrics_page(directory: Path) -> bytes:
    """The counters that processes keep in `directory`, folded into one page in Prometheus' text format."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(directory))
    return generate_latest(registry)


class MetricsServer:
    """From `start` on: `/metrics` is the page of `directory`, `/healthz` 200 as long as the process lives."""

    def __init__(self, host: str, port: int, directory: Path) -> None:
        self._server = _server_class(host)((host, port), _handler(directory))
        self._thread = Thread(target=self._server.serve_forever, name="metrics-page", daemon=True)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more; returns when the port is free."""
        self._server.shutdown()
        self._server.server_close()


def _server_class(host: str) -> type[ThreadingHTTPServer]:
    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True

    return Server


def _handler(directory: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/healthz":
                self._answer(200, b"ok\n", "text/plain; charset=utf-8")
            elif path == "/metrics":
                self._answer(200, metrics_page(directory), CONTENT_TYPE_LATEST)
            else:
                self._answer(404, b"there is nothing at this path\n", "text/plain; charset=utf-8")

        def log_message(self, format: str, *args: object) -> None:
            """Scrapes and probes are not worth a line each."""

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
