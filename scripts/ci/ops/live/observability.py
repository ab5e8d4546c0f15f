#!/usr/bin/env python3
"""Watches a live platform under load with a real Prometheus, and asks it every query of every dashboard.

Usage: observability.py [--bin DIR] [--seconds N] [--update] [--keep]

  --bin DIR     where the pods and `dreamscape` are built (default: the debug build of this checkout)
  --seconds N   how long the load runs (default 100)
  --update      write monitoring/metrics.txt and monitoring/metrics/<exporter>.txt from what was scraped
  --keep        leave everything running and print the addresses

What runs: the three pods, PostgreSQL with a standby, a Redis cluster of three, a Kafka broker with the JMX agent, their exporters,
node_exporter, Prometheus with monitoring/prometheus.yml (only the addresses are changed) and all rules, and Alertmanager. All of it on free ports
of the loopback interface, in a folder of its own, and stopped at the end. What cannot be had here (Traefik, MinIO, cAdvisor,
kafka-exporter, Loki, and our own operations services) has a stand-in of the documented shape (standins.py); queries that rest on one are counted
apart. Exits 1 if a query returns nothing, if a rule fails, or if an alert fires about a healthy platform.
"""
from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "monitoring"))
import standins  # noqa: E402
from common import MONITORING, ROOT, names, rules  # noqa: E402

PODS = ("core-pod", "business-pod", "experience-pod")
# what is true here: one broker and not three, no clock service, a machine that is full of builds, and travellers who pay with a declined card
# once in three
EXPECTED = {"Watchdog", "KafkaBrokerDown", "ClockSkew", "HighCPU", "HighMemory", "DiskSpaceLow", "DiskWillFill", "PaymentFailuresHigh"}


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def get(url: str, **query: str) -> str:
    if query:
        url += "?" + urllib.parse.urlencode(query)
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


class Stage:
    """Everything that was started, and how it is stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: list[tuple[str, subprocess.Popen]] = []
        self._last: list = []
        self._used: set[int] = set()

    def port(self) -> int:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            # Redis takes the port ten thousand above as well
            if port not in self._used and port < 50000:
                self._used.add(port)
                return port

    def start(self, name: str, command: list[str], **options) -> None:
        with open(self.folder / f"{name}.log", "wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **options)
        self._processes.append((name, process))

    def at_end(self, action) -> None:
        self._last.append(action)

    def stop(self) -> None:
        for _, process in reversed(self._processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for _, process in self._processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        for action in reversed(self._last):
            action()


def wait(what: str, ready, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if ready():
                return
        except (OSError, ValueError):
            pass
        time.sleep(0.3)
    raise SystemExit(f"{what} did not come up in {seconds:.0f} s")


def run(command: list[str], **options) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:3])}…: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def postgres(stage: Stage) -> dict[str, str]:
    """A primary that archives, a standby that streams, and the exporter with our queries."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    if not versions or not shutil.which("prometheus-postgres-exporter"):
        return {}
    tools, home = versions[-1], stage.folder / "postgres"
    home.mkdir()
    primary, standby, exporter = stage.port(), stage.port(), stage.port()
    demote: dict = {}
    if os.geteuid() == 0:
        shutil.chown(home, "postgres")
        demote = {"user": "postgres"}
    run([str(tools / "initdb"), "-D", str(home / "primary"), "-A", "trust", "-U", "postgres"], cwd=home, **demote)
    settings = (f"port={primary}\nlisten_addresses='127.0.0.1'\nunix_socket_directories=''\nshared_preload_libraries='pg_stat_statements'\n"
                "archive_mode=on\narchive_command='true'\narchive_timeout=10s\ntrack_io_timing=on\nfsync=off\nmax_connections=500\nshared_buffers=16MB\n")
    with open(home / "primary" / "postgresql.conf", "a", encoding="utf-8") as file:
        file.write(settings)
    stage.start("postgres-primary", [str(tools / "postgres"), "-D", str(home / "primary")], cwd=home, **demote)
    sql = ["psql", "-qX", "-h", "127.0.0.1", "-p", str(primary), "-U", "postgres", "-v", "ON_ERROR_STOP=1"]
    wait("PostgreSQL", lambda: subprocess.run([*sql, "-c", "select 1"], capture_output=True, check=False).returncode == 0)
    run([*sql, "-c", "create role exporter login", "-c", "grant pg_monitor to exporter", "-c", "create role dreamscape_prod superuser login",
         "-c", "create database dreamscape_prod owner dreamscape_prod"])
    run([*sql, "-d", "dreamscape_prod", "-c", "create extension pg_stat_statements", "-c", "create table work (id int primary key, n int)",
         "-c", "insert into work select g, 0 from generate_series(1, 20000) g"])
    run([str(tools / "pg_basebackup"), "-h", "127.0.0.1", "-p", str(primary), "-U", "postgres", "-D", str(home / "standby"), "-R", "-X", "stream", "-C", "-S", "standby_1",
         "-c", "fast"], cwd=home, **demote)
    with open(home / "standby" / "postgresql.conf", "a", encoding="utf-8") as file:
        file.write(f"port={standby}\n")
    stage.start("postgres-standby", [str(tools / "postgres"), "-D", str(home / "standby")], cwd=home, **demote)
    stage.start("postgres-exporter", [
        "prometheus-postgres-exporter", f"--web.listen-address=127.0.0.1:{exporter}", f"--extend.query-path={MONITORING / 'postgres-exporter-queries.yml'}",
    ], env={**os.environ, "DATA_SOURCE_NAME": f"postgresql://exporter@127.0.0.1:{primary}/dreamscape_prod?sslmode=disable"})
    return {"postgres-exporter": f"127.0.0.1:{exporter}", "psql": str(primary)}


