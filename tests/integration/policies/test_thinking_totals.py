"""What tenants thought, in a real Redis: each batch counts once, however often a slow one has heard it."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from redis import Redis as Blocking
from redis.asyncio import Redis

from pointsman.contracts.config import Config
from pointsman.contracts.names import RedisKey
from pointsman.router.snapshot import compile_snapshot
from pointsman.router.thinking_spend import ThinkingSpend
from pointsman.store.thinking import ThinkingTotals
from support.gateway import FAST, Gateway, wait_for

CONFIG = Config.model_validate(
    {
        "pools": [FAST],
        "tenants": [{"name": "a", "key_digests": ["0" * 64], "policy": {"daily_thinking_tokens": 1000}}],
    }
)


def test_a_batch_whose_answer_was_lost_counts_once(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    gateway.start_valkey()
    try:
        wait_for((tmp_path / "valkey.sock").exists, "valkey", gateway.valkey)
        assert asyncio.run(_pause_while_adding(gateway)) == [407, 407]
    finally:
        gateway.valkey.popen.send_signal(signal.SIGCONT)
        gateway.valkey.stop()


async def _pause_while_adding(gateway: Gateway) -> list[int]:
    """What two workers see in the end: one counted 7 tokens, the other one 400, in and after four pauses."""
    tenants, others = compile_snapshot(CONFIG).tenants, compile_snapshot(CONFIG).tenants
    (view,) = tenants.views.values()
    (other,) = others.views.values()
    async with Redis.from_url(gateway.redis_url, socket_timeout=0.2) as redis:
        totals = ThinkingTotals(redis)
        one, two = ThinkingSpend(totals, tenants), ThinkingSpend(totals, others)
        await one.look()
        await two.look()
        assert view.thinking is not None
        assert other.thinking is not None
        other.thinking.unsent += 7
        await two.look()
        for _ in range(4):
            view.thinking.unsent += 60
            gateway.valkey.popen.send_signal(signal.SIGSTOP)
            await one.look()  # is heard, but not answered in time
            view.thinking.unsent += 40
            gateway.valkey.popen.send_signal(signal.SIGCONT)
            await one.look()
        await one.look()
        await two.look()
        return [spend._known["a"] for spend in (one, two)]


def test_what_was_thought_last_is_counted_before_a_router_ends(tmp_path: Path) -> None:
    tenants = [{"name": "a", "policy": {"daily_thinking_tokens": 1000}}]
    with Gateway(tmp_path, tenants=tenants) as gateway:
        with gateway.client() as client:
            for _ in range(3):  # one of them ends far from a look
                question = {"model": "smollm2", "messages": [{"role": "user", "content": "x"}]}
                answer = client.post("/v1/chat/completions", json={**question, "reasoning_effort": "high"})
                thought = answer.json()["usage"]["reasoning_tokens"]
        assert gateway.router.stop() == 0
        with Blocking.from_url(gateway.redis_url) as redis:
            (day,) = redis.keys(RedisKey.THINKING.format(day="*"))
            assert redis.hget(day, "a") == b"%d" % (3 * thought)
    assert thought > 0
