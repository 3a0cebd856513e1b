"""Keep the children of an instance running, and end them in order.

Knows children and their order, not what they are: that is the plan's. A child that dies is started again after a
pause that grows; one that keeps dying, or dies before the instance was ready, ends the instance.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pointsman.cli.instance.child import Child, Part
from pointsman.cli.instance.orphans import sweep

_KILLED_WITHIN = 5.0
"""Seconds in which a process is gone after SIGKILL, unless the kernel itself is stuck."""

HURRIED_STOP = 1.0
"""Seconds that a child gets after SIGTERM where the user is in a hurry."""


@dataclass(frozen=True, slots=True)
class RestartLimits:
    """
    `pause`: seconds before the first restart, doubled for each further death within the window up to
    `longest_pause`; `deaths` within `window` seconds and the child is given up.
    """

    pause: float = 0.5
    longest_pause: float = 8.0
    deaths: int = 5
    window: float = 60.0


class PartFailed(Exception):
    """A child that the instance cannot do without died for good. The message is one sentence for the user."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class Supervisor:
    """
    `said(name, line)` gets what children tell the user, `noted(line)` what happens to them. Create it inside a
    running event loop; it must be `stop`ped.
    """

    def __init__(
        self,
        *,
        logs: Path,
        said: Callable[[str, str], None],
        noted: Callable[[str], None],
        limits: RestartLimits,
    ) -> None:
        self._logs = logs
        self._said = said
        self._noted = noted
        self._limits = limits
        self._children: dict[str, Child] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._restarting = False
        self._stopping = False
        self.failed: asyncio.Future[PartFailed] = asyncio.get_running_loop().create_future()
        """Done once a child has died for good."""

    def start(self, part: Part) -> None:
        """Start `part` and keep watch over it."""
        self._launch(part)
        self._keepers[part.name] = asyncio.create_task(self._keep(part))

    @property
    def is_ready(self) -> bool:
        """Whether `restart_from_now_on` was called."""
        return self._restarting

    def restart_from_now_on(self) -> None:
        """The instance is ready: a child that dies is started again from now on."""
        self._restarting = True

    async def stop(self, groups: Iterable[Sequence[str]], *, hurry: asyncio.Event) -> None:
        """
        End all children, one group of names after the other; names that never started are passed over.

        A child gets SIGTERM, then its `stop_within` seconds, then SIGKILL. Once `hurry` is set nobody waits for
        anybody: all get `HURRIED_STOP` seconds together.
        """
        self._stopping = True
        for group in groups:
            if hurry.is_set():
                break
            await asyncio.gather(*(self._end(name, hurry) for name in group if name in self._children))
        await asyncio.gather(*(self._end(name, hurry) for name in list(self._children)))
        for keeper in self._keepers.values():
            keeper.cancel()
        await asyncio.gather(*self._keepers.values(), return_exceptions=True)
        await self._sweep()

    def _launch(self, part: Part) -> None:
        self._children[part.name] = Child(part, logs=self._logs, said=lambda line: self._said(part.name, line))

    async def _keep(self, part: Part) -> None:
        deaths: deque[float] = deque()
        while True:
            child = self._children[part.name]
            await child.exited.wait()
            if self._stopping:
                return
            await self._sweep()
            how = _how_it_ended(child.returncode)
            if not self._restarting:
                self._give_up(part.name, f"{part.name} {how} while the platform was starting")
                return
            now = time.monotonic()
            deaths.append(now)
            while deaths[0] < now - self._limits.window:
                deaths.popleft()
            if len(deaths) >= self._limits.deaths:
                times = f"{len(deaths)} times within {self._limits.window:.0f} s"
                self._give_up(part.name, f"{part.name} {how}; that was {times}, so it is not started again")
                return
            pause = min(self._limits.longest_pause, self._limits.pause * 2 ** (len(deaths) - 1))
            self._noted(f"{part.name} {how}; it is started again in {pause:g} s")
            await asyncio.sleep(pause)
            if self._stopping:
                return
            try:
                self._launch(part)
            except OSError as error:
                self._give_up(part.name, f"{part.name} could not be started again: {error.strerror}")
                return
            self._noted(f"{part.name} was started again")

    def _give_up(self, name: str, message: str) -> None:
        if not self.failed.done():
            self.failed.set_result(PartFailed(name, message))

    async def _end(self, name: str, hurry: asyncio.Event) -> None:
        child = self._children[name]
        if child.returncode is not None:
            return
        child.send(signal.SIGTERM)
        if not await _unless(hurry, child.ended_within(child.part.stop_within)) and not (
            hurry.is_set() and await child.ended_within(HURRIED_STOP)
        ):
            if not hurry.is_set():
                self._noted(f"{name} did not stop within {child.part.stop_within:g} s and is killed")
            child.send(signal.SIGKILL)
            await child.ended_within(_KILLED_WITHIN)

    async def _sweep(self) -> None:
        for pause in sweep(_Running(self._children)):
            await asyncio.sleep(pause)


async def until(is_so: Callable[[], Awaitable[bool]], *, pause: float = 0.03) -> None:
    """
    Wait until `is_so()`, asked again `pause` seconds after each no. For what another process cannot announce.

    A cancellation ends it even where `is_so` swallowed it, which redis-py does at most of its waits.
    """
    task = asyncio.current_task()
    while True:
        yes = await is_so()
        if task and task.cancelling():
            raise asyncio.CancelledError
        if yes:
            return
        await asyncio.sleep(pause)


class _Running:
    """The process numbers that are not orphans, asked for anew each time: a sweep outlasts deaths and restarts."""

    def __init__(self, children: dict[str, Child]) -> None:
        self._children = children

    def __contains__(self, pid: object) -> bool:
        return any(child.pid == pid and not child.exited.is_set() for child in self._children.values())


async def _unless(hurry: asyncio.Event, waiting: Coroutine[None, None, bool]) -> bool:
    """What `waiting` says; False as soon as `hurry` is set."""
    task = asyncio.ensure_future(waiting)
    hurried = asyncio.ensure_future(hurry.wait())
    await asyncio.wait({task, hurried}, return_when=asyncio.FIRST_COMPLETED)
    for one in (task, hurried):
        one.cancel()
    await asyncio.gather(task, hurried, return_exceptions=True)
    return not task.cancelled() and task.result()


def _how_it_ended(returncode: int | None) -> str:
    if returncode is not None and returncode < 0:
        return f"was ended by {signal.Signals(-returncode).name}"
    return f"stopped with exit code {returncode}"
