"""Checks of single request fields: each takes a value and its field's name, and raises a clear error.

Stands apart from the wire formats because they share these; knows types and bounds, no endpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pointsman.contracts.errors import InvalidRequest

Check = Callable[[Any, str], None]
"""Raises `InvalidRequest` naming the field where the value is not valid there."""


def wrong(field: str, wanted: str) -> InvalidRequest:
    """The error for a value of the wrong type or out of bounds. It never quotes the value."""
    return InvalidRequest(f"'{field}' must be {wanted}.", param=field, code="invalid_value")


def boolean(value: Any, field: str) -> None:
    if not isinstance(value, bool):
        raise wrong(field, "true or false")


def string(value: Any, field: str) -> None:
    if not isinstance(value, str):
        raise wrong(field, "a string")


def mapping(value: Any, field: str) -> None:
    if not isinstance(value, dict):
        raise wrong(field, "an object")


def is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def integer(low: int, high: int | None = None) -> Check:
    """An integer in [low, high]; without `high` there is no upper bound."""
    wanted = f"an integer of at least {low}" if high is None else f"an integer from {low} to {high}"

    def check(value: Any, field: str) -> None:
        if not is_integer(value) or value < low or (high is not None and value > high):
            raise wrong(field, wanted)

    return check


MOST_TOKENS = 2**31 - 1
"""Tokens that a client may ask for at most: engines count them in 32 bits, and some end where these don't do."""

tokens = integer(1, MOST_TOKENS)
"""A number of tokens, of which there is at least one."""


def number(low: float, high: float, *, above_low: bool = False) -> Check:
    """A number in [low, high], or in (low, high] where `above_low`."""
    wanted = f"a number from {low:g} to {high:g}" if not above_low else f"a number above {low:g}, at most {high:g}"

    def check(value: Any, field: str) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise wrong(field, wanted)
        if not low <= value <= high or (above_low and value == low):
            raise wrong(field, wanted)

    return check


def one_of(*values: str) -> Check:
    """One of `values`."""
    wanted = "one of " + ", ".join(values)

    def check(value: Any, field: str) -> None:
        if value not in values:
            raise wrong(field, wanted)

    return check


def strings(most: int) -> Check:
    """A string, or a list of at most `most` strings."""

    def check(value: Any, field: str) -> None:
        if isinstance(value, str):
            return
        if not isinstance(value, list) or len(value) > most:
            raise wrong(field, f"a string or a list of at most {most} strings")
        for index, item in enumerate(value):
            string(item, f"{field}[{index}]")

    return check


def biases(value: Any, field: str) -> None:
    """OpenAI's `logit_bias`: token ids as strings, with numbers from -100 to 100."""
    mapping(value, field)
    bias = number(-100, 100)
    for token, amount in value.items():
        if not token.isdecimal():
            raise wrong(field, "an object whose keys are token ids")
        bias(amount, f"{field}.{token}")
