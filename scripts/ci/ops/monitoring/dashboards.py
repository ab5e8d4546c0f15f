"""Lints the dashboards hard. contract: operations R-103, R-104, R-105…R-109, §6.13, §8 U-07, V13"""
from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path

import yaml

from common import MONITORING, Report, known_metrics, load, missing, names, run, unset_values

report = Report()
FOLDER = MONITORING / "grafana/dashboards"
BOARDS = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
UIDS = """dreamscape-overview dreamscape-core-pod dreamscape-business-pod dreamscape-experience-pod dreamscape-availability-sla dreamscape-postgresql dreamscape-redis
kafka-monitoring-dreamscape dreamscape-minio dreamscape-traefik dreamscape-logs dreamscape-alerts dreamscape-autoscaler dreamscape-nodes dreamscape-business""".split()
# what each page must at least show: a part of a query
MUST = {
    "R-105": {name: ["process_cpu_seconds_total", "process_resident_memory_bytes", "http_requests_total", "histogram_quantile", 'status=~"4.."', 'status=~"5.."',
                     "dreamscape_health_component_status", 'state="desired"', "container_spec_memory_limit_bytes"] for name in ("core-pod.json", "business-pod.json", "experience-pod.json")},
    "R-106": {"postgresql.json": ["connections", "pg_dreamscape_statements_calls_total", "cache_hit"]},
    "R-107": {"redis.json": ["redis_memory_used_bytes", "keyspace_hit", "redis_evicted_keys_total"]},
    "R-108": {"kafka-monitoring.json": ["messagesin", "lag"]},
    "R-109": {"minio.json": ["minio_cluster_usage_total_bytes", "minio_s3_requests_ttfb_seconds_distribution"]},
    "R-104": {"availability-sla.json": ["rate1h", "rate1d", "budget:remaining_ratio30d"], "business.json": ["/cart/checkout", "dreamscape_payments_total", "dreamscape_saga_oldest_age_seconds"],
              "traefik.json": ["traefik_tls_certs_not_after", "traefik_service_requests_total"], "logs.json": ['level="error"'], "autoscaler.json": ["dreamscape_swarm_replicas"]},
}
# a unit for each thing that a query counts
UNITS = {"s", "ms", "µs", "d", "bytes", "Bps", "reqps", "cps", "ops", "opm", "rps", "percentunit", "short"}
SUBSTITUTES = {"$__rate_interval": "5m", "$__range": "1h", "$__auto": "5m", "$__interval": "1m"}


def panels(board: dict) -> list[dict]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def plain(expr: str, board: dict) -> str:
    for name, value in SUBSTITUTES.items():
        expr = expr.replace(name, value)
    for variable in board["templating"]["list"]:
        expr = re.sub(r"\$\{?" + variable["name"] + r"\b\}?", "x", expr)
    return expr


def generated() -> None:
    code, said = run(sys.executable, str(MONITORING / "grafana/build.py"), "--check")
    report.check("V13", "R-104", "the dashboards are what their source writes", said.splitlines() if code else [])


def frame() -> None:
    faults, uids = [], [board["uid"] for board in BOARDS.values()]
    faults += [f"no dashboard {uid}" for uid in UIDS if uid not in uids]
    faults += [f"uid {uid} twice" for uid in set(uids) if uids.count(uid) > 1]
    for name, board in BOARDS.items():
        if not board["title"] or not board["description"]:
            faults.append(f"{name}: no title or description")
        if board["schemaVersion"] < 39:
            faults.append(f"{name}: schemaVersion {board['schemaVersion']}")
        if "dreamscape" not in board["tags"] or not board["links"]:
            faults.append(f"{name}: not linked with the others")
        if board.get("id") is not None or board["editable"]:
            faults.append(f"{name}: has an id, or can be edited")
    report.check("V13", "R-104", f"{len(BOARDS)} dashboards with their fixed uids, titles and links", faults)
    kafka = BOARDS["kafka-monitoring.json"]
    faults = [] if kafka["title"] == "Kafka Monitoring - DreamScape" and kafka["uid"] == "kafka-monitoring-dreamscape" and {"kafka", "DR-260"} <= set(kafka["tags"]) and panels(kafka) else ["title, uid, tags or panels"]
    report.check("V13", "R-108", "the Kafka dashboard has its fixed title, uid and tags", faults)


