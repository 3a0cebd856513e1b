"""Pools: which engine answers which model in which mode, with what hardware, limits and prices.

The largest part of the configuration and the one that changes most, so it has a file of its own. Imported by
everybody through `config.py`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, JsonValue, model_validator

from pointsman.contracts.config_engines import (
    CONTINUING_ENGINES,
    FAMILIES_CLOSED_BY_TEXT,
    FAMILIES_THAT_FORGET_THINKING,
    FAMILIES_WITH_OPENED_THINKING,
    OPENING_TEMPLATE,
    OWN_REASONING_PARSER,
    Engine,
    Family,
)
from pointsman.contracts.config_pool_rules import POOL_RULES
from pointsman.contracts.config_types import (
    BrokenRules,
    Dollars,
    DollarsEach,
    Flag,
    HeaderText,
    ModelName,
    Name,
    Number,
    NumberOrZero,
    Seconds,
    Strict,
    Text,
    Tokens,
)
from pointsman.contracts.modes import Mode
from pointsman.contracts.pricing import PriceList


class Currency(StrEnum):
    """What prices are stated in."""

    USD = "USD"
    """US dollars."""


class Prices(Strict):
    """US dollars per 1,000,000 tokens, by token class; of context caches that a hosted model keeps, see there."""

    currency: Currency = Currency.USD
    """The currency. Default: `USD`, the only one: amounts of several currencies could not be added up."""

    input: Dollars
    """Prompt tokens that the engine had to compute. USD per 1M tokens."""
    cached_input: Dollars | None = None
    """Prompt tokens found in the engine's prefix cache. USD per 1M tokens; default: as `input`."""
    output: Dollars
    """Answer tokens. USD per 1M tokens."""
    reasoning: Dollars | None = None
    """Thinking tokens. USD per 1M tokens; default: as `output`."""
    cache_creation: Dollars | None = None
    """Tokens put into a hosted context cache. USD per 1M tokens; default: no price, and nothing can be charged."""
    cache_storage: Dollars | None = None
    """Tokens kept in a hosted context cache. USD per 1M tokens per minute; default: no price, as above."""
    cache_call: DollarsEach | None = None
    """Calls that use a hosted context cache. USD each; default: no price, as above."""

    def price_list(self) -> PriceList:
        """The price of every token class, defaults filled in."""
        return PriceList(
            input=self.input,
            cached_input=self.input if self.cached_input is None else self.cached_input,
            reasoning=self.output if self.reasoning is None else self.reasoning,
            answer=self.output,
            cache_creation=self.cache_creation,
            cache_storage=self.cache_storage,
            cache_call=self.cache_call,
        )


class Capabilities(Strict):
    """What the engine behind a pool can do; a request that needs more is refused before it is forwarded."""

    tools: Flag = False
    """Function calling. Default: no."""
    tools_warning: HeaderText | None = None
    """Where tools make this model's answers worse, or its calls are not to be relied on: what clients that offer
    tools are told, in the header `x-pointsman-warning`. One line of ASCII. Needs `tools`. Default: none."""
    images: Flag = False
    """Images in messages, that come with the request as `data:` URLs. Default: no."""
    remote_images: Flag = False
    """Images that a message names by an http or https URL: the engine fetches them from wherever the client says,
    inside your network too. Needs `images`. Default: no."""
    json_schema: Flag = True
    """`response_format` of type `json_schema` or `json_object`. Default: yes."""
    logprobs: Flag = True
    """Token log-probabilities. Default: yes."""
    context: Annotated[Tokens, Field(ge=64)] = 8192
    """Context window in tokens, prompt and output together. Default: 8192."""


Delay = Annotated[float, Field(strict=True, ge=0, le=86_400, allow_inf_nan=False)]


