"""What all dashboards have in common: panels, their looks, their places in the grid, and the frame around them.

A panel is made by one of the functions below and placed by `Board.row`. Colours have one meaning everywhere: green is good,
yellow is slow or refused, red is broken, blue is neutral.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PROMETHEUS = {"type": "prometheus", "uid": "prometheus"}
LOKI = {"type": "loki", "uid": "loki"}
ALERTMANAGER = {"type": "alertmanager", "uid": "alertmanager"}

GREEN, YELLOW, ORANGE, RED, BLUE, PURPLE, GREY = (
    "#56A64B", "#F2CC0C", "#FF9830", "#E02F44", "#3274D9", "#8F3BB8", "#8E8E8E",
)
# a series whose legend matches is drawn in this colour, on every dashboard
COLOURS = {
    "p50": GREEN, "p95": ORANGE, "p99": RED,
    "2xx": GREEN, "3xx": BLUE, "4xx": YELLOW, "5xx": RED,
    "succeeded": GREEN, "confirmed": GREEN, "failed": RED, "created": BLUE, "cancelled": ORANGE, "completed": PURPLE,
    "limit": RED, "max": RED, "desired": BLUE, "running": GREEN, "wanted": ORANGE,
    "hits": GREEN, "misses": ORANGE, "in": GREEN, "out": BLUE, "read": GREEN, "write": BLUE,
    "used": BLUE, "in_use": BLUE, "idle": GREEN, "waiting": RED,
    "core-pod": BLUE, "business-pod": PURPLE, "experience-pod": GREEN,
}
# what the dashboards are about, for the links between them
TAG = "dreamscape"


@dataclass
class Panel:
    """A panel without its place."""

    kind: str
    title: str
    targets: list[dict[str, Any]]
    unit: str
    description: str
    height: int = 8
    options: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    overrides: list[dict[str, Any]] = field(default_factory=list)
    datasource: dict[str, str] = field(default_factory=lambda: PROMETHEUS)
    transformations: list[dict[str, Any]] = field(default_factory=list)
    links: list[dict[str, Any]] = field(default_factory=list)


def query(expr: str, legend: str = "", *, instant: bool = False, exemplar: bool = False, table: bool = False) -> dict[str, Any]:
    """One query of Prometheus. The legend may name labels: `{{service}}`."""
    return {
        "datasource": PROMETHEUS,
        "expr": " ".join(expr.split()),
        "legendFormat": legend or "__auto",
        "instant": instant or table,
        "range": not (instant or table),
        "exemplar": exemplar,
        "format": "table" if table else "time_series",
    }


def steps(*pairs: tuple[float | None, str]) -> dict[str, Any]:
    """Thresholds: from this value on, this colour."""
    return {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in pairs]}


def rising(warn: float, bad: float) -> dict[str, Any]:
    """More is worse."""
    return steps((None, GREEN), (warn, ORANGE), (bad, RED))


def falling(bad: float, warn: float) -> dict[str, Any]:
    """Less is worse."""
    return steps((None, RED), (bad, ORANGE), (warn, GREEN))


NEUTRAL = steps((None, BLUE))


def _colours(targets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    fixed = []
    for target in targets:
        legend = target.get("legendFormat", "")
        if legend in COLOURS:
            names = [legend]
        elif legend in ("{{outcome}}", "{{state}}", "{{pod}}"):
            names = list(COLOURS)
        else:
            continue
        for name in names:
            fixed.append({
                "matcher": {"id": "byName", "options": name},
                "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": COLOURS[name]}}],
            })
    return list({str(item): item for item in fixed}.values())


def graph(title: str, targets: list[dict[str, Any]], unit: str, description: str, *, stack: bool = False, thresholds=None,
          top: float | None = None, height: int = 8, bars: bool = False, log: bool = False) -> Panel:
    """Lines over time, with their last, mean and largest value below."""
    custom: dict[str, Any] = {
        "drawStyle": "bars" if bars else "line",
        "lineWidth": 1 if stack or bars else 2,
        "fillOpacity": 60 if bars else 25 if stack else 8,
        "gradientMode": "none" if bars else "opacity",
        "showPoints": "never",
        "spanNulls": 90000,
        "stacking": {"mode": "normal" if stack else "none", "group": "A"},
        "scaleDistribution": {"type": "log", "log": 10} if log else {"type": "linear"},
        "thresholdsStyle": {"mode": "dashed" if thresholds else "off"},
    }
    defaults: dict[str, Any] = {
        "color": {"mode": "palette-classic"}, "custom": custom, "unit": unit, "thresholds": thresholds or NEUTRAL,
    }
    if not log:
        defaults["min"] = 0
    if top is not None:
        defaults["max"] = top
    return Panel(
        "timeseries", title, targets, unit, description, height,
        options={
            "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "mean", "max"],
                       "sortBy": "Last *", "sortDesc": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        defaults=defaults, overrides=_colours(targets),
    )


def figure(title: str, expr: str, unit: str, description: str, *, thresholds=None, decimals: int | None = None, height: int = 4,
           spark: bool = True, mappings: list | None = None, legend: str = "") -> Panel:
    """One number, its colour by thresholds, and how it came to be."""
    defaults: dict[str, Any] = {"unit": unit, "thresholds": thresholds or NEUTRAL, "color": {"mode": "thresholds"}, "noValue": "–"}
    if decimals is not None:
        defaults["decimals"] = decimals
    if mappings:
        defaults["mappings"] = mappings
    return Panel(
        "stat", title, [query(expr, legend)], unit, description, height,
        options={"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value",
                 "graphMode": "area" if spark else "none", "justifyMode": "auto", "textMode": "value_and_name" if legend else "auto",
                 "wideLayout": True},
        defaults=defaults,
    )


def bars(title: str, targets: list[dict[str, Any]], unit: str, description: str, *, thresholds=None, height: int = 8) -> Panel:
    """One bar per series, now."""
    for target in targets:
        target.update(instant=True, range=False)
    return Panel(
        "bargauge", title, targets, unit, description, height,
        options={"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "displayMode": "gradient",
                 "orientation": "horizontal", "showUnfilled": True, "valueMode": "color", "namePlacement": "auto"},
        defaults={"unit": unit, "min": 0, "thresholds": thresholds or NEUTRAL, "color": {"mode": "thresholds"}},
    )


UP_DOWN = [{"type": "value", "options": {"0": {"text": "down", "color": RED, "index": 0}, "1": {"text": "up", "color": GREEN, "index": 1}}}]


def states(title: str, targets: list[dict[str, Any]], description: str, *, height: int = 8) -> Panel:
    """Up or down over time, one lane per series."""
    return Panel(
        "state-timeline", title, targets, "short", description, height,
        options={"showValue": "never", "mergeValues": True, "rowHeight": 0.8, "alignValue": "left",
                 "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False}, "tooltip": {"mode": "single"}},
        defaults={"unit": "short", "mappings": UP_DOWN, "thresholds": steps((None, RED), (1, GREEN)), "color": {"mode": "thresholds"},
                  "custom": {"fillOpacity": 75, "lineWidth": 0}},
    )


def table(title: str, targets: list[dict[str, Any]], unit: str, description: str, *, names: dict[str, str], units: dict[str, str] | None = None,
          height: int = 8, sort: str | None = None) -> Panel:
    """Series as rows; `names` gives the columns that are shown, in order, and their titles."""
    merged = len(targets) > 1
    transformations: list[dict[str, Any]] = [{"id": "merge", "options": {}}] if merged else []
    transformations.append({
        "id": "organize",
        "options": {"excludeByName": {"Time": True}, "indexByName": {name: at for at, name in enumerate(names)}, "renameByName": names,
                    "includeByName": {name: True for name in names}},
    })
    overrides = [
        {"matcher": {"id": "byName", "options": names[column]}, "properties": [{"id": "unit", "value": of}]}
        for column, of in (units or {}).items()
    ]
    return Panel(
        "table", title, targets, unit, description, height,
        options={"showHeader": True, "cellHeight": "sm", "footer": {"show": False},
                 "sortBy": [{"displayName": names[sort], "desc": True}] if sort else []},
        defaults={"unit": unit, "custom": {"align": "auto", "filterable": True}, "thresholds": NEUTRAL, "color": {"mode": "thresholds"}},
        overrides=overrides, transformations=transformations,
    )


def logs(title: str, expr: str, description: str, *, height: int = 10) -> Panel:
    """Lines of Loki, the newest first."""
    return Panel(
        "logs", title, [{"datasource": LOKI, "expr": " ".join(expr.split()), "queryType": "range", "legendFormat": ""}], "short", description, height,
        options={"showTime": True, "showLabels": False, "showCommonLabels": False, "wrapLogMessage": True, "prettifyLogMessage": False,
                 "enableLogDetails": True, "dedupStrategy": "none", "sortOrder": "Descending"},
        defaults={"unit": "short"}, datasource=LOKI,
    )


def log_graph(title: str, expr: str, legend: str, unit: str, description: str, *, height: int = 7) -> Panel:
    """A rate of lines over time."""
    panel = graph(title, [], unit, description, stack=True, bars=True, height=height)
    panel.targets = [{"datasource": LOKI, "expr": " ".join(expr.split()), "queryType": "range", "legendFormat": legend}]
    panel.datasource = LOKI
    panel.overrides = [
        {"matcher": {"id": "byName", "options": level}, "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}]}
        for level, colour in (("error", RED), ("warn", ORANGE), ("info", GREEN), ("debug", BLUE), ("trace", GREY))
    ]
    return panel


def alert_list(title: str, description: str, *, filter_: str = "", height: int = 8) -> Panel:
    """The alerts that fire now."""
    return Panel(
        "alertlist", title, [], "short", description, height,
        options={"alertName": "", "alertInstanceLabelFilter": filter_, "dashboardAlerts": False, "datasource": "Prometheus", "groupBy": [],
                 "groupMode": "default", "maxItems": 50, "sortOrder": 3, "viewMode": "list",
                 "stateFilter": {"error": True, "firing": True, "noData": False, "normal": False, "pending": True}},
        defaults={"unit": "short"},
    )


def variable(name: str, label: str, expr: str, *, many: bool = True, loki: bool = False) -> dict[str, Any]:
    """A choice at the top of a dashboard, made of a label's values."""
    body: dict[str, Any] = {"refId": f"variable-{name}", "query": expr, "qryType": 1}
    if loki:
        metric, _, label_name = expr.removeprefix("label_values(").removesuffix(")").rpartition(", ")
        body = {"refId": f"variable-{name}", "label": label_name, "stream": metric, "type": 1}
    return {
        "name": name, "label": label, "type": "query", "datasource": LOKI if loki else PROMETHEUS,
        "definition": expr, "query": body, "refresh": 2, "sort": 1, "multi": many, "includeAll": many,
        "allValue": ".+" if many else None, "current": {"text": ["All"], "value": ["$__all"]} if many else {}, "hide": 0, "regex": "", "options": [],
    }


