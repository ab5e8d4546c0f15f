#!/bin/bash
# V20: the platform of this build, running on free ports with back ends of its own.
# Usage: scripts/ci/ops/stack-live.sh
set -euo pipefail
[ "${1:-}" != --help ] || { echo "Usage: scripts/ci/ops/stack-live.sh"; exit 0; }
# shellcheck source=scripts/ci/ops/lib/common.sh
. "$(dirname "$0")/lib/common.sh"
needs_yaml V20 R-003,R-008,R-012,R-136 "the running platform"
python3 "$ops_root/scripts/ci/ops/lib/live.py" || ops_failed=1
finish
