#!/usr/bin/env python3
"""Writes dashboards/*.json from boards.py.

Usage: build.py [--check]    --check writes nothing and exits 1 when a file is not what would be written
"""
import json
import sys
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import boards  # noqa: E402


def main() -> int:
    if sys.argv[1:] not in ([], ["--check"]):
        print(__doc__)
        return 0 if sys.argv[1:] in (["-h"], ["--help"]) else 2
    folder = HERE / "dashboards"
    folder.mkdir(exist_ok=True)
    stale = [path.name for path in folder.glob("*.json") if path.stem not in boards.ALL]
    for name, make in boards.ALL.items():
        text = json.dumps(make().json(), indent=1, ensure_ascii=False) + "\n"
        path = folder / f"{name}.json"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if not sys.argv[1:]:
                path.write_text(text, encoding="utf-8")
    if sys.argv[1:]:
        for name in stale:
            print(f"dashboards/{name} is not what monitoring/grafana/build.py writes", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        if Path(name).stem not in boards.ALL:
            (folder / name).unlink()
    print(f"{len(boards.ALL)} dashboards, {len(stale)} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
