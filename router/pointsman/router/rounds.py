"""Look at Redis again and again, for as long as the process runs: what all watches have in common.

Each of them says what a look is. Here is only when the next one comes, and that Redis may go away: what is known
holds on, and the first failure of several is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from redis.exceptions import RedisError

from pointsman.router.change_bell import Pause

log = logging.getLogger(__name__)


class Rounds:
    """
    Calls `look`, which raises RedisError and OSError where Redis fails; `what` is what it reads, in a word.

    `pause` waits for the next look, `between` is called before it. `reachable`: whether the last look was taken.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[None]],
        *,
        what: str,
        pause: Pause = asyncio.sleep,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        self._look = look
        self._what = what
        self._pause = pause
        self._between = between
        self.reachable = True

    async def once(self, patience: float | None) -> None:
        """Look once, not for longer than `patience` seconds."""
        try:
            async with asyncio.timeout(patience):
                await self._look()
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            if self.reachable:
                log.warning("%s can't be read (%s): those that are known hold", self._what, type(error).__name__)
            self.reachable = False
        else:
            if not self.reachable:
                log.info("%s are read again", self._what)
            self.reachable = True

    async def follow(self, interval: float, patience: float | None) -> None:
        """Look every `interval` seconds, or when `pause` ends before, until cancelled; `patience` as in `once`."""
        task = asyncio.current_task()
        assert task is not None
        while True:
            await self.once(patience)
            if task.cancelling():
                return  # asked, because redis-py swallows a cancellation that comes while it waits for an answer
            self._between()
            await self._pause(interval)
