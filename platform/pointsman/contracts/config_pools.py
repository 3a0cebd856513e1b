"""Pools: which engine answers which model in which mode, with what hardware, limits and prices.

The largest part of the configuration and the one that changes most, so it has a file of its own. Imported by
everybody through `config.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, model_validator

from pointsman.contracts.config_types import (
    BrokenRules,
    Count,
    CountOrZero,
    Dollars,
    Flag,
    Location,
    ModelName,
    Name,
    Seconds,
    Strict,
    Text,
)
from pointsman.contracts.modes import Mode
from pointsman.contracts.pricing import PriceList

BUILTIN_PREFIX = "builtin:"
"""Begins the name of a chat template that ships with Pointsman."""

LOCAL_PREFIX = "local:"
"""Begins the name of a model that Pointsman prepares itself, in the user's cache folder."""


class Engine(StrEnum):
    """What answers behind a pool."""

    SGLANG = "sglang"
    """SGLang, started by Pointsman in Ray Serve replicas."""
    SIMULATED = "simulated"
    """Pointsman's own simulated engine: for trials and load tests, never for answers."""
    VLLM = "vllm"
    """A vLLM server that somebody else runs, reached by URL."""
    KTRANSFORMERS = "ktransformers"
    """A KTransformers server that somebody else runs, reached by URL."""
    OPENAI = "openai"
    """Any other OpenAI-compatible server, reached by URL."""


STARTED_ENGINES = frozenset({Engine.SGLANG, Engine.SIMULATED})
"""Engines that Pointsman can start by itself; the others need `urls`."""


class Family(StrEnum):
    """How a model is told to think or not: see `router/families/`."""

    PLAIN = "plain"
    """The request says nothing of the mode; the pool's chat template alone decides."""
    QWEN3 = "qwen3"
    DEEPSEEK = "deepseek"
    KIMI_K2 = "kimi_k2"
    GPT_OSS = "gpt_oss"
    GLM = "glm"
    GRANITE = "granite"
    KAT = "kat"


class Prices(Strict):
    """US dollars per 1,000,000 tokens, by token class."""

    input: Dollars
    """Prompt tokens that the engine had to compute. USD per 1M tokens."""
    cached_input: Dollars | None = None
    """Prompt tokens found in the engine's prefix cache. USD per 1M tokens; default: as `input`."""
    output: Dollars
    """Answer tokens. USD per 1M tokens."""
    reasoning: Dollars | None = None
    """Thinking tokens. USD per 1M tokens; default: as `output`."""

    def price_list(self) -> PriceList:
        """The price of every token class, defaults filled in."""
        return PriceList(
            input=self.input,
            cached_input=self.input if self.cached_input is None else self.cached_input,
            reasoning=self.output if self.reasoning is None else self.reasoning,
            answer=self.output,
        )


class Capabilities(Strict):
    """What the engine behind a pool can do; a request that needs more is refused before it is forwarded."""

    tools: Flag = False
    """Function calling. Default: no."""
    images: Flag = False
    """Image parts in messages. Default: no."""
    json_schema: Flag = True
    """`response_format` of type `json_schema` or `json_object`. Default: yes."""
    logprobs: Flag = True
    """Token log-probabilities. Default: yes."""
    context: Annotated[Count, Field(ge=64)] = 8192
    """Context window in tokens, prompt and output together. Default: 8192."""


class Autoscaling(Strict):
    """How many replicas a pool may have."""

    min_replicas: CountOrZero = 1
    """Replicas that always run. Default: 1."""
    max_replicas: Count = 1
    """Replicas that run at most. Default: 1."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        return self


class Gpu(Strict):
    """The accelerators of one replica."""

    type: Text
    """The accelerator's name as the cluster labels it, e.g. `NVIDIA-H100-80GB-HBM3`."""
    per_node: Count
    """Accelerators of one replica on each of its nodes."""


class Pool(Strict):
    """A group of equal replicas that answer one model in one mode, or in both."""

    name: Name
    """Unique name; seen in headers, metrics and logs."""
    model: ModelName
    """The public model name that clients ask for. Several pools may share one."""
    modes: Annotated[tuple[Mode, ...], Field(min_length=1)]
    """The modes this pool answers. Each model and mode is answered by the pools that list it."""
    family: Family = Family.PLAIN
    """How the mode is switched on the request. Default: `plain`, the pool's template alone decides."""
    engine: Engine
    """What answers."""
    model_path: Text | None = None
    """Weights: a folder, a hub name, or `local:smollm2` for the small model that Pointsman prepares itself."""
    served_model_name: Text | None = None
    """The name the engine knows the model by. Default: `model`."""
    urls: tuple[str, ...] = ()
    """Base URLs (`http://host:port`) of replicas that somebody else runs. Empty: replicas register themselves."""
    replicas: CountOrZero = 1
    """Replicas to start, where `autoscaling` is absent. Default: 1."""
    autoscaling: Autoscaling | None = None
    """Bounds for the number of replicas. Default: none, the number is fixed."""
    tensor_parallel: Count = 1
    """Accelerators that share one copy of the weights (TP). Default: 1."""
    pipeline_parallel: Count = 1
    """Pipeline stages of one replica (PP). Default: 1."""
    nodes: Count = 1
    """Nodes one replica spans. Default: 1."""
    gpu: Gpu | None = None
    """Accelerators of one replica. Default: none, the engine runs on CPU."""
    engine_args: dict[str, JsonValue] = Field(default_factory=dict)
    """Further arguments for the engine, by its own names (SGLang: fields of `ServerArgs`)."""
    chat_template: Text | None = None
    """Chat template: a file, or `builtin:NAME` for one that ships with Pointsman. Default: the model's own."""
    reasoning_parser: Text | None = None
    """The engine's parser that tells thinking from the answer. Default: none."""
    tool_call_parser: Text | None = None
    """The engine's parser for tool calls. Default: none."""
    capabilities: Capabilities = Capabilities()
    """What the engine can do."""
    default_max_tokens: Count = 1024
    """Output tokens, thinking included, where the client sets no limit. Default: 1024."""
    thinking_budget: Count | None = None
    """Thinking tokens per request at most, enforced by the engine. Default: none."""
    prices: Prices
    """What tokens of this pool cost. Pools of one model and mode must agree."""
    max_ongoing_requests: Annotated[Count, Field(le=100_000)] = 64
    """Requests that one replica works on at a time. Default: 64."""
    connect_timeout: Seconds = 2.0
    """Seconds to wait for a connection to a replica. Default: 2."""
    first_byte_timeout: Seconds = 120.0
    """Seconds to wait for the first byte of an answer. Default: 120."""
    idle_timeout: Seconds = 60.0
    """Seconds between two bytes of an answer. Default: 60."""
    place_timeout: Seconds = 90.0
    """Seconds a request is held while no replica can take it; then 503 with Retry-After. Default: 90."""
    licence_notice: Text | None = None
    """A notice that the model's licence asks to be shown. Default: none."""

    @property
    def upstream_model(self) -> str:
        """The model name to send to the engine."""
        return self.served_model_name or self.model

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if problems := [problem for rule in _RULES for problem in rule(self)]:
            raise BrokenRules(problems)
        return self


