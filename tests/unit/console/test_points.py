"""Why a query took its track, as markup: the right words for each source, and what is from outside is text."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pointsman.console.parts.points import evidence, ladder, scale, sentence

USUAL: dict[str, Any] = {
    "mode": "think",
    "source": "predictor",
    "detail": "threshold",
    "rule": "",
    "probability": 0.8125,
    "threshold": 0.5,
    "overruled": False,
    "wishes": [],
    "escalated": None,
}


def decision(**fields: Any) -> dict[str, Any]:
    return {**USUAL, **fields}


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (decision(), "P(think) 0.812 reaches the threshold 0.5: think."),
        (decision(mode="no_think", probability=0.1), "P(think) 0.100 stays below the threshold 0.5: no think."),
        (decision(escalated="empty", probability=0.1), "stays below the threshold 0.5: no think."),
        (decision(source="policy", detail="finance"), "policy says think: finance."),
        (decision(source="client", detail="reasoning_effort"), "asked for think, by reasoning_effort."),
        (
            decision(source="saturation", mode="no_think", threshold=0.9),
            "raised the threshold to 0.9, and P(think)",
        ),
        (decision(source="default", probability=None), "the policy's default holds: think"),
    ],
    ids=["above", "below", "escalated", "policy", "client", "saturation", "default"],
)
def test_why_in_one_sentence(made: dict[str, Any], words: str) -> None:
    assert words in sentence(made)


def test_the_ladder_shows_one_who_decided_and_what_became_of_the_others() -> None:
    steps = re.findall(r'<li class="pm-ladder-(\w+)".*?</li>', ladder(decision()))
    assert steps == ["before", "before", "before", "it", "after"]
    wished = [{"field": "thinking", "mode": "no_think"}]
    ruled = ladder(decision(source="policy", detail="finance", wishes=wished, overruled=True))
    assert re.findall(r'<li class="pm-ladder-(\w+)"', ruled) == ["it", "after", "after", "after", "after"]
    assert "asked for the other mode, overruled" in ruled
    assert "rule night leaves the mode open" in ladder(decision(rule="night"))


def test_bars_add_up_and_point_to_their_track() -> None:
    pieces = [{"feature": f"f{number}", "contribution": 2.0 - number} for number in range(20)]
    drawn = evidence(pieces, most=4)
    assert drawn.count("pm-push-think") == 2
    assert drawn.count('class="pm-push ') == 5
    assert "16 more" in drawn
    assert f"{sum(each['contribution'] for each in pieces):+.3f}" in drawn
    assert evidence([]) == '<p class="pm-dim">Nothing is known of what the predictor saw.</p>'


def test_what_comes_from_outside_is_text() -> None:
    bad = '<img src=x onerror="alert(1)">'
    made = decision(source="policy", detail=bad, rule=bad, wishes=[{"field": bad, "mode": "think"}])
    for shown in (ladder(made), evidence([{"feature": bad, "contribution": 1.0}])):
        assert "<img" not in shown
        assert "&lt;img" in shown


def test_no_probability_is_no_line() -> None:
    assert "pm-scale-line" not in scale(None, 0.5)
    assert 'style="left:81.25%"' in scale(0.8125, 0.5)
