"""Qwen3 and later: `enable_thinking` in the chat template; thinking stands in `<think>` tags.

Sampling by mode as the cards of Qwen3's models have it under "Best Practices". Thinking is closed as Qwen3's
template writes the thinking of an earlier turn.
"""

from __future__ import annotations

from pointsman.contracts.modes import Mode
from pointsman.router.families import template_switch
from pointsman.router.families.family import ModelFamily
from pointsman.router.families.output import THINK_TAGS

QWEN3 = ModelFamily(
    switch=template_switch.setting("enable_thinking"),
    sampling={
        Mode.THINK: {"temperature": 0.6, "top_p": 0.95, "top_k": 20},
        Mode.NO_THINK: {"temperature": 0.7, "top_p": 0.8, "top_k": 20},
    },
    tags=THINK_TAGS,
    thinks_at_once=True,
    opening="<think>\n",
    closing="\n</think>\n\n",
)
