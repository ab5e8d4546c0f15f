#!/usr/bin/env python3
"""Fails when two types of one pod have the same name in its OpenAPI document: the later one would replace the other there.

A type is named by `#[schema(as = Name)]` or by itself.
"""

import collections
import pathlib
import re
import sys

PODS = ("core-pod", "business-pod", "experience-pod")
ALIAS = re.compile(r"#\[schema\(.*?\bas = ([\w:]+)")
TYPE = re.compile(r"(?:pub(?:\([^)]*\))? )?(?:struct|enum) (\w+)")


def schemas(path):
    """The names under which the types of a file stand in the document, each with its line."""
    described, alias = False, None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("#[derive("):
            described, alias = "ToSchema" in line, None
        elif found := ALIAS.match(line):
            alias = found[1]
        elif found := TYPE.match(line):
            if described:
                yield alias or found[1], f"{path}:{number}"
            described, alias = False, None


def main():
    failed = False
    for pod in PODS:
        places = collections.defaultdict(list)
        for folder in (pod, "shared"):
            for path in sorted(pathlib.Path(folder, "src").rglob("*.rs")):
                for name, place in schemas(path):
                    places[name].append(place)
        for name, found in sorted(places.items()):
            if len(found) > 1:
                failed = True
                print(f"{pod}: {name} names {len(found)} types, give all but one #[schema(as = …)]: {', '.join(found)}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
