"""Runs schemathesis against the platform on free ports, with data of its own; see scripts/schemathesis.sh.

Usage: schemathesis.py ST BINARIES
"""

import fcntl
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

PORTS = [
    "GATEWAY_PORT", "AUTH_PORT", "USER_PORT", "VOYAGE_PORT", "PAYMENT_PORT", "AI_PORT", "WEB_PORT", "BUSINESS_PORT",
    "CORE_METRICS_PORT", "BUSINESS_METRICS_PORT", "EXPERIENCE_METRICS_PORT",
]
CHECKS = "not_a_server_error,response_schema_conformance,content_type_conformance"
# what ends the caller's own session or account is asked by strangers only
FATAL = (
    r"/auth/(logout|logout-all|change-password|sessions|mfa|passkeys|reauthenticate)"
    r"|/gdpr/(data-deletion|delete-account|account|request|requests)|^/api/v1/users/profile$"
)
PASSWORD = "Dream-scape-1!"


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def call(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def wait_for(url, process):
    for _ in range(1200):
        if process.poll() is not None:
            sys.exit("the platform ended instead of becoming ready")
        try:
            call(url)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    sys.exit(f"{url} was never ready")


def token(base, email, register):
    body = {"email": email, "password": PASSWORD if register else "Dreamscape1!", "firstName": "Ada"}
    path = "register" if register else "login"
    for _ in range(100):
        try:
            return call(f"{base}/api/v1/auth/{path}", body)["data"]["tokens"]["accessToken"]
        except urllib.error.HTTPError as error:
            # demo accounts are made soon after the start
            if register or error.code != 401:
                raise
            time.sleep(0.2)
    sys.exit(f"{email} cannot sign in")


def document(binaries, folder):
    """The core pod's document as a file, without what only services may ask."""
    text = subprocess.run([f"{binaries}/core-pod", "openapi"], capture_output=True, text=True, check=True).stdout
    described = json.loads(text)
    for path in list(described["paths"]):
        item = described["paths"][path]
        for method in list(item):
            ways = item[method].get("security") or []
            if ways and all(set(way) == {"service"} for way in ways):
                del item[method]
        if not item:
            del described["paths"][path]
    file = pathlib.Path(folder, "openapi.json")
    file.write_text(json.dumps(described))
    return file


def keeper_gone(lock):
    """Waits for the process that stops the embedded servers after the platform, so that nobody writes to the folder any more."""
    if not lock.exists():
        return
    with open(lock) as held:
        for _ in range(300):
            try:
                return fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.1)


def main():
    st, binaries = sys.argv[1:3]
    seconds = os.environ.get("SCHEMATHESIS_SECONDS", "25")
    with tempfile.TemporaryDirectory(prefix="dreamscape-st") as folder:
        os.chmod(folder, 0o755)
        settings = dict(zip(PORTS, map(str, free_ports(len(PORTS)))))
        base = f"http://127.0.0.1:{settings['GATEWAY_PORT']}"
        environment = {key: value for key, value in os.environ.items() if key not in ("DATABASE_URL", "APP_ENV", "NODE_ENV")}
        environment |= settings | {
            "DREAMSCAPE_DATA": f"{folder}/data", "RATE_LIMIT_MULTIPLIER": "1000000", "LOG_LEVEL": "error",
            "PASSWORD_HASH_QUEUE": "1000",
        }
        log = open(f"{folder}/log", "w+")
        platform = subprocess.Popen([f"{binaries}/dreamscape", "run"], env=environment, stdout=log, stderr=log, cwd=folder)
        try:
            wait_for(f"{base}/health/ready", platform)
            file = document(binaries, folder)
            callers = [
                ("a stranger", None, None),
                ("a traveller", token(base, "st.traveller@example.com", True), FATAL),
                ("an administrator", token(base, "admin@dreamscape.dev", False), FATAL),
            ]
            failed = False
            for name, bearer, without in callers:
                print(f"\n== schemathesis as {name}", flush=True)
                # one worker: Python 3.11 cannot parse on two threads at once (python/cpython#106905)
                command = [
                    st, "run", str(file), "--url", base, "--checks", CHECKS, "--phases", "examples,coverage,fuzzing",
                    "--max-time", seconds, "--max-examples", "25", "--workers", "1", "--seed", "1", "--continue-on-failure",
                    "--request-timeout", "20", "--suppress-health-check", "all", "--warnings", "off",
                    "--generation-database", "none", "--no-color",
                ]
                if bearer:
                    command += ["--header", f"Authorization: Bearer {bearer}", "--exclude-path-regex", without]
                done = subprocess.run(command, cwd=folder)
                failed |= done.returncode != 0
            if platform.poll() is not None:
                sys.exit("the platform did not survive")
            log.seek(0)
            panics = [line for line in log if re.search(r"panicked", line)]
            sys.stdout.writelines(panics)
            sys.exit(1 if failed or panics else 0)
        finally:
            platform.terminate()
            try:
                platform.wait(60)
            except subprocess.TimeoutExpired:
                platform.kill()
            keeper_gone(pathlib.Path(folder, "data", "keeper.lock"))


main()
