"""Checks of monitoring/prometheus.yml and monitoring/rules. contract: operations R-100, R-102, R-114, §6.11, §8 U-07, U-08"""
from __future__ import annotations

import re
import sys
from concurrent.futures import ThreadPoolExecutor

from common import MONITORING, ROOT, Report, alerts, known_metrics, load, missing, names, rule_files, rules, run, unset_values

report = Report()
SEVERITIES = {"critical", "warning", "info", "none"}
# alerts that other tools look for, with the group where the group's name is fixed too
CONTRACT = """ServiceDown PodReplicasMissing HealthDegraded ProbeFailed CertificateExpiring HighErrorRate CriticalErrorRate HighClientErrorRate HighLatencyP95
HighLatencyP99 AIRecommendationLatencyHigh HighCPU HighMemory ContainerMemoryNearLimit ContainerOOM DiskSpaceLow PostgreSQLDown PostgreSQLHighConnections ReplicationLag
ReplicaMissing SlotRetainingWAL CacheHitRatioLow DeadlocksIncreasing LongTransaction BackupTooOld BackupFailed RedisNodeDown RedisClusterNotOk RedisMemoryHigh
EvictionsHigh HitRateLow KafkaBrokerDown KafkaJMXExporterDown KafkaConsumerLagHigh KafkaConsumerLagCritical KafkaUnderReplicatedPartitions KafkaOfflinePartitions
KafkaHighRequestRate KafkaLowMessagesInRate KafkaFailedProduceRequests KafkaISRShrinks KafkaDiskUsageHigh KafkaDiskUsageCritical KafkaActiveControllerCount MinIODown
MinIODiskFull MinIOErrors PaymentFailuresHigh BookingSagaStuck LoginFailuresSpike ExternalAPIDown Watchdog TargetDown RuleEvaluationFailures
AlertmanagerNotificationsFailing LokiIngestErrors AutoscalerStuck ConfigReloadFailed SecretTooOld""".split()
KAFKA_GROUPS = {"kafka_availability", "kafka_performance", "kafka_throughput", "kafka_errors", "kafka_disk"}
KAFKA_SEVERITY = {"KafkaBrokerDown": "critical", "KafkaOfflinePartitions": "critical", "KafkaConsumerLagCritical": "critical", "KafkaConsumerLagHigh": "warning",
                  "KafkaUnderReplicatedPartitions": "warning", "KafkaJMXExporterDown": "warning"}
JOBS = """core-pod business-pod experience-pod traefik postgres-exporter redis kafka-exporter kafka-jmx minio node-exporter cadvisor loki promtail grafana alertmanager
prometheus autoscaler backup blackbox""".split()


def configuration() -> None:
    config = load(MONITORING / "prometheus.yml")
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    report.check("V5", "R-100", "every service of the contract is scraped", [f"no job {name}" for name in JOBS if name not in jobs])
    faults = []
    if config["global"]["scrape_interval"] != "15s":
        faults.append("scrape_interval is not 15s")
    for pod in ("core-pod", "business-pod", "experience-pod"):
        found = jobs[pod].get("dns_sd_configs", [{}])[0]
        if found.get("names") != [f"tasks.{pod}"] or found.get("type") != "A" or found.get("port") != 9090:
            faults.append(f"{pod} is not scraped by tasks.{pod} on 9090")
        if not jobs[pod].get("honor_labels"):
            faults.append(f"{pod}: its own pod and service labels would be renamed")
    if [target for part in jobs["redis"]["static_configs"] for target in part["targets"]] != [f"redis://redis-{n}:6379" for n in (1, 2, 3)]:
        faults.append("redis: not exactly the three nodes")
    report.check("V5", "R-100", "intervals, ports and discovery are those of the contract", faults)

    stack = ROOT / "compose/docker-compose.bigpods.prod.yml"
    if not stack.exists():
        report.skip("V5", "R-100", "scraped hosts are services of the stack (no stack file yet)")
        return
    services = load(stack)["services"]
    faults = []
    for name, job in jobs.items():
        hosts = [target.removeprefix("redis://").split(":")[0] for part in job.get("static_configs", []) for target in part["targets"]]
        hosts += [host.removeprefix("tasks.") for part in job.get("dns_sd_configs", []) for host in part["names"]]
        hosts += [rule["replacement"].split(":")[0] for rule in job.get("relabel_configs", []) if rule.get("target_label") == "__address__"]
        for host in hosts:
            bridged = name == "redis" and host.startswith("redis-") and host != "redis-exporter"
            if host == "localhost" or bridged:
                continue
            if host not in services:
                faults.append(f"{name}: there is no service {host}")
                continue
            networks = services[host].get("networks", [])
            if "monitoring-network" not in networks:
                faults.append(f"{name}: {host} is not on monitoring-network")
    report.check("V5", "R-100", "scraped hosts are services of the stack on the monitoring network", faults)


