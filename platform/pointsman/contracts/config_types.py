"""The ground that every part of the configuration stands on: the strict base model, units, and broken rules.

Separate from the parts themselves so that pools, tenants and limits need not import each other.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"
REVISION_PATTERN = r"^([a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?)?$"
MODEL_NAME_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?$"
DIGEST_PATTERN = r"^[0-9a-f]{64}$"
LANGUAGE_PATTERN = r"^[a-z]{2,3}$"
HEADER_TEXT_PATTERN = r"^[ -~]+$"
PREDICTOR_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?-[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9a-f]{10}$"
DATABASE_PATTERN = r"^(sqlite|postgresql)(\+[a-z0-9_]+)?://"
PLAIN_PATTERN = r"^[^\x00-\x1f\x7f]*$"
IDENTITY_PATTERN = r"^[A-Za-z0-9._:-]*$"

PATTERN_MEANINGS = {
    NAME_PATTERN: (
        "must be 1 to 63 lower-case letters, digits, dots, dashes or underscores, "
        "with a letter or digit at both ends"
    ),
    REVISION_PATTERN: (
        "must be empty, or up to 63 lower-case letters, digits, dots, dashes or underscores, "
        "with a letter or digit at both ends"
    ),
    MODEL_NAME_PATTERN: (
        "must be 1 to 128 letters, digits, dots, dashes, underscores or slashes, "
        "with a letter or digit at both ends"
    ),
    DIGEST_PATTERN: "must be the SHA-256 of a key, 64 lower-case hexadecimal digits; never the key itself",
    LANGUAGE_PATTERN: "must be an ISO 639 code such as `en` or `zh`",
    HEADER_TEXT_PATTERN: "must be one line of ASCII",
    PREDICTOR_PATTERN: "must be the version of a predictor, such as `acme-2026-11-22-0123456789`",
    DATABASE_PATTERN: "must be the URL of a PostgreSQL or SQLite database, as SQLAlchemy spells it",
    PLAIN_PATTERN: "must be one line, without control characters",
    IDENTITY_PATTERN: "must be ASCII letters, digits, dots, colons, dashes or underscores",
}
"""What each pattern above asks for, in words fit for an error message."""


def _not_a_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
"""Lower-case letters, digits, dot, dash and underscore, 1 to 63 characters: fits labels, headers and URLs."""

Revision = Annotated[str, Field(pattern=REVISION_PATTERN)]
"""Which description of a pool its replicas were started by: as a name, or empty where nobody has said."""

ModelName = Annotated[str, Field(pattern=MODEL_NAME_PATTERN)]
"""As clients spell it in `model`, upper case and slashes included; never a colon, which begins a mode alias."""

Digest = Annotated[str, Field(pattern=DIGEST_PATTERN)]
"""The SHA-256 of a key, in lower-case hexadecimal."""

HeaderText = Annotated[str, Field(max_length=200, pattern=HEADER_TEXT_PATTERN)]
"""Words that a header of an answer holds."""

Language = Annotated[str, Field(pattern=LANGUAGE_PATTERN)]
"""An ISO 639 code."""

PredictorVersion = Annotated[str, Field(pattern=PREDICTOR_PATTERN)]
"""A tenant's predictor: its name, the day it was made, and a hash of its weights."""

DatabaseUrl = Annotated[str, Field(pattern=DATABASE_PATTERN)]
"""A SQLAlchemy URL of one of the databases that are known to work."""

Dollars = Annotated[
    Decimal,
    BeforeValidator(_not_a_flag),
    Field(ge=0, le=1_000_000, max_digits=16, decimal_places=9),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0, "maximum": 1_000_000}, {"type": "string"}]}),
]
"""US dollars, at most nine decimals (one nano-dollar)."""

DollarsEach = Annotated[
    Decimal,
    BeforeValidator(_not_a_flag),
    Field(ge=0, le=1_000, max_digits=13, decimal_places=9),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0, "maximum": 1_000}, {"type": "string"}]}),
]
"""US dollars for one of something small; a thousand would be a slip of the pen."""

Number = Annotated[int, Field(strict=True, ge=1, le=10_000)]
"""How many machines, accelerators or replicas."""

NumberOrZero = Annotated[int, Field(strict=True, ge=0, le=10_000)]

Tokens = Annotated[int, Field(strict=True, ge=1, le=100_000_000)]

Bytes = Annotated[int, Field(strict=True, ge=1024, le=1024**3)]
Seconds = Annotated[float, Field(strict=True, gt=0, le=86_400, allow_inf_nan=False)]
Probability = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(min_length=1)]

Location = tuple[str | int, ...]
"""The way to a value, field names and list positions from the outside in."""


class BrokenRules(ValueError):
    """
    Rules between several fields that do not hold.

    `problems`: pairs of location and message; a location starts at the object that was checked.
    """

    def __init__(self, problems: list[tuple[Location, str]]) -> None:
        super().__init__("; ".join(message for _, message in problems))
        self.problems = problems


class Strict(BaseModel):
    """Unknown fields are errors: a misspelled limit must not silently be no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
