"""Playing the traffic: who asks when, how many at once, and how it ends.

Requests come at random moments with a given mean rate, as from people who know nothing of each other, but never
more than so many at a time: a slow platform is asked less, not buried. A conversation goes on from its answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import httpx

from pointsman.cli.playing.asking import Message, Told, ask
from pointsman.cli.playing.drawing import Conversation, Turn, conversations
from pointsman.cli.playing.tally import Tally

CONNECT_TIMEOUT = 5.0
"""Seconds to wait for a connection to the router."""

SILENCE_TIMEOUT = 600.0
"""Seconds without a byte after which an answer is given up."""

PAUSE = 1.0
"""Seconds for which nothing more is begun where no router answers."""

LONGEST_PAUSE = 5.0
"""Seconds at most for which a refused client waits as it was told, before its place is free again."""

LAST_WORDS = 10.0
"""Seconds that running answers have left once it is over."""


@dataclass(frozen=True, slots=True)
class Client:
    """A key and the models it may ask for."""

    key: str
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """
    What is to be played: `rate` requests a second on average, for `seconds` (None: until told to stop), `at_once`
    at most under way; in a share `feedback` of the conversations the client says which mode would have been right.
    """

    rate: float
    seconds: float | None
    at_once: int
    feedback: float
    seed: int


class Player:
    """Plays `score` by `clients` to the router at `url`, and counts in `tally`."""

    def __init__(self, url: str, clients: Sequence[Client], score: Score, tally: Tally, *, local: bool) -> None:
        self._url = url
        self._clients = clients
        self._score = score
        self._tally = tally
        self._local = local
        self._stopping = asyncio.Event()
        self._turns = self._moments()
        self._next = 0.0
        self._drawn = conversations(score.seed)
        self._places = asyncio.Semaphore(score.at_once)

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping.set()

    async def play(self) -> None:
        """Play until the time is over or `stop` is called; answers that run then have `LAST_WORDS` seconds left."""
        timeout = httpx.Timeout(SILENCE_TIMEOUT, connect=CONNECT_TIMEOUT)
        limits = httpx.Limits(max_connections=self._score.at_once + 1)
        # A proxy for the world outside cannot reach this machine.
        async with httpx.AsyncClient(
            base_url=self._url, timeout=timeout, limits=limits, trust_env=not self._local
        ) as http:
            running: set[asyncio.Task[None]] = set()

            def over(task: asyncio.Task[None]) -> None:
                running.discard(task)
                if not task.cancelled() and (error := task.exception()) is not None:
                    failed.append(error)
                    self.stop()

            failed: list[BaseException] = []
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._score.seconds):
                        while await self._turn():
                            await self._places.acquire()
                            if self._stopping.is_set():
                                break
                            task = asyncio.create_task(self._converse(http, next(self._drawn)))
                            running.add(task)
                            task.add_done_callback(over)
                self.stop()
                if running:
                    await asyncio.wait(running, timeout=LAST_WORDS)
            finally:
                left = [*running]
                for task in left:
                    task.cancel()
                await asyncio.gather(*left, return_exceptions=True)
        if failed:
            raise failed[0]

    async def _converse(self, http: httpx.AsyncClient, conversation: Conversation) -> None:
        who, what, _ = conversation.dice
        client = self._clients[int(who * len(self._clients))]
        model = client.models[int(what * len(client.models))]
        said: list[Message] = []
        try:
            for position, turn in enumerate(conversation.turns):
                if position and not await self._turn():
                    return
                said.append({"role": "user", "content": turn.text})
                told = await self._ask(http, client, model, conversation, turn, said)
                if told.code is not None or not told.text:
                    return
                if not position:
                    await self._say(http, client, conversation, told)
                said.append({"role": "assistant", "content": told.text})
        finally:
            self._places.release()

    async def _ask(
        self,
        http: httpx.AsyncClient,
        client: Client,
        model: str,
        conversation: Conversation,
        turn: Turn,
        said: list[Message],
    ) -> Told:
        tally = self._tally
        tally.asked += 1
        tally.running += 1
        try:
            told = await ask(http, client.key, model, conversation, turn, said)
        except httpx.ConnectError:
            told = Told(code="no_router", retry_after=PAUSE)
        except (httpx.HTTPError, ValueError) as error:
            told = Told(code="timeout" if isinstance(error, httpx.TimeoutException) else "broken_connection")
        except asyncio.CancelledError:
            tally.cut += 1
            raise
        finally:
            tally.running -= 1
        tally.took(told)
        if told.retry_after is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), min(told.retry_after, LONGEST_PAUSE))
        return told

    async def _say(self, http: httpx.AsyncClient, client: Client, conversation: Conversation, told: Told) -> None:
        """Let the client say whether its question deserved thought, for some of them."""
        if told.decision is None or conversation.dice[2] >= self._score.feedback:
            return
        with contextlib.suppress(httpx.HTTPError):
            answer = await http.post(
                f"/v1/decisions/{told.decision}/feedback",
                json={"should_think": conversation.think},
                headers={"authorization": f"Bearer {client.key}"},
            )
            self._tally.feedback += answer.status_code == 200

    async def _turn(self) -> bool:
        """Wait for the next moment at which something is asked; whether anything may be."""
        now = asyncio.get_running_loop().time()
        self._next = max(now, self._next + next(self._turns))  # what was missed is not made up for
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), self._next - now)
        return not self._stopping.is_set()

    def _moments(self) -> Iterator[float]:
        """Seconds between one request and the next."""
        draw = random.Random(self._score.seed)
        while True:
            yield draw.expovariate(self._score.rate)
