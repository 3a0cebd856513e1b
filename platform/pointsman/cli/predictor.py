"""The commands that ask the predictor: explain, predict.

Light at the top: the router's room, and NumPy with it, is imported inside the functions.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import orjson
import typer

from pointsman.cli.predictor_files import AsJson, WeightsFile, err, fail, load, out, print_json
from pointsman.cli.story import tell

if TYPE_CHECKING:
    from pointsman.cli.what_if import WhatIf
    from pointsman.contracts.modes import ModeDecision
    from pointsman.router.exchange import Exchange
    from pointsman.router.predictor import Predictor

    Row = tuple[Any, str | None, Exchange | None]
    """The id of a question, its text, and the request that it is the question of, where a policy is asked."""

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Fleet configuration to take a tenant's policy from.")
]
TenantName = Annotated[
    str | None, typer.Option("--tenant", help="Tenant whose policy decides; needs --config, and --config needs it.")
]
Model = Annotated[
    str | None, typer.Option("--model", help="Model asked for. Default: the only one that the tenant may use.")
]
Metadata = Annotated[
    list[str] | None,
    typer.Option(
        "--metadata", metavar="NAME=VALUE", help="A field of the request's metadata, for rules; repeatable."
    ),
]
Tools = Annotated[bool, typer.Option("--tools", help="The request offers tools, for rules.")]


def explain(
    text: Annotated[str, typer.Argument(help="The question, as the last user message would hold it.")],
    system: Annotated[str | None, typer.Option("--system", help="The system prompt that it comes with.")] = None,
    as_json: AsJson = False,
    weights: WeightsFile = None,
    config: ConfigFile = None,
    tenant: TenantName = None,
    model: Model = None,
    metadata: Metadata = None,
    tools: Tools = False,
) -> None:
    """
    Say which mode a question would get, and what speaks for it.

    Decides as the router would, by the tenant's rules and by `/think` or `/no_think` at the end of the question,
    but without what a running gateway alone knows: load, the day's thinking, and what thinking usually costs.
    """
    from pointsman.cli.what_if import WhatIfError

    predictor = load(weights)
    what_if = _what_if(config, tenant, model, metadata, tools)
    try:
        said = [] if system is None else [("system", system)]
        exchange = what_if.request(
            [
                {"role": role, "content": content.encode(errors="replace").decode()}
                for role, content in (*said, ("user", text))
            ]
        )
        question = exchange.question
        probability = None if question is None else predictor.probability(question)
        decision = what_if.decision(exchange, probability)
    except WhatIfError as error:
        fail(str(error))
    _tell_judge(exchange, predictor)
    evidence = [] if question is None else predictor.explain(question)
    if as_json:
        print_json(
            {
                **_decided(decision),
                "think_probability": probability,
                **_policy_held(exchange, decision),
                "predictor": predictor.version,
                "evidence": [
                    {"feature": each.feature, "contribution": round(each.contribution, 6)} for each in evidence
                ],
            }
        )
        return
    tell(
        out,
        mode=decision.mode.value,
        source=decision.source.value,
        probability=probability,
        threshold=decision.threshold,
        evidence=evidence,
        detail=decision.detail,
    )


def predict(
    input_file: Annotated[
        str, typer.Option("--input", help="JSON lines with `id` and `text`, or OpenAI `messages`; `-` reads stdin.")
    ],
    weights: WeightsFile = None,
    config: ConfigFile = None,
    tenant: TenantName = None,
    model: Model = None,
    metadata: Metadata = None,
    tools: Tools = False,
) -> None:
    """
    Judge many questions: one JSON line each, with `id` and `think_probability` (null where there is no text).

    With --config and --tenant also the mode that each would get, as `explain` says it.
    """
    from pointsman.cli.what_if import WhatIfError

    predictor = load(weights)
    what_if = None if config is None and tenant is None else _what_if(config, tenant, model, metadata, tools)
    told = False
    with _opened(input_file) as lines:
        for batch in _batches(_questions(lines, "stdin" if input_file == "-" else input_file, what_if)):
            judged = [text for _, text, _ in batch if text is not None]
            probabilities = iter(predictor.probabilities(judged))
            for identity, text, exchange in batch:
                row: dict[str, Any] = {"id": identity}
                probability = row["think_probability"] = None if text is None else next(probabilities)
                if what_if is not None and exchange is not None:
                    told = told or _tell_judge(exchange, predictor)
                    try:
                        row |= _decided(what_if.decision(exchange, probability))
                    except WhatIfError as error:
                        row["refused"] = str(error)
                print_json(row)


def _what_if(
    config: Path | None, tenant: str | None, model: str | None, metadata: list[str] | None, tools: bool
) -> WhatIf:
    from pointsman.cli.what_if import WhatIf, WhatIfError

    if config is None and (tenant is not None or model is not None):
        fail("--tenant and --model need --config: tenants and models stand in the configuration")
    fields = {}
    for field in metadata or ():
        name, sign, value = field.partition("=")
        if not sign:
            fail(f"--metadata takes NAME=VALUE, not '{field}'")
        fields[name] = value
    try:
        return WhatIf(config, tenant, model=model, metadata=fields, tools=tools)
    except WhatIfError as error:
        fail(str(error))


def _decided(decision: ModeDecision) -> dict[str, Any]:
    return {
        "mode": decision.mode.value,
        "source": decision.source.value,
        "detail": decision.detail,
        "rule": decision.rule,
        "threshold": decision.threshold,
        "overruled": decision.overruled,
    }


def _policy_held(exchange: Exchange, decision: ModeDecision) -> dict[str, Any]:
    arm = exchange.arm
    assert arm is not None
    return {"arm": arm.name.value, "stage": arm.stage, "shadow": decision.shadow}


def _tell_judge(exchange: Exchange, predictor: Predictor) -> bool:
    """Say on stderr where the policy names another predictor than the one that judges; whether it does."""
    arm = exchange.arm
    if arm is None or arm.predictor in (None, predictor.version):
        return False
    err.print(
        f"note: the policy names the predictor {arm.predictor}; {predictor.version} judges here. "
        "Give its file with --weights."
    )
    return True


def _opened(name: str) -> AbstractContextManager[BinaryIO]:
    if name == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return open(name, "rb")
    except OSError as error:
        fail(f"cannot read {name}: {error.strerror}")


def _questions(lines: BinaryIO, name: str, what_if: WhatIf | None) -> Iterator[Row]:
    from pointsman.cli.what_if import WhatIfError
    from pointsman.router.predictor import question_of

    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{name} line {number}"
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            fail(f"{where}: not JSON: {error}")
        if not isinstance(row, dict) or "id" not in row:
            fail(f"{where}: needs an object with `id`")
        if "text" in row:
            if not isinstance(row["text"], str):
                fail(f"{where}: `text` must be a string")
            messages = [{"role": "user", "content": row["text"]}]
        elif "messages" in row:
            if not isinstance(row["messages"], list):
                fail(f"{where}: `messages` must be a list")
            messages = row["messages"]
        else:
            fail(f"{where}: needs `text` or `messages`")
        if what_if is None:
            yield row["id"], question_of(messages), None
            continue
        try:
            exchange = what_if.request(messages)
        except WhatIfError as error:
            fail(f"{where}: {error}")
        yield row["id"], exchange.question, exchange


def _batches(questions: Iterator[Row]) -> Iterator[list[Row]]:
    batch = []
    for question in questions:
        batch.append(question)
        if len(batch) == 64:
            yield batch
            batch = []
    yield batch
