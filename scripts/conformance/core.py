#!/usr/bin/env python3
"""Writes docs/conformance/core.md: each route of the core contract, the tests that ask it, what they were answered.

Reads the routes from docs/conformance/core-routes.csv and docs/openapi/core-pod.json, and what the tests noted while they ran
with CONFORMANCE_DIR set (core-pod/tests/it/conformance.rs). Fails if a route of the list was never asked, or if a line of the
must-not-copy list has no test. With --check it writes nothing and fails also if the table is stale: a route is missing in it or
has another status, or a test that it names does not ask that route any more. Answers and further tests may differ from run to
run (races have several good outcomes), so they are not compared.

Usage: scripts/conformance/core.py NOTES [--check]
"""

import collections
import csv
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs/conformance/core.md"
ROUTES = ROOT / "docs/conformance/core-routes.csv"
MUST_NOT_COPY = {
    1: "`/auth/test/reset`, `/auth/test/cleanup`",
    2: "auth rate limits only with `x-test-rate-limit`",
    3: "unauthenticated profile create, delete, avatar for any id",
    4: "unauthenticated `/notifications/internal`, `/ai/users/*`",
    5: "onboarding mass assignment up to the role",
    6: "any-origin reflection with credentials",
    7: "validation errors that echo passwords",
    8: "HS256 shared secret, default secrets, refresh secret = access secret",
    9: "refresh and revoked tokens stored raw",
    10: "suspended users keep access, sockets never re-checked",
    11: "logout believes an unverified token",
    12: "refresh not atomic, no reuse detection",
    13: "login timing reveals accounts; no lockout",
    14: "upload trusted by extension; active content served",
    15: "CSV formula injection; HTML injection in mail",
    16: "errors, notes, `/status`, lists and health leak internals",
    17: "audit log never written; admin actions unlogged",
    18: "history `DELETE` with a typo wipes all",
    19: "predictable, process-local VR PINs, unlimited guessing",
    20: "proxies untrusted: one shared client address",
    21: "the last admin can be demoted or locked out; arbitrary enum values",
    22: "a failed refund on admin cancel is silent",
}
SHOWN = 4


def template(path):
    """Paths without the names of their parameters."""
    return tuple("{}" if part.startswith("{") else part for part in path.split("/"))


def fits(wanted, asked):
    return len(wanted) == len(asked) and all(w in ("{}", a) for w, a in zip(wanted, asked))


def listed():
    with ROUTES.open() as lines:
        routes = [(row["section"], row["method"], row["path"]) for row in csv.DictReader(lines)]
    known = {(method, template(path)) for _, method, path in routes}
    document = json.loads((ROOT / "docs/openapi/core-pod.json").read_text())
    for path, item in sorted(document["paths"].items()):
        for method in sorted(item):
            if (method.upper(), template(path)) not in known:
                routes.append(("", method.upper(), path))
    return routes


def asked(folder):
    """(method, path, status, test) of every request that was noted."""
    for file in sorted(pathlib.Path(folder).glob("core-*.tsv")):
        for line in file.read_text().splitlines():
            method, path, status, test = line.split("\t")
            yield method, tuple(path.split("/")), int(status), test


def matched(routes, folder):
    """What was asked of each route; of two that fit, the one with fewer parameters is meant."""
    order = sorted(range(len(routes)), key=lambda index: template(routes[index][2]).count("{}"))
    templates = {index: template(routes[index][2]) for index in order}
    by_method = collections.defaultdict(list)
    for index in order:
        by_method[routes[index][1]].append(index)
    found = collections.defaultdict(lambda: (set(), set()))
    for method, path, status, test in asked(folder):
        for index in by_method.get("GET" if method == "HEAD" else method, ()):
            if fits(templates[index], path):
                tests, statuses = found[index]
                tests.add(test)
                statuses.add(status)
                break
    return found


def judge(statuses):
    good = any(status < 400 for status in statuses)
    refused = any(status >= 400 for status in statuses)
    if good and refused:
        return "shown"
    if good:
        return "success only"
    return "refusal only" if refused else "**no test**"


def names(tests):
    tests = sorted(tests)
    text = ", ".join(f"`{test}`" for test in tests[:SHOWN])
    return text if len(tests) <= SHOWN else f"{text} and {len(tests) - SHOWN} more"


def must_not_copy():
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.rs"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()
    found = collections.defaultdict(list)
    for file in files:
        path = ROOT / file
        if path.exists():
            for number, name in re.findall(r"fn must_not_copy_(\d\d)_(\w+)", path.read_text()):
                found[int(number)].append((f"must_not_copy_{number}_{name}", file))
    return found


def stale_rows(routes, found):
    """What of the committed table is not so any more."""
    rows = {}
    for line in TABLE.read_text().splitlines() if TABLE.exists() else []:
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 5 and cells[1].startswith("`"):
            rows[cells[1].strip("`")] = (cells[2], set(re.findall(r"`([^`]+)`", cells[4])))
    stale = []
    for index, (_, method, path) in enumerate(routes):
        tests, statuses = found.get(index, (set(), set()))
        verdict, named = rows.get(f"{method} {path}", (None, set()))
        if verdict is None:
            stale.append(f"{method} {path} is not in it")
        elif verdict != judge(statuses):
            stale.append(f"{method} {path} is now: {judge(statuses)}")
        stale += [f"{method} {path} is not asked by {test} any more" for test in sorted(named - tests)]
    return stale


def main():
    folder, check = sys.argv[1], "--check" in sys.argv[2:]
    routes = listed()
    found = matched(routes, folder)
    lines = [
        "# Conformance of the core pod",
        "",
        "Written by `make conformance` from what the tests asked and were answered; not edited by hand. A route is *shown* when a",
        "test had it succeed and a test had it refuse. Sections are those of the core contract.",
        "",
        "## Routes of the contract",
        "",
        "| § | Route | Status | Answers | Tests |",
        "|---|---|---|---|---|",
    ]
    missing, beyond = [], []
    for index, (section, method, path) in enumerate(routes):
        tests, statuses = found.get(index, (set(), set()))
        verdict = judge(statuses)
        answers = " ".join(map(str, sorted(statuses)))
        line = f"| {section} | `{method} {path}` | {verdict} | {answers} | {names(tests)} |"
        if section:
            lines.append(line)
            if verdict == "**no test**":
                missing.append(f"{method} {path}")
        else:
            beyond.append(line)
    if beyond:
        lines += ["", "## Routes beyond the contract's table", "", *lines[7:9], *beyond]
    lines += ["", "## Must not be copied (§13)", "", "| # | Original | Tests |", "|---|---|---|"]
    proofs = must_not_copy()
    for number, text in MUST_NOT_COPY.items():
        shown = ", ".join(f"`{name}`" for name, _ in sorted(proofs.get(number, [])))
        lines.append(f"| {number} | {text} | {shown or '**no test**'} |")
        if not shown:
            missing.append(f"must_not_copy_{number:02}")
    text = "\n".join(lines) + "\n"
    stale = stale_rows(routes, found) if check else []
    for row in stale:
        print(f"docs/conformance/core.md is stale, run `make conformance`: {row}", file=sys.stderr)
    if not check:
        TABLE.write_text(text)
    for route in missing:
        print(f"no test: {route}", file=sys.stderr)
    sys.exit(1 if stale or missing else 0)


if __name__ == "__main__":
    main()
