#!/usr/bin/env python3
"""The documents of operations: the tree they promise, headings, links, commands, and the table of acceptance.

Usage: docs.py
"""

import csv
import os
import re
import subprocess
import sys

import stack
from stack import ROOT

TREE = """compose/docker-compose.bigpods.prod.yml docker/core-pod/Dockerfile.prod docker/business-pod/Dockerfile.prod
docker/experience-pod/Dockerfile.prod monitoring/prometheus.yml monitoring/grafana/datasources.yml monitoring/grafana/dashboards
monitoring/loki-config.yml monitoring/promtail-config.yml monitoring/alertmanager.yml scripts/production/init-secrets.sh
scripts/production/deploy.sh scripts/bigpods/prod-bigpods.sh scripts/bigpods/generate-prod-secret.sh scripts/bigpods/smoke-prod-test.sh
scripts/postgres-init-prod.sql docs/PRODUCTION-DEPLOYMENT.md .env.prod.example PRODUCTION-README.md docker/traefik/traefik.yml
docker/traefik/dynamic/middlewares.yml docker/traefik/dynamic/tls.yml compose/docker-compose.traefik-v2.10.yml
compose/docker-compose.alloy.yml compose/docker-compose.redis-6.yml compose/docker-compose.profile-small.yml
compose/docker-compose.dev.yml docker/postgres/postgresql.prod.conf docker/postgres/pg_hba.conf docker/postgres/primary-entrypoint.sh
docker/postgres/replica-entrypoint.sh docker/redis/redis.conf docker/redis/entrypoint.sh docker/redis/cluster-init.sh
docker/kafka/Dockerfile docker/kafka/topics.txt docker/kafka/create-topics.sh docker/minio/Dockerfile docker/minio/init.sh
docker/autoscaler/policy.yml docs/KAFKA-MONITORING.md docs/runbooks scripts/bigpods/lib/common.sh
scripts/.dreamscape.config.yml""".split()
ABSENT = ("nginx.prod.conf", "supervisord.prod.conf")
PAGES = ["PRODUCTION-README.md", "docs/PRODUCTION-DEPLOYMENT.md", "compose/README.md", "docker/README.md"]
HEADINGS = ["Setup", "Architecture", "Operation", "Security practices", "Tuning", "Maintenance", "Troubleshooting"]
# Commands of others that the pages may name without a script of ours.
ENGINE = {"rollback": "docker service rollback dreamscape_", "update": "docker service update --image", "remove": "docker stack rm dreamscape",
          "logs": "docker service logs -f dreamscape_"}


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def pages():
    return {path: read(path) for path in PAGES} | {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
                                                   for path in sorted((ROOT / "docs/runbooks").glob("*.md"))}


def tree():
    for path in TREE:
        if not (ROOT / path).exists():
            yield f"{path} is missing"
    for name in ABSENT:
        for found in ROOT.glob(f"docker/**/{name}"):
            yield f"{found.relative_to(ROOT)} is there: the pod's own process does its work"


def headings():
    found = re.findall(r"^## (.+)$", read("docs/PRODUCTION-DEPLOYMENT.md"), re.M)
    for name in HEADINGS:
        if name not in found:
            yield f"no chapter {name}"
    if read("docs/PRODUCTION-DEPLOYMENT.md").count("```mermaid") < 2:
        yield "no diagrams of the architecture"


def links():
    done = subprocess.run([sys.executable, ROOT / "scripts/ci/links.py"], capture_output=True, text=True, check=False)
    if done.returncode:
        yield " ".join(done.stderr.split())


def commands():
    for page, text in pages().items():
        for script in set(re.findall(r"(?<![\w./])(?:\./)?((?:scripts/[\w/.-]+|[\w-]+-bigpods|init-secrets|deploy|backup|restore|promote-standby)\.sh)\b", text)):
            name = script.rsplit("/", 1)[-1]
            places = [script] if "/" in script else [f"scripts/production/{name}", f"scripts/bigpods/{name}", f"docker/backup/{name}"]
            if not any((ROOT / place).exists() for place in places):
                yield f"{page}: there is no {script}"
            elif not any(os.access(ROOT / place, os.X_OK) for place in places):
                yield f"{page}: {script} cannot be run"


