"""What a threshold would have done, as the policy page draws it, and the document that saving it makes."""

from __future__ import annotations

from typing import Any

import pytest

from pointsman.console.pages.policy import AT_ONCE, with_threshold
from pointsman.console.parts.sweep import at, outcome, picture
from pointsman.contracts.policies import PolicyDocument

SWEPT: dict[str, Any] = {
    "present_threshold": 0.5,
    "decisions": 30,
    "think_share": 0.5,
    "untouched": {},
    "caveats": [],
    "histogram": [10, *[0] * 18, 20],
    "thresholds": [
        {
            "threshold": step / 100,
            "to_think": 0,
            "to_no_think": step,
            "think_share": 1 - step / 100,
            "cost": {"decisions": 30, "actual": 1_000, "simulated": 2_000 - 15 * step},
            "seconds": {"decisions": 30, "actual": 2.0, "simulated": 3.0 - step / 50},
        }
        for step in range(101)
    ],
}


@pytest.mark.parametrize("step", [0, 29, 57, 58, 100])
def test_every_position_of_the_slider_finds_its_figures(step: int) -> None:
    assert at(SWEPT, step / 100)["to_no_think"] == step


def test_bars_take_the_colour_of_their_track_at_this_threshold() -> None:
    assert picture(SWEPT, 0.0).count('<i class="pm-think"') == 20
    assert picture(SWEPT, 1.0).count('<i class="pm-no-think"') == 20
    assert picture(SWEPT, 0.8).count('<i class="pm-no-think"') == 16


def test_what_changes_is_told_beside_what_was() -> None:
    told = outcome(SWEPT, 0.8)
    for words in (
        "20.0 %",
        "was 50.0 %",
        "$0.0000008",
        "was $0.000001, −20.0 %",
        "1.40 s",
        "−30.0 %",
        "80 to no think",
    ):
        assert words in told


@pytest.mark.parametrize("way", [AT_ONCE, "observe", "canary"])
def test_saving_changes_the_threshold_and_nothing_else(way: str) -> None:
    rules = [{"name": "finance", "match": {"metadata": {"team": "finance"}}, "mode": "think"}]
    before = {"policy": {"threshold": 0.5, "rules": rules}, "candidate": None}
    after = PolicyDocument.model_validate(with_threshold(before, 0.62, way))
    assert before["policy"] == {"threshold": 0.5, "rules": rules}
    if way == AT_ONCE:
        assert after.candidate is None
        assert after.policy.threshold == 0.62
        assert [rule.name for rule in after.policy.rules] == ["finance"]
    else:
        assert after.candidate is not None
        assert after.policy.threshold == 0.5
        assert after.candidate.stage.value == way
        assert after.candidate.policy.threshold == 0.62
        assert after.candidate.policy.rules == after.policy.rules
