"""What a page is: a path, a name, who may see it, and the function that builds it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pointsman.console.visit import Visit
from pointsman.console.who import Who

Build = Callable[[Visit], Awaitable[None]]


def everybody(who: Who) -> bool:
    """Tenants and administrators."""
    return True


def administrators(who: Who) -> bool:
    """Holders of an admin key, whatever its role."""
    return who.is_admin


@dataclass(frozen=True, slots=True)
class Page:
    """
    `path`: as FastAPI has it, with `{name}` for what differs. `icon`: the path data of an SVG of 24 by 24, drawn in
    lines. `listed`: whether the navigation leads there. `build` is called within the page's main part; what it
    shows it creates as it is called, and it may wait for the router.
    """

    path: str
    title: str
    build: Build
    icon: str = ""
    allowed: Callable[[Who], bool] = everybody
    listed: bool = True
