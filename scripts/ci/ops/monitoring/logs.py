"""Checks of Loki, Promtail and Alloy. contract: operations R-110, R-111, R-112, §6.12"""
from __future__ import annotations

import copy
import json
import re
import sys

from common import MONITORING, Report, load, missing, run
from pipeline import Line, from_alloy, process, relabel

report = Report()
PROMTAIL = load(MONITORING / "promtail-config.yml")
CONTAINERS = PROMTAIL["scrape_configs"][0]
LABELS = {"pod", "service", "environment", "stack", "node", "stream", "level"}


def meta(container: dict) -> dict[str, str]:
    """What the engine says about a container."""
    labels = {"__meta_docker_container_log_stream": container.get("stream", "stdout"), "__meta_docker_container_label_com_docker_stack_namespace": "dreamscape",
              "__meta_docker_container_label_com_docker_swarm_node_id": "node1", "__meta_docker_container_label_com_docker_swarm_service_name": container["service"]}
    for name in ("pod", "environment"):
        if name in container:
            labels[f"__meta_docker_container_label_com_dreamscape_{name}"] = container[name]
    return labels


def samples(rules: list[dict], stages: list[dict]) -> list[str]:
    faults = []
    for case in load(MONITORING / "tests/logs.yml"):
        line = process(stages, Line(relabel(rules, meta(case["container"])), case["line"]))
        if line.dropped != case.get("dropped", False):
            faults.append(f"{case['name']}: {'dropped' if line.dropped else 'kept'}")
        if line.dropped or case.get("dropped"):
            continue
        if line.labels != case["labels"]:
            faults.append(f"{case['name']}: labels {line.labels}")
        if line.metadata != case["metadata"]:
            faults.append(f"{case['name']}: metadata {line.metadata}")
        if "text" in case and line.text != case["text"]:
            faults.append(f"{case['name']}: text {line.text}")
        if "time" in case and line.time != case["time"]:
            faults.append(f"{case['name']}: time {line.time}")
        if set(line.labels) - LABELS:
            faults.append(f"{case['name']}: labels of many values {sorted(set(line.labels) - LABELS)}")
    return faults


def canaries() -> list[str]:
    """What must not be in a log is not in it any more; what looks like it is."""
    stages, faults = CONTAINERS["pipeline_stages"], []
    gone = {
        "a token": "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJlLXNpZ25hdHVyZQ", "a key": "sk_live_51Habcdefghijklmnop", "a hook's secret": "whsec_abcdefghijklmnopqrst",
        "an address": "ada.lovelace+trip@example.co.uk", "a card": "4242424242424242", "a card in groups": "5555-5555-5555-4444", "a bearer": "QWxhZGRpbjpvcGVuIHNlc2FtZQ",
    }
    for what, canary in gone.items():
        text = f'{{"msg":"{"Bearer " if what == "a bearer" else ""}{canary}"}}'
        if canary in process(stages, Line({"pod": "core-pod", "service": "x"}, text)).text:
            faults.append(f"{what} gets through: {canary}")
    for what, text in {"a booking": "BOOK-20261125-97TYA", "a trace": "366c74d2398d7caa979d5eb55da97fdd", "a time": "1764107053429", "an id": "01a214aa-93fa-7aa0-8552-79c9825331ef",
                       "an amount": "4242.42 EUR"}.items():
        if process(stages, Line({"pod": "core-pod", "service": "x"}, text)).text != text:
            faults.append(f"{what} is damaged: {text}")
    return faults


def real(path: str) -> list[str]:
    """Every line that a pod really wrote is JSON with a level, and gets its labels."""
    faults, count = [], 0
    with open(path, encoding="utf-8") as file:
        for text in file:
            count += 1
            line = process(CONTAINERS["pipeline_stages"], Line({"pod": "core-pod", "service": "core-pod", "environment": "production"}, text.rstrip("\n")))
            if not line.dropped and ("level" not in line.labels or line.time is None):
                faults.append(f"{path}:{count}: {text[:120]}")
    return faults if count else [f"{path} is empty"]


def same_in_alloy() -> list[str]:
    rules, stages = from_alloy((MONITORING / "alloy-config.alloy").read_text(encoding="utf-8"))
    mine = copy.deepcopy(CONTAINERS["pipeline_stages"])
    faults = []
    if rules != CONTAINERS["relabel_configs"]:
        faults.append(f"relabelling differs: {[pair for pair in zip(rules, CONTAINERS['relabel_configs']) if pair[0] != pair[1]][:1] or (len(rules), len(CONTAINERS['relabel_configs']))}")
    if len(stages) != len(mine):
        faults.append(f"{len(stages)} stages in Alloy, {len(mine)} in Promtail")
    for at, (theirs, ours) in enumerate(zip(stages, mine), 1):
        if theirs != ours:
            faults.append(f"stage {at}: {json.dumps(theirs)} in Alloy, {json.dumps(ours)} in Promtail")
    if not faults:
        faults = samples(rules, stages)
    return faults


