"""The compiled kernel and NumPy say the same of any text, and a kernel that does not fit is not used."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pointsman.router.predictor import Predictor, artefact, features, kernel_tables, native
from pointsman.router.predictor.alphabet import LIMIT
from pointsman.router.predictor.excerpt import TAGS, excerpt, without_documents
from pointsman.router.predictor.table import EMPTY, Table
from pointsman.router.predictor.tempering import BENDS

WEIGHTS = artefact.read(None)
COMPILED = Predictor(WEIGHTS)
PLAIN = Predictor(WEIGHTS, compiled=False)
BUILT = (
    any(shutil.which(name) for name in ("cc", "gcc", "clang"))
    and Path(sysconfig.get_path("include"), "Python.h").is_file()
)

ANY = st.text(st.characters(), max_size=900)
"""Lone surrogates and NUL among them."""
LIKELY = st.text("ab zé.?!:：。？\n\r\t0証の,-#=`\0\x1c\u3000", max_size=900)
"""What the borders of words, lines and sentences depend on."""
LONG = st.lists(
    st.tuples(
        st.sampled_from(["", "\n", " ", "。", "😀"]) | LIKELY.map(lambda text: text[:40]), st.integers(1, 3000)
    ),
    max_size=5,
).map(lambda runs: "".join((text * times)[:2500] for text, times in runs))
"""Of up to 12,500 characters, so that both ends and the gap between them are met."""
TAGGED = st.lists(
    st.sampled_from(["<document>", "</document>", "<Doc a='b'>", "</doc", ">", "</FILES >", "</fileſ>", "<資料>"])
    | st.sampled_from(["</資料>", "</lo", "g\n>", "</documentary>", "</div>", "</_", "</", "<", "/", "\n", "Why? "])
    | st.sampled_from(["x" * 1990, "x" * 9, "x" * 1200, "。", "\u3000"])
).map("".join)


REPORTS = st.lists(
    st.sampled_from(["\n", "\n\n", " ", "\n---\n", "\n```\n", "\n- ", "\n| "])
    | st.sampled_from(
        ["Report of the third quarter", "Revenue rose to 41.2 million, costs to 39. ", "Why is that?"]
    )
    | st.sampled_from(
        ["会议于星期五举行。", "预算是多少？", "12 | 13 | {a: 4}", "which supplier is cheaper", "Frage:", "😀"]
    ),
    max_size=60,
).map("".join)
"""Where lines that ask stand beside lines that don't."""


def test_the_kernel_is_there_wherever_it_can_be_compiled() -> None:
    assert PLAIN.arithmetic == "numpy"
    assert COMPILED.arithmetic == ("compiled" if BUILT else "numpy")


@settings(max_examples=300)
@given(text=ANY | LIKELY | LONG | TAGGED | REPORTS)
@example(text="")
@example(text="x" * 5000)
@example(text="prove it " * 900)
@example(text=" " * 300 + "x" * 900)
@example(text="\ud800" * 700)
@example(text="証明してください。" * 200)
@example(text="p r o v e 🥰\U000e0131\U000e011e")
@example(text="Context:\nwhy?\n\nAnswer:\n```\n")
@example(text=". " * 400)
@example(text="\n" * 601)
@example(text="why\n" * 15)
@example(text="why " * 50)
@example(text="why\n" * 50)
@example(text="again and again and AGAIN")
@example(text="digozu dizira")  # they share a cell
def test_both_say_the_same_of_any_text(text: str) -> None:
    probability = PLAIN.probability(text)
    assert 0 < probability < 1
    assert math.isclose(COMPILED.probability(text), probability, abs_tol=1e-6)


