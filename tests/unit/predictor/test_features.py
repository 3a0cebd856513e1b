"""Hashed features: each cell once in a group, cells of their own for each shape of text, the same in any batch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.router.predictor.excerpt import excerpt
from pointsman.router.predictor.features import GROUPS, Features, extract

_TEXTS = st.lists(st.text("ab é0?.\n証の", max_size=300), min_size=1, max_size=5)


def _groups(found: Features) -> list[npt.NDArray[np.intp]]:
    """The cells of each group, text by text."""
    return np.split(found.cells, found.starts[1:])


@given(_TEXTS)
@settings(deadline=None)
def test_a_group_has_each_cell_once_and_knows_what_hit_it_first(texts: list[str]) -> None:
    found = extract([excerpt(text) for text in texts])
    hits = np.split(found.hits, found.starts[1:])
    for cells, first in zip(_groups(found), hits, strict=True):
        assert 0 < len(cells) == len(set(cells.tolist())) == len(set(first.tolist()))
        assert min(first) >= 0
        assert max(first) < len(found.layout.ends)


@given(_TEXTS)
@settings(deadline=None)
def test_features_do_not_depend_on_neighbours(texts: list[str]) -> None:
    together = _groups(extract([excerpt(text) for text in texts]))
    alone = [cells.tolist() for text in texts for cells in _groups(extract([excerpt(text)]))]
    assert [cells.tolist() for cells in together] == alone


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
