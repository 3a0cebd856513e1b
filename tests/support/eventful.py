"""An hour of a platform's life in half a minute: everything happens once that a dashboard has a panel for.

Mixed traffic as `pointsman traffic` plays it, and beside it what it never brings about: answers that do not stand,
engines that die, limits that are reached, caches, tools, a policy that goes back, a pool that goes away. Its prices
make every request cost more than a cent.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from pointsman.contracts.ledger import Entry, Kind, Outcome, Part
from pointsman.contracts.names import Header, Metric
from pointsman.contracts.pricing import NANO, Cost, Usage
from pointsman.store.database import Database, database_url
from pointsman.store.ledger import LedgerStore
from support import forking
from support.boards import RULES
from support.chat import environment
from support.gateway import DEEP, FAST, Gateway, wait_for
from support.prometheus import Prometheus
from support.scenes import said, tail, used
from support.scripted import STREAM_HEAD, ScriptedEngine, chunk, whole

TOOLED = {"capabilities": {"tools": True, "tools_warning": "a trial engine"}}
DEAR = {"input": 1234.56789, "cached_input": 345.6789, "output": 4321.98765}
DEARER = {"input": 2345.67891, "output": 5432.19876, "reasoning": 6543.21987}
HISTORY = 40
"""Days of the ledger that are there before anything begins."""

TENANTS = (
    {
        "name": "demo",
        "budgets": {"daily": {"soft_usd": 1_000, "hard_usd": 100_000}, "monthly": {"hard_usd": 900_000}},
    },
    {
        "name": "cached",
        "cache": {"enabled": True, "hit_price_share": 0.5},
        "limits": {"requests_per_minute": 200},
        "budgets": {"daily": {"soft_usd": 1_000, "hard_usd": 100_000}, "monthly": {"hard_usd": 900_000}},
    },
    {"name": "limited", "limits": {"requests_per_minute": 2}},
    {"name": "other"},
    {"name": "failing"},
    {"name": "judging", "policy": {"model_decides": True, "abstain": [0.0, 1.0], "default_mode": "think"}},
)
TOLD = ("demo", "cached")
"""The tenants of the traffic: of each of their requests a client was told what it costs."""

WATCHED = "cached"
"""One of them, who has everything that a tenant may have, and who reaches his limit."""

TRAFFIC = ("--rate", "25", "--for", "3s", "--at-once", "30", "--feedback", "0.5", "--model", "smollm2")
QUESTION = {"role": "user", "content": "What is the capital of France?"}


class EventfulRun:
    """
    The run, once entered: a gateway that has calmed down, and the Prometheus that watched from `begun` to `ended`.

    `told`: what clients of the traffic were told that their answers cost, in dollars.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running = ExitStack()
        self._http = httpx.Client(timeout=60)
        self.told: list[Decimal] = []
        self.begun = self.ended = 0.0
        self.gateway: Gateway
        self.prometheus: Prometheus
        self.ledger: LedgerStore
        self._played: ScriptedEngine
        self._thinking: ScriptedEngine
        self._kat: ScriptedEngine

    def __enter__(self) -> EventfulRun:
        with ExitStack() as starting:
            self._played, self._thinking, self._kat = (starting.enter_context(ScriptedEngine()) for _ in range(3))
            self.gateway = Gateway(self._folder, pools=self._pools(), tenants=TENANTS, copies={"fast": 2})
            database = Database(database_url(None, self.gateway.state))
            starting.callback(database.close)
            self.ledger = LedgerStore(database)
            self.ledger.append(list(_history()))
            starting.enter_context(self.gateway)
            starting.callback(self._http.close)
            target = self.gateway.url.removeprefix("http://")
            rules = [RULES / file for file in ("recording.yaml", "alerts.yaml")]
            self.prometheus = starting.enter_context(Prometheus(self._folder / "prometheus", [target], rules))
            self.begun = time.time()
            self._live()
            self._settle()
            self._running = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    def admin(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request to `/admin/v1`."""
        headers = {"authorization": f"Bearer {self.gateway.admin_key}", **options.pop("headers", {})}
        url = f"{self.gateway.url}/admin/v1/{path}"
        return httpx.request(method, url, headers=headers, timeout=30, **options).raise_for_status()

    # -- what happens

    def _pools(self) -> list[dict[str, Any]]:
        both = {"prices": DEARER, "modes": ["think", "no_think"]}
        played = {"model": "played", "prices": DEARER}
        slow = {"simulated": {"decode_speed": 40, "answer_tokens": 24}}
        small = {"max_ongoing_requests": 1, "max_waiting": 2, "place_timeout": 20.0, "engine_args": slow}
        return [
            {**FAST, **TOOLED, "prices": DEAR},
            {**DEEP, **TOOLED, "prices": DEARER, "place_timeout": 0.3},
            {**FAST, **small, "name": "small", "model": "small", "prices": DEAR},
            {**played, "name": "p-fast", "modes": ["no_think"], "engine": "openai", "urls": [self._played.url]},
            {
                **played,
                "name": "p-deep",
                "modes": ["think"],
                "engine": "vllm",
                "family": "qwen3",
                "urls": [self._thinking.url],
            },
            {**both, "name": "kat", "model": "kat", "engine": "sglang", "family": "kat", "urls": [self._kat.url]},
        ]

    def _live(self) -> None:
        for turn in range(2):  # what a counter begins with is no growth to Prometheus, what it has next time is
            with ThreadPoolExecutor() as beside:
                traffic = beside.submit(self._traffic, turn)
                self.gateway.engines["fast"][0].faults({"kind": "die", "times": 1})  # sent again elsewhere
                self._answers_that_do_not_stand()
                self._tools()
                self._limits()
                self._caches()
                traffic.result()
            self._look()
        self._a_limit_of_one_who_is_watched()
        self._broken_engines()
        self._a_policy_that_goes_back()
        self._a_pool_that_goes_away()

    def _look(self) -> None:
        """Wait until Prometheus has seen all that has happened."""
        ended = self.gateway.total(Metric.REQUESTS)
        wait_for(lambda: sum(each.value for each in self.prometheus.now(Metric.REQUESTS)) == ended, "a scrape")

    def _traffic(self, seed: int) -> None:
        keys = [word for tenant in TOLD for word in ("--tenant-key", self.gateway.keys[tenant])]
        played = forking.run(
            ["traffic", "--json", "--url", self.gateway.url, *keys, *TRAFFIC, "--seed", str(seed)],
            env=environment(),
            timeout=60,
        )
        assert played.returncode == 0, played.stdout + played.stderr
        self.told.append(Decimal(json.loads(played.stdout)["cost_usd"]))

    def _ask(self, model: str, tenant: str = "other", *, wish: str = "", **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.gateway.keys[tenant]}", **more.pop("headers", {})}
        if wish:
            headers[Header.MODE] = wish
        body = {"model": model, "messages": [QUESTION], **more}
        answer = self._http.post(f"{self.gateway.url}/v1/chat/completions", json=body, headers=headers)
        if tenant in TOLD and answer.status_code == 200:
            self.told.append(Decimal(answer.headers[Header.COST_USD]))
        return answer

    def _answers_that_do_not_stand(self) -> None:
        self._played.script(_answer("", used(10, 1)))
        assert self._ask("played").headers[Header.ESCALATED] == "empty"
        self._played.script(_answer("and so on " * 900, used(5, 1024), finish="length"))
        assert self._ask("played", wish="no_think").headers[Header.STOPPED] == "repetition"
        thinking = [chunk(said(reasoning_content="w ", usage=used(9, spent + 1))) for spent in range(160)]
        self._thinking.script(STREAM_HEAD, *thinking, 5.0)
        self._thinking.script(*_stream(said(content="So."), said("stop"), *tail(15, 2)))
        assert self._ask("played", wish="think", max_tokens=200).headers[Header.ANSWER_FLOOR] == "true"
        judged = "<judge>\nEasy.\n</judge>\n\n<think_off>\n\n<answer>\nParis.\n</answer>"
        self._kat.script(*_stream(said(content=judged), said("stop"), *tail(9, 12)))
        assert self._ask("kat", "judging").headers[Header.JUDGEMENT] == "no_think"

    def _caches(self) -> None:
        same = {"temperature": 0, "messages": [{"role": "user", "content": "Say it once."}]}
        wait_for(lambda: self._ask("smollm2:no_think", "cached", **same).headers[Header.CACHE] == "hit", "a hit")
        headers = {Header.IDEMPOTENCY_KEY: "the-same"}
        for _ in range(2):
            again = self._ask("smollm2:no_think", headers=headers)
        assert again.headers[Header.REPLAYED] == "true"

    def _tools(self) -> None:
        tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
        messages = [{"role": "user", "content": "Call weather, please."}]
        assert self._ask("smollm2:no_think", messages=messages, tools=[tool]).status_code == 200

    def _limits(self) -> None:
        assert 429 in {self._ask("smollm2:no_think", "limited").status_code for _ in range(4)}
        with ThreadPoolExecutor(10) as crowd:
            codes = set(crowd.map(lambda _: self._ask("small").status_code, range(10)))
        assert codes == {200, 503}, "more than may wait"

    def _a_limit_of_one_who_is_watched(self) -> None:
        same = {"temperature": 0, "messages": [{"role": "user", "content": "Say it once."}]}
        with ThreadPoolExecutor(8) as crowd:

            def refused() -> bool:
                some = crowd.map(lambda _: self._ask("smollm2:no_think", WATCHED, **same).status_code, range(40))
                return 429 in set(some)

            wait_for(refused, "the limit to be reached")

    def _broken_engines(self) -> None:
        (deep,) = self.gateway.engines["deep"]
        deep.faults({"kind": "truncate", "after_tokens": 40, "times": 1})  # its usage is never told
        self._ask("smollm2:think", stream=True)

    def _a_policy_that_goes_back(self) -> None:
        never, always = ({"policy": {"rules": [{"name": "r", "mode": mode}]}} for mode in ("no_think", "think"))
        limits = {"errors": 0.2, "disagreement": 1.0, "at_least": 10, "window": 60.0}
        tag = self.admin("GET", "policies/failing").headers["etag"]
        candidate = {**always, "stage": "enforce", "limits": limits}
        self.admin("PUT", "policies/failing", json={**never, "candidate": candidate}, headers={"if-match": tag})
        (deep,) = self.gateway.engines["deep"]
        wait_for(lambda: self._ask("smollm2", "failing").headers[Header.MODE] == "think", "the policy to hold")
        deep.faults({"kind": "error", "times": None})
        wait_for(lambda: self._ask("smollm2", "failing").status_code == 200, "the policy to go back")
        deep.forget()

    def _a_pool_that_goes_away(self) -> None:
        (small,) = self.gateway.engines["small"]
        small.process.stop()
        wait_for(lambda: self.gateway.total(Metric.DEGRADED) > 0, "the pool to be missed")

    def _settle(self) -> None:
        """Wait until the ledger is written, and Prometheus has seen it."""

        def written() -> bool:
            page = self.gateway
            return page.total(Metric.LEDGER_UNWRITTEN) == 0 and page.total(Metric.IN_FLIGHT) == 0

        wait_for(written, "the ledger", self.gateway.ledger_writer)
        entries = sum(self.ledger.counts().values())
        wait_for(
            lambda: sum(each.value for each in self.prometheus.now(Metric.LEDGER_ENTRIES)) == entries, "the gauges"
        )
        time.sleep(2.5)  # rules look once more

        def scraped() -> bool:
            # The moment of a scrape that is over: one that still runs may fail, which would empty the present.
            self.ended = self.prometheus.now("timestamp(up)")[0].value
            return self.prometheus.now("up", self.ended)[0].value == 1

        wait_for(scraped, "Prometheus to scrape")


def _history() -> Iterator[Entry]:
    """Two tenants' requests of the last days, at noon in UTC; a day's cost varies, and is odd. One was lost."""
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
    for day in range(1, HISTORY + 1):
        at = int((noon - timedelta(days=day)).timestamp()) * 1000
        for number, tenant in enumerate(TOLD):
            lost = day == HISTORY and number == 0
            nano = 0 if lost else (3 + day % 7 + number) * NANO + 10**6 * day + 7
            part = Part(
                "deep", "think", Usage(input=9, answer=99), Cost(input=nano // 3, answer=nano - nano // 3), 0
            )
            name = f"past-{tenant}-{day}"
            yield Entry(
                id=name,
                kind=Kind.REQUEST,
                at=at,
                ended_at=at + 900,
                tenant=tenant,
                key="0123abcd",
                request_id=name,
                model="smollm2",
                mode="think",
                status=200,
                outcome=Outcome.LOST if lost else Outcome.ANSWERED,
                stream=False,
                cache="",
                parts=() if lost else (part,),
                total=nano,
                router="0" * 16,
                number=2 * day + number,
            )


def _stream(*pieces: bytes) -> list[bytes]:
    return [STREAM_HEAD, *map(chunk, pieces), b"0\r\n\r\n"]


def _answer(content: str, usage: dict[str, int], finish: str = "stop") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
    return whole(
        json.dumps({"id": "e1", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()
    )