@settings(max_examples=200, deadline=None)
@given(text=ANY | LIKELY | LONG | TAGGED | REPORTS)
@example(text="")
@example(text="prove it " * 900)
@example(text="<document>x</document> Why?")
@example(text="証明してください。" * 200)
def test_both_name_the_same_evidence_and_it_adds_up(text: str) -> None:
    everything = features.EVIDENCE_NAMES.index(features.EARLIER_NAME)
    compiled, plain = COMPILED.ranked(text, everything), PLAIN.ranked(text, everything)
    said = dict(compiled)
    assert len(said) == len(compiled)
    for place, contribution in plain:
        assert math.isclose(said.get(place, 0.0), contribution, abs_tol=1e-4)
    for ranked in (compiled, plain):
        score = sum(contribution for _, contribution in ranked)
        assert math.isclose(1 / (1 + math.exp(-score)), PLAIN.probability(text), abs_tol=1e-6)
        sizes = [abs(contribution) for _, contribution in ranked[:-1]]
        assert sizes == sorted(sizes, reverse=True)
    for predictor, ranked in ((COMPILED, compiled), (PLAIN, plain)):
        few = predictor.ranked(text, 4)
        assert few[:-1] == ranked[: len(few) - 1]
        assert len(few) <= 5
        assert few[-1][0] == everything - 1
        assert math.isclose(sum(each for _, each in few), sum(each for _, each in ranked), abs_tol=1e-9)


@pytest.mark.parametrize("bend", [BENDS[0], 2.0, BENDS[1]])
def test_both_temper_alike(bend: float) -> None:
    weights = replace(WEIGHTS, bend=bend)
    compiled, plain = Predictor(weights), Predictor(weights, compiled=False)
    for text in (
        "hi",
        "Prove that there are infinitely many primes.",
        "Which is cheaper over 3 years, A or B?\n" * 9,
    ):
        probability = compiled.probability(text)
        assert math.isclose(plain.probability(text), probability, abs_tol=1e-6)
        odds = math.log(probability / (1 - probability))
        for told in (compiled.evidence(text), plain.evidence(text), compiled.explain(text)):
            assert math.isclose(sum(each.contribution for each in told), odds, abs_tol=1e-4)


def test_a_bend_that_bends_nothing_is_refused() -> None:
    for bend in (0.0, -1.0, math.nan):
        if BUILT:
            with pytest.raises(ValueError, match="a bend that is not above 0"):
                native.kernel_of(EMPTY, 1.0, WEIGHTS.counts.tolist(), 0.0, bend)


@settings(max_examples=100, deadline=None)
@given(text=ANY | LIKELY | LONG | TAGGED | REPORTS)
@example(text="Prove that it holds. Think carefully.")
@example(text="0")
def test_evidence_by_kinds_and_by_words_is_one_story(text: str) -> None:
    """What the words say one by one is what their kinds say together; all else has the same names and figures."""
    by_kind = dict(COMPILED.evidence(text, limit=1000))
    by_word = dict(COMPILED.explain(text, limit=100_000))
    words = sum(by_kind.pop(name, 0.0) for name in features.GROUP_NAMES)
    for kind, contribution in by_kind.items():
        name = kind
        if kind == features.QUANTITIES:  # told with their number where words are told
            name = next((said for said in by_word if re.fullmatch(r"names (a|no|\d+) quantit(y|ies)", said)), kind)
        assert math.isclose(by_word.pop(name, 0.0), contribution, abs_tol=1e-6)
    assert math.isclose(sum(by_word.values()), words, abs_tol=1e-4)


@settings(max_examples=300, deadline=None)
@given(text=ANY | LIKELY | LONG | TAGGED | REPORTS)
@example(text="x\n" * 5000)
@example(text="Who? \n" + "A line that is long enough to be cut. 。" * 200)
def test_both_cut_out_the_same(text: str) -> None:
    if not BUILT:
        return
    kernel = _kernel()
    assert kernel is not None
    read = excerpt(text)
    plain = "".join(letter if ord(letter) < LIMIT else chr(LIMIT) for letter in read.text)
    around = "".join(letter if ord(letter) < LIMIT else chr(LIMIT) for letter in read.around)
    assert kernel.excerpt_of_rest(*without_documents(text)) == (plain, *read[1:-1], around)
    said = kernel.probability(text)
    assert said is None or said == kernel.probability_of_rest(text, False)
    assert said is not None or "</" in text


def test_a_text_with_a_document_is_left_to_python() -> None:
    kernel = _kernel()
    if kernel is None:
        return
    assert kernel.probability("<document>x</document> Why?") is None
    for name in (*TAGS, *map(str.upper, TAGS)):
        assert kernel.probability(f"<{name}>x</{name} > Why?") is None
    assert kernel.probability("x" * 2500 + "</document>" + "x" * 2500) is not None
    assert kernel.probability("<div>Prove it.</div> </documentary> </" + "x" * 5000 + "</p></") is not None


