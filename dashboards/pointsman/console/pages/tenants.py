"""Tenants by name, page by page: ten thousand of them cost no more than one page of them.

For administrators. The filter and the pages are plain links and a plain form, so that a view has an address.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from nicegui import ui

from pointsman.console.admin_client import AdminError
from pointsman.console.page import Page, administrators
from pointsman.console.parts.dialogs import button, window
from pointsman.console.parts.figures import NOTHING, count
from pointsman.console.parts.markup import Markup, link, pill, show, table, tag
from pointsman.console.parts.states import empty
from pointsman.console.visit import Visit, part
from pointsman.contracts.keys import Role

ON_A_PAGE = 50
"""Tenants on one page."""

PATH = "/admin/v1/tenants"

SHORT = {
    "requests_per_minute": "requests/min",
    "tokens_per_minute": "tokens/min",
    "input_tokens_per_minute": "input tokens/min",
    "output_tokens_per_minute": "output tokens/min",
    "concurrency": "at once",
}
"""Limits as a list names them."""


async def build(visit: Visit) -> None:
    """The list."""
    prefix, after = visit.query.get("prefix", "").strip(), visit.query.get("after")
    with ui.element("div").classes("pm-row pm-spread"):
        show(_form(prefix))
        if visit.who.may(Role.OWNER):
            button("New tenant", lambda: _ask_for_name(visit), kind="pm-primary")
    page = await visit.get(PATH, {"limit": ON_A_PAGE, "prefix": prefix or None, "after": after})
    if page["data"]:
        show(tag("section", _table(page["data"]), _more(prefix, after, page), class_="pm-card"))
    elif prefix or after:
        empty("No tenant's name begins like that", link("Show all", "/tenants"))
    else:
        empty("No tenants yet", "Whoever may ask this platform is a tenant and holds keys: make the first one.")


def _form(prefix: str) -> Markup:
    field = tag(
        "input", type="search", name_="prefix", value=prefix, maxlength=63, autocomplete="off", spellcheck="false"
    )
    return tag(
        "form",
        tag("label", "Name begins with", field),
        tag("button", "Find", type="submit"),
        method="get",
        action="/tenants",
        class_="pm-filter",
        role="search",
        aria_label="Find tenants",
    )


def _table(tenants: list[Mapping[str, Any]]) -> Markup:
    columns = ("Name", "Limits", "Budget a day", "Budget a month", "Keys", "Managed by", "State")
    return table(columns, map(_row, tenants), numeric=(2, 3, 4), caption="Tenants by name")


def _row(tenant: Mapping[str, Any]) -> list[Any]:
    document = tenant["document"]
    limits = document.get("limits", {})
    words = [f"{count(value)} {SHORT[name]}" for name, value in limits.items() if value is not None]
    budgets = document.get("budgets", {})
    of_file = tenant["managed_by"] == "file"
    return [
        link(tenant["name"], f"/tenants/{part(tenant['name'])}", class_="pm-strong"),
        " · ".join(words) or tag("span", "none", class_="pm-faint"),
        budget(budgets.get("daily", {})),
        budget(budgets.get("monthly", {})),
        # Keys of the configuration file are not counted by the API.
        tag("span", "in the file", class_="pm-faint") if of_file and not tenant["keys"] else count(tenant["keys"]),
        tenant["managed_by"],
        pill("live", "good") if tenant["live"] else pill("not live yet", "warn"),
    ]


def budget(said: Mapping[str, Any]) -> str:
    """A budget of one period in dollars, as it was written."""
    hard, soft = said.get("hard_usd"), said.get("soft_usd")
    if hard is None and soft is None:
        return NOTHING
    return f"${hard}" if hard is not None else f"soft ${soft}"


def _more(prefix: str, after: str | None, page: Mapping[str, Any]) -> Markup:
    kept = {"prefix": prefix} if prefix else {}
    first = f"/tenants?{urlencode(kept)}"
    following = f"/tenants?{urlencode({**kept, 'after': page['after']})}" if page["after"] else None
    return tag(
        "nav",
        link("First page", first) if after else None,
        link("Next page →", following) if following else tag("span", "No more"),
        class_="pm-more",
        aria_label="Pages of tenants",
    )


def _ask_for_name(visit: Visit) -> None:
    with window("New tenant") as dialog:
        show(tag("p", "Bills, metrics and keys go by this name: it can't be changed later.", class_="pm-dim"))
        name = (
            ui.input("Name", placeholder="acme").props("outlined dense autofocus maxlength=63").classes("pm-field")
        )

        async def make() -> None:
            try:
                await visit.call("POST", PATH, json={"name": name.value.strip()})
            except AdminError as error:
                name.error = error.message
                return
            dialog.close()
            ui.navigate.to(f"/tenants/{part(name.value.strip())}")

        name.on("keydown.enter", make)
        with ui.element("div").classes("pm-row pm-window-end"):
            button("Cancel", dialog.close)
            button("Make it", make, kind="pm-primary")
    dialog.open()


PAGE = Page(
    "/tenants",
    "Tenants",
    build,
    icon="M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6Zm-5 8c0-3 2-5 5-5s5 2 5 5m3-8a3 3 0 1 0-1-6m2 9c2.5.3 4 2.2 4 5",
    allowed=administrators,
)
