"""How panels look: sizes, legends, and one colour for each thing wherever it is drawn.

Stands between Grafana's SDK and the dashboards, which say what is shown and not how.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    piechart,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphGradientMode,
    HeatmapCellLayout,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Panel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.piechart import PieChartType
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from boards.queries import Scope
from pointsman.contracts.colours import NO_THINK, THINK
from pointsman.contracts.names import Metric

TAG = "pointsman"

WARM, RED, GREY, GREEN = "#d9822b", "#e5484d", "#8a8f98", "#30a46c"

COLOURS = {
    "{{mode}}": {"think": THINK, "no_think": NO_THINK},
    "{{verdict}}": {"agree": GREEN, "disagree": WARM},
    "{{status}}": {"hit": GREEN, "miss": GREY, "5..": RED},
    "errors": {"errors": RED},
    "low": {"low": GREY},
    "middle": {"middle": GREEN},
    "high": {"high": GREY},
}
"""By what a legend begins with, and the first word (a regular expression) of what becomes of it."""

FLEET = Scope('namespace=~"$namespace"', "${datasource}")
"""Everything in the installations that are chosen."""


class Query(NamedTuple):
    """`instant`: only the present is asked for. `buckets`: a histogram's buckets, one series each."""

    expr: str
    legend: str = ""
    instant: bool = False
    buckets: bool = False


class _Panel(Protocol):
    """What all panels have."""

    def id(self, id_val: int) -> Any: ...
    def title(self, title: str) -> Any: ...
    def description(self, description: str) -> Any: ...
    def unit(self, unit: str) -> Any: ...
    def datasource(self, datasource: DataSourceRef) -> Any: ...
    def span(self, width: int) -> Any: ...
    def height(self, height: int) -> Any: ...
    def no_value(self, no_value: str) -> Any: ...
    def with_target(self, target: Any) -> Any: ...
    def override_by_regexp(self, regexp: str, properties: list[DynamicConfigValue]) -> Any: ...
    def build(self) -> Any: ...


