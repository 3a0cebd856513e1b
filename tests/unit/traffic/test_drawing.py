"""What `pointsman traffic` asks: drawn from the corpus by a seed, in all its variety, as routers take it."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from pointsman.cli.playing import drawing
from pointsman.cli.playing.asking import request
from pointsman.cli.playing.drawing import Conversation, Format, Means, conversations
from pointsman.contracts.names import Header

MANY = 3000


@pytest.fixture(scope="module")
def drawn() -> list[Conversation]:
    return list(itertools.islice(conversations(7), MANY))


def test_a_seed_says_what_is_asked(drawn: list[Conversation]) -> None:
    assert list(itertools.islice(conversations(7), 200)) == drawn[:200]
    assert list(itertools.islice(conversations(8), 200)) != drawn[:200]


def test_the_mix_is_as_promised(drawn: list[Conversation]) -> None:
    turns = [turn for one in drawn for turn in one.turns]
    languages = Counter(one.language for one in drawn)
    for language, share in drawing.LANGUAGES.items():
        assert languages[language] / MANY == pytest.approx(share, abs=0.04)
    assert 0.4 < sum(one.think for one in drawn) / MANY < 0.6
    assert sum(turn.stream for turn in turns) / len(turns) == pytest.approx(drawing.STREAMS, abs=0.04)
    assert sum(turn.wish is not None for turn in turns) / len(turns) == pytest.approx(drawing.WISHES, abs=0.04)
    assert {turn.wish.means for turn in turns if turn.wish} == set(Means)
    assert {one.format for one in drawn} == set(Format)
    assert {len(one.turns) for one in drawn} >= {1, 2, 3}


def test_questions_vary_in_length_and_have_no_blanks_left(drawn: list[Conversation]) -> None:
    texts = [turn.text for one in drawn for turn in one.turns]
    assert not any("{" in text or "}" in text for text in texts)
    assert len(set(texts)) > 700
    assert min(map(len, texts)) < 20
    for language, (_, longest) in drawing.DOCUMENT_CHARACTERS.items():
        lengths = [len(turn.text) for one in drawn if one.language == language for turn in one.turns]
        assert longest / 2 < max(lengths) < longest * 2


@pytest.mark.parametrize("means", Means, ids=str)
@pytest.mark.parametrize("format", Format, ids=str)
def test_a_wish_is_said_once(drawn: list[Conversation], format: Format, means: Means) -> None:
    """By exactly one of header, field and word: two could contradict each other."""
    asked = [
        (turn.wish, *request("m", one, turn, [{"role": "user", "content": turn.text}]))
        for one in drawn
        for turn in one.turns
        if one.format is format and turn.wish is not None and turn.wish.means is means
    ]
    assert asked
    for wish, body, headers in asked:
        fields = [name for name in ("reasoning_effort", "thinking", "output_config") if name in body]
        word = body["messages"][-1]["content"].endswith(f" /{wish.mode.value}")
        assert (Header.MODE in headers) + len(fields) + word == 1
        assert (Header.MODE in headers) == (means is Means.HEADER)
        assert word == (means is Means.WORD)
