"""What models write, told apart: recorded outputs of each family, cut in every way, and outputs without sense."""

from __future__ import annotations

import re
import time
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.config import Family, Pool
from pointsman.contracts.modes import Mode
from pointsman.router.families import ANSWER, FAMILIES, REASONING, Kind, Parser, Piece, parser_of

THINK, NO_THINK = Mode.THINK, Mode.NO_THINK


def pool_of(family: Family, **said: Any) -> Pool:
    """A pool of `family` on an engine without a parser of its own."""
    kimi = family is Family.KIMI_K2
    return Pool.model_validate(
        {
            "name": "p",
            "model": "m",
            "modes": [NO_THINK] if kimi else [THINK],
            "family": family,
            "engine": "vllm",
            "urls": ["http://10.0.0.1:8000"],
            "prices": {"input": "0.1", "output": "0.4"},
            **said,
        }
    )


class Output(NamedTuple):
    """One output as a model writes it, and what it says."""

    family: Family
    mode: Mode
    raw: str
    reasoning: str
    answer: str
    forced: bool = True
    judgement: Mode | None = None


SUM = "17 + 26:\n\n* 17 + 20 = 37\n* 37 + 6 = 43\n\nSo it is 43."
OUTPUTS = [
    Output(
        Family.KAT,
        THINK,
        "<judge>\nThe query asks for a proof; steps have to be checked.\n</judge>\n\n<think_on>\n<think>\n"
        f"Let n be even. Then n = 2k.\n\n{SUM}\n</think>\n\n<answer>\nn² = 4k², which is even. ∎\n</answer>",
        "The query asks for a proof; steps have to be checked.\n\n" + f"Let n be even. Then n = 2k.\n\n{SUM}",
        "n² = 4k², which is even. ∎",
        forced=False,
        judgement=THINK,
    ),
    Output(
        Family.KAT,
        NO_THINK,
        "<judge>\nA greeting: no need to reason.\n</judge>\n\n<think_off>\n<answer>\nHello there!\n</answer>",
        "A greeting: no need to reason.",
        "Hello there!",
        forced=False,
        judgement=NO_THINK,
    ),
    Output(  # a judgement against the pool it runs on
        Family.KAT,
        THINK,
        "<judge>simple</judge><think_off><answer>4</answer>",
        "simple",
        "4",
        forced=False,
        judgement=NO_THINK,
    ),
    Output(Family.KAT, THINK, f"\n{SUM}\n</think>\n\n<answer>\n43\n</answer>", SUM, "43"),
    Output(Family.KAT, NO_THINK, "\n43 < 50 <br> and a > b\n</answer>", "", "43 < 50 <br> and a > b"),
    Output(Family.KAT, NO_THINK, "<think> opens a thought.", "", " opens a thought."),
    Output(
        Family.KAT,
        NO_THINK,
        "<judge>\nEasy.\n</judge>\n<think_off>\n<answer>\n<think> opens a thought.\n</answer>",
        "Easy.",
        " opens a thought.",
        forced=False,
        judgement=NO_THINK,
    ),
    Output(Family.KAT, NO_THINK, "No tags at all.\n\n1 < 2", "", "No tags at all.\n\n1 < 2"),
    Output(Family.KAT, THINK, "No tags at all.", "", "No tags at all.", forced=False),
    Output(Family.KAT, THINK, "Cut while it thou", "Cut while it thou", ""),
    Output(Family.KAT, THINK, "<judge>Cut while it jud", "Cut while it jud", "", forced=False),
    Output(Family.KAT, THINK, "<think_on>no tag opens this</think>yes", "no tag opens this", "yes", False, THINK),
    Output(Family.QWEN3, THINK, f"<think>\n{SUM}\n</think>\n\nThe sum is 43.", SUM, "The sum is 43."),
    Output(Family.QWEN3, THINK, f"{SUM}\n</think>\n\n```python\nx = 43\n```\n", SUM, "```python\nx = 43\n```\n"),
    Output(Family.QWEN3, THINK, "<think>\n\n</think>\n\nHello!", "", "Hello!"),
    Output(Family.QWEN3, NO_THINK, "The sum is 43.\n", "", "The sum is 43.\n"),
    Output(Family.QWEN3, NO_THINK, "<think>\nunasked\n</think>\n\n43", "unasked", "43"),
    Output(
        Family.QWEN3,
        NO_THINK,
        'Split at the tag: `text.split("<think>")`, then go on.',
        "",
        'Split at the tag: `text.split("")`, then go on.',
    ),
    Output(
        Family.DEEPSEEK,
        THINK,
        "Okay, the user asks.\n\nIt is 43.</think>It is **43**.",
        "Okay, the user asks.\n\nIt is 43.",
        "It is **43**.",
    ),
    Output(Family.DEEPSEEK, NO_THINK, "It is **43**.", "", "It is **43**."),
    Output(Family.GLM, THINK, f"\n<think>{SUM}</think>\nIt is 43.", SUM, "It is 43."),
    Output(Family.GLM, NO_THINK, "\nIt is 43.", "", "It is 43."),
    Output(
        Family.GRANITE,
        THINK,
        f"<think>{SUM}</think>\n\n<response>It is 43.\n</response>",
        SUM,
        "It is 43.",
    ),
    Output(Family.GRANITE, THINK, "It is 43.", "", "It is 43."),
    Output(Family.GRANITE, NO_THINK, "It is 43.", "", "It is 43."),
    Output(
        Family.GPT_OSS,
        THINK,
        f"<|channel|>analysis<|message|>{SUM}<|end|>"
        "<|start|>assistant<|channel|>final<|message|>It is 43.<|return|>",
        SUM,
        "It is 43.",
    ),
    Output(Family.GPT_OSS, NO_THINK, "<|channel|>final<|message|>a < b <| c", "", "a < b <| c"),
    Output(Family.GPT_OSS, NO_THINK, "It is 43.", "", "It is 43."),
    Output(  # more than one message of a kind, and one for a tool
        Family.GPT_OSS,
        THINK,
        "<|channel|>analysis<|message|>Look it up.<|end|><|start|>assistant<|channel|>commentary<|message|>I look."
        "<|end|><|start|>assistant<|channel|>analysis<|message|>Now.<|end|><|start|>assistant<|channel|>commentary "
        'to=functions.look <|constrain|>json<|message|>{"at": 1}<|call|>',
        "Look it up.\n\nNow.",
        'I look.\n\n{"at": 1}',
    ),
    Output(  # the answer is about the format
        Family.GPT_OSS,
        THINK,
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>"
        "Write <|channel|>analysis<|message|> first.",
        "hm",
        "Write analysis first.",
    ),
    Output(Family.GPT_OSS, THINK, "<|channel|>analysis<|message|>Cut while it thou", "Cut while it thou", ""),
    Output(Family.GPT_OSS, THINK, "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>", "hm", ""),
    Output(Family.GPT_OSS, THINK, "<|start|>no header at all<|message|>yes", "", "no header at allyes"),
    Output(Family.GPT_OSS, THINK, "<|channel|>" + "x" * 300 + "<|message|>yes", "", "x" * 300 + "yes"),
]


