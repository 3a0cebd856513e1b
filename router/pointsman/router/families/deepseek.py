"""DeepSeek V3.1 and later: `thinking` in the chat template, which itself opens the thinking or closes it.

Sampling as in the `generation_config.json` of DeepSeek-V3.1, for both modes. Thinking is closed as its template
opens an answer without thinking: by `</think>` alone. The template cuts the thinking out of every message, so that
an engine that renders the unfinished one by it (vLLM) can't go on from there.
"""

from __future__ import annotations

from pointsman.contracts.modes import Mode
from pointsman.router.families import template_switch
from pointsman.router.families.family import ModelFamily
from pointsman.router.families.output import THINK_TAGS

_SAMPLING = {"temperature": 0.6, "top_p": 0.95}

DEEPSEEK = ModelFamily(
    switch=template_switch.setting("thinking"),
    sampling={Mode.THINK: _SAMPLING, Mode.NO_THINK: _SAMPLING},
    tags=THINK_TAGS,
    thinks_at_once=True,
)
