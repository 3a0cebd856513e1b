"""Which words of a request count as the question."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pointsman.router.predictor import question_of
from pointsman.router.predictor.excerpt import LONGEST, excerpt


def test_only_the_last_user_message_counts() -> None:
    messages = [
        {"role": "system", "content": "Prove everything."},
        {"role": "user", "content": "Prove that there are infinitely many primes."},
        {"role": "assistant", "content": "Suppose there were finitely many…"},
        {"role": "user", "content": "Thanks!"},
        {"role": "assistant", "content": "You are welcome."},
    ]
    assert question_of(messages) == "Thanks!"


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


@given(st.lists(st.fixed_dictionaries({"role": st.just("user") | _JSON, "content": _JSON}), max_size=4))
def test_any_shape_of_messages_is_survived(messages: list[dict[str, object]]) -> None:
    question = question_of(messages)
    assert question is None or question.strip()


def test_only_what_follows_the_last_user_message_is_looked_at() -> None:
    class Message(dict[str, object]):
        def get(self, key: str, default: object = None) -> object:
            raise AssertionError("an earlier message was read")

    earlier = Message(role="user", content="Prove it.")
    last = {"role": "user", "content": "Thanks!"}
    assert question_of([earlier, last, {"role": "tool", "content": "done"}]) == "Thanks!"


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
    seen = excerpt("Summarise this.\n\n" + "The meeting went on. " * 100 + "\n\nWho was late?\nAnswer:")
    assert seen.text[: seen.opening] == "Summarise this."
    assert seen.text[-seen.closing :] == "Who was late?\nAnswer:"


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=5000))
def test_an_excerpt_is_short_and_its_lines_lie_inside(text: str) -> None:
    seen = excerpt(text)
    assert len(seen.text) <= LONGEST
    assert 0 <= seen.opening <= len(seen.text)
    assert 0 <= seen.closing <= len(seen.text)
    assert seen.length == len(text)
