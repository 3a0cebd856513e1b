"""The measures themselves, against definitions that need no cleverness, and the rows they are taken over."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.router.predictor import corpus, lexicon
from pointsman.router.predictor.corpus import Row
from pointsman.router.predictor.evaluation import auroc, expected_calibration_error, no_think_share
from pointsman.router.predictor.wrapping import LONGEST, Wrapping, phrases

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


@given(_ROWS)
def test_the_no_think_share_is_that_of_the_best_threshold_of_all(rows: list[tuple[bool, int, float]]) -> None:
    think, score, weight = (np.array(column) for column in zip(*rows, strict=True))
    best = 0.0
    for threshold in {*score.tolist(), 4}:
        below = score < threshold
        right = weight[below & ~think].sum() / weight[~think].sum()
        wrong = weight[below & think].sum() / weight[think].sum()
        if right and right / (right + wrong) >= 0.75:
            best = max(best, right)
    assert no_think_share(think, score.astype(float), weight, 0.75) == pytest.approx(best)


def test_families_are_fixed_and_take_their_near_duplicates_along() -> None:
    families = corpus.source_families()
    listed = orjson.loads(corpus.FAMILIES.read_bytes())
    assert sum(map(len, listed.values())) == len(families), "a source stands in two families"
    assert families["gsm8k"] == families["mgsm_de"] == families["rg_gsm_symbolic"]
    assert len({family for source, family in families.items() if source.startswith("chatterbot")}) == 1
    assert families["rg_gcd"] == families["rg_easy_gcd"]
    assert families["svamp"] == families["mawps_addsub"]


def test_own_rows_are_many_varied_and_in_pairs() -> None:
    rows = corpus.own_rows()
    assert len(rows) > 15_000
    for lang in ("en", "zh", "ja"):
        labels = [row.think for row in rows if row.lang == lang]
        assert len(labels) > 4000
        assert 0.4 < sum(labels) / len(labels) < 0.6
    for kind in ("document", "agentic", "keyword_trap", "short_hard", "wrapped", "history", "wish", "minimal_pair"):
        assert sum(row.kind == kind for row in rows) > 150, kind
    labels_of_pair: dict[str, set[bool]] = {}
    for row in rows:
        if row.pair:
            labels_of_pair.setdefault(row.pair, set()).add(row.think)
    flipped = sum(len(labels_of_pair.get(row.pair, ())) == 2 for row in rows)
    assert flipped > len(rows) / 2


def test_the_length_of_own_rows_says_nothing_of_their_label() -> None:
    rows = [row for row in corpus.own_rows() if row.kind not in ("short_easy", "short_hard")]
    lengths = np.array([float(len(row.text)) for row in rows])
    think = np.array([row.think for row in rows])
    assert 0.4 < auroc(think, lengths, np.ones(len(rows))) < 0.6


_RESERVED_WORDS = re.compile(
    r"24点|make 24\b|24 game|24を作|knights? swap|tsumego|詰碁|quantum lock|letter_counting"
    r"|how many times does the letter|simplify the fraction|约分|約分|迷路を|bitwise",
    re.IGNORECASE,
)
"""What tasks are told by that are kept for judging the predictor."""


def test_nothing_that_is_reserved_is_trained_on() -> None:
    assert not corpus.RESERVED & set(corpus.source_families())
    found = [row.text for row in corpus.own_rows() if _RESERVED_WORDS.search(row.text)]
    assert len(found) == 0, found


def _own(text: str, lang: str = "en", kind: str = "short_easy", pair: str = "") -> Row:
    return Row(text, False, 1.0, "somebody", corpus.OWN_FAMILY, corpus.CORE, lang, kind, pair)


def test_a_question_is_copied_between_courtesies_and_beside_lines_of_another_document() -> None:
    lines = [f"The {colour} shed holds nine rakes." for colour in ("red", "blue", "green", "grey", "black", "old")]
    documents = [_own("\n".join(lines), lang, "document", f"doc-{lang}") for lang in phrases()]
    around = Wrapping(documents)
    for lang in phrases():
        question = _own("What is a rake for?", lang)
        courtesies, beside = (copies := around.copies(question))[:2], copies[2]
        assert len(copies) == 3
        assert all(question.text in copy and copy != question.text for copy in copies)
        assert any(said in beside for said in lines)
        assert not any(said in copy for copy in courtesies for said in lines)
        assert Wrapping(documents).copies(question) == copies
    assert around.copies(_own("Bonjour ?", "fr")) == []
    assert around.copies(_own("a" * (LONGEST + 1))) == []


def test_the_languages_wrap_with_many_phrases() -> None:
    for lang in ("en", "zh", "ja"):
        known = phrases()[lang]
        assert len(known["before"]) >= 25
        assert len(known["after"]) >= 25
        assert len({before for before, _ in known["background"]}) >= 600


def test_copies_share_the_weight_of_their_row_and_leave_the_others_alone() -> None:
    exam = Row("2+2?", True, 1.0, "exam", "exam", corpus.CORE)
    row = _own("Who?")
    alone = corpus.Corpus((exam, exam, row, row), "").family_weights()
    copied = corpus.Corpus((exam, exam, row, replace(row, copy=True), row), "").family_weights()
    assert sum(alone) == pytest.approx(4)
    assert sum(copied) == pytest.approx(4)
    assert copied[2] / copied[0] == pytest.approx(alone[2] / alone[0])


def test_every_heading_of_the_lexicon_speaks_three_languages() -> None:
    for heading, said in lexicon.LEXICON.items():
        text = "".join(said)
        assert any("a" <= letter <= "z" for letter in text), heading
        assert any("一" <= letter <= "鿿" for letter in text), heading
        assert any("ぁ" <= letter <= "ヿ" for letter in text), heading
