#!/bin/bash
# V1, V2, V4: the production stack, alone and with each overlay, rendered by the docker CLI; then each rule seen to fail.
# Usage: scripts/ci/ops/stack-lint.sh
set -euo pipefail
[ "${1:-}" != --help ] || { echo "Usage: scripts/ci/ops/stack-lint.sh"; exit 0; }
# shellcheck source=scripts/ci/ops/lib/common.sh
. "$(dirname "$0")/lib/common.sh"

needs_yaml V4 - "the stack linter"
python3 "$ops_root/scripts/ci/ops/lib/stack_lint.py" || ops_failed=1
python3 "$ops_root/scripts/ci/ops/lib/test_stack_lint.py" || ops_failed=1
check V9 R-093,R-094 "the Dockerfiles of our programs come from one template" "$ops_root/scripts/docker/render.sh" --check
finish
