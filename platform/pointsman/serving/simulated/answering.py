"""One answer over HTTP: refuse, write at once, or stream token by token.

A plain ASGI app, not a Starlette endpoint, because each token must be its own write in its own turn of the
loop, and because a fault may have to reach below HTTP. The client's leaving cancels the work where it stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from pointsman.serving.simulated.engine import Engine, Run
from pointsman.serving.simulated.exchange import Exchange
from pointsman.serving.simulated.faults import FaultKind, FaultPlan
from pointsman.serving.simulated.plan import Plan
from pointsman.serving.simulated.records import Records
from pointsman.serving.simulated.requests import RefusedRequest
from pointsman.serving.simulated.wire import Wire

Planner = Callable[[str, bytes], Plan]
"""Content type and body to a plan; raises RefusedRequest."""


class Answering:
    """The ASGI app of one path."""

    def __init__(
        self, planner: Planner, wire: type[Wire], engine: Engine, faults: FaultPlan, records: Records
    ) -> None:
        self._planner = planner
        self._wire = wire
        self._engine = engine
        self._faults = faults
        self._records = records

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        if body is None:
            return
        fault = self._faults.take()
        record = self._records.add(scope["path"], scope["headers"], body, fault)
        exchange = Exchange(scope, send, fault)
        work = asyncio.current_task()
        assert work is not None, "an ASGI app runs in a task"
        leaving = asyncio.create_task(_gone(receive))
        leaving.add_done_callback(lambda task: None if task.cancelled() else work.cancel())
        outcome = "aborted"
        try:
            outcome = await self._answer(exchange, body)
        except asyncio.CancelledError:
            if not leaving.done():
                raise
            work.uncancel()
        finally:
            leaving.cancel()
            record.outcome = "faulted" if fault and fault.kind is not FaultKind.SLOW else outcome

    async def _answer(self, exchange: Exchange, body: bytes) -> str:
        try:
            await exchange.strike_first()
            wire = self._wire(self._planner(_content_type(exchange.scope), body))
            async with self._engine.admitted(wire.plan, slowness=exchange.slowness) as run:
                await run.prefill()
                wire.cached_tokens = run.cached_tokens
                if wire.plan.stream:
                    await _stream(exchange, wire, run)
                else:
                    for position in range(wire.plan.length):
                        await run.token(position)
                    await exchange.whole(wire.body())
        except RefusedRequest as refusal:
            await exchange.refuse(refusal)
            return "refused"
        return "answered"


async def _stream(exchange: Exchange, wire: Wire, run: Run) -> None:
    for position in range(max(wire.plan.length, 1)):
        await run.token(position)
        if position == 0:
            await exchange.start_stream()
        if await exchange.strike_midstream(position):
            return
        for chunk in wire.step(position):
            await exchange.write(chunk)
    if await exchange.strike_midstream(None):
        return
    for chunk in wire.closing():
        await exchange.write(chunk)
    await exchange.end()


async def _read(receive: Receive) -> bytes | None:
    """The whole body, or None where the client left first."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _content_type(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"content-type":
            return str(value, "latin-1")
    return ""
