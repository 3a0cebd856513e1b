"""The client towards engines, against servers that send what engines should not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from time import monotonic
from typing import Any, cast
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.router.http.call import Call
from pointsman.router.http.site import Site, tcp_site
from pointsman.router.http.upstream import UpstreamConnection
from support.relayings import FakeTransport

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Recorder:
    """A receiver that keeps what it gets."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.end = asyncio.get_running_loop().create_future()

    def on_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        assert not self.status
        self.status = status

    def on_data(self, data: bytes) -> None:
        self.body += data

    def on_complete(self) -> None:
        self.end.set_result("complete")

    def on_lost(self, reason: str) -> None:
        self.end.set_result(reason)


def exchange(answers: list[bytes | None], *, requests: int = 1, pieces: int = 0, idle: float = 5) -> list[Any]:
    """
    Send `requests` requests one after the other to a server that gives `answers`, one for each request it
    reads (None: close at once), cut into `pieces` bytes. Each result is (end, status, body, reused).
    """

    async def scenario() -> list[Any]:
        queue = list(answers)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while queue:
                try:
                    await reader.readuntil(b"\r\n\r\n")
                except (asyncio.IncompleteReadError, ConnectionError):
                    break
                answer = queue.pop(0)
                if answer is None:
                    break
                step = pieces or max(1, len(answer))
                for at in range(0, len(answer), step):
                    writer.write(answer[at : at + step])
                    await writer.drain()
                    if pieces:
                        await asyncio.sleep(0.001)
                if b"stay" in answer:
                    await asyncio.sleep(30)
                if b"content-length" not in answer and b"chunked" not in answer:
                    break
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        site = tcp_site("127.0.0.1", server.sockets[0].getsockname()[1])
        results = []
        for _ in range(requests):
            recorder = Recorder()
            connection = site.take_idle()
            if connection is None:
                opened: asyncio.Future[UpstreamConnection | None] = asyncio.get_running_loop().create_future()
                site.open(5, opened.set_result)
                connection = await opened
            assert connection is not None
            reused = connection.reused
            connection.send(REQUEST, recorder, first_byte_timeout=idle, idle_timeout=idle)
            while not recorder.end.done():
                site.sweep(monotonic())
                await asyncio.sleep(0.01)
            results.append((recorder.end.result(), recorder.status, recorder.body, reused))
        site.close()
        server.close()
        return results

    return asyncio.run(scenario())


def test_a_connection_is_used_again() -> None:
    assert exchange([OK, OK], requests=2) == [("complete", 200, b"ok", False), ("complete", 200, b"ok", True)]


@pytest.mark.parametrize("pieces", [1, 3, 7])
def test_an_answer_may_come_in_pieces(pieces: int) -> None:
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n3\r\n!!!\r\n0\r\n\r\n"
    assert exchange([chunked], pieces=pieces) == [("complete", 200, b"ok!!!", False)]


def test_an_answer_without_length_ends_with_its_connection() -> None:
    assert exchange([b"HTTP/1.0 200 OK\r\n\r\nok"]) == [("complete", 200, b"ok", False)]


def test_an_interim_answer_is_passed_over() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    assert exchange([interim + OK]) == [("complete", 200, b"ok", False)]


def test_a_second_answer_is_never_taken_for_the_next_requests() -> None:
    """What an engine sends too much would otherwise be some other tenant's answer."""
    poison = OK + b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"
    results = exchange([poison, OK], requests=2)
    assert results == [("complete", 200, b"ok", False), ("complete", 200, b"ok", False)]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "closed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", "closed"),
        (b"\x00\x01garbage\r\n\r\n", "garbage"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok", "garbage"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "garbage"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "garbage"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000, "garbage"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nstay", "timeout"),
    ],
    ids=["close", "early", "noise", "lengths", "chunk", "switch", "head", "silent"],
)
def test_a_broken_answer_is_told_for_what_it_is(answer: bytes | None, reason: str) -> None:
    if answer is not None and reason == "closed":
        answer = answer.replace(b"content-length: 9", b"content-length: 9\r\nx-close: 1")
    (result,) = exchange([answer], idle=0.5 if reason == "timeout" else 5)
    assert result[0] == reason


