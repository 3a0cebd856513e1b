"""Questions in a window of their own: what can't be undone is asked about first, and a secret is shown once.

They answer to the keyboard, and a reader of screens is told their names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from nicegui import ui

from pointsman.console.parts.markup import show, tag


@contextlib.contextmanager
def window(title: str) -> Iterator[ui.dialog]:
    """A window with `title`, still closed; what is created within it is what it holds. It is gone once closed."""
    with ui.dialog() as dialog, ui.element("div").classes("pm-window"):
        dialog.props["aria-label"] = title
        show(tag("h2", title))
        yield dialog
    dialog.on("hide", dialog.delete)


async def confirmed(title: str, text: str, action: str, *, typed: str | None = None) -> bool:
    """Whether somebody wants `action`, which can't be undone; with `typed` they have to type that word first."""
    with window(title) as dialog:
        show(tag("p", text, class_="pm-dim"))
        word = None
        if typed is not None:
            word = ui.input(f"Type {typed} to go on").props("outlined dense").classes("pm-field")
        with ui.element("div").classes("pm-row pm-window-end"):
            button("Cancel", lambda: dialog.submit(False))
            act = button(action, lambda: dialog.submit(True), kind="pm-danger")
        if word is not None:
            act.disable()
            word.on_value_change(lambda event: act.set_enabled(event.value == typed))
    return bool(await dialog)


def told_once(title: str, secret: str, note: str) -> None:
    """Show `secret`, which can be read now and never again."""
    with window(title) as dialog:
        show(tag("p", note, class_="pm-dim"))
        show(tag("code", secret, class_="pm-secret", tabindex="0", aria_label="The key"))
        with ui.element("div").classes("pm-row pm-window-end"):
            button("Copy", lambda: ui.clipboard.write(secret))
            button("Done", dialog.close, kind="pm-primary")
    dialog.props("persistent")
    dialog.open()


def button(name: str, on_click: Callable[[], object], *, kind: str = "") -> ui.button:
    """A button of the console's look; `kind`: `pm-primary`, `pm-danger` or nothing."""
    # Without a colour of the framework's: those would go before the console's own.
    return ui.button(name, on_click=on_click, color=None).props("unelevated no-caps").classes(f"pm-button {kind}")


def hint(text: str) -> None:
    """A quiet line."""
    show(tag("p", text, class_="pm-dim pm-small"))