def structure() -> None:
    loki = load(MONITORING / "loki-config.yml")
    limits, compactor, faults = loki["limits_config"], loki["compactor"], []
    if limits.get("retention_period") != "720h":
        faults.append("retention_period is not 720h")
    if compactor.get("retention_enabled") is not True or not compactor.get("delete_request_store") or not compactor.get("working_directory"):
        faults.append("the compactor does not delete")
    report.check("V15", "R-111", "Loki keeps logs for 30 days and then deletes them", faults)
    faults, (schema,) = [], loki["schema_config"]["configs"]
    if (schema["store"], schema["schema"], schema["index"]["period"]) != ("tsdb", "v13", "24h") or str(schema["from"]) > "2026-01-01":
        faults.append("schema: tsdb, v13, 24h, from a day in the past")
    wanted = {"allow_structured_metadata": True, "reject_old_samples_max_age": "168h", "ingestion_rate_mb": 16}
    faults += [f"{name} is not {value}" for name, value in wanted.items() if limits.get(name) != value]
    if loki.get("auth_enabled") is not False or loki["common"]["replication_factor"] != 1 or loki["analytics"]["reporting_enabled"] is not False:
        faults.append("auth_enabled, replication_factor or analytics")
    if "shared_store" in (MONITORING / "loki-config.yml").read_text(encoding="utf-8"):
        faults.append("shared_store does not exist in Loki 3")
    known = {"auth_enabled", "server", "common", "storage_config", "schema_config", "ingester", "limits_config", "compactor", "ruler", "query_range", "analytics"}
    faults += [f"unknown section {name}" for name in set(loki) - known]
    report.check("V15", "R-110", "Loki's configuration has the structure of the contract", faults)
    faults = []
    if CONTAINERS.get("docker_sd_configs", [{}])[0].get("host") != "unix:///var/run/docker.sock":
        faults.append("containers are not found by the engine's socket")
    targets = {rule["target_label"] for rule in CONTAINERS["relabel_configs"]}
    faults += [f"no label {name}" for name in ("pod", "service", "environment", "stack", "node", "stream") if name not in targets]
    if not PROMTAIL["positions"]["filename"].startswith("/positions/"):
        faults.append("positions are not on their volume")
    report.check("V15", "R-110,R-112", "Promtail reads every container and sets the labels", faults)
    sources = load(MONITORING / "grafana/datasources.yml")["datasources"]
    loki_source = next(item for item in sources if item["uid"] == "loki")
    fields = {item["name"] for item in loki_source["jsonData"]["derivedFields"]}
    report.check("V13", "R-112", "Grafana leads from a line to its trace", [] if "trace_id" in fields else ["no derived field trace_id"])


structure()
report.check("V15", "R-112", f"{len(load(MONITORING / 'tests/logs.yml'))} sample lines get the right labels through Promtail's stages", samples(CONTAINERS["relabel_configs"], CONTAINERS["pipeline_stages"]))
report.check("V15", "R-112", "secrets, addresses and cards do not reach Loki", canaries())
report.check("V15", "R-110,R-112", "Alloy does the same as Promtail, stage by stage", same_in_alloy())
for argument in sys.argv[1:]:
    report.check("V15", "R-112", f"real lines of {re.sub(r'.*/', '', argument)}", real(argument))
for tool, what in (("loki", "loki -verify-config"), ("promtail", "promtail -check-syntax"), ("alloy", "alloy validate")):
    # Debian's package `loki` is a genetics program
    if missing(tool) or "rafana" not in run(tool, "--version")[1]:
        report.skip("V15", "R-110", f"{what} (not in Debian, PyPI or npm)")
    else:
        path = {"loki": "loki-config.yml", "promtail": "promtail-config.yml", "alloy": "alloy-config.alloy"}[tool]
        command = {"loki": ["loki", "-verify-config", "-config.file"], "promtail": ["promtail", "-check-syntax", "-config.file"], "alloy": ["alloy", "validate"]}[tool]
        code, said = run(*command, str(MONITORING / path))
        report.check("V15", "R-110", what, [said.strip()[-500:]] if code else [])
report.skip("V15", "R-110", "alerts from logs (monitoring/loki-rules) need Loki's ruler; only their form is checked")
sys.stdout.flush()
report.end()
