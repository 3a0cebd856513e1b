"""The compiled kernel and NumPy say the same of any text, and a kernel that does not fit is not used."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pointsman.router.predictor import Predictor, artefact, native

WEIGHTS = artefact.read(None)
COMPILED = Predictor(WEIGHTS)
PLAIN = Predictor(WEIGHTS, compiled=False)

ANY = st.text(st.characters(), max_size=900)
"""Lone surrogates and NUL among them."""
LIKELY = st.text("ab zé.?!:\n\t0証の,-#\0", max_size=900)


def test_the_kernel_is_there_wherever_a_compiler_is() -> None:
    assert PLAIN.arithmetic == "numpy"
    compiler = any(shutil.which(name) for name in ("cc", "gcc", "clang"))
    assert COMPILED.arithmetic == ("compiled" if compiler else "numpy")


@settings(max_examples=400)
@given(text=ANY | LIKELY)
@example(text="")
@example(text="x" * 5000)
@example(text="prove it " * 900)
@example(text=" " * 300 + "x" * 900)
@example(text="\ud800" * 700)
@example(text="証明してください。" * 200)
def test_both_say_the_same_of_any_text(text: str) -> None:
    probability = PLAIN.probability(text)
    assert 0 < probability < 1
    assert math.isclose(COMPILED.probability(text), probability, abs_tol=1e-6)


def test_a_kernel_of_another_source_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "kernel.c"
    other.write_bytes(native.SOURCE.read_bytes() + b"\n")
    monkeypatch.setattr(native, "SOURCE", other)
    assert Predictor(WEIGHTS).arithmetic == "numpy"


@pytest.mark.parametrize("content", [None, b"", b"\x7fELF but not for long"])
def test_a_library_that_cannot_be_loaded_is_not_used(tmp_path: Path, content: bytes | None) -> None:
    library = tmp_path / "_kernel.so"
    if content is not None:
        library.write_bytes(content)
    table = WEIGHTS.table.astype("float32")
    assert native.scorer(table, WEIGHTS.counts.tolist(), library=library) is None
