# What the checks of the data plane share: result lines, a scratch folder, free ports, and servers that end with the check.
# Sourced by scripts/ci/ops/dataplane-*.sh and scripts/ci/ops/slow/dataplane-*.sh.
# shellcheck shell=bash disable=SC2317,SC2034

# shellcheck source=scripts/ci/ops/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
root=$ops_root
started=()

equal() { [ "$1" = "$2" ] || { echo "expected: $1"; echo "seen:     $2"; return 1; }; }
refused() { if "$@" >"$scratch/refused.out" 2>&1; then echo "succeeded, but must be refused:"; cat "$scratch/refused.out"; return 1; fi; }
# refused_with TEXT COMMAND...: fails, and says why in these words
refused_with() {
    local words=$1
    shift
    refused "$@" && { grep -qF -- "$words" "$scratch/refused.out" || { echo "refused, but without '$words':"; cat "$scratch/refused.out"; return 1; }; }
}

# eventually SECONDS COMMAND...: seconds of a machine that is not busy with something else
eventually() {
    local deadline=$((SECONDS + $1 * ${CHECK_PATIENCE:-4}))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || { echo "not within time: $*"; "$@"; return 1; }
        sleep 0.2
    done
}

free_ports() { # N free ports, found at once so that they differ
    python3 - "$1" <<'PY'
import socket, sys
held = []
for _ in range(int(sys.argv[1])):
    s = socket.socket(); s.bind(("127.0.0.1", 0)); held.append(s)
print(*(s.getsockname()[1] for s in held))
PY
}

secret() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }

scratch=$(mktemp -d "${TMPDIR:-/tmp}/dreamscape-ops.XXXXXX")
chmod 0755 "$scratch"
clean_up() {
    local pid
    for pid in "${started[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${started[@]}"; do
        for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -KILL "$pid" 2>/dev/null || true
    done
    [ -z "${KEEP:-}" ] && rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# PostgreSQL's programs and the account they run as: PostgreSQL refuses root.
find_postgres() {
    PG_BIN=
    local candidate
    for candidate in /usr/lib/postgresql/15/bin "$(dirname "$(readlink -f "$(command -v initdb || echo /nowhere)")")"; do
        if [ -x "$candidate/initdb" ] && [[ $("$candidate/postgres" --version) == *" 15."* ]]; then
            PG_BIN=$candidate
            break
        fi
    done
    export PG_BIN
    if [ "$(id -u)" -eq 0 ]; then
        account=postgres
        id postgres >/dev/null 2>&1 || account=nobody
    else
        account=$(id -un)
    fi
    as=()
    [ "$(id -u)" -ne 0 ] || as=(env "HOME=$scratch" setpriv --reuid "$account" --regid "$(id -g "$account")" --clear-groups --)
    [ -n "$PG_BIN" ]
}
as_account() { "${as[@]}" "$@"; }
own() { [ "$(id -u)" -ne 0 ] || chown -R "$account" "$@"; }
