"""Which replica: one of a pool of the decided mode, where the conversation's prefix is cached if it may be.

Stands after `decide` and before `relay`, which comes back here when a replica fails before its first byte. A
request waits for its own track, and is refused when that takes too long, unless `substitution.py` has it answered
on the other. What does not change from one request to the next is worked out once for each tenant and model, and
anew when the model's pools change.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING

from pointsman.contracts.config import Pool
from pointsman.contracts.errors import InvalidRequest, PoolUnavailable
from pointsman.contracts.modes import Mode
from pointsman.contracts.names import Header
from pointsman.router.exchange import Exchange
from pointsman.router.fleet import Fleet, PoolState, Replica
from pointsman.router.fleet.output_length import OutputLength
from pointsman.router.pipeline.conversation import conversation_key
from pointsman.router.pipeline.judging import wish_of
from pointsman.router.pipeline.outcome import Outcome
from pointsman.router.pipeline.substitution import substitute

if TYPE_CHECKING:
    from pointsman.router.pipeline import Pipeline
    from pointsman.router.snapshot import ModelView, TenantView

RETRY_AFTER = 5
"""Seconds after which a client whose request found no replica may try again."""

BYTES_OF_A_TOKEN = 4
"""Bytes of a request for each token of its prompt, roughly."""

PREFILL_WEIGHT = 16
"""Prompt tokens that are taken to cost an engine what one token of output costs: it reads them many at a time."""

MOST_PREFILL = 2048
"""Predicted tokens that a prompt counts for at most, since bytes may be an image or be cached already."""

SECOND_THOUGHT = 0.25
"""
Seconds before a request goes back to the one replica that has just dropped it, there being no other. A process that
dies still takes connections for some milliseconds, and a request is sent twice at most.
"""

GENERATION = 10_000
"""Pairs of tenant and model in each of the two generations that are remembered: those in use outlive all others."""


_BYTES_OF_AN_OUTPUT_TOKEN = BYTES_OF_A_TOKEN * PREFILL_WEIGHT
_ESCALATION = Header.ESCALATION.encode()
_THINK = Mode.THINK  # a member of an Enum is slow to look up by way of its class


class Track:
    """What is known of the requests of one tenant, model and mode. `pools` are those that answer the mode."""

    __slots__ = ("_able", "_mode", "output_length", "states")

    def __init__(self, fleet: Fleet, mode: Mode, pools: Iterable[Pool], output_length: OutputLength) -> None:
        self._mode = mode
        self._able: dict[tuple[str, ...], tuple[PoolState, ...]] = {}
        # A pool that has been taken away may still be known to a request that came before.
        self.states = tuple(fleet.pools[pool.name] for pool in pools if _is_there(fleet, pool, mode))
        self.output_length = output_length

    def able(self, needs: dict[str, str]) -> tuple[PoolState, ...]:
        """
        The pools that can do all of `needs`; at least one.

        Raises `InvalidRequest` naming the field that needs what none of them can do.
        """
        key = tuple(needs)
        states = self._able.get(key)
        if states is None:
            states = self.states
            for need, field in needs.items():
                states = tuple(state for state in states if getattr(state.config.capabilities, need))
                if not states:
                    raise InvalidRequest(
                        f"'{field}' is not supported by this model in mode {self._mode}.",
                        param=field,
                        code="unsupported_parameter",
                    )
            self._able[key] = states
        return states


class Route:
    """One tenant's way to one model: the tracks by mode, and the seed of the keys of its conversations."""

    __slots__ = ("epoch", "model", "no_think", "seed", "think")

    think: Track | None
    no_think: Track | None

    def __init__(self, fleet: Fleet, tenant: TenantView, model: ModelView, before: Route | None) -> None:
        """`before`: what was known while the model's pools were others; how long answers are is known from it."""
        self.model = model
        self.epoch = fleet.epoch
        self.seed = zlib.crc32(f"{tenant.cache_salt}\0{model.name}".encode())
        self.think = self._track(fleet, Mode.THINK, None if before is None else before.think)
        self.no_think = self._track(fleet, Mode.NO_THINK, None if before is None else before.no_think)

    def _track(self, fleet: Fleet, mode: Mode, before: Track | None) -> Track | None:
        pools = self.model.pools.get(mode)
        if pools is None:
            return None
        return Track(fleet, mode, pools, OutputLength() if before is None else before.output_length)


