"""What a simulated replica is told: whom it stands in for, how fast it is, and what goes wrong.

Read from the pool of the configuration, from `engine_args.simulated` there, and from the command line.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from pointsman.contracts.config import Pool
from pointsman.contracts.config_types import Revision
from pointsman.contracts.modes import Mode
from pointsman.serving.simulated.faults import FaultKind, FaultPlan


def _span(value: object) -> object:
    """`N`, `"N"` or `"LOW:HIGH"` as a pair of whole numbers."""
    if isinstance(value, str):
        low, _, high = value.partition(":")
        if not (low.isdecimal() and (high or low).isdecimal()):
            raise ValueError("must be a whole number, or two as in LOW:HIGH")
        return int(low), int(high or low)
    return (value, value) if isinstance(value, int) else value


Length = Annotated[int, Field(ge=0, le=1_000_000)]
Span = Annotated[tuple[Length, Length], BeforeValidator(_span)]
"""A number of tokens, or a range that the prompt picks one from."""

Speed = Annotated[float, Field(gt=0)]
"""Tokens per second; infinity is as fast as the machine can."""


class Settings(BaseModel):
    """How one simulated replica behaves."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    prefill_speed: Speed = 20_000.0
    """Prompt tokens read per second, for each request by itself. Default: 20000."""
    decode_speed: Speed = 100.0
    """Tokens said per second, for each request by itself. Default: 100."""
    answer_tokens: Span = (48, 48)
    """Tokens of an answer that nothing cuts, a number or `LOW:HIGH`. Default: 48."""
    thinking_tokens: Span = (96, 96)
    """Tokens of thinking before a budget cuts it, a number or `LOW:HIGH`. Default: 96."""
    max_running: Annotated[int, Field(ge=1)] = 1024
    """Answers written at a time; more wait in the queue. Default: 1024."""
    cache_tokens: Annotated[int, Field(ge=0)] = 65_536
    """Tokens of prompts that the prefix cache remembers; 0: none. Default: 65536."""
    keep_requests: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Requests, with their bodies, that `GET /simulated/requests` shows: a test aid. Default: none."""
    fault_rates: dict[FaultKind, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """Share of requests that each kind of fault hits, 0 to 1. Default: none."""
    fault_seed: int = 0
    """Seed of the generator that draws the faults. Default: 0."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name in ("answer_tokens", "thinking_tokens"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: {low}:{high} has the larger number first")
        if math.isnan(self.prefill_speed) or math.isnan(self.decode_speed):
            raise ValueError("a speed must be a number")
        FaultPlan(self.fault_rates)
        return self


class Identity(BaseModel):
    """Whom a simulated replica stands in for."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    model: str
    """The name of the model, as `/v1/models` shows it."""
    modes: Annotated[tuple[Mode, ...], Field(min_length=1)]
    """The modes it answers in; with both, the request's `chat_template_kwargs` decide, and it thinks unasked."""
    context: Annotated[int, Field(ge=64)] = 8192
    """Context window in tokens, prompt and output together. Default: 8192."""
    pool: str | None = None
    """The pool it belongs to, or none."""
    revision: Revision = ""
    """The revision of the pool that it registers as. Default: none."""


class SettingsError(ValueError):
    """The settings make no sense; the message names each field at fault."""


def settings_from(given: dict[str, Any]) -> Settings:
    """`given` as settings. Raises SettingsError, naming each field at fault."""
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise SettingsError("; ".join(_sentence(fault["loc"], fault["msg"]) for fault in faults)) from None


def _sentence(location: tuple[int | str, ...], said: str) -> str:
    field = ".".join(str(part) for part in location if part != "[key]")
    said = said.removeprefix("Value error, ").replace("Input should", "must", 1)
    return f"{field}: {said}" if field else said


def identity_of(pool: Pool) -> Identity:
    """Whom a replica of `pool` stands in for."""
    return Identity(
        model=pool.served_model_name or pool.model,
        modes=pool.modes,
        context=pool.capabilities.context,
        pool=pool.name,
    )


def pool_settings(pool: Pool) -> dict[str, Any]:
    """
    The settings that `pool` gives: its `engine_args.simulated`.

    The other engine arguments are SGLang's, so that the same pool runs on either engine, and mean nothing here.
    Raises SettingsError where `simulated` is no mapping.
    """
    given = pool.engine_args.get("simulated", {})
    if not isinstance(given, dict):
        raise SettingsError(f"engine_args.simulated of pool {pool.name!r} must be a mapping")
    return given
