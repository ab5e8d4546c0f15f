#!/bin/bash
# The documents of operations: tree, headings, links, commands, acceptance.
# Usage: scripts/ci/ops/stack-docs.sh
set -euo pipefail
[ "${1:-}" != --help ] || { echo "Usage: scripts/ci/ops/stack-docs.sh"; exit 0; }
# shellcheck source=scripts/ci/ops/lib/common.sh
. "$(dirname "$0")/lib/common.sh"
if ! python3 -c 'import yaml' 2>/dev/null; then
    skip V8 R-150,R-151,R-153,R-154 "the documents (Python has no yaml: python3-yaml)"
    finish
fi
python3 "$ops_root/scripts/ci/ops/lib/docs.py" || ops_failed=1
finish
