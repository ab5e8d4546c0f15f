"""Fails when a document links to a file or a heading that is not there."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
SKIP = {".git", "target", "node_modules", ".dreamscape"}


def documents():
    for path in sorted(ROOT.rglob("*.md")):
        if not SKIP.intersection(path.relative_to(ROOT).parts):
            yield path


def anchors(text):
    for line in text.splitlines():
        if line.startswith("#"):
            title = re.sub(r"[`*_]", "", line.lstrip("#").strip().lower())
            yield re.sub(r"[^\w\- ]", "", title).replace(" ", "-")


def main():
    broken, count = [], 0
    for document in documents():
        text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.S)
        for found in LINK.finditer(text):
            target = found.group(1) or found.group(2)
            if re.match(r"[a-z]+:", target):
                continue
            count += 1
            name, _, anchor = target.partition("#")
            file = (document.parent / name).resolve() if name else document
            where = f"{document.relative_to(ROOT)}: {target}"
            if not file.exists():
                broken.append(where)
            elif anchor and file.suffix == ".md" and anchor not in set(anchors(file.read_text(encoding="utf-8"))):
                broken.append(where)
    print(f"{count} links, {len(broken)} broken")
    sys.exit("\n".join(broken) if broken else 0)


main()