@pytest.mark.parametrize("text", [None, b"prove it", 1, ["prove it"]])
def test_what_is_no_text_is_refused(text: Any) -> None:
    kernel = _kernel()
    if kernel is None:
        return
    with pytest.raises(TypeError):
        kernel.probability(text)
    with pytest.raises(TypeError):
        kernel.probability_of_rest(text, False)
    with pytest.raises(TypeError):
        kernel.excerpt_of_rest(text, False)
    with pytest.raises(TypeError):
        kernel.evidence(text, 8)
    with pytest.raises(TypeError):
        kernel.evidence_of_rest(text, False, 8)


@pytest.mark.parametrize("part", kernel_tables.KernelArrays._fields)
@pytest.mark.parametrize("how", ["cut", "empty"])
def test_tables_that_lead_nowhere_are_refused(monkeypatch: pytest.MonkeyPatch, part: str, how: str) -> None:
    tables = kernel_tables.tables()
    array = getattr(tables.arrays, part)
    smaller = array[: len(array) // 2 if how == "cut" else 0]
    broken = tables._replace(arrays=tables.arrays._replace(**{part: smaller}))
    monkeypatch.setattr(kernel_tables, "tables", lambda: broken)
    if BUILT:
        with pytest.raises(ValueError, match=r"size|many|not there"):
            _kernel()


@pytest.mark.parametrize("part", ["blocks", "buckets", "headings"])
def test_entries_that_point_past_their_table_are_refused(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    tables = kernel_tables.tables()
    array = getattr(tables.arrays, part).copy()
    array[-1] = np.iinfo(array.dtype).max
    broken = tables._replace(arrays=tables.arrays._replace(**{part: array}))
    monkeypatch.setattr(kernel_tables, "tables", lambda: broken)
    if BUILT:
        with pytest.raises(ValueError, match="not there"):
            _kernel()


@pytest.mark.parametrize("name", kernel_tables.KernelNumbers._fields)
def test_a_kernel_written_for_other_features_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    tables = kernel_tables.tables()
    numbers = tables.numbers._replace(**{name: getattr(tables.numbers, name) + 1})
    monkeypatch.setattr(kernel_tables, "tables", lambda: tables._replace(numbers=numbers))
    if BUILT:
        with pytest.raises(ValueError, match="the features are not those"):
            _kernel()


def test_weights_of_another_size_are_refused() -> None:
    short, counts = Table(EMPTY.entries[1:], 0.0), [0.0] * features.COUNT_SIZE
    for table, wrong in ((short, counts), (EMPTY, counts[1:]), (EMPTY, [*counts, 0.0]), (EMPTY, [0.0] * 1000)):
        if BUILT:
            with pytest.raises(ValueError, match=r"many|features are not those"):
                native.kernel_of(table, 1.0, wrong, 0.0, 1.0)


def test_making_a_kernel_writes_nowhere_else() -> None:
    """With guards around what it allocates, CPython ends itself where a buffer was written past its end.

    That of the notes of more than eight arguments' buffers is such a one; of fewer they lie on its stack.
    """
    assert not BUILT or COMPILED.arithmetic == "compiled"
    made = "from pointsman.router.predictor import Predictor; [Predictor.load() for _ in range(5)]"
    guarded = {**os.environ, "PYTHONMALLOC": "debug"}
    said = subprocess.run([sys.executable, "-c", made], env=guarded, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr


def test_a_kernel_of_another_source_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "kernel.c"
    other.write_bytes(native.SOURCES[-1].read_bytes() + b"\n")
    monkeypatch.setattr(native, "SOURCES", (*native.SOURCES[:-1], other))
    assert Predictor(WEIGHTS).arithmetic == "numpy"


@pytest.mark.parametrize("content", [None, b"", b"\x7fELF but not for long"])
def test_a_library_that_cannot_be_loaded_is_not_used(tmp_path: Path, content: bytes | None) -> None:
    library = tmp_path / "_kernel.so"
    if content is not None:
        library.write_bytes(content)
    assert native.kernel_of(EMPTY, 1.0, WEIGHTS.counts.tolist(), 0.0, 1.0, library=library) is None


def _kernel() -> native.Kernel | None:
    return native.kernel_of(WEIGHTS.table, WEIGHTS.slope, WEIGHTS.counts.tolist(), 0.0, WEIGHTS.bend)
