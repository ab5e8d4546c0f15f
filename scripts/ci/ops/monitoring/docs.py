"""Checks of docs/runbooks and docs/KAFKA-MONITORING.md. contract: operations R-152, R-153, §8 U-06"""
from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import yaml

from common import ROOT, RUNBOOKS, Report, alerts, known_metrics, missing, names, run

report = Report()
HEADINGS = ["## What it means", "## What users notice", "## Check", "## Mend", "## Escalate"]
pages = {path.stem: path.read_text(encoding="utf-8") for path in sorted(RUNBOOKS.glob("*.md")) if path.stem != "README"}
rules = {}
for file, _, rule in alerts():
    rules.setdefault(rule["alert"], []).append((file, rule))

faults = [f"{name} has no page" for name in rules if name not in pages] + [f"{name}.md belongs to no alert" for name in pages if name not in rules]
for name, items in rules.items():
    for _, rule in items:
        url = rule["annotations"]["runbook_url"]
        if url != f"docs/runbooks/{name}.md" or not (ROOT / url).exists():
            faults.append(f"{name}: {url}")
report.check("V5", "R-152", f"each of {len(rules)} alerts has its page, each page its alert", faults)

faults = []
for name, text in pages.items():
    at = [text.find(f"\n{heading}\n") for heading in HEADINGS]
    if not text.startswith(f"# {name}\n") or -1 in at or at != sorted(at):
        faults.append(f"{name}: title or headings")
        continue
    for heading, here, there in zip(HEADINGS, at, [*at[1:], len(text)]):
        if len(text[here + len(heading):there].strip()) < 5:
            faults.append(f"{name}: nothing under {heading}")
    wanted = " and ".join(dict.fromkeys(rule["labels"]["severity"] for _, rule in rules.get(name, [])))
    if f"Severity: {wanted}." not in text:
        faults.append(f"{name}: its severity is {wanted}")
    if name not in (RUNBOOKS / "README.md").read_text(encoding="utf-8"):
        faults.append(f"{name}: not in the index")
report.check("V5", "R-152", "pages say what it means, what users notice, how to check and mend, when to escalate", faults)

faults, queries, known = [], [], known_metrics()
for name, text in pages.items():
    for query in re.findall(r"^prom '([^']+)'", text, re.M):
        queries.append((name, query))
        faults += [f"{name}: nobody serves {metric}" for metric in sorted(names(query)) if metric not in known]
report.check("V19", "R-153", f"every series of {len(queries)} queries on the pages is served by somebody", faults)
if missing("promtool"):
    report.skip("V5", "R-153", "queries on the pages parse (promtool is not installed)")
else:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "q.yml"
        path.write_text(yaml.safe_dump({"groups": [{"name": "q", "rules": [{"record": f"q:{at}", "expr": expr} for at, (_, expr) in enumerate(queries)]}]}), encoding="utf-8")
        code, said = run("promtool", "check", "rules", "--lint=none", str(path))
    report.check("V5", "R-153", "queries on the pages parse", [said.strip()[-400:]] if code else [])

if missing("bash"):
    report.skip("V8", "R-153", "commands on the pages parse (no bash)")
else:
    faults = []
    for name, text in {**pages, "README": (RUNBOOKS / "README.md").read_text(encoding="utf-8")}.items():
        for block in re.findall(r"```sh\n(.*?)```", text, re.S):
            code, said = run("bash", "-n", "-c", block)
            if code:
                faults.append(f"{name}: {said.strip()}")
    report.check("V8", "R-153", "commands on the pages parse", faults)

absent = sorted({script for text in pages.values() for script in re.findall(r"scripts/[\w./-]+\.sh", text) if not (ROOT / script).exists()})
if absent and not (ROOT / "scripts/production/deploy.sh").exists():
    report.skip("V8", "R-153", f"scripts that the pages name exist (not yet here: {', '.join(absent)})")
else:
    report.check("V8", "R-153", "scripts that the pages name exist", [f"no {script}" for script in absent])

kafka = (ROOT / "docs/KAFKA-MONITORING.md").read_text(encoding="utf-8")
fixed = ["## Architecture de Monitoring", "## Métriques Collectées (DR-261)", "## Dashboards Grafana (DR-262)", "## Alertes Kafka (DR-263)", "### Troubleshooting"]
faults = [f"no heading {heading}" for heading in fixed if f"\n{heading}\n" not in kafka]
faults += [f"{name} is not mentioned" for name, items in rules.items() if items[0][0].name == "kafka-alerts.yaml" and name not in kafka]
faults += [f"nobody serves {metric}" for metric in re.findall(r"`((?:kafka|outbox|jvm)_[a-z_]+[a-z])(?:\{[^`]*\})?`", kafka)
           if metric not in known and not re.fullmatch("kafka_(availability|performance|throughput|errors|disk)", metric)]
report.check("V5", "R-108", "docs/KAFKA-MONITORING.md has its fixed headings, all alerts, and metrics that exist", faults)
sys.stdout.flush()
report.end()
