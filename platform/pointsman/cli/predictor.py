"""The commands around the predictor: explain, predict, train, evaluate.

Light at the top: the router's room, and NumPy with it, is imported inside the functions. With `--json` stdout holds
JSON and nothing else; progress and errors go to stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, NoReturn

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pointsman.cli.story import tell

if TYPE_CHECKING:
    from pointsman.cli.what_if import WhatIf
    from pointsman.contracts.modes import ModeDecision
    from pointsman.router.exchange import Exchange
    from pointsman.router.predictor import Predictor

    Row = tuple[Any, str | None, Exchange | None]
    """The id of a question, its text, and the request that it is the question of, where a policy is asked."""

_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False, soft_wrap=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
WeightsFile = Annotated[
    Path | None,
    typer.Option("--weights", help="Weights file to judge by. Default: the one that ships with Pointsman."),
]


BUNDLED = "bundled"
"""Stands for the weights that ship, where a file is asked for."""

BaseFile = Annotated[
    Path | None,
    typer.Option(
        "--base",
        help=f"Weights file to adapt to a tenant; `{BUNDLED}` stands for the one that ships.",
        show_default=False,
    ),
]

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

    predictor = _load(weights)
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
        _fail(str(error))
    _tell_judge(exchange, predictor)
    evidence = [] if question is None else predictor.explain(question)
    if as_json:
        _print_json(
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
        _out,
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

    predictor = _load(weights)
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
                _print_json(row)


def train(
    data: Annotated[
        Path,
        typer.Option(
            help="Folder that holds train.jsonl.xz, the labelled queries; with --base the file of a tenant's: JSON "
            "lines with `text` or `messages`, and `label`."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Weights file to write.")],
    base: BaseFile = None,
    name: Annotated[
        str, typer.Option(help="With --base: whose predictor it is; its version begins with that.")
    ] = "tenant",
    as_json: AsJson = False,
) -> None:
    """
    Train the predictor, measure it by leaving whole sources out, and write both into one weights file.

    With --base the predictor is adapted to one tenant, and compared with the base by rows that were held out.
    """
    _need_scipy()
    from pointsman.router.predictor import artefact, corpus, evaluation

    if not output.resolve().parent.is_dir():
        _fail(f"cannot write {output}: its folder does not exist")
    if base is not None:
        from pointsman.cli import tenant_predictor

        with _refusals():
            tenant_predictor.train(base, data, output, name=name, as_json=as_json, progress=_progress)
        return
    try:
        rows = corpus.load(data)
    except corpus.CorpusError as error:
        _fail(str(error))
    trained = evaluation.train(rows, created=datetime.now(UTC).date().isoformat(), progress=_progress)
    try:
        artefact.write(trained, output)
    except OSError as error:
        _fail(f"cannot write {output}: {error.strerror or error}")
    _report(
        {"output": str(output), **_about(trained.version, trained.created, trained.data_sha256), **trained.report},
        as_json,
    )


def evaluate(
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with train.jsonl.xz: measure anew, in minutes. Default: the stored report."),
    ] = None,
    latency: Annotated[
        bool, typer.Option("--latency", help="Time single calls too, beside a fixed NumPy kernel.")
    ] = False,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="Say how right the predictor is on these, instead: JSON lines with `text` or `messages`, `label`, "
            "optionally `lang`, `category`, `pair`."
        ),
    ] = None,
    as_json: AsJson = False,
    weights: WeightsFile = None,
    against: Annotated[
        Path | None,
        typer.Option(
            help="Judge --weights by a tenant's rows (--data, a file) and the base set, in comparison with this "
            f"file; `{BUNDLED}` stands for the predictor that ships. Exit code 1 where it may not hold."
        ),
    ] = None,
) -> None:
    """Print how good the predictor is on sources it has never seen, and how fast."""
    if against is not None:
        from pointsman.cli import tenant_predictor

        if weights is None or data is None:
            _fail("--against needs --weights, the predictor to judge, and --data, the tenant's rows")
        with _refusals():
            tenant_predictor.evaluate(weights, against, data, as_json=as_json)
        return
    predictor = _load(weights)
    if queries is not None:
        from pointsman.router.predictor import blind

        with _refusals():
            judged = blind.judge(predictor, blind.load(queries))
        _tell_judged({"predictor": predictor.version, **judged}, as_json)
        return
    if data is None:
        report = {
            **_about(predictor.version, predictor.created, predictor.data_sha256),
            "stored": True,
            **predictor.report,
        }
    else:
        _need_scipy()
        from pointsman.router.predictor import corpus, evaluation

        try:
            rows = corpus.load(data)
        except corpus.CorpusError as error:
            _fail(str(error))
        today = datetime.now(UTC).date().isoformat()
        report = {
            **_about(predictor.version, today, rows.sha256),
            "stored": False,
            **evaluation.evaluate(rows, progress=_progress),
        }
    if latency:
        from pointsman.router.predictor.latency import measure

        report |= measure(predictor)
    _report(report, as_json)


def _load(weights: Path | None) -> Predictor:
    from pointsman.router.predictor import Predictor, WeightsError

    try:
        return Predictor.load(weights)
    except WeightsError as error:
        _fail(str(error))


@contextmanager
def _refusals() -> Iterator[None]:
    """Say in one sentence what can't be used of what was given."""
    from pointsman.router.predictor import WeightsError
    from pointsman.router.predictor.corpus import CorpusError

    try:
        yield
    except (WeightsError, CorpusError, ValueError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"cannot write {error.filename}: {error.strerror or error}")


