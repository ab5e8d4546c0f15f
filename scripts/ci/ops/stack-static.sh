#!/bin/bash
# V3, V8, V9, V16: other people's linters over compose files, scripts, Dockerfiles and YAML.
# Usage: scripts/ci/ops/stack-static.sh
set -euo pipefail
[ "${1:-}" != --help ] || { echo "Usage: scripts/ci/ops/stack-static.sh"; exit 0; }
# shellcheck source=scripts/ci/ops/lib/common.sh
. "$(dirname "$0")/lib/common.sh"
cd "$ops_root"

mapfile -t scripts < <(git ls-files --cached --others --exclude-standard 'docker/*.sh' 'scripts/production/*.sh' 'scripts/bigpods/*.sh' \
    'scripts/ci/ops-check.sh' 'scripts/ci/ops/*.sh' 'scripts/docker/*.sh' | while read -r file; do [ ! -f "$file" ] || echo "$file"; done)
parses() { local file; for file in "${scripts[@]}"; do bash -n "$file" || return 1; done; }
line_ends() { ! grep -lr $'\r' "${scripts[@]}"; }
executable() {
    local file bad=0
    for file in "${scripts[@]}"; do
        case $file in */lib/* | */common.sh) continue ;; esac
        [ -x "$file" ] || { echo "$file is not executable"; bad=1; }
    done
    return "$bad"
}
strict() {
    local file bad=0
    for file in "${scripts[@]}"; do
        case $file in */lib/* | */common.sh) continue ;; esac
        grep -qE '^set -E?eu(o pipefail)?|/common\.sh"$' "$file" || { echo "$file has no set -euo pipefail"; bad=1; }
    done
    return "$bad"
}
helpful() {
    local file bad=0
    for file in scripts/production/*.sh scripts/bigpods/*.sh; do
        "$file" --help 2>/dev/null </dev/null | head -n 1 | grep -q '^Usage:' || { echo "$file --help does not begin with Usage:"; bad=1; }
    done
    return "$bad"
}
check V8 R-137,R-138 "bash -n on ${#scripts[@]} scripts" parses
check V8 R-137,R-138 "no carriage return in a script" line_ends
check V8 R-137,R-138 "every script is executable" executable
check V8 R-137,R-138 "every script stops at its first error" strict
check V8 R-137,R-138 "--help of every script for operators begins with Usage:" helpful

if have shellcheck; then
    check V8 R-137,R-138 "shellcheck on ${#scripts[@]} scripts" shellcheck -x "${scripts[@]}"
else
    skip V8 R-137,R-138 "shellcheck (not installed)"
fi

mapfile -t dockerfiles < <(find docker -name 'Dockerfile*' -type f | sort)
if have hadolint; then
    check V9 R-090,R-093,R-094 "hadolint on ${#dockerfiles[@]} Dockerfiles" hadolint -c .hadolint.yaml "${dockerfiles[@]}"
else
    skip V9 R-090,R-093,R-094 "hadolint (not installed)"
fi

compose=(compose/docker-compose*.yml)
if have check-jsonschema; then
    check V3 R-001 "the compose schema takes ${#compose[@]} files" check-jsonschema --builtin-schema vendor.compose-spec "${compose[@]}"
else
    skip V3 R-001 "check-jsonschema (not installed)"
fi
if have compose-lint; then
    check V16 R-090,R-091,R-095 "compose-lint: nothing but what is justified" \
        compose-lint --config scripts/ci/ops/compose-lint.yml --fail-on low compose/docker-compose.bigpods.prod.yml
else
    skip V16 R-090,R-091,R-095 "compose-lint (not installed)"
fi
if have node && [ -x scripts/ci/dclint/node_modules/.bin/dclint ]; then
    check V16 R-001 "dclint on the stack and the files of development" scripts/ci/dclint/node_modules/.bin/dclint --max-warnings 0 \
        -c scripts/ci/ops/dclint.json compose/docker-compose.bigpods.prod.yml compose/docker-compose.dev.yml compose/docker-compose.monitoring.yml
else
    skip V16 R-001 "dclint (scripts/ci/npm.sh has not installed it)"
fi
if have yamllint; then
    check V16 R-001,R-020 "yamllint" yamllint -s -c scripts/ci/ops/yamllint.yml compose docker monitoring scripts/ci/ops .hadolint.yaml
else
    skip V16 R-001,R-020 "yamllint (not installed)"
fi
dev_prometheus() {
    local folder result=0
    folder=$(mktemp -d)
    cp compose/monitoring.dev/prometheus.yml "$folder/"
    cp -r monitoring/rules "$folder/"
    promtool check config "$folder/prometheus.yml" || result=1
    rm -rf "$folder"
    return "$result"
}
if have promtool; then
    check V5 R-108 "promtool on the configuration of development" dev_prometheus
else
    skip V5 R-108 "promtool (not installed)"
fi
finish
