"""Keeps the allowances of all tenants supplied with leases, and lets requests wait that find too little.

Stands between the allowances, which requests take from, and Redis. One task tells Redis of many tenants at a time:
at once where a request waits, before a stock runs low, and at intervals where something has changed. So a request
waits for Redis only where its tenant had nothing leased here, or where so little is left of a limit that nobody
may hoard it. While Redis is away leases run on to their end; then tenants with hard budgets are refused, and the
others go on with a careful share of their limits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from time import monotonic

from redis.exceptions import RedisError

from pointsman.contracts.limits import Budgets, Limits
from pointsman.router.admission.allowance import Allowance, Asked, View
from pointsman.store.leases import LeaseStore

log = logging.getLogger(__name__)

TICK = 0.25
"""Seconds between two looks for allowances that are low, or have something to tell."""

TELL = 1.0
"""Seconds after which what was used is told, where nothing more urgent does it earlier."""

RENEW = 2.0
"""Seconds after which a lease is renewed that nobody has taken from since."""

IDLE = 30.0
"""Seconds without a request after which everything is given back."""

MANY = 2000
"""Tenants with leases, beyond which those that are idle give everything back at once."""

BATCH = 32
"""Tenants told of at a time: a few hundred microseconds, as long as streams may wait for their turn."""

TURN = 0.005
"""Seconds of letting requests go on after which others get their turn: a thousand may have waited for one lease."""

PATIENCE = 1.0
"""Seconds that Redis has for an answer."""

SLOW = 0.1
"""Seconds without an answer after which tenants without hard budgets do not wait for it."""

AGAIN = 0.05
"""Seconds after which somebody who waits asks once more, and after which a Redis that failed is asked again."""

WAIT = 4.0
"""Seconds that a request waits for a lease at most: longer than others may sit on what they do not use."""

MOST_WAITING = 1000
"""Requests of one tenant that wait for a lease at a time."""


class LeaseBook:
    """
    All leases of one `run` of a router; one event loop owns them.

    `calendar` tells the time as it is told of requests, in milliseconds since 1970.
    """

    def __init__(self, store: LeaseStore, run: str, calendar: Callable[[], int]) -> None:
        self._store = store
        self._run = run
        self._calendar = calendar
        self._allowances: dict[str, Allowance] = {}
        self._active: dict[str, Allowance] = {}
        self._urgent: dict[str, Allowance] = {}
        self._returning: dict[str, Allowance] = {}
        self._serving = False
        self._wake = asyncio.Event()
        self._number = 0
        self._sent_at = 0.0
        self._failed = False
        self._next_look = 0.0
        self.ready = True

    def open(self, view: View) -> None:
        """Let the limits and budgets of `view` hold from now on: it is new, has changed, or is gone."""
        allowance = self._allowances.get(view.name)
        if view.gone or (view.limits == Limits() and view.budgets == Budgets()):
            view.allowance = None
            view.degraded = False
            if allowance is not None:
                allowance.leave()
                self.urge(allowance)
            return
        if allowance is None:
            allowance = self._allowances[view.name] = Allowance(view.name, view)
            allowance.on_return = partial(self._returned, allowance)
            allowance.hold_to(view.limits, view.budgets)
            if allowance.priced:
                self.urge(allowance)  # so that it is known at the first request whether a soft mark was reached
        elif allowance.view is not view or allowance.held_to != view.limits or allowance.budgets != view.budgets:
            allowance.view = view
            allowance.hold_to(view.limits, view.budgets)
        view.allowance = allowance

    def priced(self) -> list[Allowance]:
        """Those of tenants that have budgets."""
        return [allowance for allowance in self._allowances.values() if allowance.priced]

    def trouble(self) -> str | None:
        """What is missing, in a few words; None while all is well."""
        if self._failed:
            return "leases: Redis is away"
        return None if self.ready or not self._active else "leases: budgets are being counted anew"

    def urge(self, allowance: Allowance) -> None:
        """Ask Redis for `allowance` as soon as may be."""
        self._urgent[allowance.name] = allowance
        self._active[allowance.name] = allowance
        self._wake.set()

    def away(self, now: float, seconds: float) -> bool:
        """Whether Redis has failed, or not answered for `seconds`."""
        return self._failed or (self._sent_at > 0.0 and now - self._sent_at > seconds)

    async def follow(self) -> None:
        """Tell and ask until cancelled."""
        task = asyncio.current_task()
        assert task is not None
        while True:
            for batch in self._due():
                await self._exchange(batch)
                if task.cancelling():
                    return  # asked, because redis-py swallows a cancellation while it waits for an answer
            if self._failed:
                await asyncio.sleep(AGAIN)
            elif not self._urgent:
                await self._rest()

    async def close(self) -> None:
        """Give back what is held, and tell what was spent, unless Redis fails: the last requests have ended."""
        everybody = list(self._active.values())
        for start in range(0, len(everybody), BATCH):
            await self._exchange(everybody[start : start + BATCH], leaving=True)
            if self._failed:
                return

    async def _rest(self) -> None:
        self._wake.clear()
        if self._urgent:
            return
        try:
            async with asyncio.timeout(TICK):
                await self._wake.wait()
        except TimeoutError:
            return

    def _due(self) -> list[list[Allowance]]:
        """The allowances that Redis should hear of now, a few at a time."""
        now = monotonic()
        due, self._urgent = self._urgent, {}
        if now >= self._next_look:
            self._next_look = now + TICK
            for name, allowance in self._active.items():
                since = now - allowance.told_at
                if allowance.moved:
                    if since >= TELL or allowance.low:
                        due[name] = allowance
                elif since >= RENEW or allowance.waiting:
                    due[name] = allowance
        everybody = list(due.values())
        return [everybody[start : start + BATCH] for start in range(0, len(everybody), BATCH)]

    async def _exchange(self, allowances: list[Allowance], *, leaving: bool = False) -> None:
        now, at = monotonic(), self._calendar()
        asked: list[tuple[Allowance, Asked]] = []
        crowded = len(self._active) > MANY
        for allowance in allowances:
            hoards = not (leaving or _idle(allowance, now, crowded))
            self._number += 1
            asked.append((allowance, allowance.ask(self._number, at, now, hoards=hoards)))
            if allowance.old:
                of_old = allowance.asks_of_old(self._number + 1)
                self._number += len(of_old)
                asked += [(allowance, each) for each in of_old]
        self._sent_at = now
        try:
            async with asyncio.timeout(PATIENCE):
                grants, self.ready = await self._store.exchange(self._run, [each.ask for _, each in asked])
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            if not self._failed:
                log.warning("nothing can be leased (%s): leases run on to their end", type(error).__name__)
            self._failed = True
            for allowance, each in asked:
                allowance.unheard(each)
        else:
            self._failed = False
            for (allowance, each), grant in zip(asked, grants, strict=True):
                if grant is None:
                    allowance.unheard(each)
                else:
                    allowance.granted(grant, each, now)
        finally:
            self._sent_at = 0.0
        for allowance in allowances:
            if allowance.waiting:
                await self._serve(allowance)
            elif not self._failed and allowance.hoards:
                self.urge(allowance)
            elif not self._failed and not allowance.moved and allowance.empty and _idle(allowance, now, crowded):
                self._active.pop(allowance.name, None)
                allowance.deadline = 0.0  # so that the next request has it looked after again
                if allowance.view.allowance is not allowance and self._allowances.get(allowance.name) is allowance:
                    del self._allowances[allowance.name]

    async def _serve(self, allowance: Allowance) -> None:
        """Let the requests go on that wait for `allowance`, and ask again for those that have to wait on."""
        for _ in _going_on([allowance]):
            await asyncio.sleep(0)
        if allowance.waiting:
            asyncio.get_running_loop().call_later(AGAIN, self.urge, allowance)
        await asyncio.sleep(0)

    def _returned(self, allowance: Allowance) -> None:
        """A request has ended and given back what others wait for, perhaps enough for one, whatever Redis does."""
        self._returning[allowance.name] = allowance
        if not self._serving:
            self._serving = True
            asyncio.get_running_loop().call_soon(self._serve_returned)

    def _serve_returned(self) -> None:
        returning, self._returning = self._returning, {}
        self._go_on(_going_on(returning.values()), returning)

    def _go_on(self, going: Iterator[None], returning: dict[str, Allowance]) -> None:
        loop = asyncio.get_running_loop()
        for _ in going:
            loop.call_soon(self._go_on, going, returning)
            return
        for allowance in returning.values():
            if allowance.waiting:
                self.urge(allowance)
        self._serving = bool(self._returning)
        if self._serving:
            loop.call_soon(self._serve_returned)


def _going_on(allowances: Iterable[Allowance]) -> Iterator[None]:
    """Let the requests go on that wait for `allowances`, as far as there is enough; yields after each `TURN`."""
    began = now = monotonic()
    for allowance in allowances:
        for waiter in list(allowance.waiting):
            if waiter in allowance.waiting:
                waiter.look(now)
                now = monotonic()
                if now - began > TURN:
                    yield
                    began = now = monotonic()


def _idle(allowance: Allowance, now: float, crowded: bool) -> bool:
    return not allowance.moved and now - allowance.moved_at > (TELL if crowded else IDLE)
