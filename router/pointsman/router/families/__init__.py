"""Model families: how each is told to think, or not, and how its output is told apart.

A family is one small file. Here is what the pipeline asks of them; where the pool has a say in the matter, the
answer is from both.
"""

from __future__ import annotations

from pointsman.contracts.config import Engine, Family, Pool
from pointsman.contracts.config_engines import CONTINUING_ENGINES
from pointsman.contracts.modes import Mode
from pointsman.router.families.deepseek import DEEPSEEK
from pointsman.router.families.family import ModelFamily
from pointsman.router.families.glm import GLM
from pointsman.router.families.gpt_oss import GPT_OSS
from pointsman.router.families.granite import GRANITE
from pointsman.router.families.kat import KAT
from pointsman.router.families.kimi_k2 import KIMI_K2
from pointsman.router.families.output import (
    ANSWER,
    REASONING,
    THINK_TAGS,
    Kind,
    OutputParser,
    Parser,
    Piece,
    Tags,
    joined,
)
from pointsman.router.families.plain import PLAIN
from pointsman.router.families.qwen3 import QWEN3
from pointsman.router.families.tokens import TagFreeTokens

__all__ = [
    "ANSWER",
    "FAMILIES",
    "REASONING",
    "Kind",
    "ModelFamily",
    "OutputParser",
    "Parser",
    "Piece",
    "TagFreeTokens",
    "closing",
    "joined",
    "output_ceiling",
    "parser_of",
    "parses",
    "prefill",
    "tags_of",
]

FAMILIES: dict[Family, ModelFamily] = {
    Family.PLAIN: PLAIN,
    Family.QWEN3: QWEN3,
    Family.DEEPSEEK: DEEPSEEK,
    Family.KIMI_K2: KIMI_K2,
    Family.GPT_OSS: GPT_OSS,
    Family.GLM: GLM,
    Family.GRANITE: GRANITE,
    Family.KAT: KAT,
}


def parses(pool: Pool) -> bool:
    """Whether the router tells thinking from the answer in this pool's output; else its engine does, or nobody."""
    return _tags(pool) is not None


def parser_of(
    pool: Pool, mode: Mode, *, forced: bool = True, constrained: bool = False, continued: bool = False
) -> Parser | None:
    """
    A parser for one choice of one answer of `pool` in `mode`; None where the router parses nothing.

    `forced` and `constrained` are what `prefill` was asked with; `continued`: the output goes on from `closing`,
    inside the answer, where stray tags are left out.
    """
    family = FAMILIES[pool.family]
    if continued:  # the engine's own parser, if any, has nothing to parse any more
        return OutputParser(tags_of(pool), answering=True)
    tags = _tags(pool)
    if tags is None:
        return None
    if family.read_by is not None:
        return family.read_by()
    if constrained:
        return OutputParser(tags)
    if prefill(pool, mode, forced=forced) is not None:
        return OutputParser(tags, thinking=mode is Mode.THINK, answering=mode is Mode.NO_THINK)
    return OutputParser(tags, thinking=mode is Mode.THINK and (family.thinks_at_once or pool.opens_thinking))


def tags_of(pool: Pool) -> Tags:
    """The tags that no client shall see of an output of `pool` that a parser of ours reads."""
    return FAMILIES[pool.family].tags or THINK_TAGS


def prefill(pool: Pool, mode: Mode, *, forced: bool, constrained: bool = False) -> str | None:
    """
    What the assistant's turn begins with, so that the model answers in `mode`; None where it begins by itself.

    `forced` is False where the model shall judge by itself. `constrained`: the engine holds the output to a schema.
    Where it knows of no thinking it does so from the first token on, and the model can but answer.
    """
    if pool.engine not in CONTINUING_ENGINES or not (forced or constrained):
        return None
    return FAMILIES[pool.family].prefills.get(Mode.NO_THINK if constrained else mode)


def closing(pool: Pool, reasoning: str, answer: str = "") -> str | None:
    """
    The assistant's turn that has thought `reasoning` and now answers, `answer` being what it has said already.

    It is what the engine's final message must hold to be continued from there. None where that can't be done
    (`Pool.closes_thinking`).
    """
    if not pool.closes_thinking:
        return None
    family = FAMILIES[pool.family]
    # SGLang puts the message behind the generation prompt, vLLM lets the chat template render it.
    opening = "" if pool.opens_thinking and pool.engine is Engine.SGLANG else family.opening
    reasoning = tags_of(pool).removed_from(reasoning)  # one in it would be taken for ours
    return f"{opening}{reasoning.strip()}{family.closing}{answer}"


def output_ceiling(family: Family) -> int | None:
    """Output tokens at most that the makers of `family` recommend; None where they recommend none."""
    return FAMILIES[family].max_output


def _tags(pool: Pool) -> Tags | None:
    """The tags that the router looks for in the output of `pool`."""
    family = FAMILIES[pool.family]
    if family.always_parsed:
        return family.tags
    if pool.reasoning_parser is not None or pool.engine is Engine.SIMULATED:
        return None
    return family.tags or (THINK_TAGS if pool.opens_thinking else None)