def test_a_head_is_not_yet_an_answer() -> None:
    """Engines send the head before they begin to work: until the body begins the longer timeout holds."""

    async def scenario() -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
            await asyncio.sleep(0.6)
            writer.write(b"ok")

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            site = tcp_site("127.0.0.1", server.sockets[0].getsockname()[1])
            connection, recorder = await _open(site), Recorder()
            connection.send(REQUEST, recorder, first_byte_timeout=5, idle_timeout=0.2)
            while not recorder.end.done():
                site.sweep(monotonic())
                await asyncio.sleep(0.01)
            site.close()
            return str(recorder.end.result())

    assert asyncio.run(scenario()) == "complete"


def test_a_paused_connection_whose_answer_has_ended_is_freed() -> None:
    """The end of a stream's framing may come after its last event, when nobody is left to resume reading."""

    async def scenario() -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nend\r\n")
            await asyncio.sleep(0.2)
            writer.write(b"0\r\n\r\n")

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            site = tcp_site("127.0.0.1", server.sockets[0].getsockname()[1])
            _Satisfied(site).start(fresh=True)
            for _ in range(100):
                await asyncio.sleep(0.01)
                site.sweep(monotonic())
            busy = len(site.busy)
            site.close()
            return busy

    assert asyncio.run(scenario()) == 0


class _Satisfied(Call):
    """A call whose client reads slowly, and that is content with the first piece of its answer."""

    def __init__(self, site: Site) -> None:
        super().__init__(site, connect_timeout=5)

    def _send(self, connection: UpstreamConnection) -> None:
        connection.send(REQUEST, self, first_byte_timeout=5, idle_timeout=5)

    def _unreachable(self) -> None:
        raise AssertionError("the server is there")

    def on_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        assert status == 200

    def on_data(self, data: bytes) -> None:
        self.pause()
        self._end(keep=True)

    def on_complete(self) -> None:
        assert self._ended

    def on_lost(self, reason: str) -> None:
        assert self._ended


async def _open(site: Site) -> UpstreamConnection:
    opened: asyncio.Future[UpstreamConnection | None] = asyncio.get_running_loop().create_future()
    site.open(5, opened.set_result)
    connection = await opened
    assert connection is not None
    return connection


def _connected(site: Site) -> tuple[UpstreamConnection, FakeTransport]:
    connection, transport = UpstreamConnection(site), FakeTransport()
    connection.connection_made(cast(Any, transport))
    return connection, transport


class _Told:
    """A receiver that needs no event loop."""

    def __init__(self) -> None:
        self.heads: list[tuple[int, dict[bytes, bytes]]] = []
        self.body = b""
        self.end = ""

    def on_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.heads.append((status, headers))

    def on_data(self, data: bytes) -> None:
        assert data
        self.body += data

    def on_complete(self) -> None:
        assert not self.end
        self.end = "complete"

    def on_lost(self, reason: str) -> None:
        assert not self.end
        self.end = reason


def test_timeouts_never_come_early_and_at_most_one_sweep_late() -> None:
    connection, transport = _connected(tcp_site("127.0.0.1", 1))
    told = _Told()
    connection.send(REQUEST, told, first_byte_timeout=10, idle_timeout=2)
    connection.sweep(100.0)
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")  # a head is no answer
    connection.sweep(109.9)
    assert not told.end
    connection.data_received(b"a")
    connection.sweep(110.4)
    connection.sweep(112.3)
    connection.data_received(b"b")
    connection.sweep(112.8)
    connection.sweep(114.7)
    assert not told.end
    connection.sweep(114.8)
    assert (told.end, told.body, transport.closed) == ("timeout", b"ab", True)


