#!/bin/bash
# Deploys the production stack. The same as scripts/production/deploy.sh.
#
# Usage: deploy-bigpods.sh [options of deploy.sh]
set -euo pipefail
case ${1:-} in
    --help | -h)
        "$(dirname "${BASH_SOURCE[0]}")/../production/deploy.sh" --help
        exit 0
        ;;
esac
exec "$(dirname "${BASH_SOURCE[0]}")/../production/deploy.sh" "$@"