def text_variable(name: str, label: str) -> dict[str, Any]:
    """A field to type into."""
    return {"name": name, "label": label, "type": "textbox", "query": "", "current": {"text": "", "value": ""}, "options": [], "hide": 0}


def constant(name: str, value: str) -> dict[str, Any]:
    """A value that queries use and nobody chooses."""
    return {"name": name, "type": "constant", "query": value, "current": {"text": value, "value": value}, "hide": 2, "options": []}


DEPLOYMENTS = {
    "name": "Deployments", "datasource": PROMETHEUS, "enable": True, "iconColor": BLUE, "titleFormat": "{{pod}} {{version}}",
    "textFormat": "{{revision}}", "step": "60s",
    "expr": "count by (pod, version, revision) (dreamscape_build_info) unless count by (pod, version, revision) (dreamscape_build_info offset 5m)",
}
ALERTS = {
    "name": "Critical alerts", "datasource": PROMETHEUS, "enable": True, "iconColor": RED, "titleFormat": "{{alertname}}",
    "textFormat": "{{pod}} {{service}}", "step": "60s", "expr": 'ALERTS{alertstate="firing", severity="critical"}',
}


class Board:
    """A dashboard: panels in rows of 24 columns."""

    def __init__(self, uid: str, title: str, description: str, *, tags: list[str] | None = None, variables: list[dict[str, Any]] | None = None,
                 since: str = "now-3h", refresh: str = "30s", annotations: bool = True) -> None:
        self.uid, self.title, self.description = uid, title, description
        self.tags = [TAG, *(tags or [])]
        self.variables = variables or []
        self.since, self.refresh, self.annotations = since, refresh, annotations
        self._panels: list[dict[str, Any]] = []
        self._y = 0

    def head(self, title: str) -> "Board":
        """A heading over the rows that follow."""
        self._panels.append({
            "id": len(self._panels) + 1, "type": "row", "title": title, "collapsed": False, "panels": [],
            "gridPos": {"h": 1, "w": 24, "x": 0, "y": self._y},
        })
        self._y += 1
        return self

    def row(self, *panels: Panel, widths: list[int] | None = None) -> "Board":
        """Panels side by side, as wide as each other unless told."""
        widths = widths or [24 // len(panels)] * len(panels)
        if len(widths) != len(panels) or sum(widths) > 24:
            raise ValueError(f"{self.uid}: {len(panels)} panels do not fit into {widths}")
        x = 0
        for panel, width in zip(panels, widths, strict=True):
            self._panels.append(self._place(panel, x, width))
            x += width
        self._y += max(panel.height for panel in panels)
        return self

    def _place(self, panel: Panel, x: int, width: int) -> dict[str, Any]:
        targets = [{"refId": chr(ord("A") + at), **target} for at, target in enumerate(panel.targets)]
        placed = {
            "id": len(self._panels) + 1, "type": panel.kind, "title": panel.title, "description": panel.description,
            "datasource": panel.datasource, "gridPos": {"h": panel.height, "w": width, "x": x, "y": self._y},
            "fieldConfig": {"defaults": panel.defaults, "overrides": panel.overrides}, "options": panel.options, "targets": targets,
        }
        if panel.transformations:
            placed["transformations"] = panel.transformations
        if panel.links:
            placed["links"] = panel.links
        return placed

    def json(self) -> dict[str, Any]:
        """What Grafana reads."""
        return {
            "uid": self.uid, "title": self.title, "description": self.description, "tags": self.tags, "schemaVersion": 39, "version": 1,
            "id": None, "editable": False, "graphTooltip": 1, "timezone": "browser", "weekStart": "monday", "fiscalYearStartMonth": 0,
            "liveNow": False, "refresh": self.refresh, "time": {"from": self.since, "to": "now"},
            "timepicker": {"refresh_intervals": ["10s", "30s", "1m", "5m", "15m"]},
            "links": [{"title": "DreamScape", "type": "dashboards", "tags": [TAG], "asDropdown": True, "includeVars": True, "keepTime": True,
                       "icon": "external link", "targetBlank": False, "tooltip": "", "url": ""}],
            "annotations": {"list": [DEPLOYMENTS, ALERTS] if self.annotations else []},
            "templating": {"list": self.variables},
            "panels": self._panels,
        }
