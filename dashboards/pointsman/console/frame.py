"""What is around every page: the head of the document, the navigation, who is logged in, and trouble where there is
any."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from nicegui import ui

from pointsman.console.assets import asset
from pointsman.console.gate import LOGOUT
from pointsman.console.page import Page
from pointsman.console.parts.markup import Markup, joined, replace, show, tag
from pointsman.console.theme import PALETTE, choice_of
from pointsman.console.visit import Visit

_THEMES = {"auto": "as the system", "light": "always light", "dark": "always dark"}
_SHOWN_BY_THEME = {"auto": "Auto", "light": "Light", "dark": "Dark"}


@contextlib.contextmanager
def frame(visit: Visit, page: Page, pages: Sequence[Page]) -> Iterator[None]:
    """The frame around `page`; what is created within it is the page's main part."""
    ui.add_head_html(
        str(
            Markup(
                '<link rel="stylesheet" href="{}"><link rel="stylesheet" href="{}"><script src="{}"></script>'
            ).format(asset(PALETTE), asset("console.css"), asset("theme.js"))
        )
    )
    ui.query(".nicegui-content").classes("pm-content")
    with visit.client.layout.classes("pm-shell"):
        # Before what the framework puts into a `main`, so that this holds what is the page's own alone.
        side = show(tag("a", "Skip to content", href="#main", class_="pm-skip") + _side(visit, page, pages))
        side.classes("pm-side").move(target_index=0)
    with ui.element("div").classes("pm-main").props('id="main" tabindex="-1"'):
        show(tag("h1", page.title))
        trouble = show(Markup(""), class_="pm-trouble").props('role="status" aria-live="polite"')
        visit.on_trouble(lambda message: replace(trouble, _trouble(message)))
        yield


def _side(visit: Visit, page: Page, pages: Sequence[Page]) -> Markup:
    links = [
        tag(
            "a",
            icon(one.icon),
            tag("span", one.title),
            href=one.path,
            aria_current="page" if one.path == page.path or page.path.startswith(one.path + "/") else None,
        )
        for one in pages
        if one.listed and one.allowed(visit.who)
    ]
    choice = choice_of(visit.cookies)
    role = f"{visit.who.role} key" if visit.who.is_admin else "tenant"
    foot = tag(
        "div",
        tag(
            "p",
            tag("strong", visit.who.tenant or "Administrator"),
            tag("span", f"{role} {visit.who.key}", class_="pm-mono"),
            class_="pm-who",
        ),
        tag(
            "button",
            _SHOWN_BY_THEME[choice],
            type="button",
            data_theme_toggle=True,
            aria_label=f"{_SHOWN_BY_THEME[choice]}: colours {_THEMES[choice]}, change",
        ),
        tag("form", tag("button", "Log out", type="submit"), method="post", action=LOGOUT),
        class_="pm-foot",
    )
    brand = tag(
        "a", Markup('<img src="{}" alt="" width="26" height="26">').format(asset("mark.svg")), "Pointsman", href="/"
    )
    return tag(
        "header",
        tag("div", brand, class_="pm-brand"),
        tag("nav", *links, aria_label="Pages"),
        foot,
        class_="pm-side-in",
    )


def icon(path: str) -> Markup:
    """A line drawing of 24 by 24, for looks alone."""
    return Markup('<svg viewBox="0 0 24 24" aria-hidden="true"><path d="{}"/></svg>').format(path)


def _trouble(message: str | None) -> Markup:
    return joined(()) if message is None else tag("p", tag("strong", "No fresh numbers. "), message)
