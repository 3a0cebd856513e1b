"""Settings from a pool and from the command line; what makes no sense is refused by name."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pointsman.contracts.config import Pool
from pointsman.contracts.modes import Mode
from pointsman.serving.simulated.settings import SettingsError, identity_of, pool_settings, settings_from


def pool(**fields: Any) -> Pool:
    return Pool.model_validate(
        {
            "name": "deep",
            "model": "smollm2",
            "modes": ["think"],
            "engine": "simulated",
            "prices": {"input": "1", "output": "2"},
            **fields,
        }
    )


def test_lengths_are_numbers_or_spans() -> None:
    assert settings_from({"answer_tokens": 5}).answer_tokens == (5, 5)
    assert settings_from({"answer_tokens": "5"}).answer_tokens == (5, 5)
    assert settings_from({"thinking_tokens": "5:80"}).thinking_tokens == (5, 80)


def test_a_speed_may_be_without_bound() -> None:
    assert settings_from({"decode_speed": "inf"}).decode_speed == math.inf


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"decode_speed": 0}, "decode_speed"),
        ({"prefill_speed": "nan"}, "speed"),
        ({"answer_tokens": "80:5"}, "answer_tokens"),
        ({"answer_tokens": "many"}, "answer_tokens"),
        ({"max_running": 0}, "max_running"),
        ({"decode_sped": 5}, "decode_sped"),
        ({"fault_rates": {"explode": 0.5}}, "fault_rates"),
        ({"fault_rates": {"die": 0.6, "hang": 0.6}}, "rates"),
        ({"fault_rates": {"die": ""}}, "fault_rates.die"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(given: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        settings_from(given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"answer_tokens": "many"}, "answer_tokens: must be a whole number, or two as in LOW:HIGH"),
        ({"answer_tokens": "9:2"}, "answer_tokens: 9:2 has the larger number first"),
        ({"max_running": 0}, "max_running: must be greater than or equal to 1"),
        ({"fault_rates": {"die": 2}}, "fault_rates.die: must be less than or equal to 1"),
    ],
)
def test_the_sentence_is_ours(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings_from(given)
    assert str(refused.value) == said


def test_a_pool_says_whom_to_stand_in_for() -> None:
    identity = identity_of(pool(served_model_name="smol", capabilities={"context": 4096}))
    assert (identity.model, identity.modes, identity.context, identity.pool) == (
        "smol",
        (Mode.THINK,),
        4096,
        "deep",
    )
    assert identity_of(pool()).model == "smollm2"


def test_a_pool_brings_its_settings_beside_sglangs_arguments() -> None:
    given = pool(engine_args={"device": "cpu", "simulated": {"decode_speed": 7}})
    assert settings_from(pool_settings(given)).decode_speed == 7
    assert pool_settings(pool(engine_args={"device": "cpu"})) == {}


def test_a_pools_settings_must_be_a_mapping() -> None:
    with pytest.raises(SettingsError, match="mapping"):
        pool_settings(pool(engine_args={"simulated": 7}))