def looks() -> None:
    faults = []
    for name, board in BOARDS.items():
        taken: dict[tuple[int, int], str] = {}
        ids = [panel["id"] for panel in board["panels"]]
        if len(ids) != len(set(ids)):
            faults.append(f"{name}: an id twice")
        titles = [panel["title"] for panel in panels(board)]
        for panel in board["panels"]:
            at, where = panel["gridPos"], f"{name}: {panel['title'] or '(no title)'}"
            if not panel["title"].strip():
                faults.append(f"{where}: no title")
            if at["x"] < 0 or at["x"] + at["w"] > 24 or at["w"] < 3 or at["h"] < 1:
                faults.append(f"{where}: outside the grid")
            for x in range(at["x"], at["x"] + at["w"]):
                for y in range(at["y"], at["y"] + at["h"]):
                    if (x, y) in taken:
                        faults.append(f"{where}: lies over {taken[x, y]}")
                        break
                    taken[x, y] = panel["title"]
                else:
                    continue
                break
        for panel in panels(board):
            where, defaults = f"{name}: {panel['title']}", panel["fieldConfig"]["defaults"]
            if len(panel.get("description", "")) < 5:
                faults.append(f"{where}: no description")
            if defaults.get("unit") not in UNITS:
                faults.append(f"{where}: unit {defaults.get('unit')}")
            if panel["type"] in ("stat", "gauge", "bargauge", "timeseries") and not defaults.get("thresholds", {}).get("steps"):
                faults.append(f"{where}: no thresholds")
            if panel["type"] == "timeseries" and not (panel["options"]["legend"]["showLegend"] and panel["options"]["tooltip"]["mode"] == "multi"):
                faults.append(f"{where}: legend or tooltip")
            if panel["type"] not in ("alertlist",) and not panel["targets"]:
                faults.append(f"{where}: no query")
            letters = [target["refId"] for target in panel["targets"]]
            if len(letters) != len(set(letters)):
                faults.append(f"{where}: a query's letter twice")
            if len(panel["targets"]) > 1 and panel["type"] == "timeseries" and any(target["legendFormat"] in ("", "__auto") for target in panel["targets"]):
                faults.append(f"{where}: several queries, one without a legend")
            if panel["type"] in ("row",) or panel["type"] in ("graph", "singlestat", "table-old", "grafana-piechart-panel", "grafana-worldmap-panel"):
                faults.append(f"{where}: {panel['type']} does not exist any more")
        doubled = {title for title in titles if titles.count(title) > 1 and name != "availability-sla.json"}
        if doubled:
            faults.append(f"{name}: titles twice: {sorted(doubled)}")
    report.check("V13", "R-104", "titles, descriptions, units, thresholds, legends; nothing overlaps", faults)


def sources() -> None:
    provisioned = load(MONITORING / "grafana/datasources.yml")["datasources"]
    have = {item["uid"]: item["type"] for item in provisioned}
    faults = [f"no data source {uid}" for uid in ("prometheus", "loki", "alertmanager") if uid not in have]
    faults += [f"{item['uid']}: may be edited" for item in provisioned if item.get("editable") is not False]
    report.check("V13", "R-103", "data sources Prometheus, Loki and Alertmanager with fixed uids", faults)
    faults = []
    for name, board in BOARDS.items():
        things = [*panels(board), *(t for p in panels(board) for t in p["targets"]), *board["annotations"]["list"], *(v for v in board["templating"]["list"] if v["type"] == "query")]
        for thing in things:
            source = thing.get("datasource") or {}
            if have.get(source.get("uid")) != source.get("type"):
                faults.append(f"{name}: {thing.get('title') or thing.get('name') or thing.get('expr', '')[:40]}: data source {source}")
        defined = {variable["name"] for variable in board["templating"]["list"]}
        used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps([p["targets"] for p in panels(board)]) + json.dumps([v.get("definition", "") for v in board["templating"]["list"]])))
        faults += [f"{name}: the variable ${variable} is not defined" for variable in used - defined]
    provider = load(MONITORING / "grafana/dashboards.yml")["providers"][0]
    if provider["type"] != "file" or provider.get("allowUiUpdates") is not False:
        faults.append("dashboards.yml: not files, or may be changed in the browser")
    report.check("V13", "R-103,R-104", "every panel, variable and annotation has a data source, every variable is defined", faults)


