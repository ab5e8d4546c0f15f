#!/usr/bin/env python3
"""V20: the platform of this build, running: health under every path that Traefik asks, headers, compression, metrics, and the end.

Starts the launcher on free ports with a folder of its own, asks, sends SIGTERM, and waits for exit code 0.
Usage: live.py
"""

import gzip
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import pods
import stack
from stack_lint import HEALTH

PORTS = ("GATEWAY_PORT", "AUTH_PORT", "USER_PORT", "VOYAGE_PORT", "PAYMENT_PORT", "AI_PORT", "BUSINESS_PORT", "WEB_PORT",
         "CORE_METRICS_PORT", "BUSINESS_METRICS_PORT", "EXPERIENCE_METRICS_PORT")
POD_OF = {"auth": "GATEWAY_PORT", "users": "GATEWAY_PORT", "voyage": "BUSINESS_PORT", "payment": "BUSINESS_PORT", "ai": "BUSINESS_PORT",
          "gateway": "WEB_PORT"}
# what rules, dashboards and the autoscaler live of (operations §6.10)
METRICS = {"CORE_METRICS_PORT": ("http_requests_total", "http_request_duration_seconds_bucket", "http_requests_in_flight",
                                 "dreamscape_health_status", "db_pool_connections", "dreamscape_build_info", "dreamscape_concurrent_users"),
           "BUSINESS_METRICS_PORT": ("http_requests_total", "dreamscape_health_status", "db_pool_connections", "dreamscape_saga_oldest_age_seconds",
                                     "dreamscape_ai_queue_length"),
           "EXPERIENCE_METRICS_PORT": ("http_requests_total", "dreamscape_health_status")}


def free_ports(names):
    held = [(name, socket.create_server(("127.0.0.1", 0))) for name in names]
    ports = {name: str(server.getsockname()[1]) for name, server in held}
    for _name, server in held:
        server.close()
    return ports