class Autoscaling(Strict):
    """How many replicas a pool may have, and when there are more or fewer."""

    min_replicas: NumberOrZero = 1
    """Replicas that always run; with 0 a pool that nobody asks goes to sleep. Default: 1."""
    max_replicas: Number = 1
    """Replicas that run at most. Default: 1."""
    target_requests: Annotated[float, Field(strict=True, gt=0, le=10_000, allow_inf_nan=False)] | None = None
    """Requests, running and waiting, that each replica is to have. Default: three quarters of
    `max_ongoing_requests`."""
    target_tokens: Tokens | None = None
    """Predicted tokens of output, running and waiting, that each replica is to have; whichever of the two targets
    asks for more replicas counts. Default: none, requests alone count."""
    upscale_delay: Delay = 5.0
    """Seconds for which more replicas must be wanted before they are started; a pool that sleeps is woken at once.
    Default: 5."""
    downscale_delay: Delay = 300.0
    """Seconds for which fewer replicas must be wanted before they are stopped. Default: 300."""
    downscale_to_zero_delay: Delay | None = None
    """Seconds without a request before the last replica is stopped, where `min_replicas` is 0. Default: as
    `downscale_delay`."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        return self


class Gpu(Strict):
    """The accelerators of one replica."""

    type: Text
    """The accelerator's name as the cluster labels it, e.g. `NVIDIA-H100-80GB-HBM3`."""
    per_node: Number
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
    """How the model is told its mode. Default: `plain`, the pool's template alone decides."""
    engine: Engine
    """What answers."""
    model_path: Text | None = None
    """Weights: a folder, a hub name, or `local:smollm2` for the small model that Pointsman prepares itself."""
    served_model_name: Text | None = None
    """The name the engine knows the model by. Default: `model`."""
    urls: tuple[str, ...] = ()
    """Base URLs (`http://host:port`) of replicas that somebody else runs. Empty: replicas register themselves."""
    replicas: NumberOrZero = 1
    """Replicas to start, where `autoscaling` is absent. Default: 1."""
    autoscaling: Autoscaling | None = None
    """Bounds for the number of replicas. Default: none, the number is fixed."""
    tensor_parallel: Number = 1
    """Accelerators that share one copy of the weights (TP). Default: 1."""
    pipeline_parallel: Number = 1
    """Pipeline stages of one replica (PP). Default: 1."""
    nodes: Number = 1
    """Nodes one replica spans. Default: 1."""
    gpu: Gpu | None = None
    """Accelerators of one replica. Default: none, the engine runs on CPU."""
    engine_args: dict[str, JsonValue] = Field(default_factory=dict)
    """
    Further arguments for the engine, by its own names. SGLang: fields of `ServerArgs`. Simulated: options under
    the key `simulated`, see `docs/simulated-engine.md`.
    """
    chat_template: Text | None = None
    """Chat template: a file, or `builtin:NAME` for one that ships with Pointsman. Default: the model's own."""
    template_opens_thinking: Flag | None = None
    """Whether in mode `think` the chat template itself opens the thinking in the prompt (`<think>`), so that the
    output begins inside it. Default: yes for `builtin:think` and family `deepseek`, else no."""
    reasoning_parser: Text | None = None
    """The engine's parser that tells thinking from the answer. Of a pool with `urls`, the one that
    its servers were started with. Default: none; the router tells them apart where the family has tags, or the
    template opens the thinking, and what is held to a schema (`response_format`) is then answered without
    thinking: an engine without a parser leaves no room for it."""
    tool_call_parser: Text | None = None
    """The engine's parser for tool calls; of a pool with `urls`, the one that its servers were started with.
    Default: none."""
    capabilities: Capabilities = Capabilities()
    """What the engine can do."""
    default_max_tokens: Tokens = 1024
    """Output tokens, thinking included, where the client sets no limit. Default: 1024."""
    thinking_budget: Tokens | None = None
    """Thinking tokens per request at most: enforced by the engine where it can, else by the router, which closes
    the thinking, or asks once more without thinking where it can't be closed. Default: none."""
    prices: Prices
    """What tokens of this pool cost. Pools of one model and mode must agree."""
    max_ongoing_requests: Number = 64
    """Requests that one replica works on at a time. Default: 64."""
    max_waiting: NumberOrZero = 1024
    """Requests that wait for a place at a time; one more gets 503 at once. 0: none waits. Default: 1024."""
    health_interval: Annotated[Seconds, Field(le=300)] = 5.0
    """Seconds between two health checks of a replica; two in a row that fail take it out. Default: 5."""
    connect_timeout: Seconds = 2.0
    """Seconds to wait for a connection to a replica. Default: 2."""
    first_byte_timeout: Seconds = 120.0
    """Seconds to wait for the first byte of a streamed answer. Default: 120."""
    answer_timeout: Seconds = 600.0
    """Seconds to wait for an answer that is not streamed. Default: 600."""
    idle_timeout: Seconds = 60.0
    """Seconds between two bytes of an answer. Default: 60."""
    place_timeout: Seconds = 90.0
    """Seconds a request is held while no replica can take it; then 503 with Retry-After. Default: 90."""
    wake_timeout: Seconds = 300.0
    """Seconds a request is held while a pool that sleeps (it may have no replica, and has none) is woken; then 503
    with Retry-After. Default: 300."""
    licence_notice: Text | None = None
    """A notice that the model's licence asks to be shown. Default: none."""

    @property
    def may_sleep(self) -> bool:
        """Whether the pool is meant to have no replica until somebody asks for one."""
        least = self.replicas if self.autoscaling is None else self.autoscaling.min_replicas
        return least == 0 and not self.urls

    @property
    def upstream_model(self) -> str:
        """The model name to send to the engine."""
        return self.served_model_name or self.model

    @property
    def opens_thinking(self) -> bool:
        """`template_opens_thinking`, with its default filled in."""
        if self.template_opens_thinking is not None:
            return self.template_opens_thinking
        return self.chat_template == OPENING_TEMPLATE or self.family in FAMILIES_WITH_OPENED_THINKING

    @property
    def enforces_thinking_budget(self) -> bool:
        """Whether the engine itself closes the thinking of a request that has reached its thinking budget."""
        if self.engine is Engine.SGLANG:
            parser = self.reasoning_parser
            return parser == OWN_REASONING_PARSER or (parser is not None and self.thinking_budget is not None)
        return self.engine is Engine.SIMULATED

    @property
    def closes_thinking(self) -> bool:
        """
        Whether the router can close the thinking of a request, and have the engine go on with the answer.

        Not where the engine enforces budgets itself: asked to go on, it would wait for another closing tag.
        """
        if self.engine not in CONTINUING_ENGINES or self.enforces_thinking_budget:
            return False
        if self.engine is Engine.VLLM and self.family in FAMILIES_THAT_FORGET_THINKING:
            return False  # vLLM lets the chat template render the message to go on from
        return self.family in FAMILIES_CLOSED_BY_TEXT or self.opens_thinking

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if problems := [problem for rule in POOL_RULES for problem in rule(self)]:
            raise BrokenRules(problems)
        return self
