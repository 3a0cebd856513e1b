"""IBM Granite 3.3: `thinking` in the chat template, which asks for `<think>` and `<response>` tags.

The template only asks: a model that does not feel like thinking answers without tags, so its output is thinking
only where it says so. The cards recommend no sampling: the engine's defaults for the model hold.
"""

from __future__ import annotations

from pointsman.router.families import template_switch
from pointsman.router.families.family import ModelFamily
from pointsman.router.families.output import ANSWER, REASONING, Tag, Tags

GRANITE = ModelFamily(
    switch=template_switch.setting("thinking"),
    tags=Tags(
        {
            "<think>": Tag(REASONING),
            "</think>": Tag(ANSWER),
            "<response>": Tag(ANSWER, answers=True),
            "</response>": Tag(ANSWER, ends=True),
        }
    ),
    closing="</think><response>",
)
