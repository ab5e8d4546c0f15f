#!/usr/bin/env python3
"""Writes docs/conformance/operations.md: each requirement of operations, the file that satisfies it, its checks, their last result.

Reads the requirements from docs/conformance/operations-requirements.csv and the lines of checks from one or more files: what
`scripts/ci/ops-check.sh --results FILE` wrote, and what `make test-stack` wrote if it ran. With --check it writes nothing and fails
if the table is stale: a requirement is missing in it, a check of it has another text, or one of its checks failed.

Usage: scripts/conformance/operations.py RESULTS… [--check]
"""

import collections
import csv
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs/conformance/operations.md"
REQUIREMENTS = ROOT / "docs/conformance/operations-requirements.csv"

# What a check of each kind shows. `run`: the thing itself ran; `lint`: a file was judged.
KINDS = {
    "V1": ("lint", "`docker stack config`: the stack renders, merged with each overlay"),
    "V2": ("lint", "`docker stack deploy` names no option that it would ignore"),
    "V3": ("lint", "schema of compose files"),
    "V4": ("lint", "our linter over the rendered stack; each of its rules was seen to fail"),
    "V5": ("lint", "promtool: configuration, rules; their unit tests"),
    "V6": ("run", "amtool and a running Alertmanager"),
    "V8": ("run", "the scripts really run, against a docker command that keeps a Swarm in a file"),
    "V9": ("lint", "hadolint, and Dockerfiles from one template"),
    "V10": ("run", "real Redis servers"),
    "V11": ("run", "real PostgreSQL 15 servers, and an S3 server for their backups"),
    "V13": ("lint", "dashboards: form, expressions, names of metrics"),
    "V14": ("run", "the autoscaler against a Prometheus and an engine of the test"),
    "V15": ("lint", "structure of configurations whose programs cannot be had"),
    "V16": ("lint", "compose-lint, dclint, yamllint"),
    "V17": ("run", "real Kafka brokers"),
    "V19": ("run", "real exporters and the series they serve"),
    "V20": ("run", "the pods' own programs"),
    "V21": ("run", "the C parts, compiled by musl-gcc with the images' packages, linked statically and run"),
}


def kind(code):
    if code.startswith("E"):
        return "engine"
    return KINDS.get(code, ("lint", ""))[0]


def requirements():
    with open(REQUIREMENTS, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def results(paths):
    """Checks by requirement: (code, text, status, script), in the order they ran."""
    found = collections.defaultdict(dict)
    for path in paths:
        for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
            status, code, numbers, text, *script = line.split("\t")
            for number in numbers.split(","):
                if number.startswith("R-"):
                    # numbers inside a text (seconds, counts, ids) differ from run to run
                    found[number.strip()][(code, re.sub(r"\s*\((?:[^()]*)\)$", "", text) if status == "SKIP" else text)] = (
                        status, script[0] if script else "")
    return found


def verdict(checks, requirement):
    """What the checks show together; in part, where the list of requirements says that something is open."""
    states = {status for status, _script in checks.values()}
    if "FAIL" in states:
        return "**failed**"
    kinds = {kind(code) for (code, _text), (status, _script) in checks.items() if status == "PASS"}
    shown = "with an engine" if "engine" in kinds else "by running" if "run" in kinds else "by lint" if kinds else None
    if shown:
        return f"proven in part, {shown}" if requirement["open"] else f"proven {shown}"
    return "see note" if requirement["note"] or requirement["open"] else "**not shown**"


def cell(text):
    return text.replace("|", "\\|")


def row(requirement, checks):
    number = requirement["number"]
    shown = [f"{code} {cell(text)}" for (code, text), (status, _script) in checks.items() if status == "PASS"]
    skipped = [f"skipped: {code} {cell(text)}" for (code, text), (status, _script) in checks.items() if status == "SKIP"]
    bad = [f"**failed**: {code} {cell(text)}" for (code, text), (status, _script) in checks.items() if status == "FAIL"]
    # what ran says more than what was read
    shown.sort(key=lambda text: kind(text.split()[0]) == "lint")
    listed = bad + shown[:3] + ([f"and {len(shown) - 3} more"] if len(shown) > 3 else []) + skipped[:1]
    listed += [f"{kind}: {cell(requirement[kind])}" for kind in ("note", "open") if requirement[kind]]
    return f"| {number} | {cell(requirement['text'])} | `{requirement['file']}` | {verdict(checks, requirement)} | {'<br>'.join(listed)} |"


def table(found):
    rows = requirements()
    counts = collections.Counter(verdict(found[r["number"]], r) for r in rows)
    used = sorted({code for checks in found.values() for code, _text in checks if code in KINDS}, key=lambda code: int(code[1:]))
    lines = [
        "# Conformance of operations",
        "",
        "Written by `scripts/conformance/operations.py` from the lines of `scripts/ci/ops-check.sh` (and of the test with an engine, where it ran);",
        "not edited by hand. *Proven with an engine*: on a deployed stack. *Proven by running*: the program or script itself ran. *Proven by lint*:",
        "a file was rendered and judged. *In part*: what stands after *open* is not shown, for the reason given there.",
        "",
        "| Result | Requirements |",
        "|---|---|",
        *(f"| {name} | {count} |" for name, count in sorted(counts.items())),
        "",
        "| Check | What it is |",
        "|---|---|",
        *(f"| {code} | {KINDS[code][1]} |" for code in used),
        "",
        "| # | Requirement | File | Result | Checks |",
        "|---|---|---|---|---|",
        *(row(r, found[r["number"]]) for r in rows),
        "",
    ]
    return "\n".join(lines)


def stale(found):
    """What the written table says and the run does not."""
    text = TABLE.read_text(encoding="utf-8") if TABLE.exists() else ""
    for requirement in requirements():
        number = requirement["number"]
        line = re.search(rf"^\| {number} \|.*$", text, re.M)
        if not line:
            yield f"{number} is not in the table"
        checks = found[number]
        if any(status == "FAIL" for status, _script in checks.values()):
            yield f"{number}: a check failed"
        now = verdict(checks, requirement)
        if any(status == "SKIP" for status, _script in checks.values()):
            continue  # a tool is missing on this machine
        if line and "proven" in line.group(0).split("|")[4] and now == "**not shown**":
            yield f"{number}: nothing shows it any more"
    known = {requirement["number"] for requirement in requirements()}
    for number in found.keys() - known:
        yield f"{number} is named by a check and is no requirement"


def main():
    paths = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    if not paths or "--help" in sys.argv:
        print(__doc__.strip())
        sys.exit(0 if "--help" in sys.argv else 2)
    found = results(paths)
    if "--check" in sys.argv:
        problems = list(stale(found))
        print(f"{len(requirements())} requirements, {len(problems)} problems")
        sys.exit("\n".join(problems) if problems else 0)
    TABLE.write_text(table(found), encoding="utf-8")
    print(f"wrote {TABLE.relative_to(ROOT)}")


main()