def told(parser: Parser, chunks: list[str]) -> tuple[str, str]:
    """Reasoning and answer of an output that comes in `chunks`."""
    pieces = [piece for chunk in chunks for piece in parser.feed(chunk)] + parser.finish()
    return said(pieces, REASONING), said(pieces, ANSWER)


def said(pieces: list[Piece], kind: Kind) -> str:
    return "".join(piece.text for piece in pieces if piece.kind is kind)


def parser_for(output: Output) -> Parser:
    parser = parser_of(pool_of(output.family), output.mode, forced=output.forced)
    assert parser is not None
    return parser


def test_every_family_has_recorded_outputs_of_both_modes_or_no_tags() -> None:
    recorded = {(output.family, output.mode) for output in OUTPUTS}
    tagged = {family for family, model in FAMILIES.items() if model.tags is not None}
    assert recorded == {(family, mode) for family in tagged for mode in Mode}
    assert set(Family) - tagged == {Family.PLAIN, Family.KIMI_K2}


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda output: f"{output.family}-{output.mode}")
def test_recorded_outputs(output: Output) -> None:
    whole = parser_for(output)
    assert told(whole, [output.raw]) == (output.reasoning, output.answer)
    assert whole.judgement is output.judgement
    by_character = parser_for(output)
    assert told(by_character, list(output.raw)) == (output.reasoning, output.answer)
    assert by_character.judgement is output.judgement
    for cut in range(1, len(output.raw)):
        parts = [output.raw[:cut], output.raw[cut:]]
        assert told(parser_for(output), parts) == (output.reasoning, output.answer)