def redis(stage: Stage) -> dict[str, str]:
    """Three nodes of a cluster, and the exporter."""
    if not shutil.which("redis-server"):
        return {}
    ports = [stage.port() for _ in range(3)]
    for port in ports:
        home = stage.folder / f"redis-{port}"
        home.mkdir()
        stage.start(f"redis-{port}", ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--cluster-enabled", "yes", "--dir", str(home), "--maxmemory", "256mb",
                                      "--maxmemory-policy", "allkeys-lru", "--save", "", "--appendonly", "no"])
    for port in ports:
        wait("Redis", lambda port=port: "PONG" in subprocess.run(["redis-cli", "-p", str(port), "ping"], capture_output=True, text=True, check=False).stdout)
    run(["redis-cli", "--cluster", "create", *[f"127.0.0.1:{port}" for port in ports], "--cluster-replicas", "0", "--cluster-yes"])
    nodes = ",".join(f"127.0.0.1:{port}" for port in ports)
    found = {"redis-nodes": nodes}
    if shutil.which("prometheus-redis-exporter"):
        exporter = stage.port()
        stage.start("redis-exporter", ["prometheus-redis-exporter", "-web.listen-address", f"127.0.0.1:{exporter}", "-redis.addr", f"redis://127.0.0.1:{ports[0]}"])
        found["redis"] = f"127.0.0.1:{exporter}"
    return found


def kafka(stage: Stage) -> dict[str, str]:
    """A broker with the JMX agent."""
    jars = subprocess.run([str(ROOT / "scripts/ci/kafka/jars.sh"), str(ROOT / "scripts/ci/kafka/stack.xml")], capture_output=True, text=True, check=False).stdout.strip()
    agent = Path.home() / ".m2/repository/io/prometheus/jmx/jmx_prometheus_javaagent/1.0.1/jmx_prometheus_javaagent-1.0.1.jar"
    if jars and not agent.exists() and shutil.which("mvn"):
        subprocess.run(["mvn", "-q", "-B", "dependency:get", "-Dartifact=io.prometheus.jmx:jmx_prometheus_javaagent:1.0.1", "-Dtransitive=false"], capture_output=True, check=False)
    if not jars or not agent.exists():
        return {}
    home = stage.folder / "kafka"
    home.mkdir()
    broker, controller, jmx = stage.port(), stage.port(), stage.port()
    (home / "server.properties").write_text(
        f"process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n"
        f"listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}\nadvertised.listeners=PLAINTEXT://127.0.0.1:{broker}\n"
        "controller.listener.names=CONTROLLER\nlistener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n"
        f"log.dirs={home / 'data'}\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=3\ntransaction.state.log.replication.factor=1\n"
        "transaction.state.log.min.isr=1\nnum.partitions=3\ngroup.initial.rebalance.delay.ms=0\n", encoding="utf-8")
    run(["java", "-cp", f"{jars}/*", "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c", str(home / "server.properties")], cwd=home)
    stage.start("kafka", ["java", "-Xmx512m", f"-javaagent:{agent}=127.0.0.1:{jmx}:{MONITORING / 'kafka-jmx.yml'}", "-cp", f"{jars}/*", "kafka.Kafka", str(home / "server.properties")], cwd=home)
    wait("Kafka", lambda: "kafka_server" in get(f"http://127.0.0.1:{jmx}/metrics"), 90)
    return {"kafka-jmx": f"127.0.0.1:{jmx}", "brokers": f"127.0.0.1:{broker}"}


