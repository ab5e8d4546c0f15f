#!/usr/bin/env bash
# The node that is the standby of a new installation. What it does, and all settings: node.sh.
# Usage: replica-entrypoint.sh
set -euo pipefail
export PG_NODE=${PG_NODE:-postgres-replica} PG_PEER=${PG_PEER:-postgres-primary}
exec "$(dirname "$(readlink -f "$0")")/node.sh" "$@"
