"""Which sentences of a system prompt set a task for whatever the user sends, and what becomes of the message."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pointsman.router.predictor import Predictor, artefact, native, question_of
from pointsman.router.predictor.question import last_message, parted
from pointsman.router.predictor.standing_task import LONGEST, READ, places, standing_task
from pointsman.router.predictor.table import EMPTY, Table

PROOF = "Prove that there are infinitely many primes, and say where the proof fails for a finite ring of numbers."
EASY_TASKS = [
    "You work for a museum. Translate each text that the visitor sends into Finnish. Keep names as they are.",
    "Classify the sentiment of each guest's message as good, bad or mixed. Answer with one word.",
    "你在博物馆工作。把访客发来的每段文字翻译成芬兰文，只输出译文。",
    "あなたは博物館の係です。届いた文章をフィンランド語に訳し、訳文だけを出力してください。",
]
HARD_TASKS = [
    "The user pastes a stack trace and a diff. Work out which change caused the failure, and why no other did.",
    "用户贴出日志，请排除其他可能，推断故障的根本原因和各告警的先后因果。",
    "貼られたログから、どの変更が障害の根本原因かを突き止めてください。",
]
NO_TASKS = [
    "You are a helpful assistant.",
    "You are Iris, the assistant of a bicycle shop. Be friendly. Never talk about competitors. Today is 4 May.",
    "Think step by step and check your result before you answer the user's question.",
    "你是一个乐于助人的助手，请用中文简短回答。",
    "あなたは親切なアシスタントです。丁寧な言葉で簡潔に答えてください。",
]


def _chat(system: Any, *turns: str, role: str = "system") -> list[dict[str, Any]]:
    return [{"role": role, "content": system}, *({"role": "user", "content": turn} for turn in turns)]


@pytest.mark.parametrize("prompt", [*EASY_TASKS, *HARD_TASKS])
def test_a_task_is_found_among_the_other_sentences(prompt: str) -> None:
    task = standing_task(prompt)
    assert task is not None
    assert task in prompt
    assert "museum" not in task or "Translate" in task


@pytest.mark.parametrize("prompt", NO_TASKS)
def test_manners_persons_and_rules_set_no_task(prompt: str) -> None:
    assert standing_task(prompt) is None
    assert question_of(_chat(prompt, PROOF)) == PROOF


@pytest.mark.parametrize("compiled", [True, False])
def test_what_is_to_be_translated_may_sound_as_hard_as_it_likes(compiled: bool) -> None:
    predictor = Predictor(artefact.read(), compiled=compiled)
    assert predictor.probability(PROOF) > 0.97
    for prompt in EASY_TASKS:
        question = question_of(_chat(prompt, PROOF)) or ""
        probability = predictor.probability(question)
        # A proof to be classified is rather taken for one to be worked on: the message still has a say.
        assert probability < (0.6 if "sentiment" in prompt else 0.5), prompt
        assert predictor.probabilities([PROOF, question])[1] == pytest.approx(probability)


def test_mere_material_of_a_hard_task_needs_to_think() -> None:
    predictor = Predictor.load()
    for prompt in HARD_TASKS:
        material = "retries 3 -> 5; pool 20 -> 4\n14:02 timeout waiting for connection"
        assert predictor.probability(question_of(_chat(prompt, material)) or "") > 0.5, prompt


def test_the_evidence_names_the_message_and_adds_up() -> None:
    predictor = Predictor.load()
    question = question_of(_chat(EASY_TASKS[0], PROOF)) or ""
    odds = math.log(predictor.probability(question) / (1 - predictor.probability(question)))
    for told in (predictor.explain(question), predictor.evidence(question)):
        assert sum(each.contribution for each in told) == pytest.approx(odds, abs=1e-3)
    assert "the message that the system prompt sets a task for" in [
        each.feature for each in predictor.explain(question)
    ]


def test_a_task_stands_before_the_last_message_and_earlier_ones_do_not_count() -> None:
    question = question_of(_chat(EASY_TASKS[0], PROOF, "and for rings?")) or ""
    asked, beside, material = parted(question)
    assert "Translate" in asked
    assert beside == last_message(question) == "and for rings?"
    assert material
    assert last_message(PROOF) == PROOF
    assert last_message(question_of(_chat(NO_TASKS[0], PROOF, "why?"))) == "why?"
    assert last_message(None) is None


def test_only_the_first_message_is_a_system_prompt() -> None:
    task = EASY_TASKS[0]
    assert parted(question_of(_chat([{"type": "text", "text": task}], PROOF)) or "").material
    assert parted(question_of(_chat(task, PROOF, role="developer")) or "").material
    assert not parted(question_of(_chat(task, PROOF, role="user")) or "").material
    assert question_of([{"role": "user", "content": PROOF}, {"role": "system", "content": task}]) == PROOF
    assert question_of([*_chat(task), {"role": "user", "content": []}]) is None


def test_both_ends_of_a_long_prompt_are_read() -> None:
    around = "The shop opens at nine. " * 200
    assert standing_task(f"{EASY_TASKS[0]} {around}") is not None
    assert standing_task(f"{around}\n{EASY_TASKS[0]}") is not None
    assert len(standing_task("Translate every message that the user sends into French. " * 60) or "") == LONGEST


@given(
    st.text(st.characters(), max_size=900) | st.lists(st.sampled_from([*EASY_TASKS, "\n", ". ", "\0"])).map("".join)
)
@example("")
@example("\ud800" * 900)
def test_the_kernel_finds_the_same_sentences(text: str) -> None:
    found = standing_task(text)
    read = text if len(text) < READ else f"{text[:500]}\n{text[-300:]}"
    assert found == (" ".join(read[begin:end] for begin, end in places(read))[:LONGEST] or None)


def test_the_kernel_is_what_is_asked() -> None:
    kernel = native.kernel_of(*_nothing())
    if kernel is not None:
        assert kernel.tasks(EASY_TASKS[0]) == places(EASY_TASKS[0])
        with pytest.raises(TypeError):
            kernel.tasks(b"bytes")  # type: ignore[arg-type]


def _nothing() -> tuple[Table, float, list[float], float, float]:
    return EMPTY, 1.0, artefact.read().counts.tolist(), 0.0, 1.0