def pods(stage: Stage, binaries: Path, found: dict[str, str]) -> dict[str, str]:
    """The three pods, each a process, as they run in production but for their back ends."""
    names = ("GATEWAY", "AUTH", "USER", "VOYAGE", "PAYMENT", "AI", "BUSINESS", "WEB", "CORE_METRICS", "BUSINESS_METRICS", "EXPERIENCE_METRICS")
    ports = {name: stage.port() for name in names}
    environment = {**os.environ, **{f"{name}_PORT": str(port) for name, port in ports.items()}}
    for service in ("AUTH", "USER", "VOYAGE", "PAYMENT", "AI"):
        environment[f"{service}_SERVICE_URL"] = f"http://127.0.0.1:{ports[service]}"
    environment.update(LOG_FORMAT="json", RATE_LIMIT_MULTIPLIER="1000")
    if "redis-nodes" in found:
        environment["REDIS_CLUSTER_NODES"] = found["redis-nodes"]
    if "brokers" in found:
        environment.update(KAFKA_BROKERS=found["brokers"], KAFKA_AUTO_OFFSET_RESET="earliest")
    home = stage.folder / "pods"
    home.mkdir()
    if os.geteuid() == 0:
        os.chmod(stage.folder, 0o755)
        os.chmod(home, 0o777)
    # named, since a folder further up might have one
    environment["DREAMSCAPE_DATA"] = str(home / ".dreamscape")
    for pod in PODS:
        stage.start(pod, [str(binaries / pod), "serve"], cwd=home, env=environment)
    for name in ("GATEWAY", "VOYAGE", "WEB"):
        wait(name.lower(), lambda name=name: get(f"http://127.0.0.1:{ports[name]}/health/live"), 120)
    return {**{pod: f"127.0.0.1:{ports[pod.split('-')[0].upper() + '_METRICS']}" for pod in PODS}, "web": f"http://127.0.0.1:{ports['WEB']}",
            "gateway": f"http://127.0.0.1:{ports['GATEWAY']}", "services": ",".join(f"http://127.0.0.1:{ports[name]}" for name in ("AUTH", "USER", "VOYAGE", "PAYMENT", "AI", "GATEWAY", "BUSINESS", "WEB")),
            "home": str(home)}


def prometheus(stage: Stage, found: dict[str, str]) -> str:
    """The real configuration; only where things are is changed."""
    listen, alerts = stage.port(), stage.port()
    home = stage.folder / "prometheus"
    home.mkdir()
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"].update(scrape_interval="5s", scrape_timeout="4s", evaluation_interval="5s")
    config["rule_files"] = [str(MONITORING / "rules" / name) for name in ("*.yml", "*.yaml")]
    config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alerts}"]}]}]}
    own = {**found, "prometheus": f"127.0.0.1:{listen}", "alertmanager": f"127.0.0.1:{alerts}"}
    kept = []
    for job in config["scrape_configs"]:
        name = job["job_name"]
        if name not in own:
            continue
        job.pop("dns_sd_configs", None)
        job.pop("scrape_interval", None)
        job.pop("scrape_timeout", None)
        targets = [own[name]]
        if name == "redis":
            targets = [f"redis://{node}" for node in found["redis-nodes"].split(",")]
            for rule in job["relabel_configs"]:
                if rule.get("replacement") == "redis-exporter:9121":
                    rule["replacement"] = own["redis"]
                if rule.get("target_label") == "instance":
                    rule["regex"] = "redis://(.+)"
        if name == "kafka-jmx":
            job["relabel_configs"] = [{"target_label": "broker", "replacement": "kafka-1"}]
        if name == "blackbox":
            (home / "targets").mkdir()
            (home / "targets/public.yml").write_text(run([sys.executable, str(MONITORING / "render.py"), str(MONITORING / "targets/public.yml"), "DOMAIN=example.org"]), encoding="utf-8")
            for rule in job["relabel_configs"]:
                if rule.get("replacement") == "blackbox-exporter:9115":
                    rule["replacement"] = own["blackbox"]
        else:
            job["static_configs"] = [{"targets": targets}]
        kept.append(job)
    config["scrape_configs"] = kept
    path = home / "prometheus.yml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    rendered = run([sys.executable, str(MONITORING / "render.py"), str(MONITORING / "alertmanager.yml")])
    (home / "alertmanager.yml").write_text(rendered, encoding="utf-8")
    shutil.copytree(MONITORING / "templates", home / "templates")
    stage.start("alertmanager", ["prometheus-alertmanager", f"--config.file={home / 'alertmanager.yml'}", f"--storage.path={home / 'am'}", f"--web.listen-address=127.0.0.1:{alerts}",
                                 "--cluster.listen-address="])
    # rules in groups with an interval of their own are evaluated at that interval
    stage.start("prometheus", ["prometheus", f"--config.file={path}", f"--storage.tsdb.path={home / 'data'}", f"--web.listen-address=127.0.0.1:{listen}",
                               "--storage.tsdb.retention.time=30d", "--log.level=warn"])
    wait("Prometheus", lambda: "Ready" in get(f"http://127.0.0.1:{listen}/-/ready"))
    return f"http://127.0.0.1:{listen}"