def ask(port, path, **headers):
    """Status, headers, body."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.headers, answer.read()


class Checks:
    failed = False

    def show(self, requirements, text, problems):
        problems = list(problems)
        self.failed |= bool(problems)
        stack.report("FAIL" if problems else "PASS", "V20", requirements, text + (": " + "; ".join(problems[:6]) if problems else ""))


def services_are_well(ports):
    for name, port in POD_OF.items():
        status, _headers, body = ask(ports[port], HEALTH[name])
        if status not in (200, 206) or b"status" not in body:
            yield f"{name}: {HEALTH[name]} answers {status}"


def pods_are_well(ports):
    for port in ("GATEWAY_PORT", "BUSINESS_PORT", "WEB_PORT"):
        for path in ("/health", "/health/live", "/health/ready"):
            status, _headers, _body = ask(ports[port], path)
            if status != 200:
                yield f"{port.split('_')[0].lower()}: {path} answers {status}"


def internal_stays_internal(ports):
    for port in ("GATEWAY_PORT", "BUSINESS_PORT", "WEB_PORT"):
        for path in ("/metrics", "/status"):
            if ask(ports[port], path)[0] != 404:
                yield f"{path} is public on {port}"


def security_headers(ports):
    wanted = {"x-content-type-options": "nosniff", "x-frame-options": "SAMEORIGIN", "referrer-policy": "no-referrer",
              "cross-origin-opener-policy": "same-origin"}
    for port in ("GATEWAY_PORT", "BUSINESS_PORT"):
        _status, headers, _body = ask(ports[port], "/health")
        for name, value in wanted.items():
            if headers.get(name) != value:
                yield f"{port}: {name} is {headers.get(name)}"
        for name in ("server", "x-powered-by"):
            if headers.get(name):
                yield f"{port}: {name} is told"


def compression(ports):
    for port in ("GATEWAY_PORT", "WEB_PORT"):
        _status, headers, body = ask(ports[port], "/api/v1/openapi.json", **{"Accept-Encoding": "gzip"})
        if headers.get("content-encoding") != "gzip" or "paths" not in json.loads(gzip.decompress(body)):
            yield f"{port}: content-encoding is {headers.get('content-encoding')}, not gzip"
        _status, headers, body = ask(ports[port], "/api/v1/openapi.json", **{"Accept-Encoding": "br, gzip"})
        vary = ", ".join(headers.get_all("vary") or []).lower()
        if headers.get("content-encoding") != "br" or "accept-encoding" not in vary:
            yield f"{port}: content-encoding is {headers.get('content-encoding')}, not br; vary is {vary}"
        _status, headers, body = ask(ports[port], "/api/v1/openapi.json")
        if headers.get("content-encoding") or "paths" not in json.loads(body):
            yield f"{port}: {headers.get('content-encoding')} for who asked for nothing"


def caching(ports):
    for path, wanted in (("/api/v1/auth/profile", "no-store"), ("/api/v1/openapi.json", "max-age")):
        found = ask(ports["GATEWAY_PORT"], path)[1].get("cache-control", "")
        if wanted not in found:
            yield f"{path}: cache-control is {found!r}"


def metrics(ports):
    # some are there only after a first round of what they tell about
    end = time.monotonic() + 90
    while any(missing_metrics(ports)) and time.monotonic() < end:
        time.sleep(1)
    yield from missing_metrics(ports)


def missing_metrics(ports):
    for port, names in METRICS.items():
        _status, headers, body = ask(ports[port], "/metrics")
        if not headers.get("content-type", "").startswith(("text/plain", "application/openmetrics-text")):
            yield f"{port}: content type {headers.get('content-type')}"
        served = set(re.findall(rb"^([a-z_]+)(?:\{| )", body, re.M))
        for name in names:
            if name.encode() not in served:
                yield f"{port}: no {name}"


def run(binary, folder):
    checks = Checks()
    ports = free_ports(PORTS)
    copy = folder / binary.name
    shutil.copy(binary, copy)
    env = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG", "USER")}
    log = open(folder / "log", "wb")
    process = subprocess.Popen([copy, "run"], env=env | ports | {"DREAMSCAPE_DATA": str(folder / "data")}, stdout=log, stderr=log,
                               stdin=subprocess.DEVNULL, cwd=folder)
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                if all(ask(ports[port], "/health/ready")[0] == 200 for port in ("GATEWAY_PORT", "BUSINESS_PORT", "WEB_PORT")):
                    break
            except OSError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                stack.report("SKIP", "V20", "R-003,R-008,R-012,R-136", "the running platform (it did not come up: "
                             + " ".join((folder / "log").read_text(errors="replace").splitlines()[-1:])[:200] + ")")
                return False
            time.sleep(0.2)
        checks.show("R-003,R-008,R-012,R-007", "each pod answers health, liveness and readiness on its public listener", pods_are_well(ports))
        checks.show("R-003,R-008,R-012,R-136", "each service answers its health where Traefik's short names lead", services_are_well(ports))
        checks.show("R-086,R-136", "metrics and status are on no public listener", internal_stays_internal(ports))
        checks.show("R-028", "security headers of the API, no Server, no X-Powered-By", security_headers(ports))
        checks.show("R-015,R-024", "the core pod compresses documents (br, gzip), and the experience pod passes them on so", compression(ports))
        checks.show("R-025", "Cache-Control: no-store for accounts, a time for documents", caching(ports))
        checks.show("R-100,R-105,R-121,R-122", "each pod serves the metrics that rules, dashboards and the autoscaler read", metrics(ports))
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(timeout=45)
            problems = [] if code == 0 else [f"exit code {code}"]
        except subprocess.TimeoutExpired:
            problems = ["it runs on after 45 s"]
        checks.show("R-130", "SIGTERM ends it with 0 within 45 s", problems)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        log.close()
    return checks.failed


def main():
    # the one with embedded back ends, which a release build may lack
    binary = pods.program("dreamscape", ["debug"])
    if binary is None:
        stack.report("SKIP", "V20", "R-003,R-008,R-012,R-136", "the running platform (the launcher is not built)")
        return 0
    folder = pathlib.Path(tempfile.mkdtemp(prefix="live-"))
    folder.chmod(0o755)  # PostgreSQL runs as another account where this runs as root
    try:
        return 1 if run(binary, folder) else 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
