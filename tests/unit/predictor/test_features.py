"""Hashed features: each once in a group, cells of their own for each shape of text, the same in any batch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.router.predictor.excerpt import excerpt
from pointsman.router.predictor.features import FAR, GROUPS, Features, Part, extract, far_pairs

ONE_CELL = "digozu dizira"
"""Two words of one cell in the first group of features."""
_TEXTS = st.lists(st.text("ab é0?.\n証の", max_size=300), min_size=1, max_size=5)


def _groups(found: Features) -> list[npt.NDArray[np.intp]]:
    """The cells of each group, text by text."""
    return np.split(found.cells, found.starts[1:])


@given(_TEXTS)
@settings(deadline=None)
def test_a_group_has_each_feature_once_and_knows_what_hit_it_first(texts: list[str]) -> None:
    found = extract([excerpt(text) for text in texts])
    hits = np.split(found.hits, found.starts[1:])
    for place, (cells, first) in enumerate(zip(_groups(found), hits, strict=True)):
        group, span = GROUPS[place % len(GROUPS)], found.layout.spans[place // len(GROUPS)]
        assert 0 < len(cells) == len(first) == len(set(first.tolist()))
        pairs = far_pairs(span[5] - span[4])[0]
        assert min(first) >= 0
        assert max(first) < (max(1, len(pairs)) if group.line == FAR else len(found.layout.ends))
        if group.part is Part.ALL:
            assert len(cells) == len(set(found.layout.runs[group.line][span[0] : span[1]].tolist()))


@given(_TEXTS)
@settings(deadline=None)
def test_features_do_not_depend_on_neighbours(texts: list[str]) -> None:
    together = _groups(extract([excerpt(text) for text in texts]))
    alone = [cells.tolist() for text in texts for cells in _groups(extract([excerpt(text)]))]
    assert [cells.tolist() for cells in together] == alone


def test_two_words_that_share_a_cell_count_both() -> None:
    pad, *cells = sorted(_groups(extract([excerpt(ONE_CELL)]))[0].tolist())
    assert len(cells) == 2
    assert len({pad, *cells}) == 2


def test_a_word_that_is_said_again_counts_once() -> None:
    once, twice = (_groups(extract([excerpt(text)]))[0] for text in ("prove it", "prove it prove it prove"))
    assert once.tolist() == twice.tolist()


def test_shaped_groups_have_cells_of_their_own_for_each_shape() -> None:
    shapes = ["why", "why " * 20, "why " * 60, "why\nwhy", "why\n" * 7, "<document>x</document> why"]
    words = [_groups(extract([excerpt(text)])) for text in shapes]
    for place, group in enumerate(GROUPS):
        if group.line == GROUPS[0].line and group.part == GROUPS[0].part:
            seen = {tuple(sorted(groups[place].tolist())) for groups in words}
            assert len(seen) == (len(shapes) if group.shaped else 1)
