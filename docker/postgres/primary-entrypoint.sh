#!/usr/bin/env bash
# The node that is the primary of a new installation. What it does, and all settings: node.sh.
# Usage: primary-entrypoint.sh
set -euo pipefail
export PG_NODE=${PG_NODE:-postgres-primary} PG_PEER=${PG_PEER:-postgres-replica}
exec "$(dirname "$(readlink -f "$0")")/node.sh" "$@"
