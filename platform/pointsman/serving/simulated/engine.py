"""The engine's clock: who runs, who waits, and when the next token is due.

Every prompt is read at the prefill speed, what the prefix cache knows in no time, and every answer is said at the
decode speed, each by itself; answers above `max_running` wait in the order of arrival. Deadlines are absolute, so
that a busy loop delays a token but does not stretch the answer. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from prometheus_client import Gauge

from pointsman.serving.simulated.metrics import EngineMetrics
from pointsman.serving.simulated.plan import Plan
from pointsman.serving.simulated.prefix_cache import PrefixCache
from pointsman.serving.simulated.settings import Settings


class Engine:
    """Runs plans, at most `settings.max_running` at a time."""

    def __init__(self, settings: Settings, metrics: EngineMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._slots = asyncio.Semaphore(settings.max_running)
        self._cache = PrefixCache(settings.cache_tokens)
        self._load = 0

    @property
    def load(self) -> int:
        """Requests that run or wait."""
        return self._load

    @asynccontextmanager
    async def admitted(self, plan: Plan, *, slowness: float = 1.0) -> AsyncIterator[Run]:
        """
        A slot for `plan`, held while the block runs; waits for one in the order of arrival.

        `slowness` stretches every time by that factor. Leaving the block early counts as an aborted request.
        """
        arrived = time.perf_counter()
        self._load += 1
        try:
            with _counted(self._metrics.queued):
                await self._slots.acquire()
            try:
                with _counted(self._metrics.running), self._measured(plan, slowness, arrived) as run:
                    yield run
            finally:
                self._slots.release()
        finally:
            self._load -= 1

    @contextmanager
    def _measured(self, plan: Plan, slowness: float, arrived: float) -> Iterator[Run]:
        metrics = self._metrics
        cached = sum(self._cache.read(plan.salt, prompt) for prompt in plan.prompts)
        run = Run(plan, cached, self._settings, metrics, slowness, arrived)
        try:
            yield run
        except BaseException:
            metrics.aborted.inc()
            raise
        finally:
            metrics.used_tokens.dec(run.used_tokens)
            metrics.requests[plan.stream].inc()
            metrics.prompt_tokens[plan.stream].inc(plan.prompt_tokens if run.prefilled else 0)
            metrics.cached_tokens.inc(cached if run.prefilled else 0)
            metrics.generation_tokens[plan.stream].inc(run.said)
            metrics.whole_answer.observe(time.perf_counter() - arrived)


class Run:
    """The clock of one answer."""

    def __init__(
        self,
        plan: Plan,
        cached_tokens: int,
        settings: Settings,
        metrics: EngineMetrics,
        slowness: float,
        arrived: float,
    ) -> None:
        self._plan = plan
        self._metrics = metrics
        self.cached_tokens = cached_tokens
        """Prompt tokens that the prefix cache knew."""
        self._prefill = slowness * (plan.prompt_tokens - cached_tokens) / settings.prefill_speed
        self._interval = slowness / settings.decode_speed
        self._arrived = arrived
        self._start = 0.0
        self._latest = 0.0
        self.prefilled = False
        self.said = 0
        """Tokens said so far, of all choices together."""
        self.used_tokens = 0
        """Tokens that count as held in memory."""

    async def prefill(self) -> None:
        """Wait until the prompt has been read."""
        self._use(self._plan.prompt_tokens)
        await asyncio.sleep(self._prefill)
        self.prefilled = True
        self._start = time.perf_counter()

    async def token(self, position: int) -> None:
        """Wait until the token at `position` of each choice is due: at least one turn of the loop."""
        now = time.perf_counter()
        await asyncio.sleep(max(self._start + position * self._interval - now, 0.0))
        now = time.perf_counter()
        if position == 0:
            self._metrics.first_token.observe(now - self._arrived)
        else:
            self._metrics.between_tokens.observe(now - self._latest)
        self._latest = now
        new = sum(position < script.completion_tokens for script in self._plan.scripts)
        self.said += new
        self._use(new)

    def _use(self, tokens: int) -> None:
        self.used_tokens += tokens
        self._metrics.used_tokens.inc(tokens)


@contextmanager
def _counted(gauge: Gauge) -> Iterator[None]:
    gauge.inc()
    try:
        yield
    finally:
        gauge.dec()