def options():
    """Every option that a page gives to a script of ours is one that the script's --help names."""
    helps = {}
    for page, text in pages().items():
        for script, rest in re.findall(r"(?:\./|scripts/(?:production|bigpods)/)([\w-]+\.sh)([^\n`&|#]*)", text):
            place = next((p for p in (f"scripts/production/{script}", f"scripts/bigpods/{script}") if (ROOT / p).exists()), None)
            if place is None:
                continue
            if place not in helps:
                helps[place] = subprocess.run([ROOT / place, "--help"], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False).stdout
                if "options of build" not in helps[place] and "init-secrets.sh" in helps[place]:
                    helps[place] += subprocess.run([ROOT / "scripts/production/init-secrets.sh", "--help"], capture_output=True, text=True, check=False).stdout
            for option in re.findall(r"(?<!\w)--[a-z][\w-]*", rest):
                if option != "--help" and option not in helps[place]:
                    yield f"{page}: {script} knows no {option}"


def engine_commands():
    text = read("docs/PRODUCTION-DEPLOYMENT.md")
    for name, command in ENGINE.items():
        if command not in text:
            yield f"{name}: {command} is not described"


def label_filter():
    for page, text in (pages() | {"docs/KAFKA-MONITORING.md": read("docs/KAFKA-MONITORING.md")}).items():
        for line in text.splitlines():
            if re.search(r"docker ps\b.*(?:-f|--filter)[ =]\"?name=", line):
                yield f"{page}: {line.strip()} may find several services"
    if "com.docker.swarm.service.name=dreamscape_postgres-primary" not in read("docs/PRODUCTION-DEPLOYMENT.md"):
        yield "the label filter of the primary is not described"


def acceptance():
    text = read("PRODUCTION-README.md")
    table = text[text.index("## Acceptance"):text.index("## Proof")]
    rows = [line for line in table.splitlines() if re.match(r"\| (\d|\+) \|", line)]
    criteria = [row for row in rows if not row.startswith("| + ")]
    if (len(criteria), len(rows) - len(criteria)) != (6, 9):
        yield f"{len(criteria)} criteria and {len(rows) - len(criteria)} extras"
    with open(ROOT / "docs/conformance/operations-requirements.csv", encoding="utf-8") as file:
        known = [row["number"] for row in csv.DictReader(file)]
    mapped = set()
    for first, last in re.findall(r"(R-\d{3})(?: – (R-\d{3}))?", "\n".join(row for row in rows if "Proof without" not in row)):
        hit = [number for number in known if first <= number <= (last or first)]
        if not hit or first not in known or (last and last not in known):
            yield f"{first}{' – ' + last if last else ''} are not requirements"
        mapped |= set(hit)
    for number in known:
        if number not in mapped:
            yield f"{number} is in no row"


def catalogue():
    with open(ROOT / "docs/conformance/operations-requirements.csv", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if not (ROOT / row["file"]).exists():
                yield f"{row['number']}: {row['file']} is missing"


CHECKS = [
    ("R-150", f"the {len(TREE)} files and folders of the production tree are there, NGINX's and supervisord's are not", tree),
    ("R-151", "PRODUCTION-DEPLOYMENT.md: setup, diagrams, operation, security, tuning, maintenance, troubleshooting", headings),
    ("R-153", "every link of every document resolves", links),
    ("R-153", "every script that a page of operations names is there and can be run", commands),
    ("R-153", "every option that a page gives to a script is one the script knows", options),
    ("R-132", "rollback, update of an image, removal and logs are described as the engine takes them", engine_commands),
    ("R-135", "containers are found by the label of their service, never by a part of a name", label_filter),
    ("R-154", "six criteria and nine extras, every requirement in one of them", acceptance),
    ("R-150", "the file that satisfies each requirement is there", catalogue),
]


def main():
    failed = False
    for requirement, text, function in CHECKS:
        try:
            problems = list(function())
        except (OSError, ValueError) as error:
            problems = [f"{type(error).__name__}: {error}"]
        failed |= bool(problems)
        stack.report("FAIL" if problems else "PASS", "-", requirement, text + (": " + "; ".join(problems[:6]) if problems else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
