#!/bin/bash
# Makes the Docker secrets of production. The same as scripts/production/init-secrets.sh, under the name older guides use.
#
# Usage: generate-prod-secret.sh [options of init-secrets.sh]
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/../production/init-secrets.sh" "$@"
