#!/usr/bin/env python3
"""Fills in a configuration as the engine's `template_driver: golang` does, where there is no engine: tests, plain compose.

Usage: render.py FILE [NAME=VALUE ...]

Knows `{{ env "NAME" }}` and `{{ if env "NAME" }} … {{ end }}` and refuses everything else. Values come from the arguments,
then from the environment; a name that is not set is empty, and its block is left out.
"""
import os
import re
import sys

TOKEN = re.compile(r'\{\{-?\s*(?:(if)\s+)?(?:env\s+"([A-Z][A-Z0-9_]*)"|(end))\s*-?\}\}')


def render(text: str, values: dict[str, str]) -> str:
    """The text with its environment filled in."""
    out: list[str] = []
    shown = [True]
    at = 0
    for token in TOKEN.finditer(text):
        if shown[-1]:
            out.append(text[at:token.start()])
        at = token.end()
        is_if, name, is_end = token.groups()
        if is_end:
            if len(shown) == 1:
                raise ValueError("an `end` without its `if`")
            shown.pop()
        elif is_if:
            shown.append(shown[-1] and bool(values.get(name)))
        elif shown[-1]:
            out.append(values.get(name, ""))
    if len(shown) != 1:
        raise ValueError("an `if` without its `end`")
    out.append(text[at:])
    done = "".join(out)
    if "{{" in done:
        raise ValueError("a template this program does not know: " + done[done.index("{{"):][:60])
    return done


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 0 if len(sys.argv) > 1 else 2
    values = dict(os.environ)
    for pair in sys.argv[2:]:
        name, equals, value = pair.partition("=")
        if not equals:
            print(f"not NAME=VALUE: {pair}", file=sys.stderr)
            return 2
        values[name] = value
    with open(sys.argv[1], encoding="utf-8") as file:
        try:
            sys.stdout.write(render(file.read(), values))
        except ValueError as error:
            print(f"{sys.argv[1]}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
