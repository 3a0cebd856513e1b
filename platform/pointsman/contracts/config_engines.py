"""What can answer behind a pool, and which of its settings are ours: engines, model families, reserved arguments.

Separate from the pools because the rules between a pool's fields read it too.
"""

from __future__ import annotations

from enum import StrEnum

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

CONTINUING_ENGINES = frozenset({Engine.SGLANG, Engine.VLLM})
"""Engines that go on from an assistant's message that has been begun (`continue_final_message`)."""

OWN_REASONING_PARSER = "pointsman"
"""The reasoning parser of ours, a plug-in for SGLang: it enforces every request's thinking budget."""

OPENING_TEMPLATE = "builtin:think"
"""The chat template of ours, which opens the thinking in the prompt."""


class Family(StrEnum):
    """
    How a model is told to think or not, and its thinking from its answer: see `router/families/`.

    Where the client sets no `temperature`, `top_p` or `top_k`, chat requests carry what the model's makers
    recommend for the mode, where they do; on engine `openai` without `top_k`.
    """

    PLAIN = "plain"
    """The request says nothing of the mode; the pool's chat template alone decides."""
    QWEN3 = "qwen3"
    """Qwen3: `chat_template_kwargs.enable_thinking`. Sampling 0.6, 0.95, 20 in think, 0.7, 0.8, 20 in no_think."""
    DEEPSEEK = "deepseek"
    """DeepSeek V3.1 and later: `chat_template_kwargs.thinking`. Sampling 0.6, 0.95."""
    KIMI_K2 = "kimi_k2"
    """Kimi K2 Instruct, which has no thinking: its pools answer no_think. Temperature 0.6."""
    GPT_OSS = "gpt_oss"
    """gpt-oss: `reasoning_effort`; `low` stands for not thinking. Sampling 1.0, 1.0."""
    GLM = "glm"
    """GLM 4.5 and later: `chat_template_kwargs.enable_thinking`. Sampling 1.0, 0.95."""
    GRANITE = "granite"
    """IBM Granite 3.3: `chat_template_kwargs.thinking`."""
    KAT = "kat"
    """KAT-V1, which judges by itself whether to think. The router begins its turn for it, so that it answers in the
    mode decided upon (engines sglang and vllm), or lets it judge where the tenant's policy says `model_decides`; on
    other engines it always judges. The router interprets its tags: `reasoning_parser` is left out. Sampling 0.6,
    0.95; 65,536 tokens of output at most."""


FAMILIES_WITHOUT_SWITCH = frozenset({Family.PLAIN, Family.KIMI_K2})
"""Families whose requests can't say the mode: each of their pools answers one mode."""

FAMILIES_BY_BEGINNING = frozenset({Family.KAT})
"""Families that are told their mode by how their turn begins, which not every engine can be told."""

FAMILIES_WITH_OPENED_THINKING = frozenset({Family.DEEPSEEK})
"""Families whose own chat templates open the thinking in the prompt."""

FAMILIES_CLOSED_BY_TEXT = frozenset({Family.QWEN3, Family.DEEPSEEK, Family.GLM, Family.GRANITE, Family.KAT})
"""Families whose thinking can be closed by what their turn is made to begin with."""

FAMILIES_THAT_FORGET_THINKING = frozenset({Family.DEEPSEEK})
"""Families whose own chat templates cut the thinking out of every message, an unfinished one too."""


SGLANG_ARGS_BY_FIELD = {
    "model_path": "model_path",
    "served_model_name": "served_model_name",
    "tp_size": "tensor_parallel",
    "pp_size": "pipeline_parallel",
    "nnodes": "nodes",
    "context_length": "capabilities.context",
    "chat_template": "chat_template",
    "reasoning_parser": "reasoning_parser",
    "tool_call_parser": "tool_call_parser",
    "enable_strict_thinking": "thinking_budget",
}
"""Fields of SGLang's `ServerArgs` that a field of the pool stands for: two spellings could contradict."""

SGLANG_ARGS_OF_OURS = frozenset({"host", "port", "api_key", "admin_api_key", "node_rank", "dist_init_addr"})
"""Fields of SGLang's `ServerArgs` that differ from replica to replica, or guard it."""

SGLANG_ARGS_REFUSED = {
    "enable_custom_logit_processor": "is refused: the engine would run code that comes with a request",
}
"""Fields of SGLang's `ServerArgs` that no pool may have, and why."""
