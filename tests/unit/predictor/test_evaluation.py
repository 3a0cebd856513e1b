"""The measures themselves, against definitions that need no cleverness, and the rows they are taken over."""

from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.router.predictor import corpus, lexicon
from pointsman.router.predictor.evaluation import auroc, expected_calibration_error

_ROWS = st.lists(
    st.tuples(st.booleans(), st.integers(-3, 3), st.sampled_from([0.25, 1.0, 2.0])), min_size=2, max_size=30
).filter(lambda rows: len({think for think, _, _ in rows}) == 2)


@given(_ROWS)
def test_auroc_is_the_share_of_pairs_in_the_right_order(rows: list[tuple[bool, int, float]]) -> None:
    right = total = 0.0
    for think, score, weight in rows:
        for other, lower, mass in rows:
            if think and not other:
                total += weight * mass
                right += weight * mass * ((score > lower) + 0.5 * (score == lower))
    think, score, weight = (np.array(column) for column in zip(*rows, strict=True))
    assert auroc(think, score.astype(float), weight) == pytest.approx(right / total)


def test_calibration_error_of_what_always_comes_true_is_nothing() -> None:
    chance = np.random.default_rng(1)
    probabilities = chance.random(200_000)
    think = chance.random(200_000) < probabilities
    assert expected_calibration_error(think, probabilities, np.ones(200_000)) < 0.01


def test_calibration_error_of_a_constant_lie() -> None:
    think = np.arange(3000) % 2 == 0
    assert expected_calibration_error(think, np.full(3000, 0.9), np.ones(3000)) == pytest.approx(0.4, abs=0.01)


def test_families_are_fixed_and_take_their_near_duplicates_along() -> None:
    families = corpus.source_families()
    listed = orjson.loads(corpus.FAMILIES.read_bytes())
    assert sum(map(len, listed.values())) == len(families), "a source stands in two families"
    assert families["gsm8k"] == families["mgsm_de"] == families["rg_gsm_symbolic"]
    assert len({family for source, family in families.items() if source.startswith("chatterbot")}) == 1
    assert families["rg_gcd"] == families["rg_easy_gcd"]
    assert families["svamp"] == families["mawps_addsub"]


def test_own_rows_are_many_varied_and_hold_nothing_reserved() -> None:
    rows = [orjson.loads(line) for line in corpus.OWN_ROWS.read_bytes().splitlines()]
    assert len(rows) == len({row["text"] for row in rows}) > 1000
    assert {row["source"] for row in rows} == {corpus.OWN_FAMILY}
    for lang in ("en", "zh", "ja"):
        labels = [row["label"] for row in rows if row["lang"] == lang]
        assert len(labels) > 250
        assert 0.35 < sum(labels) / len(labels) < 0.65
    assert not corpus.RESERVED & set(corpus.source_families())


def test_every_heading_of_the_lexicon_speaks_three_languages() -> None:
    for heading, phrases in lexicon.LEXICON.items():
        text = "".join(phrases)
        assert any("a" <= letter <= "z" for letter in text), heading
        assert any("一" <= letter <= "鿿" for letter in text), heading
        assert any("ぁ" <= letter <= "ヿ" for letter in text), heading
