"""Output that does nothing but repeat itself is stopped, and nothing that people ask for is taken for it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.modes import Mode, Source
from pointsman.contracts.names import Header, Metric
from pointsman.router.exchange import Endpoint
from pointsman.router.pipeline.repetition import LONGEST, MARKS, OFTEN, STRETCH, WORDS, Repetition
from support.scenes import DEEP, FAST, URLS, Scene, said, tail, used

WORDS_OF = ["time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school"]


def prose(seed: int, words: int = 4000) -> str:
    pick = random.Random(seed)
    return " ".join(pick.choice(WORDS_OF) + pick.choice(["", ",", ".", "\n"]) for _ in range(words))


def table(rows: int) -> str:
    return "| n | square | even |\n|---|---|---|\n" + "".join(
        f"| {n} | {n * n} | {'yes' if n % 2 == 0 else 'no'} |\n" for n in range(rows)
    )


SOUND: dict[str, str] = {
    "prose": prose(1),
    "a table": table(400),
    "a table of few values": "".join(f"| {n:04} | ok | ok | ok |\n" for n in range(600)),
    "a drawing": "\n".join("*" * (2 * n + 1) for n in range(60)) * 2,
    "a wide rule": "-" * 3000,
    "an empty board": (". " * 20 + "\n") * 40,
    "blank lines": (" " * 80 + "\n") * 30,
    "a matrix of noughts": "[" + ("[" + ", ".join("0" * 30) + "],\n") * 40 + "]",
    "an empty HTML table": ("<tr>" + "<td></td>" * 12 + "</tr>\n") * 30,
    "code": "".join(f"    if value == {n}:\n        return names[{n}]\n" for n in range(300)),
    "records": json.dumps([{"id": n, "name": "", "value": None} for n in range(400)]),
    "a refrain": (prose(2, 60) + "\nLet it be, let it be, let it be, let it be\n") * 6,
    "base64": "".join(random.Random(3).choices("ABCDEFGHabcdefgh0123+/", k=12_000)),
    "nulls": ("null, " * 20 + "\n") * 15,
}
RUNAWAY = {
    "a word": "very " * 1000,
    "a sentence": "I should check that once more before I answer. " * 100,
    "the longest unit": (prose(4)[:LONGEST]) * 40,
    "marks": "!" * (2 * MARKS),
    "a paragraph of few letters": "ab ba abc\n" * 900,
    "after much else": prose(5) + "and so on " * 800,
    "Chinese": "我需要再想一想。" * 800,
}


def verdict(text: str, size: int = STRETCH) -> bool:
    repetition = Repetition()
    return any(repetition.look(text[at : at + size]) is True for at in range(0, len(text), size))


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("size", [STRETCH, 700, 5000])
def test_what_people_ask_for_is_no_repetition(name: str, size: int) -> None:
    assert not verdict(SOUND[name], size)


@pytest.mark.parametrize("name", RUNAWAY)
@pytest.mark.parametrize("size", [STRETCH, 900, 5000])
def test_an_endless_loop_is_found(name: str, size: int) -> None:
    assert verdict(RUNAWAY[name], size)


@given(unit=st.text(st.characters(codec="utf-8"), min_size=1, max_size=LONGEST), size=st.integers(400, 4000))
def test_any_unit_that_is_short_enough_is_found(unit: str, size: int) -> None:
    text = prose(6, 50) + unit * (3 * MARKS // len(unit) + OFTEN)
    assert verdict(text, size)


@given(st.lists(st.sampled_from(["ab", "a", "b", "abc ", "\n"]), max_size=300).map("".join))
def test_no_text_shorter_than_the_limit_is_found(text: str) -> None:
    assert not verdict((text * 200)[: WORDS - 1], 100)


@pytest.mark.parametrize("unit", ["again and ", prose(8)[:LONGEST]], ids=["short", "long"])
@pytest.mark.parametrize("mode", [Mode.NO_THINK, Mode.THINK])
def test_a_stream_that_loops_is_stopped_and_billed_as_seen(tmp_path: Path, mode: Mode, unit: str) -> None:
    scene = Scene(tmp_path)
    exchange = scene.ask(mode, stream=True, max_tokens=60_000, stream_options={"include_usage": True})
    engine = scene.sent()
    engine.say(*[said(content=word + " ") for word in prose(7, 300).split()])
    assert not engine.stopped
    loop = unit * 1500
    engine.say(*[said(content=loop[at : at + 5]) for at in range(0, 15_000, 5)])
    assert engine.stopped
    told = scene.told(exchange)
    assert told.ended
    assert told.events[-3]["choices"][0]["finish_reason"] == "length"
    assert told.events[-3]["pointsman"] == {"stopped": "repetition"}
    assert {event["id"] for event in told.events[:-2]} == {"e1"}
    assert told.usage["completion_tokens"] == len(told.events) - 3
    assert told.usage["completion_tokens"] < 3000
    told.check_bill()


def test_a_stream_in_other_frames_is_watched_too(tmp_path: Path) -> None:
    """Merged events, escapes, spaces between keys: what no known frame tells."""
    scene = Scene(tmp_path)
    exchange = scene.ask(Mode.NO_THINK, stream=True, max_tokens=60_000)
    engine = scene.sent()
    engine.say(*[(said(content='say "once more"\n') * 3).replace(b'":', b'": ') for _ in range(800)])
    assert engine.stopped
    assert scene.told(exchange).remarks == {"stopped": "repetition"}


def test_a_stream_of_completions_is_stopped_in_its_own_format(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    exchange = scene.ask(Mode.NO_THINK, endpoint=Endpoint.COMPLETIONS, stream=True, max_tokens=60_000)
    engine = scene.sent()
    choice = {"index": 0, "text": "so on and ", "finish_reason": None}
    event = {"id": "e1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}
    engine.say(*[b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"] * 3000)
    assert engine.stopped
    last = scene.told(exchange).events[-2]
    assert last["object"] == "text_completion"
    assert last["choices"] == [{"index": 0, "text": "", "logprobs": None, "finish_reason": "length"}]


@pytest.mark.parametrize("name", [name for name in SOUND if name != "base64"])
def test_sound_streams_go_on_to_their_end(tmp_path: Path, name: str) -> None:
    scene = Scene(tmp_path)
    exchange = scene.ask(Mode.NO_THINK, stream=True, max_tokens=60_000)
    engine = scene.sent()
    text = SOUND[name]
    engine.say(*[said(content=text[at : at + 4]) for at in range(0, len(text), 4)], said("stop"), *tail(5, 9))
    told = scene.told(exchange)
    assert told.message["content"] == text
    assert told.remarks == {}


LOOP = ["Let me think again. "] * 600


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_that_loops_is_closed_and_answered(tmp_path: Path, *, stream: bool) -> None:
    scene = Scene(tmp_path, {**DEEP, "engine": "vllm", "family": "qwen3", **URLS})
    exchange = scene.ask(Mode.THINK, stream=stream, max_tokens=60_000)
    engine = scene.sent()
    engine.say(said(reasoning_content="First. "), *[said(reasoning_content=text) for text in LOOP])
    assert engine.stopped
    second = scene.sent()
    begun = second.asked["messages"][-1]["content"]
    assert "First" in begun
    assert begun.count("again") < OFTEN
    second.say(said(content="So."), said("stop"), *tail(9, 3))
    told = scene.told(exchange)
    assert told.message["content"] == "So."
    assert (told.remarks if stream else told.headers)["stopped" if stream else Header.STOPPED] == "repetition"
    assert scene.metrics.counter(Metric.STOPPED, {"tenant": "t", "model": "m", "reason": "repetition"}).value == 1


def test_a_whole_answer_that_looped_to_its_limit_says_so(tmp_path: Path) -> None:
    scene = Scene(tmp_path, FAST)
    for finish in ("length", "stop"):
        exchange = scene.ask(Mode.NO_THINK, source=Source.CLIENT)
        scene.sent().answer(content="and so on " * 900, finish=finish, usage=used(5, 1024))
        told = scene.told(exchange)
        assert told.message["content"] == "and so on " * 900
        assert (told.headers.get(Header.STOPPED) == "repetition") == (finish == "length")
