"""The HTTP side of one answer, and the faults that strike it.

Stands between `answering.py`, which knows what to say, and the server. A fault that takes the connection away
then waits for its loss to be noticed, as the client's own leaving is: the one way out is cancellation.
"""

from __future__ import annotations

import asyncio

import orjson
from starlette.types import Scope, Send

from pointsman.serving.simulated.connection import transport_of
from pointsman.serving.simulated.faults import Fault, FaultKind
from pointsman.serving.simulated.requests import RefusedRequest
from pointsman.serving.simulated.wire import DONE, error_event

_GARBAGE = b"\x16\x03\x01\x00\xff simulated garbage: neither HTTP nor JSON {]\r\n\x00\xff"
_FAILED = "A simulated fault, as ordered."
_JSON = [(b"content-type", b"application/json")]
_MIDSTREAM = frozenset(
    {
        FaultKind.ERROR_MIDSTREAM,
        FaultKind.HANG_MIDSTREAM,
        FaultKind.DIE_MIDSTREAM,
        FaultKind.GARBAGE_MIDSTREAM,
        FaultKind.TRUNCATE,
    }
)


class Exchange:
    """One request's way back to its client."""

    def __init__(self, scope: Scope, send: Send, fault: Fault | None) -> None:
        self.scope = scope
        self.fault = fault
        self._send = send
        self._struck = False

    @property
    def slowness(self) -> float:
        return self.fault.factor if self.fault and self.fault.kind is FaultKind.SLOW else 1.0

    async def strike_first(self) -> None:
        """
        The faults that strike before the first byte.

        Raises RefusedRequest for an ordered error; returns where no fault strikes here or a hang is over.
        """
        match self.fault:
            case Fault(kind=FaultKind.ERROR, status=status):
                raise RefusedRequest(_FAILED, status=status, type="InternalServerError")
            case Fault(kind=FaultKind.HANG):
                await self._hang()
            case Fault(kind=FaultKind.DIE):
                await self._drop()
            case Fault(kind=FaultKind.GARBAGE):
                await self._spoil()

    async def strike_midstream(self, said: int | None) -> bool:
        """
        The faults that strike a stream when `said` tokens are out, or at its end where `said` is None.

        Returns True where the stream is over.
        """
        fault = self.fault
        if fault is None or fault.kind not in _MIDSTREAM or self._struck:
            return False
        if said is not None and said < fault.after_tokens:
            return False
        self._struck = True
        if fault.kind is FaultKind.ERROR_MIDSTREAM:
            await self.write(error_event(_FAILED, "INTERNAL_SERVER_ERROR", 500))
            await self.write(DONE)
            await self.end()
            return True
        if fault.kind is FaultKind.TRUNCATE:
            await self.end()
            return True
        await self._strike()
        return False

    async def start_stream(self) -> None:
        """The head of a stream."""
        await self._start(200, [(b"content-type", b"text/event-stream; charset=utf-8")])

    async def write(self, chunk: bytes) -> None:
        """One event."""
        if self.fault and self.fault.kind is FaultKind.GARBAGE_BODY:
            chunk = b"data: " + _GARBAGE.replace(b"\r\n", b" ") + b"\n\n"
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self) -> None:
        """The orderly end of a stream."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def refuse(self, refusal: RefusedRequest) -> None:
        """An error, told in order."""
        await self._start(refusal.status, _JSON)
        await self._send({"type": "http.response.body", "body": orjson.dumps(refusal.body()), "more_body": False})

    async def whole(self, body: bytes) -> None:
        """A whole answer in JSON. Raises RefusedRequest for an ordered error."""
        fault = self.fault
        if fault and fault.kind is FaultKind.GARBAGE_BODY:
            body = _GARBAGE
        if fault is None or fault.kind not in _MIDSTREAM:
            await self._start(200, [*_JSON, (b"content-length", str(len(body)).encode())])
            await self._send({"type": "http.response.body", "body": body, "more_body": False})
            return
        if fault.kind is FaultKind.ERROR_MIDSTREAM:
            raise RefusedRequest(_FAILED, status=500, type="InternalServerError")
        half = len(body) // 2
        await self._start(200, _JSON)
        await self.write(body[:half])
        if fault.kind is not FaultKind.TRUNCATE:
            await self._strike()
            await self.write(body[half:])
        await self.end()

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _strike(self) -> None:
        assert self.fault is not None
        match self.fault.kind:
            case FaultKind.HANG_MIDSTREAM:
                await self._hang()
            case FaultKind.DIE_MIDSTREAM:
                await self._drop()
            case FaultKind.GARBAGE_MIDSTREAM:
                await self._spoil()

    async def _hang(self) -> None:
        assert self.fault is not None
        if self.fault.seconds is None:
            await _for_ever()
        else:
            await asyncio.sleep(self.fault.seconds)

    async def _drop(self) -> None:
        transport_of(self.scope).abort()
        await _for_ever()

    async def _spoil(self) -> None:
        transport = transport_of(self.scope)
        transport.write(_GARBAGE)
        transport.close()
        await _for_ever()


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()
