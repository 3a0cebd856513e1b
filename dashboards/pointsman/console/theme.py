"""Colours, and who wants light or dark.

The two tracks have one colour each, the same in every plot, page and dashboard (`contracts/colours.py`): thinking
the deep one, no thinking the light one. All other colours stand here; `static/console.css` names them as variables.
Text on any surface has a contrast of 4.5 to 1 or more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from pointsman.contracts.colours import NO_THINK, THINK

PALETTE = "palette.css"

COOKIE = "pointsman_theme"
"""Not a secret: `light` or `dark`; `auto-light` or `auto-dark` where it follows the system."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """The colours of one scheme, as CSS has them. `think_text` and `no_think_text`: words in a track's colour."""

    page: str
    surface: str
    raised: str
    line: str
    line_strong: str
    text: str
    dim: str
    faint: str
    accent: str
    on_accent: str
    think_text: str
    no_think_text: str
    good: str
    warn: str
    bad: str
    shadow: str


LIGHT = Scheme(
    page="#f7f7f9",
    surface="#ffffff",
    raised="#f1f2f5",
    line="#e4e5ea",
    line_strong="#c9cbd3",
    text="#16171d",
    dim="#565b69",
    faint="#686d7b",
    accent="#4a4dd0",
    on_accent="#ffffff",
    think_text="#474ac9",
    no_think_text="#0b6f63",
    good="#16713f",
    warn="#8f5200",
    bad="#b8263a",
    shadow="0 1px 2px rgb(20 22 35 / 0.06)",
)

DARK = Scheme(
    page="#0e0f13",
    surface="#15171c",
    raised="#1d2027",
    line="#262a33",
    line_strong="#3b404c",
    text="#eceef3",
    dim="#a4a9b6",
    faint="#8d93a1",
    accent="#8e90f5",
    on_accent="#0e0f13",
    think_text="#a3a5ff",
    no_think_text="#3fcbb9",
    good="#4fc884",
    warn="#e2a33f",
    bad="#ff7e8b",
    shadow="0 1px 2px rgb(0 0 0 / 0.4)",
)

SERIES = ("#c8741f", "#c2418f", "#3b82c4", "#7f8a2f", "#b0534f", "#5d6b7f", "#a77bc9")
"""Colours of courses that are no mode, told apart in light and dark, and none of them a track's."""


def scheme_of(cookies: Mapping[str, str]) -> Scheme:
    """The colours to draw with for the browser that sent `cookies`."""
    return DARK if is_dark(cookies) else LIGHT


def is_dark(cookies: Mapping[str, str]) -> bool:
    """Whether this browser shows, or wants, dark pages."""
    return cookies.get(COOKIE, "").endswith("dark")


def wanted_scheme(cookies: Mapping[str, str]) -> str:
    """`light`, `dark`, or `auto` where nothing is known yet."""
    return "dark" if is_dark(cookies) else "light" if cookies.get(COOKIE, "").endswith("light") else "auto"


def choice_of(cookies: Mapping[str, str]) -> str:
    """What was chosen: `auto`, `light` or `dark`."""
    said = cookies.get(COOKIE, "auto")
    return said if said in ("light", "dark") else "auto"


def mode_colour(mode: str) -> str:
    """The colour of a mode; of what is neither, a quiet grey."""
    return {"think": THINK, "no_think": NO_THINK}.get(mode, "#8b8f9c")


def palette_css() -> str:
    """The variables that `console.css` uses, for both schemes."""
    tracks = f"--think: {THINK}; --no-think: {NO_THINK};"
    dark = f"color-scheme: dark; {_variables(DARK)}"
    return (
        f":root {{ {tracks} color-scheme: light; {_variables(LIGHT)} }}\n"
        f'html[data-scheme="dark"], body.body--dark {{ {dark} }}\n'
        f'@media (prefers-color-scheme: dark) {{ html[data-scheme="auto"] {{ {dark} }} }}\n'
    )


def _variables(scheme: Scheme) -> str:
    named = ((field.name.replace("_", "-"), getattr(scheme, field.name)) for field in fields(scheme))
    return " ".join(f"--{name}: {value};" for name, value in named)
