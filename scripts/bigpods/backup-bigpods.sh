#!/bin/bash
# Backups by hand; the stack makes them by itself every night. The same as scripts/production/backup.sh.
#
# Usage: backup-bigpods.sh [full|database|objects|configs|verify|list|prune] [options of backup.sh]
set -euo pipefail
# shellcheck source=scripts/bigpods/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
case ${1:-} in
    --help | -h | '') show_usage "${BASH_SOURCE[0]}"; exit 0 ;;
esac
target=$stack_root/scripts/production/backup.sh
[ -x "$target" ] || die "$PREREQUISITE" "$target is missing"
exec "$target" "$@"
