"""Promtail's relabelling and pipeline stages, as far as monitoring/promtail-config.yml uses them.

A stage that this does not know is an error, so the configuration cannot outgrow its test. contract: operations §6.12
"""
from __future__ import annotations

import json
import re
from dataclasses import dataclass, field


@dataclass
class Line:
    """A line on its way."""

    labels: dict[str, str]
    text: str
    time: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    extracted: dict[str, str | None] = field(default_factory=dict)
    dropped: bool = False


def python(expression: str) -> str:
    """An expression of Go's for Python: they differ in where flags may stand and in the word for one group."""
    return re.sub(r"^\^\(\(\?i:(.*)\)\)\$$", r"(?i:^(\1)$)", expression)


def relabel(rules: list[dict], meta: dict[str, str]) -> dict[str, str]:
    """Applies `relabel_configs`; what begins with two underscores is dropped at the end."""
    labels = dict(meta)
    for rule in rules:
        unknown = set(rule) - {"source_labels", "regex", "target_label", "replacement", "separator"}
        if unknown:
            raise ValueError(f"relabelling does not know {sorted(unknown)}")
        value = rule.get("separator", ";").join(labels.get(name, "") for name in rule.get("source_labels", []))
        match = re.fullmatch(rule.get("regex", "(.*)"), value, re.S)
        if match is None:
            continue
        result = re.sub(r"\$(?:\{(\d+)\}|(\d+))", lambda part: match.group(int(part.group(1) or part.group(2))) or "", rule.get("replacement", "$1"))
        if result:
            labels[rule["target_label"]] = result
        else:
            labels.pop(rule["target_label"], None)
    return {name: value for name, value in labels.items() if not name.startswith("__")}


def selected(selector: str, line: Line) -> bool:
    """Whether a LogQL selector with matchers and line filters takes the line."""
    inside, _, filters = selector.partition("}")
    for name, operator, value in re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:\\.|[^"\\])*)"', inside):
        have = line.labels.get(name, "")
        hit = re.fullmatch(value, have) is not None if "~" in operator else have == value
        if hit == operator.startswith("!"):
            return False
    for operator, value in re.findall(r'(\|~|\|=|!~|!=)\s*"((?:\\.|[^"\\])*)"', filters):
        plain = json.loads(f'"{value}"')
        hit = re.search(plain, line.text) is not None if "~" in operator else plain in line.text
        if hit == operator.startswith("!"):
            return False
    return True


def text_of(value) -> str | None:
    """How a value of JSON becomes text."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(int(value)) if float(value).is_integer() else repr(value)
    return json.dumps(value)


def process(stages: list[dict], line: Line) -> Line:
    """Sends a line through the stages."""
    for stage in stages:
        if line.dropped:
            break
        (kind, options), = stage.items()
        options = options or {}
        if kind == "json":
            try:
                found = json.loads(line.text)
            except ValueError:
                found = None
            if isinstance(found, dict):
                for name, path in options["expressions"].items():
                    line.extracted[name] = text_of(found.get(path or name))
            elif options.get("drop_malformed"):
                line.dropped = True
        elif kind == "match":
            if selected(options["selector"], line):
                if options.get("action") == "drop":
                    line.dropped = True
                else:
                    process(options["stages"], line)
        elif kind == "timestamp":
            if line.extracted.get(options["source"]):
                line.time = line.extracted[options["source"]]
        elif kind == "labels":
            for name, source in options.items():
                value = line.extracted.get(source or name)
                if value:
                    line.labels[name] = value
        elif kind == "structured_metadata":
            for name, source in options.items():
                value = line.extracted.get(source or name)
                if value:
                    line.metadata[name] = value
        elif kind == "replace":
            source = options.get("source")
            before = line.extracted.get(source) if source else line.text
            if before is None:
                continue
            pattern = re.compile(python(options["expression"]))
            # only what the first group took is replaced
            after = pattern.sub(lambda match: match.group(0).replace(match.group(1), options["replace"], 1) if match.group(1) else match.group(0), before)
            if source:
                line.extracted[source] = after
            else:
                line.text = after
        else:
            raise ValueError(f"a stage that the test does not know: {kind}")
    return line


def from_alloy(text: str) -> tuple[list[dict], list[dict]]:
    """The relabelling rules and stages of a configuration of Grafana Alloy, as Promtail would write them."""
    text = re.sub(r"^\s*//.*$", "", text, flags=re.M)

    def block(start: int) -> tuple[str, int]:
        depth, at, quote = 1, start, ""
        while depth:
            char = text[at]
            if quote:
                if char == "\\" and quote == '"':
                    at += 1
                elif char == quote:
                    quote = ""
            elif char in "\"`":
                quote = char
            elif char == "{":
                depth += 1
            elif char == "}":
                depth -= 1
            at += 1
        return text[start:at - 1], at

    def value(raw: str):
        raw = raw.strip().rstrip(",").strip()
        if raw.startswith("`"):
            return raw[1:-1]
        if raw.startswith('"'):
            return json.loads(raw)
        if raw.startswith("["):
            return json.loads(raw)
        return {"true": True, "false": False}.get(raw, raw)

    def body(inside: str) -> dict:
        out: dict = {}
        maps = re.compile(r"(\w+)\s*=\s*\{([^}]*)\}", re.S)
        for name, content in maps.findall(inside):
            if "`" not in content:
                out[name] = {key: value(raw) for key, raw in re.findall(r"(\w+)\s*=\s*(.+)", content)}
        plain = "\n".join(part for part in re.split(r"\n", maps.sub(lambda m: "" if "`" not in m.group(2) else m.group(0), inside)))
        for name, raw in re.findall(r"^\s*(\w+)\s*=\s*(.+)$", plain, re.M):
            out[name] = value(raw)
        return out

    rules, stages = [], []
    for match in re.finditer(r"\b(rule|stage\.(\w+))\s*\{", text):
        inside, _ = block(match.end())
        found = body(inside)
        if match.group(1) == "rule":
            rules.append(found)
        else:
            kind = match.group(2)
            if kind in ("labels", "structured_metadata"):
                found = {name: source or None for name, source in found["values"].items()}
            stages.append({kind: found})
    return rules, stages
