"""Checks of monitoring/alertmanager.yml: valid, routed as promised, and really delivered by a running Alertmanager.

contract: operations R-113, R-115, R-139, R-140, §6.11
"""
from __future__ import annotations

import base64
import http.server
import json
import quopri
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from datetime import datetime, timedelta, timezone
from pathlib import Path

import yaml

from common import MONITORING, Report, alerts, missing, run

report = Report()
FULL = {
    "SMTP_SMARTHOST": "mail.example.org:587", "SMTP_FROM": "alerts@example.org", "SMTP_USERNAME": "alerts", "SLACK_CHANNEL": "#dreamscape-alerts",
    "ALERT_EMAIL_TO": "devops@example.org", "PAGERDUTY_ENABLED": "true", "HEARTBEAT_URL": "https://heartbeat.example.org/dreamscape",
}


def rendered(**values: str) -> str:
    code, text = run(sys.executable, str(MONITORING / "render.py"), str(MONITORING / "alertmanager.yml"), *[f"{name}={value}" for name, value in values.items()])
    if code:
        raise SystemExit(text)
    return text


def kinds(receiver: dict) -> set[str]:
    return {key.removesuffix("_configs") for key in receiver if key.endswith("_configs")}


def content() -> None:
    text = (MONITORING / "alertmanager.yml").read_text(encoding="utf-8")
    config = yaml.safe_load(rendered(**FULL))
    receivers = {item["name"]: kinds(item) for item in config["receivers"]}
    want = {"critical": {"pagerduty", "slack", "email"}, "warning": {"slack", "email"}, "info": {"slack"}, "watchdog": {"webhook"}}
    report.check("V6", "R-113,R-139", "PagerDuty for critical only, Slack for all, e-mail for critical and warning",
                 [f"{name} tells {sorted(receivers.get(name, set()))}" for name in want if receivers.get(name) != want[name]])
    faults = [f"{key} is in the file" for key in re.findall(r"^\s*(\w*(?:password|secret|token|api_url|routing_key|service_key))\s*:", text, re.M)]
    for key in ("smtp_auth_password_file", "slack_api_url_file", "routing_key_file"):
        if key not in text:
            faults.append(f"no {key}")
    report.check("V6", "R-115", "credentials are files", faults)
    faults = []
    if re.search(r"[\w.]+@[\w.]+", text) or "devops@" in text:
        faults.append("an address is in the file")
    if config["route"]["group_by"] != ["alertname", "pod", "service"]:
        faults.append("group_by")
    report.check("V6", "R-140", "whom to tell is configured, not written down", faults)
    times = {route["matchers"][0]: route for route in config["route"]["routes"]}
    faults = []
    if (config["route"]["group_wait"], config["route"]["group_interval"], config["route"]["repeat_interval"]) != ("30s", "5m", "4h"):
        faults.append("wait 30s, interval 5m, repeat 4h")
    if times['severity = "critical"']["repeat_interval"] != "1h":
        faults.append("critical is not repeated every hour")
    names = {rule["alert"] for _, _, rule in alerts()}
    for rule in config["inhibit_rules"]:
        for side in ("source_matchers", "target_matchers"):
            for matcher in rule[side]:
                found = re.match(r'alertname =(~?) "(.+)"', matcher)
                if found and not any(re.fullmatch(found.group(2), name) for name in names):
                    faults.append(f"inhibition names no alert: {matcher}")
    report.check("V6", "R-113", "times and inhibitions are those of the contract and name alerts that exist", faults)