class Place:
    """
    Fills `pool`, `replica`, `predicted_tokens`, `output_length` and `place_deadline`.

    `pipeline` is set once the pipeline exists.
    """

    name = "place"
    pipeline: Pipeline

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._routes: dict[tuple[str, str], Route] = {}
        self._older: dict[tuple[str, str], Route] = {}

    def __call__(self, exchange: Exchange) -> Outcome:
        tenant, model, decision = exchange.tenant, exchange.model, exchange.decision
        assert tenant is not None
        assert model is not None
        assert decision is not None
        if _ESCALATION in exchange.headers:
            wish_of(exchange)  # a word that is none is refused before a place is taken
        route = self._routes.get((tenant.name, model.name))
        if route is None or route.model is not model or route.epoch != self._fleet.epoch:
            route = self.route(tenant, model)
            exchange.model = route.model
        track = route.think if decision.mode is _THINK else route.no_think
        if track is None or not track.states:
            raise PoolUnavailable(
                f"The pools that answer this model in mode {decision.mode} have just been taken away.",
                retry_after=RETRY_AFTER,
            )
        states = track.able(exchange.needs) if exchange.needs else track.states
        failed = exchange.replica
        if failed is None:
            exchange.output_length = track.output_length
            tokens = exchange.predicted_tokens = _predicted(exchange, track, states[0].config)
        else:
            tokens = exchange.predicted_tokens
        for state in states:
            if state.waiting and failed is None:
                continue  # it goes to the line; one whose replica failed came before those that wait
            key = conversation_key(exchange, route.seed) if state.many else 0
            replica = state.take(key, tokens, failed)
            if replica is not None:
                exchange.pool = state.config
                exchange.replica = replica
                if replica is failed and exchange.attempts:
                    exchange.work = _SecondThought(self.pipeline, self._fleet, exchange, replica)
                    return Outcome.WAIT
                return Outcome.NEXT
        return self._wait(exchange, states, route.seed)

    def route(self, tenant: TenantView, model: ModelView) -> Route:
        """What is known of the requests of `tenant` to `model`, or to what has taken its place meanwhile."""
        model = tenant.models.get(model.name, model)
        name = (tenant.name, model.name)
        route = self._routes.get(name)
        if route is None or route.model is not model or route.epoch != self._fleet.epoch:
            if len(self._routes) >= GENERATION:
                self._older, self._routes = self._routes, {}
            known = route or self._older.get(name)
            if known is None or known.model is not model or known.epoch != self._fleet.epoch:
                known = Route(self._fleet, tenant, model, known)
            route = self._routes[name] = known
        return route

    def _wait(self, exchange: Exchange, states: tuple[PoolState, ...], seed: int) -> Outcome:
        exchange.pool = states[0].config
        failed, exchange.replica = exchange.replica, None
        now = monotonic()
        if exchange.place_deadline == 0.0:
            exchange.place_deadline = now + _patience(states)
        if now >= exchange.place_deadline:
            raise _unavailable(states)
        waiting = _Waiting(self.pipeline, self._fleet, exchange, failed)
        waiting.sit(states if failed is not None else self._seats(waiting, states), seed)
        exchange.work = waiting
        return Outcome.WAIT

    def _seats(self, waiting: _Waiting, states: tuple[PoolState, ...]) -> tuple[PoolState, ...]:
        """The pools that `waiting` may wait for; somebody else may have to go for it."""
        free = tuple(state for state in states if state.waiting < state.config.max_waiting)
        if free:
            return free
        for state in states:
            least = state.line.least(waiting, state.config.max_waiting)
            if least is not None:
                least.pushed_out(state)
                return (state,)
        pool = states[0].config
        self._fleet.shed(pool, waiting.priority)
        raise _too_many(pool)


