"""Records of decisions for tests."""

from __future__ import annotations

from typing import Any

from pointsman.contracts.decisions import DecisionRecord

NOW = 1_800_000_000.0
"""A time in 2027, in seconds since 1970."""


def identity(number: int) -> str:
    """The id of decision `number`."""
    return f"dec-{number:032x}"


def record(number: int = 0, **fields: Any) -> DecisionRecord:
    """Decision `number`, made `number` seconds after `NOW`: without thinking, by the predictor."""
    plain = {
        "id": identity(number),
        "request_id": f"req-{number}",
        "at": NOW + number,
        "tenant": "demo",
        "key": "0123abcd",
        "model": "smollm2",
        "endpoint": "/v1/chat/completions",
        "mode": "no_think",
        "source": "predictor",
        "detail": "threshold",
        "probability": 0.1,
        "threshold": 0.5,
        "predictor": "base",
        "status": 200,
        "duration": 0.25,
        "review": True,
    }
    return DecisionRecord.model_validate({**plain, **fields})