def _what_if(
    config: Path | None, tenant: str | None, model: str | None, metadata: list[str] | None, tools: bool
) -> WhatIf:
    from pointsman.cli.what_if import WhatIf, WhatIfError

    if config is None and (tenant is not None or model is not None):
        _fail("--tenant and --model need --config: tenants and models stand in the configuration")
    fields = {}
    for field in metadata or ():
        name, sign, value = field.partition("=")
        if not sign:
            _fail(f"--metadata takes NAME=VALUE, not '{field}'")
        fields[name] = value
    try:
        return WhatIf(config, tenant, model=model, metadata=fields, tools=tools)
    except WhatIfError as error:
        _fail(str(error))


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
    _err.print(
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
        _fail(f"cannot read {name}: {error.strerror}")


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
            _fail(f"{where}: not JSON: {error}")
        if not isinstance(row, dict) or "id" not in row:
            _fail(f"{where}: needs an object with `id`")
        if "text" in row:
            if not isinstance(row["text"], str):
                _fail(f"{where}: `text` must be a string")
            messages = [{"role": "user", "content": row["text"]}]
        elif "messages" in row:
            if not isinstance(row["messages"], list):
                _fail(f"{where}: `messages` must be a list")
            messages = row["messages"]
        else:
            _fail(f"{where}: needs `text` or `messages`")
        if what_if is None:
            yield row["id"], question_of(messages), None
            continue
        try:
            exchange = what_if.request(messages)
        except WhatIfError as error:
            _fail(f"{where}: {error}")
        yield row["id"], exchange.question, exchange


def _batches(questions: Iterator[Row]) -> Iterator[list[Row]]:
    batch = []
    for question in questions:
        batch.append(question)
        if len(batch) == 64:
            yield batch
            batch = []
    yield batch


def _about(version: str, date: str, data_sha256: str) -> dict[str, Any]:
    return {"predictor": version, "date": date, "data_sha256": data_sha256}


def _report(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(report)
        return
    table = Table("figure", "value", title="the predictor, measured by leaving whole sources out")
    for name, value in report.items():
        if name not in ("families", "method"):
            table.add_row(name, escape(_plain(value)))
    _out.print(table)
    families = Table("family left out", "rows", "think share", "AUROC", "accuracy", "mean P(think)", "ECE")
    for name, figures in report["families"].items():
        families.add_row(name, *(("-" if value is None else str(value)) for value in figures.values()))
    _out.print(families)
    _out.print(escape(report["method"]))


def _tell_judged(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(report)
        return
    parts = {"all": report, **report["languages"], **report["categories"]}
    table = Table("queries", "rows", "accuracy", "AUROC", title=f"{report['predictor']}, at P(think) 0.5")
    for name, figures in parts.items():
        values = (figures["rows"], figures["accuracy"], figures["auroc"])
        table.add_row(escape(name), *("-" if value is None else str(value) for value in values))
    _out.print(table)
    pairs = report["pairs"]
    _out.print(f"ECE {report['ece']}; sets of both labels: {pairs['sets']}, all right: {pairs['all_right']}")


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return str(value)


def _print_json(value: object) -> None:
    sys.stdout.write(orjson.dumps(value).decode() + "\n")


def _progress(sentence: str) -> None:
    _err.print(escape(sentence))


def _need_scipy() -> None:
    from importlib.util import find_spec

    if find_spec("scipy") is None:
        _fail("this needs SciPy: pip install 'pointsman[train]'")


def _fail(sentence: str) -> NoReturn:
    _err.print(f"error: {escape(sentence)}", style="red")
    raise typer.Exit(2)