def drive(binaries: Path, found: dict[str, str], seconds: int) -> int:
    """Travellers, mistakes and look-ups, until the time is over and there were ten. Gives the number of journeys."""
    end, journeys = time.monotonic() + seconds, 0
    while time.monotonic() < end or journeys < 10:
        done = subprocess.run([str(binaries / "dreamscape"), "demo", "--base", found["web"], "--data", found["home"] + "/.dreamscape"], cwd=found["home"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit("a journey failed:\n" + done.stdout[-2000:] + done.stderr[-2000:])
        journeys += 1
        services = found["services"].split(",")
        for at, url in enumerate(services):
            # mistakes are few, as among people: one service in turn
            for path in ("/health", "/health/ready", "/api/v1/no-such-thing")[:3 if at == journeys % len(services) else 2]:
                try:
                    get(url + path)
                except urllib.error.HTTPError:
                    pass
        wrong = urllib.request.Request(found["web"] + "/api/v1/auth/login", json.dumps({"email": "nobody@example.org", "password": "Wrong-pass-1"}).encode(),
                                       {"Content-Type": "application/json"})
        try:
            urllib.request.urlopen(wrong, timeout=10)
        except urllib.error.HTTPError:
            pass
        if "psql" in found:
            run(["psql", "-qX", "-h", "127.0.0.1", "-p", found["psql"], "-U", "dreamscape_prod", "dreamscape_prod", "-c",
                 "update work set n = n + 1 where id % 50 = 0", "-c", "select count(*) from work"])
        time.sleep(0.5)
    return journeys


def read_messages() -> tuple[int, list[str]]:
    """What each alert says when its firing test fires. promtool prints it when nothing was expected."""
    count, faults = 0, []
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted((MONITORING / "rules/tests").glob("*.yml")):
            suite = yaml.safe_load(path.read_text(encoding="utf-8"))
            suite["rule_files"] = [str((path.parent / name).resolve()) for name in suite["rule_files"]]
            suite["tests"] = [
                {"interval": test["interval"], "input_series": test["input_series"], "alert_rule_test": [
                    {"eval_time": query["eval_time"], "alertname": re.search(r'alertname="(\w+)"', query["expr"]).group(1), "exp_alerts": []}]}
                for test in suite["tests"] for query in test["promql_expr_test"] if query["exp_samples"]
            ]
            (Path(folder) / path.name).write_text(yaml.safe_dump(suite), encoding="utf-8")
            said = subprocess.run(["promtool", "test", "rules", path.name], cwd=folder, capture_output=True, text=True, check=False)
            for alert, notes in re.findall(r'Labels:\{alertname="(\w+)"[^\n]*\}\s*\n?\s*Annotations:\{([^\n]*)\}', said.stdout + said.stderr):
                count += 1
                texts = " | ".join(re.findall(r'(?:summary|description)="((?:\\.|[^"\\])*)"', notes))
                if re.search(r"error expanding|<no value>|%!|  |\(\)|\s[.,]", texts):
                    faults.append(f"{alert}: {texts}")
    return count, faults or ([] if count else ["no message was read"])


def ask_runbooks(found: dict[str, str]) -> tuple[int, list[str]]:
    """Asks the database of the pods, and the one with pg_stat_statements, to plan each statement of the runbooks."""
    server = json.loads((Path(found["home"]) / ".dreamscape/postgres/server.json").read_text(encoding="utf-8"))
    pods_ = {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(server["port"]), "PGUSER": "dreamscape", "PGDATABASE": "dreamscape", "PGPASSWORD": server["owner_password"]}
    plain = {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": found.get("psql", "0"), "PGUSER": "postgres", "PGDATABASE": "dreamscape_prod"}
    count, faults = 0, []
    for path in sorted((ROOT / "docs/runbooks").glob("*.md")):
        for match in re.finditer(r"""sql (?:-d postgres )?-c (?:"([^"]+)"|'([^']+)')""", path.read_text(encoding="utf-8")):
            statement = (match.group(1) or match.group(2))
            if not statement.startswith("select") or re.search(r"\b[A-Z]{3,}\b(?!')", re.sub(r"'[^']*'", "", statement)):
                continue
            count += 1
            environment = plain if "pg_stat_statements" in statement else pods_
            done = subprocess.run(["psql", "-qXAt", "-v", "ON_ERROR_STOP=1", "-c", f"explain {statement}"], capture_output=True, text=True, check=False, env=environment)
            if done.returncode:
                faults.append(f"{path.stem}: {done.stderr.strip().splitlines()[0]}: {statement}")
    return count, faults


SUBSTITUTES = {"$__rate_interval": "1m", "$__range": "5m", "$__auto": "1m", "$__interval": "15s"}


def substitute(expr: str, variables: list[dict]) -> str:
    """The query as Grafana sends it with everything chosen."""
    for name, value in SUBSTITUTES.items():
        expr = expr.replace(name, value)
    for variable in variables:
        value = variable["query"] if variable["type"] == "constant" else ".+"
        expr = re.sub(r"\$\{?" + variable["name"] + r"\b\}?", value, expr)
    return expr


def recorded() -> dict[str, str]:
    """The expressions of recorded series, by name."""
    return {rule["record"]: rule["expr"] for _, _, rule in rules() if "record" in rule}


def raw(expr: str, records: dict[str, str]) -> set[str]:
    """The scraped metrics that a query needs in the end."""
    out, open_ = set(), names(expr)
    while open_:
        name = open_.pop()
        if name in records:
            open_ |= names(records[name]) - {name}
        else:
            out.add(name)
    return out - {"ALERTS"}


def ask_dashboards(base: str, at: float, stands: set[str]) -> tuple[int, int, int, list[str]]:
    """Runs every query. Gives how many returned data of the real thing, how many of a stand-in, how many need Loki, and those that returned nothing."""
    records, good, stood, lines, bad = recorded(), 0, 0, 0, []
    for path in sorted((MONITORING / "grafana/dashboards").glob("*.json")):
        board = json.loads(path.read_text(encoding="utf-8"))
        variables = board["templating"]["list"]
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                if target["datasource"]["type"] != "prometheus":
                    lines += 1
                    continue
                expr = substitute(target["expr"], variables)
                try:
                    answer = json.loads(get(f"{base}/api/v1/query", query=expr, time=f"{at:.3f}"))
                except urllib.error.HTTPError as error:
                    bad.append(f"{path.stem}: {panel['title']}: {error.read().decode()[:200]}: {expr}")
                    continue
                if not [item for item in answer["data"]["result"] if item["value"][1] != "NaN"]:
                    bad.append(f"{path.stem}: {panel['title']}: no data: {expr}")
                elif raw(expr, records) & stands:
                    stood += 1
                else:
                    good += 1
    return good, stood, lines, bad


def label_values(base: str) -> list[str]:
    """Variables whose list of values is empty."""
    empty = []
    for path in sorted((MONITORING / "grafana/dashboards").glob("*.json")):
        for variable in json.loads(path.read_text(encoding="utf-8"))["templating"]["list"]:
            match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable.get("definition", ""))
            if not match or variable["datasource"]["uid"] != "prometheus":
                continue
            found = json.loads(get(f"{base}/api/v1/query", query=f"count by ({match.group(2)}) ({match.group(1)})"))["data"]["result"]
            if not [item for item in found if item["metric"].get(match.group(2))]:
                empty.append(f"{path.stem}: ${variable['name']}")
    return empty


def scrape_list(text: str) -> list[str]:
    """name, type, labels of each metric family of a scrape."""
    kinds, labels = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ", 3)
            kinds[name] = kind
        elif line and not line.startswith("#"):
            match = re.match(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s", line)
            if not match:
                continue
            name, inside = match.group(1), match.group(2) or ""
            family = name
            for suffix in ("_bucket", "_sum", "_count"):
                if name.endswith(suffix) and kinds.get(name.removesuffix(suffix)) in ("histogram", "summary"):
                    family = name.removesuffix(suffix)
            if family not in kinds and kinds.get(family.removesuffix("_total")) == "counter":
                kinds[family] = "counter"
            found = labels.setdefault(family, set())
            found.update(re.findall(r'([a-zA-Z_][a-zA-Z0-9_]*)="(?:\\.|[^"\\])*"', inside))
    return sorted(f"{name}\t{kinds.get(name, 'untyped')}\t{','.join(sorted(labels[name] - {'le', 'quantile'})) or '-'}" for name in labels)


def update_lists(found: dict[str, str]) -> None:
    text = "\n".join(get(f"http://{found[pod]}/metrics") for pod in PODS)
    head = "# What the pods serve, from a scrape under load: name, type, labels. Written by scripts/ci/ops/live/observability.py --update.\n"
    fresh = {line.split("\t")[0]: line for line in scrape_list(text)}
    (MONITORING / "metrics.txt").write_text(head + "\n".join(fresh[name] for name in sorted(fresh)) + "\n", encoding="utf-8")
    sources = {"postgres-exporter": "postgres-exporter", "kafka-jmx": "kafka-jmx", "node-exporter": "node-exporter", "prometheus": "prometheus", "alertmanager": "alertmanager"}
    pages = {name: f"http://{found[job]}/metrics" for job, name in sources.items() if job in found}
    if "redis" in found:
        node = found["redis-nodes"].split(",", maxsplit=1)[0]
        pages["redis-exporter"] = f"http://{found['redis']}/scrape?target=redis://{node}"
    for name, url in pages.items():
        lines = scrape_list(get(url))
        (MONITORING / "metrics" / f"{name}.txt").write_text(f"# What {name} serves, from a scrape: name, type, labels. Written by scripts/ci/ops/live/observability.py --update.\n" + "\n".join(lines) + "\n",
                                                          encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("--bin", type=Path, default=Path(os.environ.get("CARGO_TARGET_DIR", Path.home() / ".cache/dreamscape/target")) / "debug")
    parser.add_argument("--seconds", type=int, default=100)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    wanted = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter", "prometheus-postgres-exporter", "prometheus-redis-exporter", "redis-server", "psql", "java", "mvn")
    lacking = [tool for tool in wanted if not shutil.which(tool)]
    if lacking:
        print(f"SKIP\tV19\tR-104,R-105,R-106,R-107,R-108\tlive metrics (not installed: {', '.join(lacking)})")
        return 0
    if not (options.bin / "core-pod").exists():
        print(f"SKIP\tV19\tR-105\tlive metrics (no pods in {options.bin})")
        return 0
    folder = Path(tempfile.mkdtemp(prefix="dreamscape-observability-"))
    os.chmod(folder, 0o755)
    stage, failed = Stage(folder), False
    # whoever ends this ends all that it started
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # the build may be replaced while this runs
    binaries = folder / "bin"
    binaries.mkdir()
    for name in (*PODS, "dreamscape"):
        shutil.copy2(options.bin / name, binaries / name)
    try:
        found: dict[str, str] = {}
        found |= postgres(stage)
        found |= redis(stage)
        found |= kafka(stage)
        if "brokers" not in found:
            print("SKIP\tV19\tR-104,R-105,R-106,R-107,R-108\tlive metrics (Maven could not fetch Kafka or its JMX agent)")
            return 0
        if shutil.which("prometheus-node-exporter"):
            port = stage.port()
            stage.start("node-exporter", ["prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{port}"])
            found["node-exporter"] = f"127.0.0.1:{port}"
        found |= pods(stage, binaries, found)
        for name, address in standins.serve().items():
            found.setdefault(name, address)
        base = prometheus(stage, found)
        found |= {"prometheus": base.removeprefix("http://")}
        manager = json.loads(get(f"{base}/api/v1/alertmanagers"))["data"]["activeAlertmanagers"]
        found["alertmanager"] = urllib.parse.urlparse(manager[0]["url"]).netloc if manager else found.get("alertmanager", "")
        log(f"running in {folder}; Prometheus at {base}")
        journeys = drive(binaries, found, options.seconds)
        # queries are asked about this moment, however long the checks between take
        loaded = time.time()
        log(f"{journeys} journeys")
        time.sleep(16)
        manager = json.loads(get(f"{base}/api/v1/alertmanagers"))["data"]["activeAlertmanagers"]
        found["alertmanager"] = urllib.parse.urlparse(manager[0]["url"]).netloc
        if options.update:
            update_lists(found)

        down = [t["scrapeUrl"] + ": " + t["lastError"] for t in json.loads(get(f"{base}/api/v1/targets"))["data"]["activeTargets"] if t["health"] != "up"]
        failed |= bool(down)
        print(f"{'FAIL' if down else 'PASS'}\tV19\tR-100\tevery target that runs here is scraped" + "".join(f"\n  {line}" for line in down))

        rules = [rule for group in json.loads(get(f"{base}/api/v1/rules"))["data"]["groups"] for rule in group["rules"]]
        sick = [f"{rule['name']}: {rule['lastError']}" for rule in rules if rule["health"] == "err"]
        failed |= bool(sick)
        print(f"{'FAIL' if sick else 'PASS'}\tV19\tR-102\t{len(rules)} rules evaluate against live series" + "".join(f"\n  {line}" for line in sick))

        # how fast answers are depends on what else this machine does
        firing = {a["labels"]["alertname"] for a in json.loads(get(f"{base}/api/v1/alerts"))["data"]["alerts"] if a["labels"]["category"] not in ("slo", "latency")}
        false = sorted(firing - EXPECTED)
        failed |= bool(false)
        print(f"{'FAIL' if false else 'PASS'}\tV19\tR-114\tno alert about a healthy platform" + (": " + ", ".join(false) if false else ""))

        told, end = set(), time.monotonic() + 60
        while "Watchdog" not in told and time.monotonic() < end:
            told = {a["labels"]["alertname"] for a in json.loads(get(f"http://{found['alertmanager']}/api/v2/alerts"))}
            time.sleep(1)
        failed |= "Watchdog" not in told
        print(f"{'PASS' if 'Watchdog' in told else 'FAIL'}\tV19\tR-113\tAlertmanager has what Prometheus sends")

        count, odd = read_messages()
        failed |= bool(odd)
        print(f"{'FAIL' if odd else 'PASS'}\tV5\tR-102\t{count} messages of firing alerts read well" + "".join(f"\n  {line}" for line in odd))

        count, wrong = ask_runbooks(found)
        failed |= bool(wrong)
        print(f"{'FAIL' if wrong else 'PASS'}\tV11\tR-153\t{count} statements of the runbooks fit the database" + "".join(f"\n  {line}" for line in wrong))

        lines = subprocess.run([str(ROOT / "scripts/ci/ops/monitoring-logs.sh"), *[str(stage.folder / f"{pod}.log") for pod in PODS]], capture_output=True, text=True, check=False)
        real = [line for line in lines.stdout.splitlines() if "real lines" in line]
        failed |= bool(lines.returncode) or len(real) != len(PODS)
        print("\n".join(real) or "FAIL\tV15\tR-112\tthe pods' lines were not tested")

        good, stood, of_loki, bad = ask_dashboards(base, loaded, standins.names())
        failed |= bool(bad)
        print(f"{'FAIL' if bad else 'PASS'}\tV19\tR-104,R-105,R-106,R-107,R-108\t{good} queries of the dashboards return data of the real thing" + "".join(f"\n  {line}" for line in bad))
        print(f"{'FAIL' if bad else 'PASS'}\tV13\tR-104,R-108,R-109\t{stood} queries return data with stand-ins of the documented shape for Traefik, MinIO, cAdvisor, kafka-exporter, autoscaler, backup")
        print(f"SKIP\tV19\tR-110\t{of_loki} queries need Loki, not to be had here")
        empty = label_values(base)
        failed |= bool(empty)
        print(f"{'FAIL' if empty else 'PASS'}\tV19\tR-104\tevery choice at the top of a dashboard has values" + (": " + ", ".join(empty) if empty else ""))
        if options.keep:
            log("Ctrl-C stops everything")
            signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        stage.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
