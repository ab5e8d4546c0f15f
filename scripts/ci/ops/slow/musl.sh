#!/usr/bin/env bash
# V21: the C parts of the programs, compiled and run with musl as in the images, where no such image can be built.
# Needs musl-tools and busybox of Debian, and build scripts that an earlier build of the pods left (make test-ops makes one).
# Usage: scripts/ci/ops/slow/musl.sh   (KEEP=1 keeps the scratch folder)
set -euo pipefail
[ "${1:-}" != --help ] || { sed -n '2,4s/^# //p' "$0"; exit 0; }
# shellcheck source=scripts/ci/ops/lib/common.sh
. "$(dirname "$0")/../lib/common.sh"
for tool in musl-gcc busybox g++ file; do
    have "$tool" || { skip V21 R-093 "C parts with musl ($tool is not installed)"; finish; }
done
exec python3 "$ops_root/scripts/ci/ops/lib/musl.py"
