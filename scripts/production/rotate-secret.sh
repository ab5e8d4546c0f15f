#!/bin/bash
# Rotates secrets: makes their next versions, rolls them out, removes the old ones.
#
# Usage: rotate-secret.sh NAME… [--env-file FILE] [--from-dir DIR] [--dry-run] [-- OPTION…]
#   NAME…             secrets (init-secrets.sh --list names them); what is derived from one goes with it
#   --env-file FILE   settings (default: .env.prod)
#   --from-dir DIR    where the operator's new values are, as for init-secrets.sh
#   --dry-run         say what would be done
#   OPTION…           options of deploy.sh, the same as for the last deployment (--redis-replicas, --overlay FILE): what an overlay
#                     brought would go away without it
# What the rotation of each secret means is in docs/PRODUCTION-DEPLOYMENT.md.
# Exit codes: 0 done, 1 failed, 2 bad arguments, 3 a prerequisite is missing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
usage() { sed -n '/^# Usage:/,/^set /p' "${BASH_SOURCE[0]}" | sed '/^set /d; s/^# \{0,1\}//'; }
names=() settings=() more=() dry_run=''
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit 0 ;;
        --env-file) settings=(--env-file "${2:?}"); shift 2 ;;
        --from-dir) more=(--from-dir "${2:?}"); shift 2 ;;
        --dry-run) dry_run=yes; shift ;;
        --) shift; break ;;
        -*) usage >&2; exit 2 ;;
        *) names+=(--rotate "$1"); shift ;;
    esac
done
[ "${#names[@]}" -gt 0 ] || { usage >&2; exit 2; }
"$here/init-secrets.sh" "${names[@]}" ${settings[@]+"${settings[@]}"} ${more[@]+"${more[@]}"} ${dry_run:+--dry-run}
[ -z "$dry_run" ] || exit 0
exec "$here/deploy.sh" ${settings[@]+"${settings[@]}"} "$@"
