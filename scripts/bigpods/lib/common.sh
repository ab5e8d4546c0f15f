#!/bin/bash
# What the scripts of this folder share. Sourced; defines functions and does nothing else.
# shellcheck source=scripts/production/lib/stack.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../production/lib/stack.sh"

log_info() { printf '[info] %s\n' "$*"; }
log_warn() { printf '[warn] %s\n' "$*" >&2; }
log_error() { printf '[error] %s\n' "$*" >&2; }

# The text after `# Usage:` at the head of the script that asks.
show_usage() { sed -n '/^# Usage:/,/^[^#]/p' "$1" | sed '/^[^#]/d; s/^# \{0,1\}//'; }

# validate_pod_name NAME: core, business or experience, with or without -pod.
validate_pod_name() {
    case ${1:-} in
        core | business | experience | core-pod | business-pod | experience-pod) return 0 ;;
        *) log_error "'${1:-}' is no pod: core, business or experience"; return 1 ;;
    esac
}

pod_service() { printf '%s-pod' "${1%-pod}"; }

# pod_limit POD min|max: how far a pod may be scaled, from scripts/.dreamscape.config.yml.
pod_limit() {
    awk -v pod="  ${1%-pod}:" -v key="$2" '
        $0 == pod { inside = 1; next }
        /^  [a-z]/ || /^[a-z]/ { inside = 0 }
        inside && /replicas:/ { match($0, key ": [0-9]+"); print substr($0, RSTART + length(key) + 2, RLENGTH - length(key) - 2) }
    ' "$stack_root/scripts/.dreamscape.config.yml"
}

# check_service_health NAME [URL]: asks the URL, or the Swarm whether the service has all its replicas.
check_service_health() {
    local name=$1 url=${2:-} replicas
    if [ -n "$url" ]; then
        curl --fail --silent --show-error --max-time 5 --output /dev/null "$url"
        return
    fi
    replicas=$(docker service ls --filter "name=${stack:-dreamscape}_$name" --format '{{.Name}} {{.Replicas}}' |
        sed -n "s/^${stack:-dreamscape}_$name //p")
    replicas=${replicas%% *}
    [ -n "$replicas" ] && [ "${replicas%/*}" = "${replicas#*/}" ] && [ "${replicas%/*}" != 0 ]
}

# Settings for scripts that can do without a complete file.
settings_if_any() {
    if [ -f "${env_file:-}" ]; then load_settings "$env_file"; else stack=${STACK_NAME:-dreamscape}; fi
}

# run COMMAND…: says it, and does it unless --dry-run.
run() {
    printf '+ %s\n' "$*"
    [ -n "${dry_run:-}" ] || "$@"
}

# Asks before something that cannot be undone; without a terminal only --yes will do.
confirm() {
    local answer
    [ -z "${yes:-}" ] || return 0
    [ -t 0 ] || die "$USAGE" "$1: give --yes"
    read -r -p "$1 [y/N] " answer
    [[ $answer == [yY]* ]]
}
