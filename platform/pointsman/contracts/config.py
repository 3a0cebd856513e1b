"""The configuration: one schema for YAML files, the Kubernetes kinds and the running processes.

Every field says its unit, its default and its effect. Stands in the contracts because all rooms read it.
Reading and explaining a file is `config_file.py`.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pointsman.contracts.modes import Mode, ModePolicy
from pointsman.contracts.pricing import PriceList

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")]
"""Lower-case letters, digits, dot, dash and underscore, 1 to 63 characters: fits labels, headers and URLs."""

Dollars = Annotated[Decimal, Field(ge=0, le=1_000_000, max_digits=16, decimal_places=9)]
"""US dollars, at most nine decimals (one nano-dollar)."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    """Unknown fields are errors: a misspelled limit must not silently be no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


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
    QWEN3 = "qwen3"
    DEEPSEEK = "deepseek"
    KIMI_K2 = "kimi_k2"
    GPT_OSS = "gpt_oss"
    GLM = "glm"
    GRANITE = "granite"
    KAT = "kat"


class Prices(_Strict):
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
        return PriceList(
            input=self.input,
            cached_input=self.input if self.cached_input is None else self.cached_input,
            reasoning=self.output if self.reasoning is None else self.reasoning,
            answer=self.output,
        )


class Capabilities(_Strict):
    """What the engine behind a pool can do; a request that needs more is refused before it is forwarded."""

    tools: bool = False
    """Function calling. Default: no."""
    images: bool = False
    """Image parts in messages. Default: no."""
    json_schema: bool = True
    """`response_format` of type `json_schema` or `json_object`. Default: yes."""
    logprobs: bool = True
    """Token log-probabilities. Default: yes."""
    context: Annotated[int, Field(ge=64)] = 8192
    """Context window in tokens, prompt and output together. Default: 8192."""


class Autoscaling(_Strict):
    """How many replicas a pool may have."""

    min_replicas: Annotated[int, Field(ge=0)] = 1
    """Replicas that always run. Default: 1."""
    max_replicas: Annotated[int, Field(ge=1)] = 1
    """Replicas that run at most. Default: 1."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        return self


class Gpu(_Strict):
    """The accelerators of one replica."""

    type: str
    """The accelerator's name as the cluster labels it, e.g. `NVIDIA-H100-80GB-HBM3`."""
    per_node: Annotated[int, Field(ge=1)]
    """Accelerators of one replica on each of its nodes."""