def test_a_site_forgets_connections_that_have_ended() -> None:
    site = tcp_site("127.0.0.1", 1)
    idle, busy = _connected(site)[0], _connected(site)[0]
    site.release(idle)
    told = _Told()
    busy.send(REQUEST, told, first_byte_timeout=1, idle_timeout=1)
    assert site.busy == [busy]
    idle.connection_lost(None)
    busy.connection_lost(ConnectionResetError())
    assert (site.take_idle(), site.busy, site.connections, told.end) == (None, [], set(), "closed")


def test_a_site_that_was_left_closes_its_connections_as_they_end() -> None:
    site = tcp_site("127.0.0.1", 1)
    (idle, nothing_runs), (busy, something_runs) = _connected(site), _connected(site)
    site.release(idle)
    told = _Told()
    busy.send(REQUEST, told, first_byte_timeout=1, idle_timeout=1)
    site.leave()
    assert (nothing_runs.closed, something_runs.closed, site.active) == (True, False, True)
    busy.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na")
    assert (told.end, something_runs.closed, site.take_idle()) == ("complete", True, None)
    for connection in (idle, busy):
        connection.connection_lost(None)
    assert not site.active


@pytest.mark.parametrize("timeout", [0.05, 30])
def test_a_connection_that_is_given_up_while_it_opens_is_forgotten(timeout: float) -> None:
    async def run() -> None:
        reached = asyncio.Event()

        async def connect(make: Callable[[], UpstreamConnection]) -> None:
            make().connection_made(Mock())
            reached.set()
            await asyncio.sleep(60)

        site = Site("slow", connect)
        used: list[UpstreamConnection | None] = []
        opening = site.open(timeout, used.append)
        await reached.wait()
        assert site.active
        if timeout > 1:
            opening.cancel()
        await asyncio.wait([opening])
        await asyncio.sleep(0)
        assert (site.active, used) == (False, [] if timeout > 1 else [None])

    asyncio.run(run())


def test_an_answer_until_the_end_of_the_connection_is_lost_where_that_was_reset() -> None:
    for error, end in ((None, "complete"), (ConnectionResetError(), "closed")):
        connection, _ = _connected(tcp_site("127.0.0.1", 1))
        told = _Told()
        connection.send(REQUEST, told, first_byte_timeout=1, idle_timeout=1)
        connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nok")
        connection.connection_lost(error)
        assert (told.end, told.body) == (end, b"ok")


LENGTHS = b"HTTP/1.1 200 OK\r\ndate: %b\r\ncontent-length: %d\r\nx-name: v\r\n\r\n%b"
CREATED = LENGTHS.replace(b"200", b"201")
SHORTER = LENGTHS.replace(b"x-name: v\r\n", b"")
CHUNKS = b"HTTP/1.1 200 OK\r\ndate: %b\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"


@given(
    answers=st.lists(
        st.tuples(
            st.sampled_from(
                [LENGTHS, CHUNKS, LENGTHS.replace(b"200", b"201"), LENGTHS.replace(b"x-name: v\r\n", b"")]
            ),
            st.sampled_from([b"Mon", b"Tue"]),
            st.binary(min_size=1, max_size=12),
        ),
        min_size=1,
        max_size=12,
    ),
    cuts=st.lists(st.integers(1, 150), max_size=4),
)
def test_heads_that_are_known_by_their_bytes_are_read_alike(
    answers: list[tuple[bytes, bytes, bytes]], cuts: list[int]
) -> None:
    """One after the other on one connection, whose site remembers heads; each must be what it is alone."""
    connection, _ = _connected(tcp_site("127.0.0.1", 1))
    for form, date, body in answers:
        told = _Told()
        connection.send(REQUEST, told, first_byte_timeout=1, idle_timeout=1)
        raw = form % (date, len(body), body)
        for start, end in pairwise([0, *sorted(cut for cut in set(cuts) if cut < len(raw)), len(raw)]):
            connection.data_received(raw[start:end])
        ((status, headers),) = told.heads
        assert (told.end, told.body) == ("complete", body)
        assert status == (201 if b" 201 " in form else 200)
        assert headers.get(b"date") == date
        assert (b"x-name" in headers) == (b"x-name" in form)
        assert b"content-length" not in headers
        assert connection.open
        assert not connection.busy
