#!/usr/bin/env bash
# The pods, built as production builds them (without default features), must not depend on devkit or a mock.
set -euo pipefail
cd "$(dirname "$0")/../.."
for pod in core-pod business-pod experience-pod; do
    tree=$(scripts/cargo.sh tree --quiet -p "$pod" --no-default-features -e normal --prefix none)
    if grep -qE '^(devkit|s3s|s3s-fs) ' <<<"$tree"; then
        echo "$pod without its default features still contains development parts:" >&2
        grep -E '^(devkit|s3s|s3s-fs) ' <<<"$tree" >&2
        exit 1
    fi
done
echo "core-pod, business-pod and experience-pod: none"
