#!/usr/bin/env bash
# Regenerates what is generated and committed: the OpenAPI document of each pod and the configuration reference.
# Tests fail when these differ from the code, so that a change of the contract is a visible diff.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p docs/openapi
scripts/cargo.sh build --quiet -p core-pod -p business-pod -p experience-pod -p dreamscape
bin="${CARGO_TARGET_DIR:-target}/debug"
for pod in core-pod business-pod experience-pod; do
    "$bin/$pod" openapi > "docs/openapi/$pod.json"
done
"$bin/dreamscape" config --markdown > docs/configuration.md
git --no-pager diff --stat -- docs