def cut_up(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[begin:end] for begin, end in pairwise(places)]


CUTS = st.lists(st.integers(0, 10_000), max_size=40)


@given(st.sampled_from(OUTPUTS), CUTS)
def test_recorded_outputs_cut_anywhere(output: Output, cuts: list[int]) -> None:
    parser = parser_for(output)
    assert told(parser, cut_up(output.raw, cuts)) == (output.reasoning, output.answer)
    assert parser.judgement is output.judgement


TAGGED = [family for family, model in FAMILIES.items() if model.tags is not None]


def tags_of(family: Family) -> list[str]:
    tags = FAMILIES[family].tags
    assert tags is not None
    return list(tags.by_text)


@st.composite
def nonsense(draw: st.DrawFn) -> tuple[Family, str]:
    """Tags in any order, unclosed, nested, repeated, torn, between texts that look like tags."""
    family = draw(st.sampled_from(TAGGED))
    tags = tags_of(family)
    torn = [tag[:end] for tag in tags for end in (1, 3, len(tag) - 1)] + [
        tag[end:] for tag in tags for end in (1, 3)
    ]
    piece = st.sampled_from([*tags, *tags, *torn, "\n", "\n\n\n", " ", "x", "a b", "é<", "<<", ">"])
    return family, "".join(draw(st.lists(piece, max_size=25)))


@given(nonsense(), st.sampled_from(Mode), st.booleans(), CUTS)
def test_no_tag_comes_out_and_no_text_is_lost(
    made: tuple[Family, str], mode: Mode, forced: bool, cuts: list[int]
) -> None:
    family, raw = made
    pool = pool_of(family)
    parser = parser_of(pool, mode, forced=forced)
    assert parser is not None
    pieces = parser.feed(raw) + parser.finish()
    reasoning, answer = said(pieces, REASONING), said(pieces, ANSWER)
    for tag in tags_of(family):
        assert tag not in reasoning
        assert tag not in answer
    tags = re.compile("|".join(map(re.escape, tags_of(family))))
    assert "".join("".join(piece.text for piece in pieces).split()) == "".join(tags.sub("", raw).split())
    for chunks in (cut_up(raw, cuts), list(raw)):
        again = parser_of(pool, mode, forced=forced)
        assert again is not None
        assert told(again, chunks) == (reasoning, answer)
        assert again.judgement is parser.judgement


@given(nonsense(), CUTS)
def test_an_answer_that_goes_on_is_all_answer(made: tuple[Family, str], cuts: list[int]) -> None:
    family, raw = made
    parser = parser_of(
        pool_of(family, **({} if family is Family.KAT else {"reasoning_parser": "theirs"})), THINK, continued=True
    )
    assert parser is not None
    reasoning, answer = told(parser, cut_up(raw, cuts))
    assert reasoning == ""
    assert parser.judgement is None
    assert not any(tag in answer for tag in tags_of(family))


@pytest.mark.parametrize("hostile", ["<", "<think>", "</think", "a</think> <think>", "\n", "<judge>x"])
def test_hostile_output_takes_time_and_memory_in_proportion(hostile: str) -> None:
    def taken(length: int, step: int) -> float:
        text = hostile * (length // len(hostile))
        best = 1e9
        for _ in range(3):
            parser = parser_of(pool_of(Family.KAT), THINK)
            assert parser is not None
            began = time.process_time()
            for at in range(0, len(text), step):
                parser.feed(text[at : at + step])
                assert len(parser._held) <= 16
            best = min(best, time.process_time() - began)
        return best

    for step in (5, 1_000_000):
        assert taken(64_000, step) < 60 * taken(4_000, step) + 0.01  # 16 times the text; squared it is 256


def test_who_parses() -> None:
    for family in Family:
        tagged = family in TAGGED
        assert (parser_of(pool_of(family), NO_THINK) is not None) is tagged
        assert parser_of(pool_of(family, engine="simulated", urls=[]), NO_THINK) is None or family is Family.KAT
        if family is not Family.KAT:
            assert parser_of(pool_of(family, reasoning_parser="theirs"), NO_THINK) is None
    opened = parser_of(pool_of(Family.PLAIN, template_opens_thinking=True), THINK)
    assert opened is not None
    assert told(opened, ["hm\n</thi", "nk>\nyes"]) == ("hm", "yes")