def grammar() -> None:
    if missing("promtool"):
        report.skip("V5", "R-100,R-102", "configuration and rules are valid, unit tests (promtool is not installed)")
        return
    code, said = run("promtool", "check", "config", "--lint=all", "--lint-fatal", str(MONITORING / "prometheus.yml"))
    report.check("V5", "R-100", "prometheus.yml is valid", [said.strip()] if code else [])
    code, said = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", *map(str, rule_files()))
    report.check("V5", "R-102", "rules are valid", [said.strip()] if code else [])

    def test(path) -> tuple[str, int, str]:
        return (path.name, *run("promtool", "test", "rules", path.name, cwd=path.parent))

    # promtool uses one core; the slow files first
    files = sorted((MONITORING / "rules/tests").glob("*.yml"), key=lambda path: path.stat().st_size, reverse=True)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(test, files))
    faults = [f"{name}:\n{said.strip()}" for name, code, said in results if code]
    count = sum(len(load(path)["tests"]) for path in files)
    report.check("V5", "R-102", f"{count} unit tests of rules", faults)


def coverage() -> None:
    """Each alert, by severity, is shown to fire and shown to be silent."""
    fires, silent = set(), set()
    for path in sorted((MONITORING / "rules/tests").glob("*.yml")):
        for group in load(path)["tests"]:
            for test in group.get("promql_expr_test", []):
                alert = re.search(r'ALERTS\{[^}]*alertname="([^"]+)"', test["expr"])
                severity = re.search(r'ALERTS\{[^}]*severity="([^"]+)"', test["expr"])
                firing = re.search(r'ALERTS\{[^}]*alertstate="firing"', test["expr"])
                if not (alert and severity and firing) or not group.get("input_series"):
                    continue
                (fires if test.get("exp_samples") else silent).add((alert.group(1), severity.group(1)))
    faults = []
    mine = [(rule["alert"], rule["labels"]["severity"]) for _, _, rule in rules() if "alert" in rule]
    for alert, severity in mine:
        if (alert, severity) not in fires:
            faults.append(f"{alert} ({severity}) is nowhere shown to fire")
        # the watchdog is never silent: that is what it is for
        if (alert, severity) not in silent and alert != "Watchdog":
            faults.append(f"{alert} ({severity}) is nowhere shown to be silent")
    faults += [f"a test names {alert} ({severity}), which is no alert" for alert, severity in sorted((fires | silent) - set(mine))]
    report.check("V5", "R-102,R-114", f"each of {len(mine)} alerts has a firing and a silent test", faults)


def form() -> None:
    faults, seen, categories = [], set(), set()
    for path, _, rule in alerts():
        name, labels, notes = rule["alert"], rule.get("labels", {}), rule.get("annotations", {})
        where = f"{path.name}: {name}"
        categories.add(labels.get("category"))
        if labels.get("severity") not in SEVERITIES:
            faults.append(f"{where}: severity {labels.get('severity')}")
        for label in ("category", "component"):
            if not labels.get(label):
                faults.append(f"{where}: no label {label}")
        for note in ("summary", "description", "runbook_url"):
            if not notes.get(note):
                faults.append(f"{where}: no annotation {note}")
        if (name, labels.get("severity")) in seen:
            faults.append(f"{where}: twice with the same severity")
        seen.add((name, labels.get("severity")))
    report.check("V5", "R-102", "every alert has severity, category, component, summary, description and runbook", faults)
    wanted = {"R-114": {"service", "errors", "latency", "resources", "database"}}
    report.check("V5", "R-114", "all kinds of alerts are there", [f"none of the category {name}" for name in sorted(wanted["R-114"] - categories)])
    have = {name for name, _ in seen}
    report.check("V5", "R-114", "all alerts of the contract are there", [f"no {name}" for name in CONTRACT if name not in have])

    path = MONITORING / "rules/kafka-alerts.yaml"
    groups = {group["name"] for group in load(path)["groups"]}
    faults = [f"no group {name}" for name in sorted(KAFKA_GROUPS - groups)]
    for _, _, rule in [item for item in alerts() if item[0] == path]:
        if rule["labels"].get("component") != "kafka":
            faults.append(f"{rule['alert']}: component is not kafka")
        if KAFKA_SEVERITY.get(rule["alert"], rule["labels"]["severity"]) != rule["labels"]["severity"]:
            faults.append(f"{rule['alert']}: severity is not {KAFKA_SEVERITY[rule['alert']]}")
    report.check("V5", "R-108", "groups and alerts of Kafka have their fixed names", faults)


def metrics() -> None:
    known = known_metrics()
    faults = [f"{path.name}: {rule.get('alert') or rule['record']}: nobody serves {name}"
              for path, _, rule in rules() for name in sorted(names(rule["expr"])) if name not in known]
    report.check("V19", "R-102", "every series that a rule names is served by somebody", faults)
    report.check("V19", "R-102", "every value of a label that a rule names is one that our programs set",
                 unset_values([(f"{path.name}: {rule.get('alert') or rule['record']}", rule["expr"]) for path, _, rule in rules()]))


configuration()
grammar()
coverage()
form()
metrics()
sys.stdout.flush()
report.end()
