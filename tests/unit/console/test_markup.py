"""Markup: whatever is put in comes out as text, and links lead to this console alone."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.console.parts.live_chart import POINTS, Ring
from pointsman.console.parts.markup import facts, link, mode_pill, pill, stat, table, tag

ATTACKS = st.one_of(
    st.text(),
    st.sampled_from(
        ['<img src=x onerror="alert(1)">', '"><script>alert(1)</script>', "' onclick='x", "</td><b>", "&lt;"]
    ),
)


class Reader(HTMLParser):
    """The names of elements, their attributes, and the text."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@given(ATTACKS)
def test_whatever_is_put_in_comes_out_as_text(attack: str) -> None:
    pieces = (
        tag("p", attack, title=attack),
        stat(attack, attack, attack),
        table((attack,), [(attack,)], caption=attack),
        facts({attack: attack}),
        pill(attack),
        mode_pill(attack),
        link(attack, "/tenants"),
    )
    for piece in pieces:
        found = Reader(piece)
        known = {"p", "div", "dl", "dt", "dd", "table", "caption", "thead", "tbody", "tr", "th", "td", "span", "a"}
        assert set(found.names) <= known
        names = {name for name, _ in found.attributes}
        assert names <= {"title", "class", "scope", "tabindex", "role", "aria-label", "href"}


def test_what_was_made_here_stays_markup() -> None:
    assert tag("div", tag("b", "x"), "<i>", None, 3) == "<div><b>x</b>&lt;i&gt;3</div>"
    assert tag("a", "x", class_="y", hidden=True, title=None, open=False) == '<a class="y" hidden>x</a>'


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("/tenants/x?y=1#z", True),
        ("#main", True),
        ("?page=2", True),
        ("javascript:alert(1)", False),
        (" javascript:alert(1)", False),
        ("//example.org", False),
        ("/\\example.org", False),
        ("https://example.org", False),
        ("data:text/html,x", False),
    ],
)
def test_a_link_leads_to_this_console_or_nowhere(target: str, kept: bool) -> None:
    assert ("href" in link("x", target)) == kept


def test_a_ring_holds_an_hour_and_each_point_once() -> None:
    ring = Ring()
    for second in range(2 * POINTS):
        ring.add(float(second), (1.0,))
        ring.add(float(second), (2.0,))
    assert len(ring.points) == POINTS
    assert ring.points[0] == (float(POINTS), (1.0,))
