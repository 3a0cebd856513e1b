"""The script of an answer: every limit holds, whatever is asked."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.serving.simulated import tokens
from pointsman.serving.simulated.script import END_OF_TURN, Kind, Script, Wish, pick, write

small = st.integers(0, 40)
wishes = st.builds(
    Wish,
    source=st.text(max_size=20),
    prompt_tokens=st.integers(1, 99),
    index=st.integers(0, 3),
    limit=small,
    answer=small,
    thinking=st.none() | small,
    thinking_budget=st.none() | st.integers(-1, 40),
    stop=st.lists(st.text("aeo .]", min_size=1, max_size=3), max_size=3).map(tuple),
    endless=st.booleans(),
)


def shown(script: Script) -> str:
    return script.text(Kind.THINKING, Kind.ANSWER)


@given(wishes)
def test_equal_wishes_have_equal_scripts(wish: Wish) -> None:
    assert write(wish) == write(dataclasses.replace(wish))


@given(wishes)
def test_no_limit_is_passed(wish: Wish) -> None:
    script = write(wish)
    assert script.completion_tokens <= wish.limit
    assert 0 <= script.reasoning_tokens <= script.completion_tokens
    if wish.thinking is None:
        assert script.reasoning_tokens == 0
    else:
        budget = wish.thinking if wish.thinking_budget is None else max(wish.thinking_budget, 0)
        assert script.reasoning_tokens <= min(wish.thinking, budget) + 1, "the closing mark is one token more"


@given(wishes)
def test_it_ends_for_the_reason_it_gives(wish: Wish) -> None:
    script = write(wish)
    if script.finish_reason == "length":
        assert script.completion_tokens == wish.limit
        assert script.matched_stop is None
    elif isinstance(script.matched_stop, int):
        assert script.matched_stop == END_OF_TURN
        assert script.tokens[-1].kind is Kind.END
        assert not wish.endless
    else:
        assert script.matched_stop in wish.stop
        assert script.matched_stop not in shown(script)


@given(wishes)
def test_thinking_comes_first_and_is_closed_before_the_answer(wish: Wish) -> None:
    kinds = [token.kind for token in write(wish).tokens]
    order = [Kind.THINKING, Kind.THINK_END, Kind.ANSWER, Kind.END]
    assert kinds == sorted(kinds, key=order.index)
    assert kinds.count(Kind.THINK_END) <= 1
    if wish.thinking is not None and Kind.ANSWER in kinds:
        assert Kind.THINK_END in kinds


@given(wishes.map(lambda wish: dataclasses.replace(wish, stop=())))
def test_each_shown_token_is_one_by_the_token_rule(wish: Wish) -> None:
    script = write(wish)
    for kind in (Kind.THINKING, Kind.ANSWER):
        texts = [token.text for token in script.tokens if token.kind is kind]
        assert tokens.split("".join(texts)) == texts


@given(wishes.map(lambda wish: dataclasses.replace(wish, stop=())))
def test_every_text_opens_by_saying_that_it_is_simulated(wish: Wish) -> None:
    script = write(wish)
    for text in (script.text(Kind.THINKING), script.text(Kind.ANSWER)):
        assert not text or text.startswith(tokens.MARK)


def test_other_prompts_and_other_choices_say_something_else() -> None:
    wish = Wish(source="a", prompt_tokens=9, index=0, limit=60, answer=40)
    texts = {
        shown(write(dataclasses.replace(wish, source=source, index=index)))
        for source in ("a", "b", "c")
        for index in (0, 1, 2)
    }
    assert len(texts) == 9


@given(st.text(max_size=9), small)
def test_a_json_object_that_nothing_cuts_is_one(source: str, answer: int) -> None:
    wish = Wish(source=source, prompt_tokens=9, index=0, limit=200, answer=answer, json_object=True)
    assert json.loads(shown(write(wish)))["simulated"] is True


def test_the_first_stop_to_be_completed_ends_the_answer() -> None:
    wish = Wish(source="a", prompt_tokens=9, index=0, limit=60, answer=20)
    script = write(dataclasses.replace(wish, stop=("answer", "wrote", "this")))
    assert (shown(script), script.matched_stop) == ("[simulated] No model ", "wrote")
    assert script.completion_tokens == 4


def test_a_stop_may_span_tokens() -> None:
    wish = Wish(source="a", prompt_tokens=9, index=0, limit=60, answer=20, stop=("odel wro",))
    script = write(wish)
    assert (shown(script), script.finish_reason, script.completion_tokens) == ("[simulated] No m", "stop", 4)


def test_an_empty_stop_ends_the_answer_at_its_first_token() -> None:
    wish = Wish(source="a", prompt_tokens=9, index=0, limit=60, answer=20, stop=("",))
    script = write(wish)
    assert (shown(script), script.matched_stop, script.completion_tokens) == ("", "", 1)
    assert write(dataclasses.replace(wish, limit=0)).finish_reason == "length"


@pytest.mark.parametrize("span", [(0, 0), (5, 5), (3, 9)])
@given(source=st.text())
def test_a_length_is_within_its_span(span: tuple[int, int], source: str) -> None:
    assert span[0] <= pick(source, span) <= span[1]


def test_lengths_use_the_whole_span() -> None:
    assert {pick(str(number), (3, 9)) for number in range(200)} == set(range(3, 10))
