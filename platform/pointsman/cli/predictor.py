"""The commands around the predictor: explain, predict, train, evaluate.

Light at the top: the router's room, and NumPy with it, is imported inside the functions. With `--json` stdout holds
JSON and nothing else; progress and errors go to stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
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
    from pointsman.contracts.modes import ModePolicy
    from pointsman.router.predictor import Predictor

_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False, soft_wrap=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
WeightsFile = Annotated[
    Path | None,
    typer.Option("--weights", help="Weights file to judge by. Default: the one that ships with Pointsman."),
]


def explain(
    text: Annotated[str, typer.Argument(help="The question, as the last user message would hold it.")],
    as_json: AsJson = False,
    weights: WeightsFile = None,
    config: Annotated[Path | None, typer.Option(help="Fleet configuration to take a tenant's policy from.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Tenant whose policy decides; needs --config.")] = None,
) -> None:
    """Say which mode a question would get, and what speaks for it."""
    from pointsman.contracts.modes import choose_mode

    predictor = _load(weights)
    policy = _policy(config, tenant)
    blank = not text.strip()
    probability = None if blank else predictor.probability(text)
    decision = choose_mode((), probability=probability, policy=policy)
    evidence = [] if blank else predictor.explain(text)
    if as_json:
        _print_json(
            {
                "mode": decision.mode.value,
                "think_probability": probability,
                "threshold": decision.threshold,
                "source": decision.source.value,
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
    )


def predict(
    input_file: Annotated[
        str, typer.Option("--input", help="JSON lines with `id` and `text`, or OpenAI `messages`; `-` reads stdin.")
    ],
    weights: WeightsFile = None,
) -> None:
    """Judge many questions: one JSON line each, with `id` and `think_probability` (null where there is no text)."""
    predictor = _load(weights)
    with _opened(input_file) as lines:
        for batch in _batches(_questions(lines, "stdin" if input_file == "-" else input_file)):
            judged = [text for _, text in batch if text is not None]
            probabilities = iter(predictor.probabilities(judged))
            for identity, text in batch:
                _print_json({"id": identity, "think_probability": None if text is None else next(probabilities)})


def train(
    data: Annotated[Path, typer.Option(help="Folder that holds train.jsonl.xz, the labelled queries.")],
    output: Annotated[Path, typer.Option(help="Weights file to write.")],
    as_json: AsJson = False,
) -> None:
    """Train the predictor, measure it by leaving whole sources out, and write both into one weights file."""
    _need_scipy()
    from pointsman.router.predictor import artefact, corpus, evaluation

    if not output.resolve().parent.is_dir():
        _fail(f"cannot write {output}: its folder does not exist")
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
    as_json: AsJson = False,
    weights: WeightsFile = None,
) -> None:
    """Print how good the predictor is on sources it has never seen, and how fast."""
    predictor = _load(weights)
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


def _policy(config: Path | None, tenant: str | None) -> ModePolicy:
    from pointsman.contracts.modes import ModePolicy

    if config is None:
        if tenant is not None:
            _fail("--tenant needs --config: the policy stands in the configuration")
        return ModePolicy()
    from pointsman.contracts.config_file import ConfigError, load_config

    try:
        loaded = load_config(config)
    except ConfigError as error:
        _fail(str(error))
    tenants = {each.name: each for each in loaded.tenants}
    if tenant is None or tenant not in tenants:
        _fail(f"--tenant must name one of the tenants in {config}: {', '.join(tenants) or 'it has none'}")
    from pointsman.contracts.policies import PolicyDocument
    from pointsman.router.policies import compile_policy

    return compile_policy(PolicyDocument(policy=tenants[tenant].policy)).present.modes


def _opened(name: str) -> AbstractContextManager[BinaryIO]:
    if name == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return open(name, "rb")
    except OSError as error:
        _fail(f"cannot read {name}: {error.strerror}")


def _questions(lines: BinaryIO, name: str) -> Iterator[tuple[Any, str | None]]:
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
            yield row["id"], row["text"] if row["text"].strip() else None
        elif "messages" in row:
            if not isinstance(row["messages"], list):
                _fail(f"{where}: `messages` must be a list")
            yield row["id"], question_of(row["messages"])
        else:
            _fail(f"{where}: needs `text` or `messages`")


def _batches(questions: Iterator[tuple[Any, str | None]]) -> Iterator[list[tuple[Any, str | None]]]:
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
