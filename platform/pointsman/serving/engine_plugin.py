"""A reasoning parser of ours for SGLang: thinking that a prompt opened never ends the turn, and an answer follows.

SGLang's own parsers know one model family each, by its tokens. This one serves models without thinking of their
own, on the chat template `builtin:think`. It is an SGLang plug-in: the entry point `sglang.srt.plugins` of this
distribution names it, and SGLang loads it in each of its processes, the scheduler's among them. It imports
nothing heavy until SGLang calls it.

A pool selects it with `reasoning_parser: pointsman`. Three things differ from SGLang's `deepseek-r1`:

- the model cannot end its turn while it thinks: it closes the thinking, or the thinking budget does;
- it cannot end its turn within the first `SHORTEST_ANSWER` tokens after the thinking;
- both act only on engines with strict thinking, which `engine_args.py` switches on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pointsman.contracts.config_engines import OWN_REASONING_PARSER

NAME = OWN_REASONING_PARSER
"""The name of the parser in a pool's `reasoning_parser`."""

SHORTEST_ANSWER = 8
"""Tokens after the thinking within which the turn cannot end."""


def register() -> None:
    """Called by SGLang in each of its processes, before the engine starts."""
    from sglang.srt.parser.reasoning_parser import BaseReasoningFormatDetector, ReasoningParser
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    class OpenedThinking(BaseReasoningFormatDetector):  # type: ignore[misc]
        """Everything up to `</think>` is thinking; the prompt has opened it."""

        def __init__(
            self,
            stream_reasoning: bool = True,
            force_reasoning: bool = True,
            continue_final_message: bool = False,
            previous_content: str = "",
            force_nonempty_content: bool = False,
            tokenizer: Any = None,  # given by the scheduler alone, which is where tokens are excluded
        ) -> None:
            super().__init__(
                "<think>",
                "</think>",
                think_excluded_tokens=[tokenizer.eos_token] if tokenizer is not None else None,
                force_reasoning=True,
                stream_reasoning=stream_reasoning,
                continue_final_message=continue_final_message,
                previous_content=previous_content,
                force_nonempty_content=force_nonempty_content,
            )

    ReasoningParser.DetectorMap[NAME] = OpenedThinking
    HookRegistry.register(
        "sglang.srt.constrained.reasoner_grammar_backend.ReasonerGrammarObject.fill_vocab_mask",
        _keep_the_turn_open,
        HookType.AROUND,
    )


def _keep_the_turn_open(fill_vocab_mask: Callable[..., None], grammar: Any, vocab_mask: Any, idx: int) -> None:
    from sglang.srt.runtime_context import get_serving

    fill_vocab_mask(grammar, vocab_mask, idx)
    if (
        0 <= grammar.tokens_after_end < SHORTEST_ANSWER
        and grammar.grammar is None  # a JSON schema knows by itself where the answer may end
        and grammar.enable_token_filter
        and get_serving().reasoning_parser == NAME
    ):
        grammar._do_token_filter(vocab_mask, grammar.think_excluded_token_ids, idx, is_allowed=False)
