"""A record as it came through the stream, as the record that is kept.

Stands between `decision_log.py`, which has no time for it, and the thread that writes to the database: names the
evidence, prices the mode that was not taken, and for tenants who keep prompts tells the language and the words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pointsman.contracts.decisions import DecisionRecord
from pointsman.contracts.modes import Mode
from pointsman.contracts.price_book import PriceBook
from pointsman.contracts.pricing import Usage, cost_of
from pointsman.router.admin.pool_directory import PoolDirectory
from pointsman.router.policies import language_of
from pointsman.router.predictor import Predictor, features
from pointsman.router.predictor.question import last_message

PredictorOf = Callable[[str], Predictor | None]

_THINK, _NO_THINK = Mode.THINK, Mode.NO_THINK


class RecordReader:
    """
    Makes records whole. `prices` are those that other modes would have been billed by; `predictor_of` gives the
    predictor of a version, None where it is not to be had, and is asked for prompts that are kept.
    """

    def __init__(self, pools: PoolDirectory, prices: PriceBook, predictor_of: PredictorOf) -> None:
        self._predictor_of = predictor_of
        self._prices = prices
        self._pools = pools

    def read(self, plain: Mapping[str, Any]) -> DecisionRecord:
        """The record; raises KeyError, TypeError or ValueError (pydantic's too) where `plain` makes no sense."""
        fields = dict(plain)
        evidence: list[dict[str, Any]] = []
        if (
            fields.pop("features", None) == features.VERSION
        ):  # else the router is of another version: no names for it
            names = features.EVIDENCE_NAMES
            evidence = [
                {"feature": names[place], "contribution": contribution}
                for place, contribution in fields.get("evidence", ())
            ]
        lengths = fields.pop("lengths", None)
        if fields.get("usage") is not None:
            usage = Usage(*fields["usage"])
            fields["usage"] = usage._asdict()
            fields["other_mode_cost_estimated"] = self._cost(
                fields["model"], Mode(fields["mode"]).other, usage, lengths, int(fields["at"] * 1000)
            )
        question = fields.get("question")
        if question is not None and question.get("text") is not None:
            text = question["text"]
            fields["question"] = {**question, "language": language_of(last_message(text))}
            predictor = self._predictor_of(fields["predictor"])
            if predictor is not None:
                told = predictor.explain(text)
                evidence = [each._asdict() for each in told]
        fields["evidence"] = evidence
        return DecisionRecord.model_validate(fields)

    def _cost(self, model: str, mode: Mode, usage: Usage, lengths: Any, at: int) -> int | None:
        """
        Nano-dollars that the request would have cost in `mode` at the prices of `at` (milliseconds since 1970), or
        None while nothing is known of that.

        Its own input at full price, and the running median of output tokens there; of an answer with thinking,
        what it is longer than one without counts as thinking.
        """
        pool = self._pools.answering(model, mode)
        if pool is None or not lengths:
            return None
        think, no_think = lengths
        output = think if mode is _THINK else no_think
        if not output:
            return None
        reasoning = max(0, think - no_think) if mode is _THINK and no_think else 0
        return cost_of(
            Usage(usage.prompt_tokens, 0, reasoning, output - reasoning), self._prices.at(pool.name, at).prices
        ).total
