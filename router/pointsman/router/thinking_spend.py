"""How much tenants have thought today, where their policies limit it: counted here, added up in Redis.

A request costs one addition to a number in its tenant's view; a task of every worker, which looks at those alone
who have a limit, carries the numbers to Redis and reads back what all workers spent together. So a limit is soft:
what is answered between two looks, and what is running when the limit is reached, goes beyond it
(`docs/policies.md` says by how much). While Redis is away each worker counts what it knows, and adds the rest
later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from secrets import token_hex

from redis.exceptions import RedisError

from pointsman.contracts.policies import Stage
from pointsman.router.tenant_view import TenantView, ThinkingToday
from pointsman.router.tenants import Tenants
from pointsman.store.thinking import ThinkingTotals

log = logging.getLogger(__name__)

INTERVAL = 0.5
"""Seconds between two looks."""

PATIENCE = 2.0
"""Seconds that Redis has for one look."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class ThinkingSpend:
    """
    Keeps `thinking` and `thinking_spent` of the views of `tenants`.

    `now` is a clock that knows its time zone.
    """

    def __init__(self, totals: ThinkingTotals, tenants: Tenants, *, now: Callable[[], datetime] = _utc_now) -> None:
        self._shared = totals
        self._limited: dict[str, TenantView] = {}
        self._now = now
        self._day = _day_of(now())
        self._known: dict[str, int] = {}  # of today, by tenant, as all workers have told
        self._unsent: dict[str, dict[str, int]] = {}  # by day and tenant
        self._sending: tuple[str, dict[str, int]] | None = None  # of one day, until Redis has said that it has it
        self._teller = token_hex(8)
        self._batch = 0
        self._reachable = True
        tenants.listen(self._heed)

    async def follow(self) -> None:
        """Look at the interval until cancelled."""
        task = asyncio.current_task()
        assert task is not None
        while True:
            await self.look()
            if task.cancelling():
                return  # asked, because redis-py swallows a cancellation that comes while it waits for an answer
            await asyncio.sleep(INTERVAL)

    async def look(self) -> None:
        """Carry what was counted to Redis, read the sums back, and mark who has spent all."""
        limited = self._collect()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._exchange([view.name for view in limited])
            self._reachable = True
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            if self._reachable:
                log.warning("thinking can't be added up (%s): each worker counts its own", type(error).__name__)
            self._reachable = False
        waiting = [self._unsent.get(self._day, {})]
        if self._sending is not None and self._sending[0] == self._day:
            waiting.append(self._sending[1])
        for view in limited:
            spent = self._known.get(view.name, 0) + sum(amounts.get(view.name, 0) for amounts in waiting)
            limit = limit_of(view)
            view.thinking_spent = limit is not None and spent >= limit

    def _collect(self) -> list[TenantView]:
        """The views with a limit; what they counted since the last look waits to be sent, by its day."""
        limited = list(self._limited.values())
        for view in limited:
            self._take(view)
        day = _day_of(self._now())
        if day != self._day:
            self._day = day
            self._known = {}
            for past in sorted(self._unsent)[:-2]:
                del self._unsent[past]  # nobody asks for a day that long gone
        return limited

    def _heed(self, view: TenantView) -> None:
        """`view` is new, has changed, or is gone: count what it thinks, or do so no longer."""
        if limit_of(view) is not None and not view.gone:
            self._limited[view.name] = view
            if view.thinking is None:
                view.thinking = ThinkingToday()
        elif self._limited.get(view.name) is view:
            del self._limited[view.name]
            self._take(view)
            view.thinking = None
            view.thinking_spent = False

    def _take(self, view: TenantView) -> None:
        """Let what `view` counted since the last time wait to be sent."""
        thinking = view.thinking
        if thinking is not None and thinking.unsent:
            waiting = self._unsent.setdefault(self._day, {})
            waiting[view.name] = waiting.get(view.name, 0) + thinking.unsent
            thinking.unsent = 0

    async def _exchange(self, tenants: list[str]) -> None:
        while self._sending is not None or self._unsent:
            if self._sending is None:
                self._sending = self._unsent.popitem()
                self._batch += 1
            day, amounts = self._sending
            if amounts:
                await self._shared.add(day, amounts, teller=self._teller, batch=self._batch)
            self._sending = None
        if tenants:
            self._known = await self._shared.of(self._day, tenants)


def limit_of(view: TenantView) -> int | None:
    """Thinking tokens a day of a tenant: the present policy's, or the candidate's once that holds for all."""
    document = view.policy.document
    candidate = document.candidate
    policy = candidate.policy if candidate is not None and candidate.stage is Stage.ENFORCE else document.policy
    return policy.daily_thinking_tokens


def _day_of(moment: datetime) -> str:
    return moment.date().isoformat()
