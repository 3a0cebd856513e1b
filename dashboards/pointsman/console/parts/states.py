"""What is shown where there is nothing to show: not yet, not at all, not to you, or not now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import ui

from pointsman.console.admin_client import AdminError
from pointsman.console.parts.markup import Markup, show, tag

Load = Callable[[], Awaitable[None]]


def empty(title: str, hint: str | Markup = "") -> None:
    """Nothing is there; `hint` says how something comes to be."""
    show(tag("div", tag("p", title, class_="pm-state-title"), tag("p", hint, class_="pm-dim"), class_="pm-state"))


def failed(error: AdminError, again: Callable[[], object] | None = None) -> None:
    """The router did not give what is needed; a button calls `again`."""
    title = {0: "The router does not answer", 403: "Your key may not see this", 404: "There is no such thing"}.get(
        error.status, "The router refuses"
    )
    with ui.element("div").classes("pm-state pm-state-bad").props('role="alert"'):
        show(tag("p", title, class_="pm-state-title") + tag("p", error.message, class_="pm-dim"))
        if again is not None:
            ui.button("Try again", on_click=again, color=None).props("unelevated no-caps").classes("pm-button")


class Section:
    """
    A part of a page that is loaded, and can be loaded again: `load` fills it, and may raise `AdminError`.

    `await section.refresh()` empties it and loads it anew; where that fails, it says so with a button to try again.
    """

    def __init__(self, load: Load, *, class_: str = "") -> None:
        self._load = load
        self._box = ui.element("div").classes(f"pm-section {class_}")

    async def refresh(self) -> None:
        """Load it now."""
        self._box.clear()
        with self._box:
            try:
                await self._load()
            except AdminError as error:
                self._box.clear()
                failed(error, self.refresh)
