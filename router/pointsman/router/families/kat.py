"""KAT-V1: judges by itself whether to think, and says so in tags.

It writes `<judge>…</judge>`, then `<think_on>` with `<think>…</think>`, or `<think_off>`, and then
`<answer>…</answer>` (the model's card and its report, arXiv 2507.08297). The tags are special tokens, which engines
leave out of the text unless told otherwise, and no engine parses them: the router always does. The judgement is
output that was paid for and counts as reasoning; where a mode is forced, the assistant's turn begins with an empty
judgement instead. (SGLang puts that behind the opened turn. vLLM lets the chat template render it, which must write
an assistant's message as it is.)

Sampling and the longest output as the model's card has them.
"""

from __future__ import annotations

from pointsman.contracts.modes import Mode
from pointsman.router.families.family import ModelFamily
from pointsman.router.families.output import ANSWER, REASONING, Tag, Tags

_SAMPLING = {"temperature": 0.6, "top_p": 0.95}
_JUDGED = "<judge></judge>"

KAT = ModelFamily(
    sampling={Mode.THINK: _SAMPLING, Mode.NO_THINK: _SAMPLING},
    max_output=65_536,
    keeps_special_tokens=True,
    tags=Tags(
        {
            "<judge>": Tag(REASONING),
            "</judge>": Tag(ANSWER),
            "<think_on>": Tag(REASONING, judgement=Mode.THINK),
            "<think_off>": Tag(ANSWER, judgement=Mode.NO_THINK),
            "<think>": Tag(REASONING),
            "</think>": Tag(ANSWER),
            "<answer>": Tag(ANSWER, answers=True),
            "</answer>": Tag(ANSWER, ends=True),
        }
    ),
    always_parsed=True,
    prefills={Mode.THINK: _JUDGED + "<think_on><think>", Mode.NO_THINK: _JUDGED + "<think_off><answer>"},
    opening=_JUDGED + "<think_on><think>",
    closing="</think><answer>",
)
