# shellcheck shell=bash
# What the scripts of production share: messages, the settings, the files of the stack, the versions of its secrets. Sourced.
stack_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
compose=$stack_root/compose

# Exit codes of every script: 0 done, 1 failed, 2 bad arguments, 3 a prerequisite is missing.
# shellcheck disable=SC2034
FAILED=1 USAGE=2 PREREQUISITE=3

say() { printf '%s\n' "$*"; }
note() { printf '  %s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() { local code=$1; shift; printf 'error: %s\n' "$*" >&2; exit "$code"; }
phase() { printf '\n== %s\n' "$*"; }

# Reads .env.prod into variables of this shell. Not exported: what a child process needs it is given by name.
# The file is the operator's own shell file (set -a; . file), so it is sourced as such.
load_settings() {
    local file=$1
    [ -f "$file" ] || die "$PREREQUISITE" "$file is missing: cp .env.prod.example .env.prod, then edit it"
    bash -n "$file" 2>/dev/null || die "$PREREQUISITE" "$file is not a valid shell file"
    # shellcheck disable=SC1090
    . "$file"
    # shellcheck disable=SC2034
    stack=${STACK_NAME:-dreamscape}
}

# The names of the settings a file holds.
setting_names() { sed -n 's/^\([A-Z][A-Z0-9_]*\)=.*/\1/p' "$1"; }

# version_lt A B: A is older than B; missing parts are 0.
version_lt() {
    local i
    local -a a b
    IFS=.- read -ra a <<<"$1"
    IFS=.- read -ra b <<<"$2"
    for i in 0 1 2; do
        local left=${a[i]:-0} right=${b[i]:-0}
        left=${left%%[!0-9]*} right=${right%%[!0-9]*}
        if ((10#${left:-0} != 10#${right:-0})); then ((10#${left:-0} < 10#${right:-0})) && return 0 || return 1; fi
    done
    return 1
}

need_docker() { command -v docker >/dev/null || die "$PREREQUISITE" "there is no docker command; install Docker 20.10 or newer"; }

# A manager of a Swarm, or an answer that says what to type.
need_manager() {
    local state
    state=$(docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}' 2>/dev/null) ||
        die "$PREREQUISITE" "the engine does not answer: is the service running, and may this user reach its socket?"
    case $state in
        'active true') ;;
        'active false') die "$PREREQUISITE" "this node is a worker; run this on a manager (docker node ls)" ;;
        *) die "$PREREQUISITE" "Swarm mode is off. Turn it on with: docker swarm init --advertise-addr <address of this node>" ;;
    esac
}

# The keys under `secrets:` or `configs:` at the top level of the files given.
top_level_keys() {
    local section=$1
    shift
    awk -v section="$section:" '
        /^[a-z]/ { inside = ($1 == section) }
        inside && /^  [a-z0-9_]+:/ { sub(":.*", "", $1); print $1 }' "$@" | sort -u
}

# Whether the settings say that backups leave the stack; the overlay for it has secrets of its own.
external_backup=$compose/docker-compose.backup-external.yml
backup_is_external() { [ "${BACKUP_S3_ENDPOINT:-http://minio:9000}" != http://minio:9000 ]; }

secret_keys() {
    local files=("$compose/docker-compose.bigpods.prod.yml")
    ! backup_is_external || files+=("$external_backup")
    top_level_keys secrets "${files[@]}"
}

# All our secrets in the Swarm, one name a line.
existing_secrets() { docker secret ls --format '{{.Name}}' | grep '^dreamscape_' || true; }

# read_versions NAMES: fills `newest` with the newest version of each secret among the names.
declare -A newest=()
read_versions() {
    local name
    newest=()
    while IFS= read -r name; do
        if [[ $name =~ ^dreamscape_([a-z0-9_]+)_v([0-9]+)$ ]]; then
            if ((BASH_REMATCH[2] > ${newest[${BASH_REMATCH[1]}]:-0})); then newest[${BASH_REMATCH[1]}]=${BASH_REMATCH[2]}; fi
        fi
    done <<<"$1"
}
