"""Engines' answers rewritten for clients: whole and streamed, in the chunks that engines send."""

from __future__ import annotations

import copy
from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pointsman.contracts.config import Family, Pool
from pointsman.contracts.modes import Mode
from pointsman.contracts.pricing import Usage
from pointsman.router.wire.rewriting import (
    MalformedOutput,
    Rewritten,
    StreamRewriter,
    needed,
    rewrite_answer,
    split_output,
)

THINK, NO_THINK = Mode.THINK, Mode.NO_THINK
KAT = "<judge>\nhard\n</judge>\n<think_on>\n<think>\nfirst\n</think>\n\n<answer>\n43\n</answer>"


def pool_of(family: Family, engine: str = "sglang", **said: Any) -> Pool:
    return Pool.model_validate(
        {
            "name": "p",
            "model": "m",
            "modes": [THINK],
            "family": family,
            "engine": engine,
            "urls": ["http://10.0.0.1:8000"],
            "prices": {"input": "0.1", "output": "0.4"},
            **said,
        }
    )


KAT_POOL, QWEN_POOL = pool_of(Family.KAT), pool_of(Family.QWEN3)
THEIRS = pool_of(Family.QWEN3, "vllm", reasoning_parser="qwen3")
"""A pool whose engine tells thinking from the answer."""


def chunk(
    delta: dict[str, Any] | None, *, index: int = 0, finish: str | None = None, **more: Any
) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


def of_sglang(text: str, **more: Any) -> dict[str, Any]:
    """A chunk with all the nulls that SGLang writes."""
    delta = {"role": None, "content": text, "reasoning_content": None, "tool_calls": None}
    return chunk(delta, **more)


def gathered(chunks: list[dict[str, Any]]) -> dict[int, dict[str, str]]:
    """Texts by choice and field; no chunk has two texts, and nothing follows a finish reason."""
    texts: dict[int, dict[str, str]] = defaultdict(lambda: {"reasoning_content": "", "content": ""})
    ended = set()
    for sent in chunks:
        for choice in sent["choices"]:
            assert choice["index"] not in ended
            told = {field: choice["delta"].get(field) for field in ("reasoning_content", "content")}
            assert sum(bool(text) for text in told.values()) <= 1
            for field, text in told.items():
                texts[choice["index"]][field] += text or ""
            if choice["finish_reason"]:
                ended.add(choice["index"])
    return texts


def test_what_has_to_pass_through() -> None:
    assert needed(KAT_POOL, THINK)
    assert needed(KAT_POOL, NO_THINK)
    assert needed(QWEN_POOL, NO_THINK)
    assert needed(THEIRS, THINK)  # it may say `reasoning`
    assert not needed(THEIRS, NO_THINK)
    assert not needed(pool_of(Family.QWEN3, reasoning_parser="qwen3"), THINK)
    assert not needed(pool_of(Family.QWEN3, "simulated"), THINK)
    assert not needed(pool_of(Family.QWEN3, "openai", reasoning_parser="theirs"), THINK)
    assert not needed(pool_of(Family.PLAIN), THINK)


