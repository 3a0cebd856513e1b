"""The commands that make and measure a predictor: train, evaluate.

Light at the top: the router's room, with NumPy and SciPy, is imported inside the functions.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from pointsman.cli.predictor_files import BUNDLED, AsJson, WeightsFile, err, fail, load, out, print_json, refusals

BaseFile = Annotated[
    Path | None,
    typer.Option(
        "--base",
        help=f"Weights file to adapt to a tenant; `{BUNDLED}` stands for the one that ships.",
        show_default=False,
    ),
]


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
        fail(f"cannot write {output}: its folder does not exist")
    if base is not None:
        from pointsman.cli import tenant_predictor

        with refusals():
            tenant_predictor.train(base, data, output, name=name, as_json=as_json, progress=_progress)
        return
    with refusals():
        rows = corpus.load(data)
    trained = evaluation.train(rows, created=datetime.now(UTC).date().isoformat(), progress=_progress)
    try:
        artefact.write(trained, output)
    except OSError as error:
        fail(f"cannot write {output}: {error.strerror or error}")
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
            fail("--against needs --weights, the predictor to judge, and --data, the tenant's rows")
        with refusals():
            tenant_predictor.evaluate(weights, against, data, as_json=as_json)
        return
    predictor = load(weights)
    if queries is not None:
        from pointsman.router.predictor import blind

        with refusals():
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

        with refusals():
            rows = corpus.load(data)
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


def _about(version: str, date: str, data_sha256: str) -> dict[str, Any]:
    return {"predictor": version, "date": date, "data_sha256": data_sha256}


def _report(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    table = Table("figure", "value", title="the predictor, measured by leaving whole sources out")
    for name, value in report.items():
        if name not in ("families", "method"):
            table.add_row(name, escape(_plain(value)))
    out.print(table)
    families = Table("family left out", "rows", "think share", "AUROC", "accuracy", "mean P(think)", "ECE")
    for name, figures in report["families"].items():
        families.add_row(name, *(("-" if value is None else str(value)) for value in figures.values()))
    out.print(families)
    out.print(escape(report["method"]))


def _tell_judged(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    parts = {"all": report, **report["languages"], **report["categories"]}
    table = Table("queries", "rows", "accuracy", "AUROC", title=f"{report['predictor']}, at P(think) 0.5")
    for name, figures in parts.items():
        values = (figures["rows"], figures["accuracy"], figures["auroc"])
        table.add_row(escape(name), *("-" if value is None else str(value) for value in values))
    out.print(table)
    pairs = report["pairs"]
    out.print(f"ECE {report['ece']}; sets of both labels: {pairs['sets']}, all right: {pairs['all_right']}")


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return str(value)


def _progress(sentence: str) -> None:
    err.print(escape(sentence))


def _need_scipy() -> None:
    from importlib.util import find_spec

    if find_spec("scipy") is None:
        fail("this needs SciPy: pip install 'pointsman[train]'")
