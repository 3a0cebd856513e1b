"""The rules between the fields of one pool. Each yields what is wrong, with the location of the field at fault.

Separate from the fields so that either list can be read as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pointsman.contracts.config_engines import (
    BUILTIN_PREFIX,
    CONTINUING_ENGINES,
    FAMILIES_BY_BEGINNING,
    FAMILIES_WITHOUT_SWITCH,
    LOCAL_PREFIX,
    SGLANG_ARGS_BY_FIELD,
    SGLANG_ARGS_OF_OURS,
    SGLANG_ARGS_REFUSED,
    STARTED_ENGINES,
    Engine,
    Family,
)
from pointsman.contracts.config_types import Location
from pointsman.contracts.modes import Mode

if TYPE_CHECKING:
    from pointsman.contracts.config_pools import Pool

Problems = Iterator[tuple[Location, str]]


def _weights_or_urls(pool: Pool) -> Problems:
    """
    An engine that Pointsman does not start (`vllm`, `ktransformers`, `openai`) needs `urls`; `sglang`
    without `urls` needs `model_path`.
    """
    if pool.engine not in STARTED_ENGINES and not pool.urls:
        yield ("urls",), f"engine {pool.engine} is not started by Pointsman: list its replicas here"
    if pool.engine is Engine.SGLANG and not pool.urls and not pool.model_path:
        yield ("model_path",), "engine sglang needs weights: a folder, a hub name or local:smollm2"


def _upstream_urls(pool: Pool) -> Problems:
    """
    Each of `urls` is `http://host:port`, once. With `urls`, `engine_args`, `chat_template` and
    `autoscaling` are refused: they could not take effect.
    """
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
    """
    `modes` lists a mode once. A pool of both modes needs a `family` that can be told the mode with each request;
    `kat` can on the engines `sglang` and `vllm` alone. `kimi_k2` answers `no_think` only.
    """
    if len(set(pool.modes)) != len(pool.modes):
        yield ("modes",), "lists a mode twice"
    elif len(pool.modes) > 1:
        if pool.family in FAMILIES_WITHOUT_SWITCH:
            yield (
                ("family",),
                f"{pool.family} has no switch on the request: name a family that has one, or make a pool for each "
                "mode",
            )
        elif pool.family in FAMILIES_BY_BEGINNING and pool.engine not in CONTINUING_ENGINES:
            yield (
                ("family",),
                f"{pool.family} is told its mode by how its turn begins, which engine {pool.engine} can't be told: "
                "make a pool for each mode",
            )
    if pool.family is Family.KIMI_K2 and Mode.THINK in pool.modes:
        yield ("modes",), "family kimi_k2 has no thinking: its pools answer no_think only"


def _reasoning_parser_of_the_family(pool: Pool) -> Problems:
    """
    `kat` has no `reasoning_parser`: its tags are the router's to interpret. `gpt_oss` on `sglang` needs one:
    its channels are tokens of which a text shows nothing. `template_opens_thinking` needs the mode `think`.
    """
    if pool.family is Family.KAT and pool.reasoning_parser is not None:
        yield ("reasoning_parser",), "must be left out for family kat: no engine knows its tags, the router does"
    if pool.family is Family.GPT_OSS and pool.engine is Engine.SGLANG and pool.reasoning_parser is None:
        yield (
            ("reasoning_parser",),
            "is missing: engine sglang needs `gpt-oss` to tell the channels of gpt-oss apart",
        )
    if pool.template_opens_thinking and Mode.THINK not in pool.modes:
        yield ("template_opens_thinking",), "is set on a pool that never thinks"


def _capabilities(pool: Pool) -> Problems:
    """
    `capabilities.tools` on `sglang` without `urls` needs a `tool_call_parser`, else calls would come as text; a
    `tool_call_parser` and `capabilities.tools_warning` need `capabilities.tools`, `capabilities.remote_images`
    needs `capabilities.images`.
    """
    can = pool.capabilities
    if can.tools and pool.engine is Engine.SGLANG and not pool.urls and pool.tool_call_parser is None:
        yield ("tool_call_parser",), "is missing: without it engine sglang gives tool calls as text"
    if pool.tool_call_parser is not None and not can.tools:
        yield ("tool_call_parser",), "has no effect without `capabilities.tools`: requests with tools are refused"
    if can.tools_warning is not None and not can.tools:
        yield ("capabilities", "tools_warning"), "has no effect without `capabilities.tools`"
    if can.remote_images and not can.images:
        yield ("capabilities", "remote_images"), "has no effect without `capabilities.images`"


def _token_limits(pool: Pool) -> Problems:
    """
    `default_max_tokens` and `thinking_budget` are below `capabilities.context`. `thinking_budget` needs the
    mode `think`, and somebody to enforce it: the engine (`simulated`, or `sglang` with a `reasoning_parser`), or
    the router: on `sglang` and `vllm` for the families `kat`, `qwen3`, `glm`, `granite`, and any with
    `template_opens_thinking`, `deepseek` only on `sglang`; in a pool of both modes always.
    """
    context = pool.capabilities.context
    if pool.default_max_tokens >= context:
        yield ("default_max_tokens",), f"{pool.default_max_tokens} leaves no room in a context of {context} tokens"
    budget = pool.thinking_budget
    if budget is None:
        return
    if Mode.THINK not in pool.modes:
        yield ("thinking_budget",), "is set on a pool that never thinks"
    elif not (pool.enforces_thinking_budget or pool.closes_thinking or Mode.NO_THINK in pool.modes):
        if pool.engine is Engine.SGLANG:
            yield ("thinking_budget",), "needs `reasoning_parser`: the engine enforces the budget through that"
        else:
            yield (
                ("thinking_budget",),
                f"can't be enforced: neither by engine {pool.engine} nor by closing the thinking of family "
                f"{pool.family} there",
            )
    if budget >= context:
        yield ("thinking_budget",), f"{budget} leaves no room in a context of {context} tokens"


def _accelerators(pool: Pool) -> Problems:
    """`gpu.per_node` x `nodes` equals `tensor_parallel` x `pipeline_parallel`; more than one node needs `gpu`."""
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


def _engine_args_that_are_ours(pool: Pool) -> Problems:
    """
    `engine_args` of `sglang` hold no argument that a field of the pool stands for, none that Pointsman sets
    for each replica, and not `enable_custom_logit_processor`.
    """
    if pool.engine is not Engine.SGLANG:
        return
    for name in pool.engine_args:
        if field := SGLANG_ARGS_BY_FIELD.get(name):
            yield ("engine_args", name), f"say it in the pool's field `{field}`"
        elif name in SGLANG_ARGS_OF_OURS:
            yield ("engine_args", name), "is set by Pointsman for each replica"
        elif name in SGLANG_ARGS_REFUSED:
            yield ("engine_args", name), SGLANG_ARGS_REFUSED[name]


def _names_of_ours(pool: Pool) -> Problems:
    """`builtin:` and `local:` are followed by a name."""
    if pool.chat_template == BUILTIN_PREFIX:
        yield ("chat_template",), "names no template after builtin:"
    if pool.model_path == LOCAL_PREFIX:
        yield ("model_path",), "names no model after local:"


POOL_RULES = (
    _weights_or_urls,
    _upstream_urls,
    _modes_of_the_family,
    _reasoning_parser_of_the_family,
    _capabilities,
    _token_limits,
    _accelerators,
    _engine_args_that_are_ours,
    _names_of_ours,
)
"""Every rule of a pool; their docstrings are the reference that users read."""