def queries() -> None:
    known, faults, exprs = known_metrics(), [], []
    for name, board in BOARDS.items():
        for panel in panels(board):
            for target in panel["targets"]:
                if target["datasource"]["type"] != "prometheus":
                    continue
                expr = plain(target["expr"], board)
                exprs.append((f"{name}: {panel['title']}", expr))
                for metric in sorted(names(expr)):
                    if metric not in known:
                        faults.append(f"{name}: {panel['title']}: nobody serves {metric}")
                if re.search(r"\b(rate|increase)\([^()]*\[\d+[smhd]\]", target["expr"]) and "$__rate_interval" not in target["expr"] and panel["type"] == "timeseries":
                    fixed = re.findall(r"\[(\d+[smhd])\]", target["expr"])
                    if any(window in ("15s", "30s", "1m") for window in fixed):
                        faults.append(f"{name}: {panel['title']}: a window shorter than a few scrapes")
        for note in board["annotations"]["list"]:
            exprs.append((f"{name}: annotation {note['name']}", note["expr"]))
    report.check("V19", "R-104,R-105,R-106,R-107,R-108,R-109", f"every series of {len(exprs)} queries is served by somebody", faults)
    report.check("V19", "R-104", "every value of a label that a query names is one that our programs set", unset_values(exprs))
    if missing("promtool"):
        report.skip("V13", "R-104", "queries parse (promtool is not installed)")
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "queries.yml"
        def check(items) -> str:
            path.write_text(yaml.safe_dump({"groups": [{"name": "q", "rules": [{"record": f"q:{at}", "expr": expr} for at, (_, expr) in enumerate(items)]}]}), encoding="utf-8")
            code, said = run("promtool", "check", "rules", "--lint=none", str(path))
            return said if code else ""
        faults = []
        if check(exprs):
            for item in exprs:
                said = check([item])
                if said:
                    faults.append(f"{item[0]}: {item[1]}: {said.strip().splitlines()[-1]}")
    report.check("V13", "R-104", f"{len(exprs)} queries parse", faults)
    faults = []
    for name, board in BOARDS.items():
        for panel in panels(board):
            for target in panel["targets"]:
                if target["datasource"]["type"] == "loki":
                    expr = target["expr"]
                    if expr.count("{") != expr.count("}") or expr.count("(") != expr.count(")") or not re.search(r'\{\w+\s*(=|=~)\s*"', expr):
                        faults.append(f"{name}: {panel['title']}: {expr}")
                    for label in re.findall(r'(\w+)\s*(?:=~|=|!=|!~)\s*"', expr):
                        if label not in {"pod", "service", "environment", "stack", "node", "stream", "level"}:
                            faults.append(f"{name}: {panel['title']}: {label} is no label of logs")
    report.check("V13", "R-112", "queries of logs use the labels that Promtail sets", faults)


def contents() -> None:
    for requirement, pages in MUST.items():
        faults = []
        for name, parts in pages.items():
            text = "\n".join(target["expr"] for panel in panels(BOARDS[name]) for target in panel["targets"])
            faults += [f"{name}: nothing about {part}" for part in parts if part not in text]
        report.check("V13", requirement, f"the dashboards of {', '.join(name.removesuffix('.json') for name in pages)} show what they must", faults)


generated()
frame()
looks()
sources()
queries()
contents()
sys.stdout.flush()
report.end()