Problems = Iterator[tuple[Location, str]]


def _weights_or_urls(pool: Pool) -> Problems:
    if pool.engine not in STARTED_ENGINES and not pool.urls:
        yield ("urls",), f"engine {pool.engine} is not started by Pointsman: list its replicas here"
    if pool.engine is Engine.SGLANG and not pool.urls and not pool.model_path:
        yield ("model_path",), "engine sglang needs weights: a folder, a hub name or local:smollm2"


def _upstream_urls(pool: Pool) -> Problems:
    for position, url in enumerate(pool.urls):
        if fault := _fault_of_url(url):
            yield ("urls", position), fault
        elif url in pool.urls[:position]:
            yield ("urls", position), f"{url} is listed twice"
    if not pool.urls:
        return
    unused: dict[str, Any] = {
        "engine_args": pool.engine_args,
        "chat_template": pool.chat_template,
        "autoscaling": pool.autoscaling,
    }
    for field, value in unused.items():
        if value:
            yield (field,), "has no effect on a pool with `urls`: whoever runs those servers sets it there"


_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
"""A host name or an IPv4 address, or an IPv6 address without its brackets."""


def _fault_of_url(url: str) -> str | None:
    """Why `url` is no base URL of a replica; None where it is one."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "must be http://host:port"
    if parts.scheme == "https":
        return "must start with http://: the router speaks plain HTTP to replicas, over a network you trust"
    if parts.scheme != "http" or not _HOST.fullmatch(parts.hostname or "") or port == 0 or not url.isprintable():
        return "must be http://host:port"
    if parts.username is not None or parts.password is not None:
        return "must be http://host:port, without a user name or password"
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return "must be http://host:port and nothing after it: the router adds /v1/… itself"
    return None


def _modes_of_the_family(pool: Pool) -> Problems:
    if len(set(pool.modes)) != len(pool.modes):
        yield ("modes",), "lists a mode twice"
    elif pool.family is Family.PLAIN and len(pool.modes) > 1:
        yield (
            ("family",),
            "plain cannot switch a mode on the request: name the model's family, or make two pools",
        )
    if pool.family is Family.KIMI_K2 and Mode.THINK in pool.modes:
        yield ("modes",), "family kimi_k2 has no thinking: its pools answer no_think only"


def _token_limits(pool: Pool) -> Problems:
    context = pool.capabilities.context
    if pool.default_max_tokens >= context:
        yield ("default_max_tokens",), f"{pool.default_max_tokens} leaves no room in a context of {context} tokens"
    budget = pool.thinking_budget
    if budget is None:
        return
    if Mode.THINK not in pool.modes:
        yield ("thinking_budget",), "is set on a pool that never thinks"
    if pool.engine not in STARTED_ENGINES:
        yield ("thinking_budget",), f"is enforced by engines sglang and simulated only, not by {pool.engine}"
    if pool.engine is Engine.SGLANG and not pool.reasoning_parser:
        yield ("thinking_budget",), "needs `reasoning_parser`: the engine enforces the budget through that"
    if budget >= context:
        yield ("thinking_budget",), f"{budget} leaves no room in a context of {context} tokens"


def _accelerators(pool: Pool) -> Problems:
    if pool.gpu is None:
        if pool.nodes > 1:
            yield ("nodes",), "more than one node needs `gpu`: the accelerators on each of them"
        return
    if pool.gpu.per_node * pool.nodes != pool.tensor_parallel * pool.pipeline_parallel:
        yield (
            ("gpu", "per_node"),
            f"{pool.gpu.per_node} x nodes {pool.nodes} must equal "
            f"tensor_parallel {pool.tensor_parallel} x pipeline_parallel {pool.pipeline_parallel}",
        )


def _names_of_ours(pool: Pool) -> Problems:
    if pool.chat_template == BUILTIN_PREFIX:
        yield ("chat_template",), "names no template after builtin:"
    if pool.model_path == LOCAL_PREFIX:
        yield ("model_path",), "names no model after local:"


_RULES = (
    _weights_or_urls,
    _upstream_urls,
    _modes_of_the_family,
    _token_limits,
    _accelerators,
    _names_of_ours,
)