class _Waiting:
    """A request that waits for a place in any of its pools; before all others, where `failed` had it already."""

    __slots__ = (
        "_exchange",
        "_failed",
        "_fleet",
        "_key",
        "_pipeline",
        "_states",
        "_timer",
        "priority",
        "tenant",
        "tokens",
        "weight",
    )

    def __init__(self, pipeline: Pipeline, fleet: Fleet, exchange: Exchange, failed: Replica | None) -> None:
        tenant = exchange.tenant
        assert tenant is not None
        self.tenant = tenant.name
        self.priority = tenant.priority
        self.weight = tenant.weight
        self.tokens = exchange.predicted_tokens
        self._pipeline = pipeline
        self._fleet = fleet
        self._exchange = exchange
        self._failed = failed

    def sit(self, states: tuple[PoolState, ...], seed: int) -> None:
        """Wait for a place in any of `states` from now on."""
        self._states = states
        self._key = conversation_key(self._exchange, seed)
        for state in states:
            state.join(self, urgent=self._failed is not None)
        seconds = self._exchange.place_deadline - monotonic()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    def try_again(self, state: PoolState) -> bool:
        """Take a place in the pool `state` and go on; False where there is none."""
        exchange = self._exchange
        replica = state.take(self._key, self.tokens, self._failed)
        if replica is None:
            return False
        state.serve(self)
        self.abort()
        exchange.pool = state.config
        exchange.replica = replica
        if replica is self._failed and exchange.attempts:
            exchange.work = _SecondThought(self._pipeline, self._fleet, exchange, replica)
        else:
            exchange.work = None
            self._pipeline.resume(exchange)
        return True

    def pushed_out(self, state: PoolState) -> None:
        """Give up the seat in the pool `state`; where it was the only one, the request is refused."""
        state.leave(self)
        self._states = tuple(other for other in self._states if other is not state)
        if not self._states:
            self._fleet.shed(state.config, self.priority)
            self._refuse(_too_many(state.config))

    def moved(self, state: PoolState) -> None:
        """The pool `state` is gone: where it was the only one to wait for, see what answers the model now."""
        state.leave(self)
        self._states = tuple(other for other in self._states if other is not state)
        if not self._states:
            self.abort()
            self._exchange.work = None
            self._pipeline.again(self._exchange, Place.name)

    def abort(self) -> None:
        self._timer.cancel()
        for state in self._states:
            state.leave(self)

    def pause(self) -> None:
        """Nothing is being sent."""

    def resume(self) -> None:
        """Nothing is being sent."""

    def _expire(self) -> None:
        exchange = self._exchange
        if substitute(exchange, self._fleet):
            self.abort()
            exchange.work = None
            self._pipeline.again(exchange, Place.name)
            return
        self._refuse(_unavailable(self._states))

    def _refuse(self, error: PoolUnavailable) -> None:
        self.abort()
        self._exchange.work = None
        self._pipeline.refuse(self._exchange, error)


class _SecondThought:
    """A request that holds a place at the replica that has dropped it, for a moment before it is sent again."""

    __slots__ = ("_exchange", "_fleet", "_pipeline", "_replica", "_timer")

    def __init__(self, pipeline: Pipeline, fleet: Fleet, exchange: Exchange, replica: Replica) -> None:
        self._pipeline = pipeline
        self._fleet = fleet
        self._exchange = exchange
        self._replica = replica
        self._timer = asyncio.get_running_loop().call_later(SECOND_THOUGHT, self._go_on)

    def abort(self) -> None:
        self._timer.cancel()
        self._fleet.released(self._replica, self._exchange.predicted_tokens)

    def pause(self) -> None:
        """Nothing is being sent."""

    def resume(self) -> None:
        """Nothing is being sent."""

    def _go_on(self) -> None:
        self._exchange.work = None
        self._pipeline.resume(self._exchange)


def _is_there(fleet: Fleet, pool: Pool, mode: Mode) -> bool:
    """Whether the pool of this name is one that requests for `pool` in `mode` may be placed on."""
    state = fleet.pools.get(pool.name)
    return state is not None and state.config.model == pool.model and mode in state.config.modes


def _predicted(exchange: Exchange, track: Track, pool: Pool) -> int:
    """What the request will cost a replica, in tokens of output; at least 1."""
    output = track.output_length.tokens
    most = exchange.max_tokens or pool.default_max_tokens
    if output > most:
        output = most
    prompt = len(exchange.body) // _BYTES_OF_AN_OUTPUT_TOKEN
    return output + (MOST_PREFILL if prompt > MOST_PREFILL else prompt)  # noqa: FURB136 - a call costs more


def _too_many(pool: Pool) -> PoolUnavailable:
    return PoolUnavailable(f"Too many requests wait for a replica of pool '{pool.name}'.", retry_after=RETRY_AFTER)


def _patience(states: tuple[PoolState, ...]) -> float:
    """Seconds for which a request that finds no place is held: longer where whoever could take it sleeps."""
    asleep = _asleep(states)
    pool = states[0].config
    return pool.place_timeout if asleep is None else max(asleep.config.wake_timeout, pool.place_timeout)


def _asleep(states: tuple[PoolState, ...]) -> PoolState | None:
    """The one of `states` that sleeps, where none of them has a replica."""
    if any(state.replicas for state in states):
        return None
    return next((state for state in states if state.sleeps), None)


def _unavailable(states: tuple[PoolState, ...]) -> PoolUnavailable:
    asleep, pool = _asleep(states), states[0].config
    if asleep is not None:
        pool = asleep.config
        message = f"Pool '{pool.name}' was asleep, and has not woken within {pool.wake_timeout:g} seconds."
    else:
        message = f"No replica of pool '{pool.name}' could take the request within {pool.place_timeout:g} seconds."
    return PoolUnavailable(message, retry_after=RETRY_AFTER)
