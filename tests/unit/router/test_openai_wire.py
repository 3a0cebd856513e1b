"""Usage and errors of engines, read into ours."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.router.wire import openai

ANY = st.none() | st.booleans() | st.integers(-100, 10**9) | st.text(max_size=3) | st.floats()
DETAILS = ANY | st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens"]), ANY)


@given(
    raw=st.fixed_dictionaries(
        {},
        optional={
            "prompt_tokens": ANY,
            "completion_tokens": ANY,
            "reasoning_tokens": ANY,
            "prompt_tokens_details": DETAILS,
            "completion_tokens_details": DETAILS,
        },
    )
)
def test_the_classes_of_any_usage_add_up_to_its_totals(raw: dict[str, Any]) -> None:
    usage = openai.usage_from(raw)
    assert usage is not None
    parts = (usage.input, usage.cached_input, usage.reasoning, usage.answer)
    assert all(part >= 0 for part in parts)
    for total, name in ((usage.prompt_tokens, "prompt_tokens"), (usage.completion_tokens, "completion_tokens")):
        value = raw.get(name)
        good = isinstance(value, int) and not isinstance(value, bool) and value > 0
        assert total == (value if good else 0)
    assert openai.usage_from(openai.usage_object(usage)) == usage


@pytest.mark.parametrize(
    "raw", [None, 3, [], "x", {"prompt_tokens": 2**64 - 1}, {"completion_tokens": openai.MOST_TOKENS + 1}]
)
def test_what_is_no_usage_is_none(raw: Any) -> None:
    assert openai.usage_from(raw) is None
