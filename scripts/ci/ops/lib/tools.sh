#!/bin/bash
# Installs the validators from PyPI into a folder of their own, once. Where that cannot be done it says so and the checks that need
# them print SKIP. Usage: scripts/ci/ops/lib/tools.sh
set -euo pipefail
[ "${1:-}" != --help ] || { echo "Usage: scripts/ci/ops/lib/tools.sh"; exit 0; }
here=$(cd "$(dirname "$0")" && pwd)
tools=${DREAMSCAPE_TOOLS:-$HOME/.cache/dreamscape/tools}/ops
wanted=$(sha256sum "$here/../requirements.txt" | cut -d' ' -f1)
[ "$(cat "$tools/.installed" 2>/dev/null)" != "$wanted" ] || exit 0
if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
    echo "SKIP: python3-venv is not installed; validators from PyPI are skipped" >&2
    exit 0
fi
rm -rf "$tools"
if python3 -m venv "$tools" && "$tools/bin/pip" install --quiet --disable-pip-version-check -r "$here/../requirements.txt"; then
    # A folder for PATH with these programs alone: the environment's own python3 must not stand before the system's.
    mkdir -p "$tools/path"
    for program in check-jsonschema compose-lint hadolint yamllint; do ln -sf "$tools/bin/$program" "$tools/path/$program"; done
    echo "$wanted" >"$tools/.installed"
else
    rm -rf "$tools"
    echo "SKIP: the validators of scripts/ci/ops/requirements.txt could not be installed" >&2
fi
