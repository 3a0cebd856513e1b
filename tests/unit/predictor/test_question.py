"""Which words of a request count as the question."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.router.predictor import Predictor, artefact, question_of
from pointsman.router.predictor.excerpt import LONGEST, excerpt
from pointsman.router.predictor.question import Parted, parted


def _talk(*turns: str) -> list[dict[str, object]]:
    said: list[dict[str, object]] = [{"role": "system", "content": "Prove everything."}]
    for turn in turns:
        said += [{"role": "user", "content": turn}, {"role": "assistant", "content": "Suppose not…"}]
    return said


WIDE = "素数が無限にあることを、背理法を使わずに証明してもらえませんか？"
PRIMES = "Prove that there are infinitely many primes, and say where the proof fails for a finite ring of numbers."


def test_only_the_last_user_message_counts_where_it_is_not_short() -> None:
    assert question_of(_talk("Which year was it?", PRIMES)) == PRIMES
    assert question_of(_talk("Which year?", WIDE)) == WIDE
    assert question_of(_talk("Thanks!")) == "Thanks!"


def test_a_short_last_turn_brings_along_what_it_speaks_of() -> None:
    assert parted(question_of(_talk(PRIMES, "and for rings?")) or "") == Parted("and for rings?", PRIMES)
    assert parted(question_of(_talk(PRIMES, "why?", "环呢？")) or "") == Parted("环呢？", f"{PRIMES}\nwhy?")
    assert parted(question_of(_talk("Hi!", "How are you?", "fine")) or "") == Parted("fine", "Hi!\nHow are you?")
    assert parted(question_of(_talk("0", "1", "2", "3", "4", "5")) or "") == Parted("5", "1\n2\n3\n4")
    long = question_of(_talk("a" * 5000 + "b" * 5000, "shorter")) or ""
    assert long.startswith("shorter")
    assert long.endswith("b")
    assert len(long) < 2000
    assert parted("no conversation") == Parted("no conversation")


@given(st.text(max_size=80), st.text(max_size=80))
def test_a_question_comes_apart_as_it_was_put_together(earlier: str, last: str) -> None:
    question = question_of(_talk(earlier, last))
    if question is not None and "\u241e" not in earlier + last:
        assert parted(question)[0] == last
        assert parted(question)[1] in ("", earlier)


def test_a_short_turn_is_judged_in_the_light_of_what_was_asked_before() -> None:
    for predictor in (Predictor.load(), Predictor(artefact.read(), compiled=False)):
        hard = question_of(_talk(PRIMES, "and for rings?")) or ""
        easy = question_of(_talk("Where can one buy cheap hooks for curtains?", "and for rings?"))
        assert predictor.probability(hard) > predictor.probability(easy or "") + 0.1
        assert predictor.probabilities([hard, PRIMES]) == pytest.approx(
            [predictor.probability(hard), predictor.probability(PRIMES)]
        )
        assert predictor.probability(question_of(_talk(PRIMES, "Thanks a lot!")) or "") < 0.5
        odds = math.log(predictor.probability(hard) / (1 - predictor.probability(hard)))
        for told in (predictor.explain(hard), predictor.evidence(hard)):
            assert "what was asked before" in [each.feature for each in told]
            assert sum(each.contribution for each in told) == pytest.approx(odds, abs=1e-3)


def test_a_tool_result_after_the_question_is_not_the_question() -> None:
    messages = [
        {"role": "user", "content": "How warm is it?"},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "content": "21 degrees"},
    ]
    assert question_of(messages) == "How warm is it?"


def test_parts_are_read_and_attached_documents_left_out() -> None:
    content = [
        {"type": "text", "text": "Prove the lemma. " * 200},
        {"type": "image_url", "image_url": {"url": "data:"}},
        {"type": "text", "text": "Who wrote this?"},
    ]
    assert question_of([{"role": "user", "content": content}]) == "Who wrote this?"


def test_several_short_parts_belong_together() -> None:
    content = [{"type": "text", "text": "Translate:"}, {"type": "text", "text": "good morning"}]
    assert question_of([{"role": "user", "content": content}]) == "Translate:\ngood morning"


def test_parts_that_are_all_long_are_all_read() -> None:
    content = [{"type": "text", "text": "a" * 9000}, {"type": "text", "text": "b" * 9000}]
    question = question_of([{"role": "user", "content": content}])
    assert question is not None
    assert question.startswith("a")
    assert question.endswith("b")


def test_there_is_no_question_without_text() -> None:
    assert question_of([]) is None
    assert question_of([{"role": "system", "content": "hi"}]) is None
    assert question_of([{"role": "user", "content": "  \n"}]) is None
    assert question_of([{"role": "user", "content": None}]) is None
    assert question_of([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]) is None
    earlier = [{"role": "user", "content": "hello"}, {"role": "user", "content": []}]
    assert question_of(earlier) is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.lists(
        st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]) | _JSON, "content": _JSON}), max_size=4
    )
)
def test_any_shape_of_messages_is_survived(messages: list[dict[str, object]]) -> None:
    question = question_of(messages)
    assert question is None or question.strip()


def test_before_a_last_user_message_that_is_not_short_the_system_prompt_alone_is_looked_at() -> None:
    class Message(dict[str, object]):
        def get(self, key: str, default: object = None) -> object:
            raise AssertionError("an earlier message was read")

    first = {"role": "system", "content": "Be kind."}
    earlier = Message(role="user", content="Prove it.")
    last = {"role": "user", "content": PRIMES}
    assert question_of([first, earlier, last, {"role": "tool", "content": "done"}]) == PRIMES


@given(st.text())
def test_white_space_alone_is_no_question(text: str) -> None:
    expected = text if text.strip() else None
    assert question_of([{"role": "user", "content": text}]) == expected
    assert question_of([{"role": "user", "content": [{"type": "text", "text": text}]}]) == expected


def test_a_marked_document_is_cut_off_wherever_it_stands() -> None:
    document = "<document>\n" + "Prove the theorem by induction. " * 300 + "\n</document>"
    for text in (f"{document}\nWho wrote it?", f"Who wrote it?\n{document}"):
        seen = excerpt(text)
        assert seen.text == "Who wrote it?"
        assert seen.document


def test_a_text_that_is_nothing_but_a_document_is_kept() -> None:
    seen = excerpt("<context>What is the capital of France?</context>")
    assert "capital of France" in seen.text
    assert not seen.document


def test_first_and_last_lines_are_found() -> None:
    seen = excerpt("Why so?\nWho was late?\nAnswer:")
    assert seen.text[: seen.opening] == "Why so?"
    assert seen.text[-seen.closing :] == "Who was late?\nAnswer:"


_REPORT = (
    "Harbour works, week 31\n\nDredging went on at berth 4; 312 m3 were moved, 40 less than planned.\n"
    "The crane was away on Tuesday.\nRainfall 14 mm. Next inspection: 9 August, Ms Kova\u010d.\n"
)


@pytest.mark.parametrize("question", ["When is the next inspection?", "how much did they move", "多少立方米？"])
@pytest.mark.parametrize(
    "layout", ["{q}\n\n{r}", "{r}\n{q}", "{r}\n---\n{q}\n---\n{r}", "```\n{r}```\n{q}"], ids=str
)
def test_a_question_is_told_from_an_unmarked_document(question: str, layout: str) -> None:
    seen = excerpt(layout.format(q=question, r=_REPORT))
    assert seen.document
    assert question in seen.text
    assert len(seen.text) < len(question) + 80


def test_where_no_line_looks_as_if_it_asked_all_are_read() -> None:
    rules = "A lift stops at every second floor.\nThe guest is on floor 1 and must come to floor 8.\nFloor: 1"
    for text in (_REPORT.strip(), rules):
        seen = excerpt(text)
        assert seen.text == text
        assert not seen.document


def test_a_question_with_its_data_is_read_as_a_whole() -> None:
    text = (
        "A baker sells 14 loaves at 3 dollars each and 9 rolls at 50 cents each. She pays 12 dollars for flour and "
        "half of what is left to her sister. How much does she keep after buying a 4 dollar coffee?"
    )
    assert excerpt(text).text == text
    assert not excerpt(text).document


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=5000))
def test_an_excerpt_is_short_and_its_lines_lie_inside(text: str) -> None:
    seen = excerpt(text)
    assert len(seen.text) <= LONGEST
    assert 0 <= seen.opening <= len(seen.text)
    assert 0 <= seen.closing <= len(seen.text)


@pytest.mark.parametrize(
    ("background", "question"),
    [
        ("My neighbour keeps goats and one of them got out last night. ", "Who wrote The Old Man and the Sea?"),
        (
            "We spent the whole weekend moving house and found old papers. ",
            "How do I convert inches to centimetres?",
        ),
        (
            "我们家最近在搬家，周末收拾出来很多旧书和旧报纸，孩子们一边翻一边问个不停，邻居也过来看热闹，一直坐到晚上才走。",
            "请问《老人与海》是谁写的，哪一年出版的？",
        ),
        (
            "先週ようやく引っ越しが終わり、片づけをしていたら古い本や新聞がたくさん出てきて、家族みんなで夜まで眺めていました。",
            "老人と海という小説を書いた人は誰ですか？",
        ),
    ],
)
def test_the_sentence_that_asks_is_told_from_others_in_its_line(background: str, question: str) -> None:
    for text in (f"{background}{question}", f"{question} {background}".strip()):
        read = excerpt(text)
        assert read.text == text
        assert read.text[read.focus.begin : read.focus.end] == question
        assert read.focus.total == 2


def test_a_text_without_sentences_asks_as_a_whole() -> None:
    for text in ("", "---", "why"):
        focus = excerpt(text).focus
        assert (focus.begin, focus.end) == (0, len(text))