class Pool(_Strict):
    """A group of equal replicas that answer one model in one mode, or in both."""

    name: Name
    """Unique name; seen in headers, metrics and logs."""
    model: Name
    """The public model name that clients ask for. Several pools may share one."""
    modes: Annotated[tuple[Mode, ...], Field(min_length=1)]
    """The modes this pool answers. Each model and mode is answered by the pools that list it."""
    family: Family = Family.PLAIN
    """How the mode is switched on the request. Default: `plain`, the pool's template alone decides."""
    engine: Engine
    """What answers."""
    model_path: str | None = None
    """Weights: a folder, a hub name, or `local:smollm2` for the small model that Pointsman prepares itself."""
    served_model_name: str | None = None
    """The name the engine knows the model by. Default: `model`."""
    urls: tuple[str, ...] = ()
    """Base URLs (`http://host:port`) of replicas that somebody else runs. Empty: replicas register themselves."""
    replicas: Annotated[int, Field(ge=0)] = 1
    """Replicas to start, where `autoscaling` is absent. Default: 1."""
    autoscaling: Autoscaling | None = None
    """Bounds for the number of replicas. Default: none, the number is fixed."""
    tensor_parallel: Annotated[int, Field(ge=1)] = 1
    """Accelerators that share one copy of the weights (TP). Default: 1."""
    pipeline_parallel: Annotated[int, Field(ge=1)] = 1
    """Pipeline stages of one replica (PP). Default: 1."""
    nodes: Annotated[int, Field(ge=1)] = 1
    """Nodes one replica spans. Default: 1."""
    gpu: Gpu | None = None
    """Accelerators of one replica. Default: none, the engine runs on CPU."""
    engine_args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments for the engine, by its own names (SGLang: fields of `ServerArgs`)."""
    chat_template: str | None = None
    """Chat template: a file, or `builtin:NAME` for one that ships with Pointsman. Default: the model's own."""
    reasoning_parser: str | None = None
    """The engine's parser that tells thinking from the answer. Default: none."""
    tool_call_parser: str | None = None
    """The engine's parser for tool calls. Default: none."""
    capabilities: Capabilities = Capabilities()
    """What the engine can do."""
    default_max_tokens: Annotated[int, Field(ge=1)] = 1024
    """Output tokens, thinking included, where the client sets no limit. Default: 1024."""
    thinking_budget: Annotated[int, Field(ge=1)] | None = None
    """Thinking tokens per request at most, enforced by the engine. Default: none."""
    prices: Prices
    """What tokens of this pool cost. Pools of one model and mode must agree."""
    max_ongoing_requests: Annotated[int, Field(ge=1)] = 64
    """Requests that one replica works on at a time. Default: 64."""
    connect_timeout: Annotated[float, Field(gt=0)] = 2.0
    """Seconds to wait for a connection to a replica. Default: 2."""
    first_byte_timeout: Annotated[float, Field(gt=0)] = 120.0
    """Seconds to wait for the first byte of an answer. Default: 120."""
    idle_timeout: Annotated[float, Field(gt=0)] = 60.0
    """Seconds between two bytes of an answer. Default: 60."""
    place_timeout: Annotated[float, Field(gt=0)] = 90.0
    """Seconds a request is held while no replica can take it; then 503 with Retry-After. Default: 90."""
    licence_notice: str | None = None
    """A notice that the model's licence asks to be shown. Default: none."""

    @property
    def upstream_model(self) -> str:
        return self.served_model_name or self.model

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.engine not in STARTED_ENGINES and not self.urls:
            raise ValueError(f"engine {self.engine} is not started by Pointsman: list its replicas in `urls`")
        if self.engine is Engine.SGLANG and not self.urls and not self.model_path:
            raise ValueError("engine sglang needs `model_path`")
        if len(set(self.modes)) != len(self.modes):
            raise ValueError("`modes` lists a mode twice")
        if self.family is Family.KIMI_K2 and Mode.THINK in self.modes:
            raise ValueError("family kimi_k2 has no thinking: its pools answer no_think only")
        if self.thinking_budget is not None and Mode.THINK not in self.modes:
            raise ValueError("`thinking_budget` is set on a pool that never thinks")
        if self.thinking_budget is not None and not self.reasoning_parser and self.engine is Engine.SGLANG:
            raise ValueError("`thinking_budget` needs `reasoning_parser`: the engine enforces it through that")
        if self.gpu and self.gpu.per_node * self.nodes != self.tensor_parallel * self.pipeline_parallel:
            raise ValueError(
                f"gpu.per_node {self.gpu.per_node} x nodes {self.nodes} must equal "
                f"tensor_parallel {self.tensor_parallel} x pipeline_parallel {self.pipeline_parallel}"
            )
        for url in self.urls:
            if not url.startswith("http://"):
                raise ValueError(f"`urls` must start with http://, got {url!r}")
        return self


class Policy(_Strict):
    """How a mode is chosen where the client expresses no wish."""

    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Queries whose probability of needing to think is at or above this think. Default: 0.5."""
    abstain: tuple[float, float] | None = None
    """Band [low, high) of probability inside which the predictor abstains. Default: none."""
    default_mode: Mode = Mode.THINK
    """The mode where the predictor abstains or cannot judge. Default: think."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.abstain and not 0 <= self.abstain[0] <= self.abstain[1] <= 1:
            raise ValueError("`abstain` must be two numbers in [0, 1], the lower one first")
        return self

    def mode_policy(self) -> ModePolicy:
        low, high = self.abstain or (0.0, 0.0)
        return ModePolicy(self.threshold, low, high, self.default_mode)


