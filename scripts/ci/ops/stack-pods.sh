#!/bin/bash
# V20: the pods take the settings of the stack and the secrets that init-secrets.sh makes.
# Usage: scripts/ci/ops/stack-pods.sh
set -euo pipefail
[ "${1:-}" != --help ] || { echo "Usage: scripts/ci/ops/stack-pods.sh"; exit 0; }
# shellcheck source=scripts/ci/ops/lib/common.sh
. "$(dirname "$0")/lib/common.sh"
needs_yaml V20 R-003,R-008,R-012,R-077 "the pods take the settings of the stack"
python3 "$ops_root/scripts/ci/ops/lib/pods.py" || ops_failed=1
finish
