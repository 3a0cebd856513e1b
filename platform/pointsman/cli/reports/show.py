"""A report in the format that was asked for, on the terminal or in a file."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import typer

from pointsman.cli.admin_api import AdminApi, refuse
from pointsman.cli.reports.query import Report, asked, copied, opened
from pointsman.cli.reports.table import print_table


def show(
    api: AdminApi, path: str, params: dict[str, Any], columns: dict[str, str], format: str, output: Path | None
) -> None:
    """
    Show the report at `path` of the admin API as `format`: `table` with `columns` (field: title), `json`, `csv`,
    `parquet` or `plot`, the last two into the file `output`.

    Raises `AdminError`; ends the command where there is no file to write.
    """
    if format in ("json", "csv"):
        copied(api, path, {**params, "format": format}, output)
        return
    if format != "table" and output is None:
        raise refuse(f"--format {format} needs a file: name it with --output.")
    with asked(api, path, params) as report:
        if format == "table":
            print_table(report.by, ({**row, **row.get("usage", {})} for row in report.rows), columns)
            return
        with opened(output) as file:
            count = _written(file, report, format)
    typer.echo(f"{output}: {count:,} rows")


def _written(file: Any, report: Report, format: str) -> int:
    if format == "plot":
        from pointsman.cli.reports.plot import draw_costs

        by = ", ".join(report.by)
        title = f"Costs{f' by {by}' if by else ''}, {_day(report.since)} to {_day(report.until)}"
        return draw_costs(file, report.by, report.rows, title=title)
    from pointsman.cli.reports.parquet import write_parquet
    from pointsman.cli.reports.shapes import flat_report, schema_of

    rows = (flat_report(report.by, row) for row in report.rows)
    first = next(rows, None)
    if first is None:
        raise refuse("Nothing was used in that time: there are no rows to write.")
    return write_parquet(file, chain((first,), rows), schema_of(first))


def _day(moment: str) -> str:
    return moment[:16].replace("T", " ")
