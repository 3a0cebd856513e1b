"""GLM 4.5 and later: `enable_thinking` in the chat template; thinking stands in `<think>` tags.

Sampling as z.ai's guide for GLM-4.6 has it, for both modes. Thinking is closed as GLM-4.6's template writes the
thinking of an earlier turn.
"""

from __future__ import annotations

from pointsman.contracts.modes import Mode
from pointsman.router.families import template_switch
from pointsman.router.families.family import ModelFamily
from pointsman.router.families.output import THINK_TAGS

_SAMPLING = {"temperature": 1.0, "top_p": 0.95}

GLM = ModelFamily(
    switch=template_switch.setting("enable_thinking"),
    sampling={Mode.THINK: _SAMPLING, Mode.NO_THINK: _SAMPLING},
    tags=THINK_TAGS,
    thinks_at_once=True,
    opening="\n<think>",
    closing="</think>\n",
)
