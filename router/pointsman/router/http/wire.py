"""The bytes of an HTTP/1.1 head. Shared by both sides; holds no state."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from http import HTTPStatus

BODILESS = frozenset({204, 304})
"""Statuses whose answers end with their head, whatever it says."""


@cache
def reason(status: int) -> str:
    """The reason phrase of `status`, empty where it has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def head(
    status: int,
    headers: Iterable[tuple[str, str]],
    *,
    length: int | None,
    keep_alive: bool,
    http_10: bool,
) -> bytes:
    """
    The head of an answer. `length` is the body's bytes, or None where it is not known beforehand.

    Header values must be free of CR and LF: they come from the configuration, from numbers, and from checked
    request ids.
    """
    lines = [f"HTTP/1.1 {status} {reason(status)}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers]
    if status in BODILESS:
        pass
    elif length is not None:
        lines.append(f"content-length: {length}\r\n")
    elif not http_10:
        lines.append("transfer-encoding: chunked\r\n")
    if not keep_alive:
        lines.append("connection: close\r\n")
    elif http_10:
        lines.append("connection: keep-alive\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("latin-1")


def request_head(method: str, target: str, headers: Iterable[tuple[str, str]], *, length: int) -> bytes:
    """The head of a request with a body of `length` bytes. `headers` must include `host`."""
    lines = [f"{method} {target} HTTP/1.1\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers]
    lines.append(f"content-length: {length}\r\n\r\n")
    return "".join(lines).encode("latin-1")
