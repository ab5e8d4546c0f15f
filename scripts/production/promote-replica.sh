#!/bin/bash
# The name the production README uses for promote-standby.sh. Usage: promote-replica.sh [the same arguments]
set -euo pipefail
exec "$(dirname "$(readlink -f "$0")")/promote-standby.sh" "$@"
