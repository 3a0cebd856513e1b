"""What the predictor thinks of questions whose answer everybody would agree on."""

from __future__ import annotations

import math

import pytest

from pointsman.router.predictor import Predictor, question_of


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load()


EASY = [
    "What is the capital of France?",
    "hi",
    "translate 'good morning' to Japanese",
    "Who wrote The Old Man and the Sea?",
    "thank you, that's all",
    "谢谢，再见",
    "德国的首都是哪里？",
    "ドイツの首都はどこですか？",
    "ありがとうございました",
    "Write a two-line birthday wish for my aunt.",
]
HARD = [
    "Prove that the square root of 2 is irrational.",
    "Show that the sum of two odd squares is never a square.",
    "In how many ways can 8 rooks stand on a chessboard so that none attacks another and the diagonal is free?",
    "证明：三个连续整数的乘积能被6整除。",
    "連続する3つの奇数の平方の和が12で割ると11余ることを証明せよ。",
]
SHORT_HARD = [
    "Is 2^31 - 1 prime?",
    "Last two digits of 3^1000?",
    "∫ ln x / x^2 dx",
    "证明根号3是无理数",
    "7の100乗を11で割った余りは？",
]


@pytest.mark.parametrize("text", EASY)
def test_easy_questions_need_no_thinking(predictor: Predictor, text: str) -> None:
    assert predictor.probability(text) < 0.4


@pytest.mark.parametrize("text", HARD + SHORT_HARD)
def test_hard_questions_need_thinking_however_short(predictor: Predictor, text: str) -> None:
    assert predictor.probability(text) > 0.6


_DOCUMENT = (
    "Report on the harbour extension. The board met on 3 June in Split. Contractor Adria bid 4.2 million, "
    "contractor Istra bid 3.9 million with a penalty clause of 12,000 a day. The survey found rock at 14 metres, "
    "against 17 in the plan; dredging costs 310 per cubic metre. The engineer, Ms Ana Kovač, wants two borings. "
    "The fishermen's union objects to work between April and July. The minister will visit on 9 September.\n"
) * 6


def test_a_long_document_with_a_trivial_question(predictor: Predictor) -> None:
    trivial, demanding = (
        "What is the engineer's name?",
        ("Derive the delay at which both bids cost the same, and prove which contractor is the better choice."),
    )
    for form in (
        "{document}\n\n{question}",
        "{question}\n\n{document}",
        "<document>{document}</document>\n{question}",
    ):
        easy = predictor.probability(form.format(document=_DOCUMENT, question=trivial))
        hard = predictor.probability(form.format(document=_DOCUMENT, question=demanding))
        assert easy < 0.5 < hard
        assert hard - easy > 0.2


def test_an_easy_last_turn_after_a_hard_history(predictor: Predictor) -> None:
    hard = "Prove that every finite integral domain is a field."
    history = [{"role": "user", "content": hard}, {"role": "assistant", "content": "Let R be one… ∎"}]
    for turn in ("Thanks!", "Great, translate that word to French: field", "ok thanks, good night"):
        question = question_of([*history, {"role": "user", "content": turn}])
        assert question is not None
        assert predictor.probability(question) < 0.4
    assert predictor.probability(hard) > 0.6


WISHES = [
    ("Is a tomato a fruit?", "Think carefully, step by step: {}", "Just the answer, no explanation: {}", False),
    (
        "Which is larger, 17 × 23 or 20²?",
        "{} Take your time and reason it through.",
        "{} Quick answer only, please.",
        True,
    ),
    ("鲸鱼是鱼吗？", "请仔细思考，一步一步分析：{}", "直接告诉我答案，不用解释：{}", True),
    ("这两个方案哪个更好？", "{}请认真想一想再回答。", "{}一句话回答就行。", True),
    ("クジラは魚ですか？", "よく考えて、順を追って答えて：{}", "答えだけ、説明はいらない：{}", False),
    ("どちらの案が良いですか？", "{}じっくり考えてください。", "{}一言でお願いします。", False),
]
"""A question, a wish that it be thought about, one that it be not, and whether the former decides."""


@pytest.mark.parametrize(("question", "slow", "fast", "decides"), WISHES)
def test_a_wish_in_words_is_strong_evidence(
    predictor: Predictor, question: str, slow: str, fast: str, decides: bool
) -> None:
    plain = predictor.probability(question)
    wished, hurried = predictor.probability(slow.format(question)), predictor.probability(fast.format(question))
    assert _odds(wished) - _odds(plain) > 0.4
    assert hurried < 0.5
    if decides:
        assert wished > 0.5
        assert _odds(wished) - _odds(hurried) > 1
    else:  # the words of a plainly easy question may outweigh it
        assert _odds(wished) - _odds(hurried) > 0.3


def _odds(probability: float) -> float:
    return math.log(probability / (1 - probability))