class Tenant(_Strict):
    """Somebody who holds keys."""

    name: Name
    """Unique name; a label of every metric."""
    key_digests: tuple[Digest, ...] = ()
    """SHA-256 (hexadecimal) of each key of this tenant. Keys themselves are never stored."""
    models: tuple[Name, ...] | None = None
    """Models this tenant may ask for. Default: all."""
    policy: Policy = Policy()
    """How the mode of this tenant's queries is chosen."""


class MetricsAccess(StrEnum):
    """Who may read `/metrics` of the router; it shows every tenant's tokens and dollars."""

    LOOPBACK = "loopback"
    """Anybody on this machine, and whoever holds the admin key."""
    ADMIN = "admin"
    """Only who holds the admin key."""
    OPEN = "open"
    """Anybody who can reach the port."""


class Router(_Strict):
    """Limits of the data plane."""

    max_body_bytes: Annotated[int, Field(ge=1024)] = 8 * 1024 * 1024
    """Bytes of a request body at most; more is 413. Default: 8 MiB."""
    max_header_bytes: Annotated[int, Field(ge=1024)] = 32 * 1024
    """Bytes of request line and headers together; more is 431. Default: 32 KiB."""
    max_response_bytes: Annotated[int, Field(ge=1024)] = 64 * 1024 * 1024
    """Bytes of an answer that is not streamed, and of one event of a stream. Default: 64 MiB."""
    header_timeout: Annotated[float, Field(gt=0)] = 10.0
    """Seconds a client has to send its headers. Default: 10."""
    body_timeout: Annotated[float, Field(gt=0)] = 60.0
    """Seconds a client has to send its body. Default: 60."""
    keep_alive_timeout: Annotated[float, Field(gt=0)] = 75.0
    """Seconds an idle client connection is kept. Default: 75."""
    drain_timeout: Annotated[float, Field(ge=0)] = 30.0
    """Seconds that running answers get to finish after SIGTERM. Default: 30."""
    registry_interval: Annotated[float, Field(gt=0)] = 0.5
    """Seconds between two looks at the replicas' registrations. Default: 0.5."""
    metrics_access: MetricsAccess = MetricsAccess.LOOPBACK
    """Who may read `/metrics`. Default: `loopback`."""
    admin_key_digests: tuple[Digest, ...] = ()
    """SHA-256 (hexadecimal) of each admin key. Default: none."""


class Config(_Strict):
    """A whole fleet: pools, tenants, and the router's limits."""

    pools: Annotated[tuple[Pool, ...], Field(min_length=1)]
    """The pools."""
    tenants: tuple[Tenant, ...] = ()
    """The tenants. `pointsman up` adds a tenant `demo` with a fresh key."""
    router: Router = Router()
    """Limits of the data plane."""
    predictor: str | None = None
    """File of predictor weights. Default: the ones that ship with Pointsman."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _refuse_twins("pools", [pool.name for pool in self.pools])
        _refuse_twins("tenants", [tenant.name for tenant in self.tenants])
        _refuse_twins("key_digests", [digest for tenant in self.tenants for digest in tenant.key_digests])
        priced: dict[tuple[str, Mode], Pool] = {}
        for pool in self.pools:
            for mode in pool.modes:
                twin = priced.setdefault((pool.model, mode), pool)
                if twin.prices != pool.prices:
                    raise ValueError(
                        f"pools {twin.name!r} and {pool.name!r} answer the same model and mode "
                        f"({pool.model}, {mode}) at different prices"
                    )
        models = {pool.model for pool in self.pools}
        for tenant in self.tenants:
            for model in tenant.models or ():
                if model not in models:
                    raise ValueError(f"tenant {tenant.name!r} may use model {model!r}, which no pool answers")
        return self


def _refuse_twins(what: str, values: list[str]) -> None:
    twins = sorted({value for value in values if values.count(value) > 1})
    if twins:
        raise ValueError(f"`{what}` has the same entry twice: {', '.join(twins)}")
