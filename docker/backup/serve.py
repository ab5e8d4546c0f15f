#!/usr/bin/env python3
"""The backup service: a full backup on its schedule, the write-ahead log shipped as it is written, and metrics.

    serve.py                    serve until TERM
    serve.py next [EPOCH]       when the next backup is due, in UTC

Environment: BACKUP_ENABLED (true), BACKUP_SCHEDULE ("0 2 * * *", five fields, UTC), BACKUP_SHIP_SECONDS (10), METRICS_PORT (9090),
BACKUP_SLOT (backup_wal), BACKUP_SPOOL (/spool), and all of backup.sh. contract: operations R-133, B-05
"""

import datetime
import http.server
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
SPOOL = pathlib.Path(os.environ.get("BACKUP_SPOOL", "/spool"))
BUSY = 4  # of backup.sh: another backup is running
FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
over = threading.Event()
receiving = threading.Event()


def log(text):
    print(f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ} serve: {text}", file=sys.stderr, flush=True)


def parse(schedule):
    """The five fields of cron as sets of numbers, and whether day of month and day of week are restricted."""
    words = schedule.split()
    if len(words) != 5:
        raise ValueError(f"not a schedule of five fields: {schedule!r}")
    fields = []
    for word, (low, high) in zip(words, FIELDS):
        numbers = set()
        for part in word.split(","):
            found = re.fullmatch(r"(\*|(\d+)(?:-(\d+))?)(?:/([1-9]\d*))?", part)
            if not found:
                raise ValueError(f"{part!r} in the schedule is not a number, a range, * or a step")
            everything, first, last, step = found[1] == "*", found[2], found[3], int(found[4] or 1)
            begin = low if everything else int(first)
            end = high if everything or (found[4] and not last) else int(last or first)
            if not low <= begin <= end <= high:
                raise ValueError(f"{part!r} in the schedule is not within {low}-{high}")
            numbers.update(range(begin, end + 1, step))
        fields.append(numbers)
    fields[4] = {day % 7 for day in fields[4]}
    return fields, words[2] != "*", words[4] != "*"


