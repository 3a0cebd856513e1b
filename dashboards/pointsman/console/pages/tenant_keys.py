"""The keys of a tenant: made, rotated and revoked; a key itself is shown once, to whoever made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from nicegui import ui

from pointsman.console.admin_client import AdminError
from pointsman.console.parts.dialogs import button, confirmed, hint, told_once, window
from pointsman.console.parts.markup import Markup, joined, link, mode_pill, pill, show, tag
from pointsman.console.parts.states import Section
from pointsman.console.visit import Visit, part
from pointsman.contracts.keys import Role
from pointsman.contracts.modes import Mode

ON_A_PAGE = 20
"""Keys on one page."""

PATH = "/admin/v1/keys"

_DAY = 86_400
LIFETIMES = {0: "never", **{days * _DAY: f"in {days} days" for days in (7, 30, 90, 365)}}
OVERLAPS = {0: "at once", 3600: "after an hour", _DAY: "after a day", 7 * _DAY: "after 7 days"}
MODES = {"": "both", **{mode.value: f"{mode.value} only" for mode in Mode}}

_ONCE = "This is the only time that it is shown: what is kept is its digest. Put it where it is needed now."
_STATES = {"live": "good", "expired": "", "revoked": "bad"}


async def keys_of(visit: Visit, tenant: str) -> None:
    """The card with the keys of `tenant`."""
    owner = visit.who.may(Role.OWNER)
    with ui.element("section").classes("pm-card"):
        with ui.element("div").classes("pm-card-head"):
            show(tag("h3", "Keys"))
            if owner:
                button("Make a key", lambda: _make(visit, tenant, section), kind="pm-primary")

        async def load() -> None:
            after = visit.query.get("keys_after")
            answer = await visit.call("GET", PATH, params={"tenant": tenant, "limit": ON_A_PAGE, "after": after})
            page = answer.body
            if not page["data"]:
                hint("No keys were made here. Keys of the configuration file are not shown.")
            for key in page["data"]:
                _row(visit, key, section, owner=owner)
            if after or page["after"]:
                show(_more(tenant, after, page))

        section = Section(load, class_="pm-keys")
        await section.refresh()


def _row(visit: Visit, key: Mapping[str, Any], section: Section, *, owner: bool) -> None:
    with ui.element("div").classes("pm-key"):
        name = key["label"] or key["id"]
        show(
            tag(
                "div",
                tag("strong", name),
                tag("span", f"{key['digest'][:8]}", class_="pm-mono pm-faint", title="How its digest begins"),
                pill(key["state"], _STATES.get(key["state"], "")),
                class_="pm-row",
            )
            + tag("p", _about(key), class_="pm-dim pm-small")
        )
        if owner and key["state"] == "live":
            with ui.element("div").classes("pm-row"):
                rotate = button("Rotate", lambda: _rotate(visit, key, section))
                revoke = button("Revoke", visit.doing(lambda: _revoke(visit, key, section)), kind="pm-danger")
            rotate.props["aria-label"] = f"Rotate {name}"
            revoke.props["aria-label"] = f"Revoke {name}"


def _about(key: Mapping[str, Any]) -> Markup:
    scope = key["scope"]
    words: list[Any] = [f"made {_day(key['created_at'])} by {key['created_by']}"]
    if key.get("revoked_at"):
        words.append(f"revoked {_day(key['revoked_at'])}")
    elif key.get("expires_at"):
        words.append(f"ends {_day(key['expires_at'])}")
    if scope.get("modes"):
        words.append(joined(mode_pill(mode) for mode in scope["modes"]))
    words += [
        f"{name}: {', '.join(scope[name])}" for name in ("models", "endpoints", "networks") if scope.get(name)
    ]
    if key.get("replaced_by"):
        words.append("replaced by another one")
    parts: list[Any] = []
    for word in words:
        parts += [" · ", word] if parts else [word]
    return joined(parts)


def _make(visit: Visit, tenant: str, section: Section) -> None:
    with window("New key") as dialog:
        label = (
            ui.input("Label", placeholder="what it is for")
            .props("outlined dense maxlength=100")
            .classes("pm-field")
        )
        lifetime = ui.select(LIFETIMES, label="Ends", value=0).props("outlined dense").classes("pm-field")
        mode = ui.select(MODES, label="Modes", value="").props("outlined dense").classes("pm-field")

        async def make() -> None:
            wanted: dict[str, Any] = {"tenant": tenant, "label": (label.value or "").strip()}
            if lifetime.value:
                wanted["expires_in"] = lifetime.value
            if mode.value:
                wanted["modes"] = [mode.value]
            try:
                answer = await visit.call("POST", PATH, json=wanted)
            except AdminError as error:
                label.error = error.message
                return
            dialog.close()
            await section.refresh()
            with visit.client:
                told_once("The new key", answer.body["key"], _ONCE)

        with ui.element("div").classes("pm-row pm-window-end"):
            button("Cancel", dialog.close)
            button("Make it", make, kind="pm-primary")
    dialog.open()


def _rotate(visit: Visit, key: Mapping[str, Any], section: Section) -> None:
    with window("Replace this key by a new one") as dialog:
        show(tag("p", "The new one may do what the old one may, for as long.", class_="pm-dim"))
        overlap = (
            ui.select(OVERLAPS, label="The old one ends", value=_DAY).props("outlined dense").classes("pm-field")
        )

        async def rotate() -> None:
            path = f"{PATH}/{part(key['id'])}/rotate"
            answer = await visit.call("POST", path, json={"overlap": overlap.value})
            dialog.close()
            await section.refresh()
            with visit.client:
                told_once("The new key", answer.body["key"], _ONCE)

        with ui.element("div").classes("pm-row pm-window-end"):
            button("Cancel", dialog.close)
            button("Replace it", visit.doing(rotate), kind="pm-primary")
    dialog.open()


async def _revoke(visit: Visit, key: Mapping[str, Any], section: Section) -> None:
    sure = await confirmed(
        f"Revoke {key['label'] or key['id']}?",
        "Whoever uses it is refused within seconds. It can't be taken back.",
        "Revoke it",
    )
    if sure:
        await visit.call("DELETE", f"{PATH}/{part(key['id'])}", headers={"if-match": str(key["version"])})
        visit.say("Revoked.")
        await section.refresh()


def _more(tenant: str, after: str | None, page: Mapping[str, Any]) -> Markup:
    own = f"/tenants/{part(tenant)}"
    following = f"{own}?{urlencode({'keys_after': page['after']})}" if page["after"] else None
    return tag(
        "nav",
        link("First keys", own) if after else None,
        link("More keys →", following) if following else tag("span", "No more"),
        class_="pm-more",
        aria_label="Pages of keys",
    )


def _day(moment: str) -> str:
    return moment[:10]