def routes(folder: Path) -> None:
    if missing("amtool"):
        report.skip("V6", "R-113", "configuration and routes (amtool is not installed)")
        return
    shutil.copytree(MONITORING / "templates", folder / "templates")
    faults = []
    for name, values in (("everything", FULL), ("nothing", {}), ("slack", {"SLACK_CHANNEL": "#x"}), ("mail", {k: v for k, v in FULL.items() if "SMTP" in k or "MAIL" in k})):
        path = folder / f"{name}.yml"
        path.write_text(rendered(**values), encoding="utf-8")
        code, said = run("amtool", "check-config", str(path))
        if code:
            faults.append(f"with {name} configured: {said.strip()}")
    report.check("V6", "R-113", "valid with every way configured, with none, and with some", faults)
    faults, count = [], 0
    for line in (MONITORING / "tests/alert-routes.txt").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        labels, _, receiver = line.partition(" => ")
        count += 1
        code, said = run("amtool", "config", "routes", "test", f"--config.file={folder / 'everything.yml'}", f"--verify.receivers={receiver}", *labels.split())
        if code:
            faults.append(f"{labels}: {said.strip()} instead of {receiver}")
    report.check("V6", "R-113", f"{count} alerts go where they should", faults)


class Sink(http.server.BaseHTTPRequestHandler):
    """Stands for Slack, PagerDuty and the heartbeat."""

    got: list[tuple[str, dict]] = []

    def do_POST(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Sink.got.append((self.path, json.loads(body)))
        answer = b'{"status":"success","dedup_key":"x"}'
        self.send_response(202 if "enqueue" in self.path else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_args) -> None:
        pass


def mail_server() -> tuple[int, list[str]]:
    """A server that takes every mail."""
    got: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            link, _ = listener.accept()
            with link, link.makefile("rwb") as stream:
                def say(text: str) -> None:
                    stream.write(text.encode() + b"\r\n")
                    stream.flush()
                say("220 test")
                while line := stream.readline():
                    word = line.split()[0].upper() if line.split() else b""
                    if word == b"DATA":
                        say("354 go on")
                        lines = []
                        while (text := stream.readline()) not in (b".\r\n", b""):
                            lines.append(text)
                        got.append(b"".join(lines).decode())
                    if word == b"QUIT":
                        say("221 bye")
                        break
                    say("250 ok")

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1], got


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def delivery(folder: Path) -> None:
    """Three alerts into a real Alertmanager: who is told, and what do the messages look like?"""
    if missing("prometheus-alertmanager"):
        report.skip("V6", "R-113", "delivery (prometheus-alertmanager is not installed)")
        return
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    web, (mail, mails) = f"http://127.0.0.1:{server.server_port}", mail_server()
    (folder / "slack").write_text(f"{web}/slack\n", encoding="utf-8")
    (folder / "pagerduty").write_text("a" * 32 + "\n", encoding="utf-8")
    config = yaml.safe_load(rendered(**{**FULL, "SMTP_SMARTHOST": f"127.0.0.1:{mail}", "SMTP_USERNAME": "", "HEARTBEAT_URL": f"{web}/heartbeat"}))
    config["global"].update(slack_api_url_file=str(folder / "slack"), pagerduty_url=f"{web}/enqueue", smtp_require_tls=False)
    for receiver in config["receivers"]:
        for item in receiver.get("pagerduty_configs", []):
            item["routing_key_file"] = str(folder / "pagerduty")
    for route in [config["route"], *config["route"]["routes"]]:
        if "group_wait" in route:
            route["group_wait"] = "200ms"
    (folder / "live.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    port = free_port()
    process = subprocess.Popen(["prometheus-alertmanager", f"--config.file={folder / 'live.yml'}", f"--storage.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
                                "--cluster.listen-address=", "--log.level=warn", "--web.external-url=https://alerts.example.org"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        base = f"http://127.0.0.1:{port}"
        for _ in range(100):
            try:
                urllib.request.urlopen(f"{base}/-/ready", timeout=1)
                break
            except OSError:
                time.sleep(0.1)
        now = datetime.now(timezone.utc)
        notes = {"summary": "core-pod is down", "description": "Nobody answers.", "runbook_url": "docs/runbooks/ServiceDown.md"}
        posted = [
            {"alertname": "ServiceDown", "severity": "critical", "pod": "core-pod"},
            # silenced by the one above
            {"alertname": "HighErrorRate", "severity": "warning", "pod": "core-pod", "service": "auth-service"},
            {"alertname": "ReplicationLag", "severity": "warning", "application_name": "standby_1"},
            {"alertname": "HighClientErrorRate", "severity": "info", "service": "web", "pod": "experience-pod"},
            {"alertname": "Watchdog", "severity": "none"},
        ]
        body = [{"labels": labels, "annotations": notes, "startsAt": now.isoformat(), "endsAt": (now + timedelta(hours=1)).isoformat()} for labels in posted]
        urllib.request.urlopen(urllib.request.Request(f"{base}/api/v2/alerts", json.dumps(body).encode(), {"Content-Type": "application/json"}), timeout=5)
        end = time.monotonic() + 12
        while time.monotonic() < end and (len(mails) < 2 or len([1 for path, _ in Sink.got if path == "/slack"]) < 3 or not any(p == "/heartbeat" for p, _ in Sink.got)
                                           or not any(p == "/enqueue" for p, _ in Sink.got)):
            time.sleep(0.1)
        time.sleep(0.5)
    finally:
        process.terminate()
        errors = [line for line in (process.communicate()[1] or "").splitlines() if "level=error" in line or "level=warn" in line]
        server.shutdown()
    slack = [json.dumps(body, ensure_ascii=False) for path, body in Sink.got if path == "/slack"]
    pages = [json.dumps(body, ensure_ascii=False) for path, body in Sink.got if path == "/enqueue"]
    beats = [body for path, body in Sink.got if path == "/heartbeat"]
    texts = []
    for mail_text in mails:
        encoded = mail_text.split("\r\n\r\n", 1)[1]
        texts.append(mail_text + quopri.decodestring(encoded.encode()).decode(errors="replace"))
    faults = [f"Alertmanager says: {line[:300]}" for line in errors]
    if len(pages) != 1 or "ServiceDown" not in pages[0]:
        faults.append(f"PagerDuty was told {len(pages)} times, not once of ServiceDown")
    if len(slack) != 3:
        faults.append(f"Slack was told {len(slack)} times, not 3")
    if len(mails) != 2 or any("HighClientErrorRate" in text for text in texts):
        faults.append(f"{len(mails)} mails, not 2 about critical and warning")
    if not beats:
        faults.append("no heartbeat")
    if any("HighErrorRate" in text for text in (*slack, *pages, *texts)):
        faults.append("a symptom of ServiceDown was told although it is inhibited")
    report.check("V6", "R-113,R-139", "a running Alertmanager tells Slack, PagerDuty, e-mail and the heartbeat as it should", faults)
    faults = []
    # the runbook of each names ServiceDown, and they come in any order
    one = next((text for text in slack if "CRITICAL ServiceDown" in text), "")
    for part in ("[FIRING 1] CRITICAL ServiceDown · core-pod", "core-pod is down", "docs/runbooks/ServiceDown.md", "#dreamscape-alerts", "https://alerts.example.org/#/alerts"):
        if part not in one:
            faults.append(f"Slack: {part} is missing in {one[:400]}")
    letter = next((text for text in texts if "ServiceDown" in text and "ReplicationLag" not in text), "")
    for part in ("To: devops@example.org", "core-pod is down", "docs/runbooks/ServiceDown.md", "<table"):
        if part not in letter:
            faults.append(f"mail: {part} is missing")
    subject = re.search(r"^Subject: (.*(?:\r\n .*)*)", letter, re.M)
    decoded = ""
    if subject:
        raw = re.sub(r"\s+", " ", subject.group(1))
        decoded = "".join(quopri.decodestring(part.replace("_", " ")).decode() if kind.lower() == "q" else base64.b64decode(part).decode()
                          for kind, part in re.findall(r"=\?utf-8\?(.)\?(.*?)\?=", raw, re.I)) or raw
    if "CRITICAL ServiceDown" not in decoded:
        faults.append(f"mail: the subject is {decoded!r}")
    if pages and "docs/runbooks/ServiceDown.md" not in pages[0]:
        faults.append("PagerDuty: no runbook")
    report.check("V6", "R-113", "messages say what, where, how bad, and where the runbook is", faults)


content()
with tempfile.TemporaryDirectory(prefix="dreamscape-alertmanager-") as name:
    routes(Path(name))
    delivery(Path(name))
sys.stdout.flush()
report.end()
