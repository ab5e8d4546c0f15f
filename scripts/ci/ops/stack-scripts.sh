#!/bin/bash
# V8: the scripts of production and of the pods against a fake docker.
# Usage: scripts/ci/ops/stack-scripts.sh
set -euo pipefail
[ "${1:-}" != --help ] || { echo "Usage: scripts/ci/ops/stack-scripts.sh"; exit 0; }
# shellcheck source=scripts/ci/ops/lib/common.sh
. "$(dirname "$0")/lib/common.sh"
needs_yaml V8 R-063,R-064,R-138 "the scripts against a fake docker"
# side by side: they wait for small programs most of the time
classes=()
for class in Deploy Secrets Pods; do
    python3 "$ops_root/scripts/ci/ops/lib/test_scripts.py" "$class" &
    classes+=($!)
done
for class in "${classes[@]}"; do wait "$class" || ops_failed=1; done
finish