@given(st.lists(st.integers(1, len(KAT) - 1), max_size=30), st.booleans())
@example(cuts=list(range(1, len(KAT))), at_the_end=True)
def test_a_stream_says_the_same_however_it_is_cut(cuts: list[int], at_the_end: bool) -> None:
    places = sorted({0, len(KAT), *cuts})
    texts = [KAT[begin:end] for begin, end in pairwise(places)]
    chunks = [chunk({"role": "assistant", "content": ""}), *map(of_sglang, texts)]
    if at_the_end:  # the last text may come with the finish reason, or before it
        chunks[-1] = of_sglang(texts[-1], finish="stop")
    else:
        chunks.append(chunk({"content": None}, finish="stop"))
    before = copy.deepcopy(chunks)
    rewriter = StreamRewriter(KAT_POOL, THINK, forced=False)
    out = [sent for each in chunks for sent in rewriter.feed(each)]
    assert chunks == before
    assert rewriter.finish() == []
    assert gathered(out) == {0: {"reasoning_content": "hard\n\nfirst", "content": "43"}}
    assert out[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [sent["choices"][0]["finish_reason"] for sent in out if sent["choices"][0]["finish_reason"]] == ["stop"]
    assert rewriter.judgement is THINK
    assert rewriter.reasoning + rewriter.answer in (len(texts), len(texts) + 1)  # one may hold some of both
    assert min(rewriter.reasoning, rewriter.answer) > 0


def test_what_is_held_back_at_the_end_comes_before_the_finish_reason_or_at_the_end() -> None:
    rewriter = StreamRewriter(QWEN_POOL, NO_THINK)
    assert gathered(rewriter.feed(of_sglang("2 <"))) == {0: {"reasoning_content": "", "content": "2 "}}
    out = rewriter.feed(chunk({"content": ""}, finish="length"))
    assert gathered(out) == {0: {"reasoning_content": "", "content": "<"}}
    assert out[-1]["choices"][0]["finish_reason"] == "length"
    broken = StreamRewriter(QWEN_POOL, NO_THINK)
    assert broken.feed(of_sglang("</th", usage={"completion_tokens": 1})) == []
    (rest,) = broken.finish()
    assert gathered([rest]) == {0: {"reasoning_content": "", "content": "</th"}}
    assert rest["usage"] is None
    assert broken.finish() == []


def test_choices_are_told_apart_even_in_one_chunk() -> None:
    rewriter = StreamRewriter(QWEN_POOL, THINK)
    both = chunk({"content": "one</th"})
    both["choices"].append({**both["choices"][0], "index": 1, "delta": {"content": "two"}})
    out = rewriter.feed(both)
    out += rewriter.feed(chunk({"content": "</think>B"}, index=1)) + rewriter.feed(chunk({"content": "ink>A"}))
    assert gathered(out) == {
        0: {"reasoning_content": "one", "content": "A"},
        1: {"reasoning_content": "two", "content": "B"},
    }
    assert (rewriter.reasoning, rewriter.answer) == (2, 2)
    assert gathered(StreamRewriter(KAT_POOL, THINK, forced=False).feed(of_sglang(KAT, finish="stop"))) == {
        0: {"reasoning_content": "hard\n\nfirst", "content": "43"}
    }


def test_tool_calls_and_logprobs_and_usage_stay() -> None:
    rewriter = StreamRewriter(QWEN_POOL, THINK)
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
    (called,) = rewriter.feed(chunk({"content": "</think>", "tool_calls": [call]}))
    assert called["choices"][0]["delta"] == {"tool_calls": [call]}
    held = of_sglang("<", usage={"completion_tokens": 3})
    held["choices"][0]["logprobs"] = {"content": [{"token": "<", "logprob": -0.5}]}
    assert rewriter.feed(held) == [], "it may be the beginning of a tag, the text as well as the token"
    first, last = rewriter.feed(chunk({"content": " 2"})), rewriter.feed(chunk({}, finish="stop"))
    assert gathered(first + last)[0]["content"] == "< 2"
    assert last[-1]["choices"][0]["logprobs"] == held["choices"][0]["logprobs"]
    usage = {"id": "x", "choices": [], "usage": {"completion_tokens": 3}}
    assert rewriter.feed(usage) == [usage]
    border = StreamRewriter(QWEN_POOL, THINK)
    first, second = border.feed(of_sglang("a</think>b", usage={"completion_tokens": 3}))
    assert (first["usage"], second["usage"]) == (None, {"completion_tokens": 3})


THOUGHT = "<|channel|>analysis<|message|>first<|end|>"
HARMONY = THOUGHT + "<|start|>assistant<|channel|>final<|message|>43 <b> and |c|<|return|>"
GPT_OSS_POOL = pool_of(Family.GPT_OSS, "vllm")
TAGGED = {
    "kat": (KAT_POOL, KAT, "hard\n\nfirst", "43", "hardfirst43"),
    "gpt_oss": (GPT_OSS_POOL, HARMONY, "first", "43 <b> and |c|", "first43<b>and|c|"),
}


def tokens_of(text: str, cuts: list[int]) -> list[dict[str, Any]]:
    """The tokens of an output that is cut at `cuts`, as engines tell them, each with a tag for an alternative."""
    places = sorted({0, len(text), *(cut % len(text) for cut in cuts)})
    others = [{"token": token, "logprob": -2.0, "bytes": None} for token in (" or", "<think>", "<|end|>", "<")]
    return [
        {"token": text[begin:end], "logprob": -0.5, "bytes": None, "top_logprobs": others}
        for begin, end in pairwise(places)
    ]


def shown(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tokens that clients see."""
    told = [choice["logprobs"] for sent in chunks for choice in sent["choices"] if choice["logprobs"]]
    return [entry for logprobs in told for entry in logprobs["content"]]


@pytest.mark.parametrize("family", TAGGED)
@given(st.lists(st.integers(1, 10_000), max_size=60), st.booleans())
@example(cuts=list(range(200)), ends=True)
def test_no_token_of_a_tag_is_among_the_log_probabilities(family: str, cuts: list[int], ends: bool) -> None:
    pool, raw, reasoning, answer, bare = TAGGED[family]
    tokens = tokens_of(raw, cuts)
    chunks = [chunk({"content": token["token"]}) for token in tokens]
    for each, token in zip(chunks, tokens, strict=True):
        each["choices"][0]["logprobs"] = {"content": [token], "refusal": None}
    if ends:
        chunks.append(chunk({}, finish="stop"))
    rewriter = StreamRewriter(pool, THINK, forced=False)
    out = [sent for each in chunks for sent in rewriter.feed(each)] + rewriter.finish()
    assert gathered(out) == {0: {"reasoning_content": reasoning, "content": answer}}
    whole_answer = whole({"content": raw})
    whole_answer["choices"][0]["logprobs"] = {"content": tokens}
    rewrite_answer(whole_answer, pool, THINK, forced=False)
    seen = shown(out)
    assert seen == shown([whole_answer])
    text = "".join(entry["token"] for entry in seen)
    tags = {
        "kat": ("judge>", "<think", "think>", "answer>"),
        "gpt_oss": ("<|", "|>", "assistant", "analysis", "final"),
    }
    assert not any(tag in text for tag in tags[family])
    assert all(entry["logprob"] == -0.5 for entry in seen)
    assert all([other["token"] for other in entry["top_logprobs"]] != [] for entry in seen)
    alternatives = {other["token"] for entry in seen for other in entry["top_logprobs"]}
    assert not alternatives & {"<think>"} if family == "kat" else not alternatives & {"<|end|>"}
    # Tokens that are text and nothing else are all there.
    assert len(seen) <= len(tokens)
    if len(tokens) == len(raw):
        assert "".join(text.split()) == bare


def test_tags_in_what_an_engine_calls_thinking_are_taken_out_too() -> None:
    rewriter = StreamRewriter(KAT_POOL, THINK, forced=False)
    thought = "<judge>\nhard\n</judge>\n<think_on>\n<think>\nfirst"
    out = [sent for letter in thought for sent in rewriter.feed(chunk({"reasoning_content": letter}))]
    out += rewriter.feed(chunk({"content": "\n<answer>\n43\n</answer>"})) + rewriter.feed(chunk({}, finish="stop"))
    assert gathered(out) == {0: {"reasoning_content": "hard\n\nfirst", "content": "43"}}
    assert rewriter.judgement is THINK
    answer = whole({"content": "<answer>43</answer>", "reasoning_content": thought})
    assert rewrite_answer(answer, KAT_POOL, THINK, forced=False) == Rewritten(THINK, len("hard\n\nfirst"), 2)
    assert "<" not in str(answer["choices"][0]["message"])


@pytest.mark.parametrize("pool", [THEIRS, pool_of(Family.DEEPSEEK, "vllm"), pool_of(Family.PLAIN, "openai")])
@pytest.mark.parametrize("names", [("reasoning",), ("reasoning_content",), ("reasoning", "reasoning_content")])
def test_an_engine_that_tells_them_apart_itself_is_believed(pool: Pool, names: tuple[str, ...]) -> None:
    rewriter = StreamRewriter(pool, THINK)
    out = rewriter.feed(chunk(dict.fromkeys(names, "hm"))) + rewriter.feed(chunk({"content": "yes"}))
    assert gathered(out) == {0: {"reasoning_content": "hm", "content": "yes"}}
    assert not any("reasoning" in sent["choices"][0]["delta"] for sent in out)
    answer = whole({"role": "assistant", "content": "yes", **dict.fromkeys(names, "hm")})
    assert rewrite_answer(answer, pool, THINK) == Rewritten(None, 2, 3)
    assert answer == whole({"role": "assistant", "content": "yes", "reasoning_content": "hm"})


@pytest.mark.parametrize("pool", [KAT_POOL, QWEN_POOL, THEIRS])
def test_an_answer_that_goes_on_is_all_answer(pool: Pool) -> None:
    rewriter = StreamRewriter(pool, THINK, continued=True)
    out = rewriter.feed(chunk({"reasoning_content": "So "})) + rewriter.feed(
        chunk({"content": "it is</think> 43."})
    )
    assert gathered(out) == {0: {"reasoning_content": "", "content": "So it is 43."}}
    assert (rewriter.reasoning, rewriter.answer, rewriter.judgement) == (0, 2, None)
    answer = whole({"content": None, "reasoning": "So it is 43."})
    assert rewrite_answer(answer, pool, THINK, continued=True) == Rewritten(None, 0, 12)
    assert answer == whole({"content": "So it is 43.", "reasoning_content": None})


def whole(*messages: dict[str, Any]) -> dict[str, Any]:
    choices = [{"index": i, "message": message, "finish_reason": "stop"} for i, message in enumerate(messages)]
    return {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}


def test_a_finish_reason_that_says_nothing_ends_nothing() -> None:
    rewriter = StreamRewriter(QWEN_POOL, THINK)
    out = []
    for text in ("hm", "</th", "ink>", "43"):
        piece = chunk({"content": text})
        piece["choices"][0]["finish_reason"] = ""
        out += rewriter.feed(piece)
    assert gathered(out) == {0: {"reasoning_content": "hm", "content": "43"}}


def test_whole_answers() -> None:
    call = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    answer = whole(
        {"role": "assistant", "content": KAT, "reasoning_content": None, "tool_calls": None},
        {"role": "assistant", "content": "<judge>easy</judge><think_off>", "tool_calls": call},
        {"role": "assistant", "content": "<judge>"},
    )
    found = rewrite_answer(answer, KAT_POOL, THINK, forced=False)
    assert found == Rewritten(THINK, len("hard\n\nfirst") + len("easy"), len("43" + "f{}"))
    assert [choice["message"] for choice in answer["choices"]] == [
        {"role": "assistant", "content": "43", "reasoning_content": "hard\n\nfirst", "tool_calls": None},
        {"role": "assistant", "content": None, "reasoning_content": "easy", "tool_calls": call},
        {"role": "assistant", "content": "", "reasoning_content": None},
    ]
    forced = whole({"content": "first</think><answer>43"})
    assert rewrite_answer(forced, KAT_POOL, THINK) == Rewritten(None, 5, 2)
    assert rewrite_answer(whole({"content": "<answer>43"}), KAT_POOL, NO_THINK) == Rewritten(None, 0, 2)


@pytest.mark.parametrize("pool", [KAT_POOL, QWEN_POOL, pool_of(Family.DEEPSEEK)])
def test_output_held_to_a_schema_is_answer_from_the_start(pool: Pool) -> None:
    rewriter = StreamRewriter(pool, THINK, constrained=True)
    out = rewriter.feed(of_sglang('{"a": ')) + rewriter.feed(of_sglang('"<b>"}', finish="stop"))
    assert gathered(out) == {0: {"reasoning_content": "", "content": '{"a": "<b>"}'}}
    answer = whole({"content": '{"a": 1}'})
    assert rewrite_answer(answer, pool, THINK, constrained=True) == Rewritten(None, 0, 8)


SECRET = "something a client wrote"


@pytest.mark.parametrize(
    "choices",
    [
        None,
        {},
        [SECRET],
        [{"index": SECRET, "delta": {}, "message": SECRET}],
        [{"index": 0, "delta": SECRET, "message": [SECRET]}],
        [{"index": 0, "delta": None, "message": None}],
        [{"index": 0, "delta": {"content": [SECRET]}, "message": {"content": [SECRET]}}],
        [{"index": 0, "delta": {"reasoning": 1}, "message": {"reasoning": 1}}],
        [{"index": 0, "delta": {"reasoning_content": {}}, "message": {"reasoning_content": {}}}],
    ],
)
def test_what_is_no_answer_is_refused_without_quoting_it(choices: Any) -> None:
    for rewrite in (
        lambda: StreamRewriter(KAT_POOL, THINK).feed({"choices": choices}),
        lambda: rewrite_answer({"choices": choices}, KAT_POOL, THINK),
    ):
        with pytest.raises(MalformedOutput) as refused:
            rewrite()
        assert SECRET not in str(refused.value)


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 10**6), st.integers(0, 10**6))
@example(2, 0, 1, 10**6)
@example(2, 0, 10**6, 1)
def test_split_output_adds_up(answered: int, thought: int, reasoning: int, answer: int) -> None:
    usage = Usage(7, 1, thought, answered)
    split = split_output(usage, reasoning, answer)
    assert (split.input, split.cached_input, split.completion_tokens) == (7, 1, usage.completion_tokens)
    if thought:
        assert split == usage  # the engine's own count stands
    elif reasoning and not answer:
        assert split.answer == 0
    elif answer and not reasoning:
        assert split.reasoning == 0
    elif reasoning and answer and answered >= 2:
        assert split.reasoning >= 1
        assert split.answer >= 1
        assert abs(split.reasoning - answered * reasoning / (reasoning + answer)) <= 1
