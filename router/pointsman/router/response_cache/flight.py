"""One answer that is being looked for or made, and the requests that wait for it.

The first request for an answer opens a flight; those that come meanwhile join it. What the flight finds in Redis is
given to all of them. Where nothing is found one of them leads: it goes on through the pipeline while all that its
client gets is recorded, and those that wait for a stream get it as it comes. If it fails, the others go on by
themselves. If its client goes away while others wait, the work goes on without it. Where another router is at work
on the answer the flight looks again and again, until the answer is there or that router is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter, time
from typing import TYPE_CHECKING

from pointsman.contracts.errors import ApiError, IdempotencyKeyReused, UpstreamFailed
from pointsman.contracts.modes import Mode
from pointsman.contracts.names import Header
from pointsman.router.exchange import CacheStatus, Exchange
from pointsman.router.http.wire import unframed
from pointsman.router.response_cache.recorded import LARGEST_BODY, Recorded
from pointsman.router.response_cache.recorder import Recorder
from pointsman.router.response_cache.shared import TURN, Absent
from pointsman.router.response_cache.waiter import Waiter
from pointsman.store.response_cache import AnswerKey

if TYPE_CHECKING:
    from pointsman.router.response_cache.answers import Answers

LOOK_AGAIN = 0.025
"""Seconds between two looks for an answer that another router is making."""

REUSED = IdempotencyKeyReused(
    f"The header '{Header.IDEMPOTENCY_KEY}' was sent with another request before.", param=Header.IDEMPOTENCY_KEY
)


class Flight:
    """
    The search for the answer under `key`: `exchange.Flight` towards the pipeline.

    `fingerprint` is empty, but where the key is the client's own: then it tells which request it stands for.
    `outgrown`: the stream is longer than what is recorded of any.
    """

    __slots__ = (
        "_begun",
        "_claim",
        "_forget",
        "_outlived",
        "_pieces",
        "_size",
        "_timer",
        "_waiters",
        "answers",
        "fingerprint",
        "generation",
        "key",
        "leader",
        "model",
        "outgrown",
    )

    def __init__(self, answers: Answers, key: AnswerKey, *, model: str, generation: int, fingerprint: str) -> None:
        self.answers = answers
        self.key = key
        self.model = model
        self.generation = generation
        self.fingerprint = fingerprint
        self.leader: Exchange | None = None
        self._waiters: dict[Waiter, None] = {}
        self._claim = b""
        self._forget: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._begun = False
        self._outlived = False
        self._pieces: list[tuple[bytes, bool]] = []
        self._size = 0
        self.outgrown = False

    # -- before anybody leads

    def join(self, exchange: Exchange) -> None:
        """`exchange` waits for the answer, and goes on when it is there or can't be had."""
        waiter = exchange.work = Waiter(self, exchange)
        self._waiters[waiter] = None
        self.pace()
        if self.leader is not None and self._begun:
            waiter.begin(self.leader, self._so_far())

    def look(self) -> None:
        """Look for the answer in Redis."""
        self._timer = None
        self._claim = self.answers.shared.claim(self.fingerprint)
        self._forget = self.answers.shared.look(self.key, self._claim, self._found)

    def lead(self, exchange: Exchange, claim: bytes) -> None:
        """`exchange` makes the answer; `claim` keeps other routers from it, or is empty."""
        self._claim = claim
        self.leader = exchange
        exchange.flight = self
        if exchange.stream:
            exchange.client = Recorder(self, exchange.client)
        if not self.fingerprint:
            self.answers.tell(exchange, CacheStatus.MISS)

    def left(self, waiter: Waiter) -> None:
        """`waiter` waits no more."""
        self._waiters.pop(waiter, None)
        self.pace()
        if self._waiters:
            return
        leader = self.leader
        if leader is None:
            self._stop_looking()
            self.answers.remove(self)
        elif self._outlived and not self.fingerprint:
            self._outlived = False
            self.answers.pipeline.abandon(leader)  # once more: now nobody wants the answer

    def _found(self, what: Recorded | Absent, fingerprint: str) -> None:
        self._forget = None
        if isinstance(what, Recorded):
            fingerprint = what.fingerprint
        elif what is not Absent.HELD:
            fingerprint = self.fingerprint
        if fingerprint != self.fingerprint:
            self._refuse_all(REUSED)
        elif isinstance(what, Recorded):
            self.answers.memory.put(self.key, what)
            self._give_all(what)
        elif what is Absent.HELD:
            for waiter in [waiter for waiter in self._waiters if waiter.exchange.stream]:
                waiter.grow_impatient()
            if self._waiters:
                self._timer = asyncio.get_running_loop().call_later(LOOK_AGAIN, self.look)
        elif what is Absent.UNKNOWN and not self.fingerprint:
            self._let_go(CacheStatus.BYPASS)
        else:
            self._take_off(self._claim if what is Absent.CLAIMED else b"")

    def _take_off(self, claim: bytes) -> None:
        """The one that has waited longest makes the answer."""
        waiter = next(iter(self._waiters))
        del self._waiters[waiter]
        exchange = waiter.end()
        self.lead(exchange, claim)
        self.answers.pipeline.resume(exchange)

    def _stop_looking(self) -> None:
        if self._forget is not None:
            self._forget()
            self._forget = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- while it is being made

    def begin(self, first: bytes) -> None:
        """The stream has begun, with `first`."""
        self._begun = True
        self._record(first, framed=False)
        assert self.leader is not None
        for waiter in list(self._waiters):
            waiter.begin(self.leader, first)

    def add(self, data: bytes, *, framed: bool) -> None:
        """More of the stream has come; `framed`: as HTTP/1.1 chunks."""
        self._record(data, framed=framed)
        assert self.leader is not None
        for waiter in tuple(self._waiters):
            waiter.add(self.leader, data, framed=framed)

    def _record(self, data: bytes, *, framed: bool) -> None:
        if self.outgrown:
            return
        self._size += len(data)
        self.answers.recording += len(data)
        self._pieces.append((data, framed))
        if self._size > LARGEST_BODY or self.answers.recording > self.answers.most_recording:
            self.outgrown = True
            self._forget_pieces()
            self.answers.remove(self)  # whoever comes now can't be given what came before
            self._release()
            self.pace()

    def _forget_pieces(self) -> None:
        self._pieces.clear()
        self.answers.recording -= self._size
        self._size = 0

    def _so_far(self) -> bytes:
        joined = b"".join(unframed(data) if framed else data for data, framed in self._pieces)
        self._pieces = [(joined, False)]
        return joined

    # -- exchange.Flight

    def outlives(self, exchange: Exchange) -> bool:
        """The client of the leader has gone: whether the work goes on for those that wait, or for its next try."""
        if not self._waiters and not self.fingerprint:
            return False
        self._outlived = True
        exchange.resume()
        return True

    def pace(self) -> None:
        """
        Hold the engine back where what it says would pile up, and no sooner.

        While others wait nobody who reads slowly keeps it from them: it is recorded anyway, up to a length. Beyond
        that the slowest sets the pace.
        """
        leader = self.leader
        if leader is None or leader.work is None:
            return
        held_back = leader.paused
        if self._waiters:
            slow = held_back or any(waiter.begun and waiter.exchange.paused for waiter in self._waiters)
            held_back = slow and self.outgrown
        (leader.work.pause if held_back else leader.work.resume)()

    def leave(self, exchange: Exchange) -> None:
        """
        The leader goes on by itself, to an answer that is not the one of this key; those that wait do the same.

        Not where it has an idempotency key, which stands for whatever answer its request got.
        """
        if self.fingerprint:
            return
        exchange.flight = None
        exchange.pace()
        if isinstance(exchange.client, Recorder):
            exchange.client = exchange.client.client
        self._forget_pieces()
        self._release()
        self._failed(None)

    def ended(self, exchange: Exchange) -> None:
        """The leader has ended."""
        exchange.flight = None
        self.answers.remove(self)
        body = self._so_far() if exchange.answer is None else exchange.answer.body
        self._forget_pieces()
        usage = exchange.told_usage
        aborted = exchange.abandoned and not self._outlived
        if exchange.error is not None or aborted or usage is None or exchange.pool is None:
            self._release()
            self._failed(exchange.error)
            return
        made = self._made(exchange, body)
        if self._is_worth_keeping(exchange, made):
            self.answers.memory.put(self.key, made)
            self.answers.shared.keep(
                self.key, made, model=self.model, generation=self.generation, claim=self._claim
            )
        else:
            self._release()
        self._give_all(made)

    def _made(self, exchange: Exchange, body: bytes) -> Recorded:
        tenant, pool, chunk = exchange.tenant, exchange.pool, exchange.usage_chunk
        assert tenant is not None
        assert pool is not None
        if chunk is not None and exchange.course is not None and exchange.course.id is not None:
            chunk = {**chunk, "id": exchange.course.id}
        now = time()
        return Recorded(
            body=body,
            stream=exchange.stream,
            rid=exchange.rid,
            mode=exchange.mode,
            pool=pool.name,
            parts=exchange.parts,
            made_at=now,
            expires_at=now + self.answers.seconds_kept(tenant, idempotent=bool(self.fingerprint)),
            usage_chunk=chunk,
            escalated=exchange.escalated,
            floored=exchange.floored,
            stopped=exchange.stopped,
            judgement=exchange.judgement,
            allowance=exchange.allowance,
            clamped=exchange.clamped,
            fingerprint=self.fingerprint,
        )

    def _is_worth_keeping(self, exchange: Exchange, made: Recorded) -> bool:
        """Whether another request for it would have been answered alike."""
        if self.outgrown or len(made.body) > LARGEST_BODY:
            return False
        fell_back = exchange.escalated is not None and exchange.mode is not Mode.THINK
        return bool(self.fingerprint) or not (fell_back or exchange.stopped or made.usage.estimated)

    def _release(self) -> None:
        if self._claim:
            self.answers.shared.release(self.key, self._claim)
            self._claim = b""

    # -- what becomes of those that wait

    def _give_all(self, made: Recorded) -> None:
        def give(waiter: Waiter) -> None:
            exchange = waiter.end()
            if waiter.begun or self.answers.suits(exchange, made):
                self.answers.give(exchange, made, begun=waiter.begun)
            else:
                self.answers.alone(exchange, CacheStatus.MISS)

        self._each(give)

    def _let_go(self, status: CacheStatus) -> None:
        self._each(lambda waiter: self.answers.alone(waiter.end(), status))

    def _refuse_all(self, error: ApiError) -> None:
        self._each(lambda waiter: self.answers.pipeline.refuse(waiter.end(), error))

    def _failed(self, error: ApiError | None) -> None:
        """There is no answer: those that wait go on by themselves, but for those that have seen a part of it."""
        why = error or UpstreamFailed("The engine failed while it was answering; the answer is incomplete.")

        def go_on(waiter: Waiter) -> None:
            exchange = waiter.end()
            if waiter.begun:
                self.answers.pipeline.refuse(exchange, why)
            elif self.fingerprint:
                self.answers.once(exchange, self.key, self.fingerprint, self.generation)
            else:
                self.answers.alone(exchange, CacheStatus.MISS)

        self._each(go_on)

    def _each(self, act: Callable[[Waiter], None]) -> None:
        """Do `act` with all that wait; a few at a time, so that what else the process does gets its turn."""
        self.answers.remove(self)
        began = perf_counter()
        while self._waiters:
            waiter = next(iter(self._waiters))
            del self._waiters[waiter]
            act(waiter)
            if self._waiters and perf_counter() - began > TURN:
                asyncio.get_running_loop().call_soon(self._each, act)
                return