def due(schedule, after):
    """The first minute after `after` that the schedule names."""
    (minutes, hours, days, months, weekdays), by_day, by_weekday = schedule
    moment = after.replace(second=0, microsecond=0) + datetime.timedelta(minutes=1)
    for _ in range(366 * 5):
        on_day, on_weekday = moment.day in days, (moment.weekday() + 1) % 7 in weekdays
        fits = (on_day or on_weekday) if by_day and by_weekday else on_day and on_weekday
        if moment.month in months and fits:
            start = moment.hour * 60 + moment.minute
            for minute in range(start, 1440):
                if minute // 60 in hours and minute % 60 in minutes:
                    return moment.replace(hour=minute // 60, minute=minute % 60)
        moment = (moment + datetime.timedelta(days=1)).replace(hour=0, minute=0)
    raise ValueError("the schedule never comes due")


def backup(*arguments):
    """Runs backup.sh; when this service ends, everything it started ends with it."""
    process = subprocess.Popen([str(HERE / "backup.sh"), *arguments], stdout=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None:
        if over.wait(0.1):
            try:
                os.killpg(process.pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode


def on_schedule(schedule):
    while not over.is_set():
        now = datetime.datetime.now(datetime.timezone.utc)
        moment = due(schedule, now)
        log(f"next backup at {moment:%Y-%m-%d %H:%M} UTC")
        while not over.is_set() and datetime.datetime.now(datetime.timezone.utc) < moment:
            over.wait(min(20, max(0.1, (moment - datetime.datetime.now(datetime.timezone.utc)).total_seconds())))
        if over.is_set():
            return
        for attempt in range(3):  # a failure may be a restart of the database
            if (code := backup("full")) == 0:
                break
            log(f"the backup failed with {code}, attempt {attempt + 1} of 3")
            if over.wait(300):
                return


def ship():
    pause = float(os.environ.get("BACKUP_SHIP_SECONDS", 10))
    while not over.wait(pause):
        if code := backup("ship-wal"):
            log(f"the log could not be shipped ({code}); it stays in the spool and is tried again")


# What a server says that does not have the log from where we stopped: it was restored to an earlier moment, or has thrown it away.
BREAKS = ("ahead of the WAL flush position", "not in this server's history", "has already been removed")


def begin_anew(wal):
    """The chain is broken. What was received is stored as far as possible, then a new base begins a new chain."""
    log("the log does not go on from where it was; a new base is made")
    backup("ship-wal")
    for path in wal.iterdir():
        path.unlink(missing_ok=True)

    def new_base():
        while backup("database") == BUSY and not over.wait(10):
            pass

    threading.Thread(target=new_base, daemon=True).start()


def cross(wal, command, environment):
    """pg_receivewal stumbles over a timeline that ends exactly where a segment does: there is nothing left to send of the old one, and
    it does not ask for the next. The segment it goes on from gets the name it has on the new timeline."""
    asked = subprocess.run(command, env=environment, check=False, capture_output=True, text=True).stdout.split("|")
    segments = sorted(path for path in wal.iterdir() if re.fullmatch(r"[0-9A-F]{24}\.gz", path.name))
    if len(asked) < 2 or not segments or int(segments[-1].name[:8], 16) >= int(asked[1]):
        return
    old = segments[-1].name
    new = f"{int(asked[1]):08X}{old[8:]}"
    state = read("wal.json")
    if state.get("newest") != old:
        return  # not stored yet under its own name
    log(f"going on after {old} on timeline {asked[1]}")
    state["newest"] = new
    file = SPOOL / "state" / "wal.json"
    file.with_suffix(".cross").write_text(json.dumps(state))
    (wal / old).rename(wal / new)
    file.with_suffix(".cross").rename(file)


def receive():
    """pg_receivewal over the physical slot: nothing of the log is missed while this service is away."""
    wal = SPOOL / "wal"
    wal.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", prefix=".pgpass") as passfile:
        with open(os.environ["REPLICATION_PASSWORD_FILE"], encoding="utf-8") as file:
            password = re.sub(r"([\\:])", r"\\\1", file.read().rstrip("\n"))
        passfile.write(f"*:*:*:replicator:{password}\n")
        passfile.flush()
        slot = os.environ.get("BACKUP_SLOT", "backup_wal")
        program = os.path.join(os.environ.get("PG_BIN", ""), "pg_receivewal")
        address = ["-h", os.environ.get("DB_HOST", "postgres-rw"), "-p", os.environ.get("DB_PORT", "5432"), "-U", "replicator", "-w"]
        psql = os.path.join(os.environ.get("PG_BIN", ""), "psql")
        identify = [psql, "-qAtX", "-d", "replication=true dbname=postgres", *address, "-c", "IDENTIFY_SYSTEM"]
        environment = {**os.environ, "PGPASSFILE": passfile.name, "PGAPPNAME": "backup"}
        while not over.is_set():
            made = subprocess.run(
                [program, *address, "-S", slot, "--create-slot", "--if-not-exists"], env=environment, check=False, capture_output=True, text=True
            )
            if made.returncode:
                log(f"the primary is not there for the log: {made.stderr.strip()}")
                over.wait(5)
                continue
            said = tempfile.TemporaryFile("w+")
            receiver = subprocess.Popen(
                [program, *address, "-S", slot, "-D", str(wal), "-Z", "gzip:1", "--no-loop"], env=environment, stderr=said
            )
            receiving.set()
            log("receiving the log")
            while receiver.poll() is None and not over.wait(1):
                pass
            receiving.clear()
            if receiver.poll() is None:
                receiver.send_signal(signal.SIGINT)
                receiver.wait()
            else:
                said.seek(0)
                reason = said.read().strip()
                log(f"the receiver of the log ended: {reason}")
                if any(text in reason for text in BREAKS):
                    begin_anew(wal)
                elif '"START_REPLICATION": \n' in reason + "\n":
                    cross(wal, identify, environment)
                over.wait(3)
            said.close()


def read(name):
    try:
        return json.loads((SPOOL / "state" / name).read_text())
    except (OSError, ValueError):
        return {}


def metrics():
    lines = []

    def metric(name, kind, text, values):
        lines.append(f"# HELP {name} {text}")
        lines.append(f"# TYPE {name} {kind}")
        lines.extend(f"{name}{labels} {value}" for labels, value in values if value is not None)

    states = {kind: read(f"{kind}.json") for kind in ("full", "database", "objects", "configs")}
    for name, key, text in (
        ("last_success_timestamp_seconds", "last_success", "End of the last backup that was whole."),
        ("last_run_timestamp_seconds", "last_run", "End of the last backup, whole or not."),
        ("last_run_success", "last_run_success", "Whether the last backup was whole."),
        ("last_size_bytes", "last_size_bytes", "What the last backup stored."),
        ("last_duration_seconds", "last_duration_seconds", "How long the last backup took."),
    ):
        # only what has run at least once by itself or by hand; `full` always, so that its absence is seen
        metric(f"dreamscape_backup_{name}", "gauge", text, [(f'{{kind="{kind}"}}', state.get(key)) for kind, state in states.items()])
    shipped = read("wal.json")
    kept = shipped.get("newest")  # shipped, but kept for the receiver
    waiting = [path for path in (SPOOL / "wal").glob("*") if not path.name.endswith(".partial") and path.name != kept]
    metric("dreamscape_wal_archive_last_success_timestamp_seconds", "gauge", "When everything received was stored.", [("", shipped.get("last_success"))])
    metric("dreamscape_wal_archive_segments_total", "counter", "Segments of the log stored.", [("", shipped.get("segments_total", 0))])
    metric("dreamscape_wal_archive_pending_segments", "gauge", "Segments received and not stored yet.", [("", len(waiting))])
    metric("dreamscape_wal_receiver_running", "gauge", "Whether the log is being received.", [("", int(receiving.is_set()))])
    return "\n".join(lines) + "\n"


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        known = {"/metrics": metrics, "/health/live": lambda: "alive\n"}.get(self.path)
        body = known().encode() if known else b"not found\n"
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main(arguments):
    try:
        schedule = parse(os.environ.get("BACKUP_SCHEDULE", "0 2 * * *"))
        if arguments[:1] == ["next"]:
            after = datetime.datetime.fromtimestamp(float(arguments[1]) if arguments[1:] else time.time(), datetime.timezone.utc)
            print(f"{due(schedule, after):%Y-%m-%dT%H:%M:%SZ}")
            return 0
    except ValueError as error:
        print(f"serve: {error}", file=sys.stderr)
        return 2
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2 if arguments != ["--help"] else 0

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: over.set())
    (SPOOL / "state").mkdir(parents=True, exist_ok=True)
    server = http.server.ThreadingHTTPServer(("", int(os.environ.get("METRICS_PORT", 9090))), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    work = [receive, ship]
    if os.environ.get("BACKUP_ENABLED", "true").lower() == "true":
        work.append(lambda: on_schedule(schedule))
    else:
        log("BACKUP_ENABLED is not true: nothing is backed up by schedule")
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    while not over.wait(1):
        if not all(thread.is_alive() for thread in threads):
            log("a part of this service has ended, ending the rest so that it is replaced")
            over.set()
            return 1
    for thread in threads:
        thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
