"""The bytes of an HTTP/1.1 head. Shared by both sides; holds no state."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from http import HTTPStatus

BODILESS = frozenset({204, 304})
"""Statuses whose answers end with their head, whatever it says."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""The interim answer: go on."""


@cache
def status_line(status: int) -> bytes:
    """The first line of an answer; its reason phrase is empty where `status` has none."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")


def header_lines(headers: Iterable[tuple[str, str]]) -> bytes:
    """
    The lines of `headers` as they are sent, each with its line end.

    Values must be free of CR and LF: they come from the configuration, from numbers, and from checked request ids.
    """
    return "".join([f"{name}: {value}\r\n" for name, value in headers]).encode("latin-1")


def head(
    status: int,
    headers: bytes,
    *,
    length: int | None,
    keep_alive: bool,
    http_10: bool,
) -> bytes:
    """
    The head of an answer with the lines `headers`. `length` is the body's bytes, or None where it is not known
    beforehand.
    """
    if status in BODILESS:
        framing = b""
    elif length is not None:
        framing = b"content-length: %d\r\n" % length
    else:
        framing = b"" if http_10 else b"transfer-encoding: chunked\r\n"
    if not keep_alive:
        framing += b"connection: close\r\n"
    elif http_10:
        framing += b"connection: keep-alive\r\n"
    return b"%b%b%b\r\n" % (status_line(status), headers, framing)


def request_head(method: str, target: str, headers: Iterable[tuple[str, str]], *, length: int) -> bytes:
    """The head of a request with a body of `length` bytes. `headers` must include `host`."""
    lines = [f"{method} {target} HTTP/1.1\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers]
    lines.append(f"content-length: {length}\r\n\r\n")
    return "".join(lines).encode("latin-1")


def unframed(chunks: bytes) -> bytes:
    """The data of `chunks`, which are whole and well-formed."""
    pieces, at = [], 0
    while at < len(chunks):
        line = chunks.index(b"\r\n", at)
        end = line + 2 + int(chunks[at:line], 16)
        pieces.append(chunks[line + 2 : end])
        at = end + 2
    return b"".join(pieces)
