"""Pieces of HTML in which every value is escaped.

Most of a page is text that only changes as a whole; one element with markup costs a browser and this process far
less than hundreds of the framework's. Nothing here takes a string for markup: whatever is put in is escaped, unless
it was made here itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape
from nicegui import ui

__all__ = (
    "MODE_NAMES",
    "Markup",
    "facts",
    "joined",
    "link",
    "mode_pill",
    "pill",
    "replace",
    "show",
    "stat",
    "stats",
    "table",
    "tag",
)

MODE_NAMES = {"think": "think", "no_think": "no think"}


def tag(name: str, *children: Any, **attributes: Any) -> Markup:
    """
    `<name attributes>children</name>`; of a keyword `class_` the underscore goes, others become hyphens.

    An attribute that is None or False is left out, one that is True has no value. A link to anything but this
    console's own paths loses its target.
    """
    parts = []
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is None or value is False:
            continue
        if key in ("href", "src") and not _is_own(str(value)):
            continue
        parts.append(Markup(" {}").format(key) if value is True else Markup(' {}="{}"').format(key, value))
    return Markup("<{}{}>{}</{}>").format(Markup(name), Markup("").join(parts), joined(children), Markup(name))


def joined(children: Iterable[Any]) -> Markup:
    """All of `children`, escaped, one after the other; None is nothing."""
    return Markup("").join(escape(child) for child in children if child is not None)


def show(markup: Markup, *, class_: str = "") -> ui.html:
    """Put `markup` on the page; `replace` changes it later."""
    return ui.html(str(markup), sanitize=False).classes(class_)


def replace(element: ui.html, markup: Markup) -> None:
    """Let `element` show `markup` from now on."""
    text = str(markup)
    if element.content != text:
        element.set_content(text)


def mode_pill(mode: str | None) -> Markup:
    """A mode's name in its colour."""
    if not mode:
        return tag("span", "–", class_="pm-faint")
    return tag("span", MODE_NAMES.get(mode, mode), class_=f"pm-pill pm-{mode.replace('_', '-')}")


def pill(text: str, kind: str = "") -> Markup:
    """A word in a frame; `kind`: `good`, `warn`, `bad` or nothing."""
    return tag("span", text, class_=f"pm-pill pm-{kind}" if kind else "pm-pill")


def stat(name: str, value: Any, note: Any = None, *, kind: str = "") -> Markup:
    """A number that matters, with its name above and a note below."""
    return tag(
        "div",
        tag("dt", name),
        tag("dd", value),
        tag("dd", note, class_="pm-note") if note is not None else None,
        class_=f"pm-stat {kind}",
    )


def stats(*items: Markup) -> Markup:
    """Several numbers beside each other."""
    return tag("dl", *items, class_="pm-stats")


def facts(pairs: Mapping[str, Any]) -> Markup:
    """Names and values, one pair a line."""
    return tag(
        "dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs.items()), class_="pm-facts"
    )


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    numeric: Iterable[int] = (),
    caption: str | None = None,
) -> Markup:
    """A table; columns whose places are in `numeric` hold numbers. It scrolls by itself where it is too wide."""
    right = set(numeric)

    def class_of(place: int) -> str | None:
        return "pm-num" if place in right else None

    head = tag("tr", *(tag("th", name, scope="col", class_=class_of(place)) for place, name in enumerate(columns)))
    body = (tag("tr", *(tag("td", cell, class_=class_of(place)) for place, cell in enumerate(row))) for row in rows)
    inner = tag(
        "table",
        tag("caption", caption, class_="pm-hidden") if caption else None,
        tag("thead", head),
        tag("tbody", *body),
    )
    return tag("div", inner, class_="pm-table", tabindex="0", role="region", aria_label=caption or "table")


def link(text: Any, href: str, *, class_: str | None = None) -> Markup:
    """A link to a page of this console."""
    return tag("a", text, href=href, class_=class_)


def _is_own(target: str) -> bool:
    return target.startswith(("#", "?")) or (target.startswith("/") and not target.startswith(("//", "/\\")))