class Board:
    """
    One dashboard in the making; panels stand in the order in which they are added.

    `variables`: labels that a reader may choose values of, with a metric that has them.
    """

    def __init__(
        self,
        scope: Scope,
        title: str,
        description: str,
        *,
        uid: str,
        variables: Mapping[str, str],
        tags: Sequence[str] = (TAG,),
    ) -> None:
        self.scope = scope
        self._source = DataSourceRef(type_val="prometheus", uid=scope.datasource)
        self._ids = 0
        self._board = (
            dashboard.Dashboard(title)
            .uid(uid)
            .description(description)
            .tags(list(tags))
            .time("now-6h", "now")
            .refresh("30s")
            .timezone("browser")
            .tooltip(DashboardCursorSync.CROSSHAIR)
            .editable()
        )
        if scope is FLEET:
            self._board.with_variable(
                dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
            )
            self._variable("namespace", Metric.IN_FLIGHT)
            self._board.link(
                dashboard.DashboardLink("Pointsman")
                .type(DashboardLinkType.DASHBOARDS)
                .tags([TAG])
                .as_dropdown(True)
                .keep_time(True)
                .include_vars(True)
            )
        for label, metric in variables.items():
            self._variable(label, metric)

    def json(self) -> Any:
        """The finished dashboard."""
        return self._board.build()

    def row(self, title: str) -> None:
        """What follows stands under this headline."""
        self._ids += 1
        self._board.with_row(dashboard.Row(title).id(self._ids))

    def number(self, title: str, description: str, unit: str, *queries: Query, width: int = 4) -> None:
        """What something is now, large, with its course behind it; several queries: several numbers."""
        panel = (
            stat.Panel()
            .color_mode(BigValueColorMode.NONE)
            .graph_mode(BigValueGraphMode.AREA if len(queries) == 1 else BigValueGraphMode.NONE)
            .orientation(VizOrientation.VERTICAL)
            .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        )
        self._add(panel, title, description, unit, queries, width=width, height=4)

    def lines(
        self,
        title: str,
        description: str,
        unit: str,
        *queries: Query,
        width: int = 8,
        stacked: bool = False,
        top: float | None = None,
        band: bool = False,
    ) -> None:
        """Courses over time. `band`: between the courses `low` and `high` the ground is filled."""
        panel = (
            timeseries.Panel()
            .line_width(1.5)
            .fill_opacity(35 if stacked else 6)
            .gradient_mode(GraphGradientMode.NONE)
            .span_nulls(False)
            .axis_soft_min(0)
            .legend(_legend(LegendPlacement.BOTTOM))
            .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        )
        if stacked:
            panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
        if top is not None:
            panel.axis_soft_max(top)
        if any("p50" in query.legend for query in queries):
            panel.override_by_regexp("/p50$/", [_property("custom.lineStyle", {"fill": "dash", "dash": [6, 4]})])
        if band:
            panel.override_by_regexp(
                "/^high/", [_property("custom.fillBelowTo", "low"), _property("custom.lineWidth", 0)]
            )
            panel.override_by_regexp("/^low/", [_property("custom.lineWidth", 0)])
        self._add(panel, title, description, unit, queries, width=width, height=8)

    def parts(self, title: str, description: str, unit: str, query: Query, *, width: int = 6) -> None:
        """What makes up a whole, at present."""
        panel = (
            piechart.Panel()
            .pie_type(PieChartType.DONUT)
            .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
            .legend(_pie_legend())
        )
        self._add(panel, title, description, unit, [query._replace(instant=True)], width=width, height=8)

    def bars(self, title: str, description: str, unit: str, query: Query, *, width: int = 6) -> None:
        """Things side by side, at present."""
        panel = (
            bargauge.Panel()
            .orientation(VizOrientation.HORIZONTAL)
            .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
            .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.FIXED).fixed_color(THINK))
            .min(0)
        )
        self._add(panel, title, description, unit, [query._replace(instant=True)], width=width, height=8)

    def heat(self, title: str, description: str, unit: str, query: Query, *, width: int = 12) -> None:
        """A histogram's course: the darker, the more."""
        panel = (
            heatmap.Panel()
            .calculate(False)
            .cell_gap(1)
            .y_axis(heatmap.YAxisConfig().unit(unit))
            .rows_frame(heatmap.RowsHeatmapOptions().layout(HeatmapCellLayout.AUTO))
            .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Purples").steps(32))
        )
        self._add(panel, title, description, unit, [query._replace(buckets=True)], width=width, height=8)

    def table(
        self,
        title: str,
        description: str,
        unit: str,
        labels: Sequence[str],
        columns: Mapping[str, str],
        **units: str,
    ) -> None:
        """
        One row for each value of `labels`, one column for each of `columns`: headlines and expressions.

        `units`: those of columns that have another one than `unit`, by headline with `_` for spaces.
        """
        names = list(columns)
        renamed = {f"Value #{chr(ord('A') + at)}": name for at, name in enumerate(names)}
        panel = (
            table.Panel()
            .with_transformation(DataTransformerConfig(id_val="merge", options={}))
            .with_transformation(
                DataTransformerConfig(
                    id_val="organize",
                    options={
                        "excludeByName": {"Time": True},
                        "indexByName": {name: at for at, name in enumerate([*labels, *renamed])},
                        "renameByName": renamed,
                    },
                )
            )
        )
        for name in names:
            own = units.get(name.replace(" ", "_"))
            if own is not None:
                panel.override_by_name(name, [_property("unit", own)])
        queries = [Query(expr, "", instant=True) for expr in columns.values()]
        self._add(panel, title, description, unit, queries, width=24, height=8, as_table=True)

    def _add(
        self,
        panel: _Panel,
        title: str,
        description: str,
        unit: str,
        queries: Sequence[Query],
        *,
        width: int,
        height: int,
        as_table: bool = False,
    ) -> None:
        panel.title(title)
        panel.description(description)
        panel.unit(unit)
        panel.datasource(self._source)
        panel.span(width)
        panel.height(height)
        panel.no_value("none so far")
        for beginning, colours in COLOURS.items():
            if any(query.legend.startswith(beginning) for query in queries):
                for word, colour in colours.items():
                    fixed = {"mode": "fixed", "fixedColor": colour}
                    panel.override_by_regexp(rf"/^{word}([\s:]|$)/", [_property("color", fixed)])
        for at, query in enumerate(queries):
            target = (
                prometheus.Dataquery()
                .expr(query.expr)
                .legend_format(query.legend or "__auto")
                .ref_id(chr(ord("A") + at))
                .datasource(self._source)
            )
            target.instant() if query.instant else target.range()
            if as_table:
                target.format(PromQueryFormat.TABLE)
            elif query.buckets:
                target.format(PromQueryFormat.HEATMAP)
            panel.with_target(target)
        self._ids += 1
        panel.id(self._ids)
        self._board.with_panel(cast(Builder[Panel], panel))

    def _variable(self, label: str, metric: str) -> None:
        of = metric if label == "namespace" else self.scope.of(metric)
        self._board.with_variable(
            dashboard.QueryVariable(label)
            .label(label.capitalize())
            .datasource(self._source)
            .query({"query": f"label_values({of}, {label})", "refId": label})
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .all_value(".*")  # also what has no such label
            .current(VariableOption(selected=True, text="All", value="$__all"))
        )


def by_quantile(expression: Callable[[float], str], quantiles: Mapping[str, float]) -> list[Query]:
    """One query for each of `quantiles`, told apart in the legend, behind the mode."""
    return [Query(expression(at), f"{{{{mode}}}} {name}") for name, at in quantiles.items()]


def _property(name: str, value: object) -> DynamicConfigValue:
    return DynamicConfigValue(id_val=name, value=value)


def _legend(placement: LegendPlacement) -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(placement)
        .show_legend(True)
        .calcs([])
    )


def _pie_legend() -> Any:
    return (
        piechart.PieChartLegendOptions()
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.RIGHT)
        .show_legend(True)
        .values([])
    )
