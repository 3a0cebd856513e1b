"""A replica whose engine is SGLang, in processes of its own below the actor.

Stands on `replica.py`, which knows Ray and the store. It dies with its engine: SGLang ends this process when the
scheduler or the detokenizer is lost, and Ray starts a successor.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Any

import psutil
from starlette.types import ASGIApp

from pointsman.contracts.config import Pool
from pointsman.serving import engine_args, local_model
from pointsman.serving.chat_templates import template_file
from pointsman.serving.replica import EngineLost, ServedReplica


class SglangReplica(ServedReplica):
    """Raises in the constructor, further, where the model or the chat template is not there."""

    async def _start(self, pool: Pool, secret: str) -> tuple[ASGIApp, str]:
        os.environ.update(engine_args.environment(pool))
        # Blocks this loop, on purpose: the kernel ends SGLang's processes with the thread that started them.
        self._engine = _start_engine(pool)
        self._tokenizer = self._engine.tokenizer_manager
        self._children = [psutil.Process(pid) for pid in self._engine.get_all_child_pids()]
        chat, completion, tokenize = self._handlers()
        await _warm_up(chat, pool)

        from pointsman.serving.replica_http import replica_app

        app = replica_app(
            secret=secret,
            chat=chat,
            completion=completion,
            tokenize=tokenize,
            model=pool.upstream_model,
            context=pool.capabilities.context,
            metrics=_metrics,
            healthy=self._engine_is_alive,
        )
        return app, f"sglang {version('sglang')}"

    def _handlers(self) -> tuple[Any, Any, Any]:
        from sglang.srt.entrypoints.openai.serving_chat import OpenAIServingChat
        from sglang.srt.entrypoints.openai.serving_completions import OpenAIServingCompletion
        from sglang.srt.entrypoints.openai.serving_tokenize import OpenAIServingTokenize

        managers = (self._tokenizer, self._engine.template_manager)
        return OpenAIServingChat(*managers), OpenAIServingCompletion(*managers), OpenAIServingTokenize(*managers)

    def _load(self) -> int:
        return len(self._tokenizer.rid_to_state)

    def _engine_is_alive(self) -> bool:
        return all(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in self._children)

    def _stop(self) -> None:
        self._engine.shutdown()


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
