"""What came in one read from an engine leaves in one write: all of it, in order, and before a connection is cut."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pointsman.router.http.answers import Answers
from pointsman.router.http.heads import Head
from pointsman.router.http.outbox import OUTBOX, Outbox
from pointsman.router.http.site import tcp_site
from pointsman.router.http.upstream import UpstreamConnection

ENGINES_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Wire:
    """A transport that notes each write, and what happens between them."""

    def __init__(self) -> None:
        self.calls: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def abort(self) -> None:
        self.calls.append("abort")

    def is_closing(self) -> bool:
        return False


class Client(Answers):
    """The answering half of a connection, with a request that is owed an answer."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(draining=False)
        self._transport = cast(Any, wire)
        self._current = Head("POST", "/", {}, http_10=False, keep_alive=True)

    def _done(self, keep_alive: bool) -> None:
        cast(Wire, self._transport).calls.append("done")


class Relayed:
    """Passes on what an engine sends; breaks the client off at the piece `cuts`."""

    def __init__(self, client: Client, *, cuts: bytes = b"") -> None:
        self._client = client
        self._cuts = cuts

    def on_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        self._client.start_stream(b"")

    def on_data(self, data: bytes) -> None:
        if data == self._cuts:
            self._client.cut()
        elif data == b"fail":
            raise ZeroDivisionError
        else:
            self._client.send(data)

    def on_complete(self) -> None:
        self._client.end_stream(b"end")

    def on_lost(self, reason: str) -> None:
        raise AssertionError(reason)


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def engine(relayed: Relayed) -> UpstreamConnection:
    connection = UpstreamConnection(tcp_site("engine", 1))
    connection.connection_made(cast(Any, Wire()))
    connection.send(b"", relayed, first_byte_timeout=1, idle_timeout=1)
    return connection


def test_one_read_is_one_write_and_each_chunk_stays_one() -> None:
    wire = Wire()
    engine(Relayed(Client(wire))).data_received(ENGINES_HEAD + chunked(b"one", b"two") + b"0\r\n\r\n")
    *written, done = wire.calls
    assert done == "done"
    # The head is written before the body is looked at, as it may come alone.
    assert b"".join(cast(list[bytes], written)) == (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunked(b"one", b"two", b"end") + b"0\r\n\r\n"
    )
    assert written[1:] == [chunked(b"one", b"two", b"end") + b"0\r\n\r\n"]


def test_nothing_waits_for_the_next_read() -> None:
    wire = Wire()
    connection = engine(Relayed(Client(wire)))
    for data in (ENGINES_HEAD, chunked(b"one"), chunked(b"two", b"three"), b"0\r\n\r\n"):
        connection.data_received(data)
    assert wire.calls[1:] == [chunked(b"one"), chunked(b"two", b"three"), chunked(b"end") + b"0\r\n\r\n", "done"]


def test_what_came_before_a_cut_leaves_before_it() -> None:
    wire = Wire()
    engine(Relayed(Client(wire), cuts=b"cut")).data_received(ENGINES_HEAD + chunked(b"one", b"cut", b"two"))
    assert wire.calls[1:] == [chunked(b"one"), "abort"]


def test_a_failure_leaves_the_box_shut_and_empty() -> None:
    wire = Wire()
    connection = engine(Relayed(Client(wire)))
    with pytest.raises(ZeroDivisionError):
        connection.data_received(ENGINES_HEAD + chunked(b"one", b"fail"))
    assert wire.calls[1:] == [chunked(b"one")]
    assert not OUTBOX.open


def test_two_clients_do_not_get_each_others() -> None:
    box, one, other = Outbox(), Wire(), Wire()
    box.open = True
    for wire, data in ((one, b"a"), (one, b"b"), (other, b"c"), (one, b"d")):
        box.write(cast(Any, wire), data)
    assert (one.calls, other.calls) == ([b"ab"], [b"c"])
    box.shut()
    assert (one.calls, other.calls) == ([b"ab", b"d"], [b"c"])
