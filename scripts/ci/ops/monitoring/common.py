"""What the checks of monitoring/ share: where things are, how a result is printed, which metrics a query names."""
from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True

try:
    import yaml
except ImportError:
    print("SKIP\tV4\t-\tchecks of monitoring (python3-yaml is not installed)")
    sys.exit(0)

ROOT = Path(__file__).resolve().parents[4]
MONITORING = ROOT / "monitoring"
RUNBOOKS = ROOT / "docs/runbooks"


class Report:
    """Prints one line per check and remembers whether one failed."""

    def __init__(self) -> None:
        self.failed = False

    def line(self, status: str, code: str, requirements: str, text: str) -> None:
        print(f"{status}\t{code}\t{requirements or '-'}\t{text}")
        self.failed |= status == "FAIL"

    def check(self, code: str, requirements: str, text: str, faults: list[str]) -> None:
        """PASS when there are no faults; otherwise FAIL, and the faults on standard error."""
        self.line("FAIL" if faults else "PASS", code, requirements, text if not faults else f"{text}: {len(faults)} fault(s)")
        for fault in faults:
            print(f"  {text}: {fault}", file=sys.stderr)

    def skip(self, code: str, requirements: str, text: str) -> None:
        self.line("SKIP", code, requirements, text)

    def end(self) -> None:
        sys.exit(1 if self.failed else 0)


def load(path: Path):
    """A YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def run(*command: str, **options) -> tuple[int, str]:
    """The exit code of a command and all it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    return done.returncode, done.stdout + done.stderr


def missing(tool: str) -> bool:
    return shutil.which(tool) is None


def rule_files() -> list[Path]:
    return sorted([*(MONITORING / "rules").glob("*.yml"), *(MONITORING / "rules").glob("*.yaml")])


def rules() -> list[tuple[Path, str, dict]]:
    """Every rule of Prometheus: its file, its group, itself."""
    return [(path, group["name"], rule) for path in rule_files() for group in load(path)["groups"] for rule in group["rules"]]


def alerts() -> list[tuple[Path, str, dict]]:
    """Every alert: those of Prometheus and those of Loki."""
    found = [(path, group, rule) for path, group, rule in rules() if "alert" in rule]
    for path in sorted((MONITORING / "loki-rules").rglob("*.yml")):
        found += [(path, group["name"], rule) for group in load(path)["groups"] for rule in group["rules"]]
    return found


WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
KEYWORDS = {"or", "and", "unless", "offset", "bool", "by", "without", "group_left", "group_right", "inf", "nan", "Inf", "NaN"}


def names(expr: str) -> set[str]:
    """The series that a PromQL query names: words that are no function, label, string or keyword."""
    bare = re.sub(r'"(\\.|[^"\\])*"', '""', expr)
    bare = re.sub(r"\{[^}]*\}", "{}", bare)
    bare = re.sub(r"\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    found = set()
    for match in WORD.finditer(bare):
        word = match.group()
        if bare[match.end():].lstrip().startswith("(") or word in KEYWORDS:
            continue
        # a unit behind a number, like 1h or 2e9
        if match.start() and (bare[match.start() - 1].isdigit() or bare[match.start() - 1] == "$"):
            continue
        found.add(word)
    return found


def known_metrics() -> dict[str, str]:
    """Every series that may be named, and where it comes from."""
    found: dict[str, str] = {}
    lists = [MONITORING / "metrics.txt", *sorted((MONITORING / "metrics").glob("*.txt"))]
    for path in lists:
        for line in path.read_text(encoding="utf-8").splitlines():
            if not line or line.startswith("#"):
                continue
            name, kind, *_ = line.split("\t")
            found[name] = path.name
            if kind in ("histogram", "summary"):
                found |= {name + suffix: path.name for suffix in ("_bucket", "_sum", "_count")}
    # counters that exist only after what they count has happened: the source names them
    pattern = re.compile(r'metrics::(?:counter|gauge|histogram)!\(\s*"([a-z_]+)"|"(kafka_[a-z_]+_total)"')
    for pod in ("shared", "core-pod", "business-pod", "experience-pod"):
        for path in sorted((ROOT / pod / "src").rglob("*.rs")):
            for match in pattern.finditer(path.read_text(encoding="utf-8")):
                name = match.group(1) or match.group(2)
                for suffix in ("", "_bucket", "_sum", "_count"):
                    found.setdefault(name + suffix, "the source")
    for _, _, rule in rules():
        if "record" in rule:
            found[rule["record"]] = "recording rule"
    found |= {name: "Prometheus" for name in ("up", "ALERTS", "ALERTS_FOR_STATE", "scrape_duration_seconds", "scrape_samples_scraped")}
    return found


# labels whose values are words of the source
WORDED = {"outcome", "result", "state", "kind", "queue", "saga", "action"}


def unset_values(exprs: list[tuple[str, str]]) -> list[str]:
    """Values of labels that queries (where, expression) ask of our own metrics and that no source of ours ever sets: a value that was
    given another name silences an alert without a word."""
    folders = [(ROOT / pod / "src", "*.rs") for pod in ("shared", "core-pod", "business-pod", "experience-pod", "autoscaler")] + [(ROOT / "docker/backup", "*.py")]
    source = "\n".join(path.read_text(encoding="utf-8") for folder, kind in folders for path in sorted(folder.rglob(kind)))
    known = known_metrics()
    faults = []
    for where, expr in exprs:
        for name, matchers in re.findall(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}", expr):
            if known.get(name) not in ("metrics.txt", "operations.txt", "the source"):
                continue
            for label, value in re.findall(r'(\w+)=~?"([^"]*)"', matchers):
                faults += [f"{where}: nobody sets {label} of {name} to {word}" for word in value.split("|")
                           if label in WORDED and re.fullmatch(r"[A-Za-z_]+", word) and f'"{word}"' not in source]
    return faults
