#!/bin/bash
# The documents of operations: tree, headings, links, commands, acceptance.
# Usage: scripts/ci/ops/stack-docs.sh
set -euo pipefail
[ "${1:-}" != --help ] || { echo "Usage: scripts/ci/ops/stack-docs.sh"; exit 0; }
# shellcheck source=scripts/ci/ops/lib/common.sh
. "$(dirname "$0")/lib/common.sh"
needs_yaml V8 R-150,R-151,R-153,R-154 "the documents"
python3 "$ops_root/scripts/ci/ops/lib/docs.py" || ops_failed=1
finish
