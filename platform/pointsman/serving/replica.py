"""One replica of a pool: an actor of Ray Serve that holds an SGLang engine and answers HTTP on a port of its own.

Ray starts it, watches it and replaces it; requests don't pass through Ray. Once the engine has generated for
the first time the replica registers its address in the store, where routers find it (see
docs/decisions/replicas-answer-on-ports-of-their-own.md). It dies with its engine: SGLang ends this process when
the scheduler or the detokenizer is lost, and Ray starts a successor.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from importlib.metadata import version
from typing import Any

import psutil
import uvicorn
from redis.asyncio import Redis

from pointsman.contracts.config import Pool
from pointsman.contracts.names import Env
from pointsman.serving import engine_args, local_model
from pointsman.serving.chat_templates import template_file
from pointsman.store.replicas import Replica, ReplicaRegistry, keep_registered

log = logging.getLogger(__name__)

STOP_WITHIN = 3.0
"""Seconds that running answers get when the replica is stopped in order."""

_KEEP_ALIVE = 3600
"""Seconds an idle connection is kept: longer than any router keeps it, so that only routers close."""


class EngineLost(Exception):
    """The engine, or the port it answers on, is gone; Ray replaces the replica."""


class PoolReplica:
    """
    The class that Ray Serve runs; constructed and called on one event loop, in a thread that stays.

    Raises in the constructor where the environment holds no replica secret, the model or template is not
    there, or the engine does not start: Ray tries again and reports the message.
    """

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits it
        self, pool: Pool, redis_url: str, host: str
    ) -> None:
        secret = os.environ.get(Env.REPLICA_SECRET)
        if not secret:
            raise RuntimeError(f"{Env.REPLICA_SECRET} is not set: a replica would answer anybody")
        os.environ.update(engine_args.environment(pool))
        # Blocks this loop, on purpose: the kernel ends SGLang's processes with the thread that started them.
        self._engine = _start_engine(pool)
        self._tokenizer = self._engine.tokenizer_manager
        self._children = [psutil.Process(pid) for pid in self._engine.get_all_child_pids()]
        chat, completion = self._handlers()
        await _warm_up(chat, pool)

        from pointsman.serving.replica_http import replica_app

        app = replica_app(
            secret=secret,
            chat=chat,
            completion=completion,
            model=pool.upstream_model,
            context=pool.capabilities.context,
            metrics=_metrics,
            healthy=self._engine_is_alive,
        )
        listener = socket.create_server((host, 0), backlog=2048)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=int(STOP_WITHIN),
            )
        )
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        address = f"{host}:{listener.getsockname()[1]}"
        replica = Replica(pool.name, address, secrets.token_hex(8), f"sglang {version('sglang')}")
        registry = ReplicaRegistry(Redis.from_url(redis_url))
        self._registration = asyncio.create_task(keep_registered(registry, replica, load=self._load))
        log.warning("pool %s: a replica answers on %s", pool.name, address)

    def check_health(self) -> None:
        """Called by Ray Serve; raises `EngineLost` where this replica must be replaced."""
        if not self._engine_is_alive():
            raise EngineLost("a process of the engine has ended")
        if self._serving.done() or self._registration.done():
            raise EngineLost("the replica has stopped answering")

    async def __del__(self) -> None:
        """Called by Ray Serve, which awaits it, when the replica is stopped in order."""
        self._registration.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._registration
        self._server.should_exit = True
        await self._serving
        self._engine.shutdown()

    def _handlers(self) -> tuple[Any, Any]:
        from sglang.srt.entrypoints.openai.serving_chat import OpenAIServingChat
        from sglang.srt.entrypoints.openai.serving_completions import OpenAIServingCompletion

        managers = (self._tokenizer, self._engine.template_manager)
        return OpenAIServingChat(*managers), OpenAIServingCompletion(*managers)

    def _load(self) -> int:
        return len(self._tokenizer.rid_to_state)

    def _engine_is_alive(self) -> bool:
        return all(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in self._children)


def _start_engine(pool: Pool) -> Any:
    assert pool.model_path is not None, "the configuration refuses a pool of sglang without weights"
    args = engine_args.server_args(
        pool,
        model_path=local_model.prepare(pool.model_path),
        chat_template=str(template_file(pool.chat_template)) if pool.chat_template else None,
    )
    if args.get("use_ray"):
        from sglang.srt.ray.engine import RayEngine as Engine
    else:
        from sglang.srt.entrypoints.engine import Engine
    return Engine(**args)


async def _warm_up(chat: Any, pool: Pool) -> None:
    """One real answer, so that the first client does not pay for what is set up at first use."""
    from sglang.srt.entrypoints.openai.protocol import ChatCompletionRequest, ChatCompletionResponse

    request = ChatCompletionRequest(
        model=pool.upstream_model,
        messages=[{"role": "user", "content": "Hello."}],
        max_tokens=8,
        temperature=0,
        custom_params={"thinking_budget": 2} if pool.thinking_budget is not None else None,
    )
    answer = await chat.handle_request(request, None)
    if not isinstance(answer, ChatCompletionResponse):
        raise EngineLost("the engine does not answer")


def _metrics() -> tuple[bytes, str]:
    # Imported late: prometheus_client looks for the folder that SGLang's processes share when it is imported.
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest, multiprocess

    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry), CONTENT_TYPE_LATEST
