"""What the translations of foreign wire formats into a chat have in common: how a field's meaning goes over.

Stands between `fields.py`, which judges single values, and a format's own file, which lists its fields.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from pointsman.router.wire.fields import Check
from pointsman.router.wire.private_fields import unknown

Translate = Callable[[Any, dict[str, Any]], None]
"""Puts what a field says into the chat."""


def translated(body: dict[str, Any], table: dict[str, Translate]) -> dict[str, Any]:
    """What the fields of `body` say, by `table`; raises `InvalidRequest` for one that is not listed there."""
    payload: dict[str, Any] = {}
    for name, value in body.items():
        if value is None:
            continue
        translate = table.get(name)
        if translate is None:
            raise unknown(name)
        translate(value, payload)
    return payload


def same(name: str, check: Check | None = None) -> Translate:
    """A field of the same name and meaning; `check` says what is narrower here than in a chat."""

    def translate(value: Any, payload: dict[str, Any]) -> None:
        if check is not None:
            check(value, name)
        payload[name] = value

    return translate


def checked(name: str, check: Check) -> Translate:
    """A field of no effect here."""

    def translate(value: Any, payload: dict[str, Any]) -> None:
        check(value, name)

    return translate


def later(value: Any, payload: dict[str, Any]) -> None:
    """A field that is translated together with another."""


def only(value: dict[str, Any], place: str, known: Collection[str]) -> None:
    """Refuse what `value` has beyond the `known` fields."""
    for name, item in value.items():
        if name not in known and item is not None:  # SDKs give back what they got with all its fields
            raise unknown(f"{place}.{name}")


def plain(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """`parts` of a message, or their one text."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        text: str = parts[0]["text"]
        return text
    return parts
