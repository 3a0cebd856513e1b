"""Whole conversations through the wire formats: what an engine said comes back to it as it was.

Made up ones here, all that may stand in one; recorded ones in `test_recorded_conversations.py`.
"""

from __future__ import annotations

import itertools
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.contracts.pricing import Usage
from support.wire_clients import FORMATS, LAST, Chat, plainly, there_and_back

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
numbers = st.integers(0, 10**6)
usages = st.tuples(numbers, numbers, numbers, numbers).map(lambda told: Usage(*told))
arguments = st.dictionaries(
    texts, st.one_of(texts, st.integers(-(2**53), 2**53), st.none(), st.booleans()), max_size=3
)


@st.composite
def chats(draw: st.DrawFn) -> Chat:
    """Conversations of an engine's: thinking, text and calls where each may stand, results of all calls."""
    chat: Chat = [{"role": "system", "content": draw(texts)}] if draw(st.booleans()) else []
    numbered = itertools.count()
    for _ in range(draw(st.integers(0, 3))):
        chat.append({"role": "user", "content": draw(texts)})
        calls = [
            {
                "id": f"call_{next(numbered)}",
                "type": "function",
                "function": {"name": draw(st.from_regex(r"[a-z_]{1,8}", fullmatch=True)), "arguments": written},
            }
            for written in draw(st.lists(arguments.map(lambda value: orjson.dumps(value).decode()), max_size=2))
        ]
        said: dict[str, Any] = {"role": "assistant"}
        if draw(st.booleans()):
            said["reasoning_content"] = draw(texts)
        if not calls or draw(st.booleans()):
            said["content"] = draw(texts)
        if calls:
            said["tool_calls"] = calls
        chat.append(said)
        chat += [{"role": "tool", "tool_call_id": call["id"], "content": draw(texts)} for call in calls]
    return [*chat, LAST]


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(FORMATS, 2)))
@settings(max_examples=25, deadline=None)
@given(chat=chats(), counted=st.lists(usages, min_size=3, max_size=3), stream=st.booleans())
def test_a_generated_conversation_comes_back_from_one_format_by_way_of_another(
    one: str, other: str, chat: Chat, counted: list[Usage], *, stream: bool
) -> None:
    found = there_and_back(FORMATS[one], chat, counted, stream=stream)
    again = there_and_back(FORMATS[other], found, counted, stream=not stream)
    assert plainly(found) == plainly(again) == plainly(chat)
