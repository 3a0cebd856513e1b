"""The token rule."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pointsman.serving.simulated import tokens


@given(st.text())
def test_tokens_are_the_text_cut_up(text: str) -> None:
    assert "".join(tokens.split(text)) == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_never_has_more_tokens_than_bytes(text: str) -> None:
    assert len(tokens.split(text)) <= len(text.encode())


def test_words_punctuation_and_the_mark() -> None:
    assert tokens.split("[simulated] Hello, everybody!") == ["[simulated]", " Hello", ",", " everyb", "ody", "!"]


def test_a_chat_costs_its_marks() -> None:
    prompt = tokens.chat_prompt([("system", "Be brief."), ("user", "")])
    assert len(prompt) == len(tokens.split("Be brief.")) + 2 * 4 + 3
    assert prompt[-3:] == ["<|im_start|>", "assistant", "\n"]
