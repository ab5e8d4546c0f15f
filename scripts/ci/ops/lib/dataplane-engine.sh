#!/usr/bin/env bash
# A stand-in for `docker` over the two PostgreSQL nodes of a check: what the engine would do to a container, it does to a real server
# process. State is in ENGINE_DIR: <service>.{env,replicas,pid}. Anything it does not know fails.
# Linked as `docker` into a folder that comes first in PATH.
set -euo pipefail
dir=${ENGINE_DIR:?}
echo "$*" >>"$dir/transcript"

stop_service() {
    local pid
    [ -s "$dir/$1.pid" ] || return 0
    pid=$(cat "$dir/$1.pid")
    kill -TERM "$pid" 2>/dev/null || true
    for _ in $(seq 200); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    rm -f "$dir/$1.pid"
}
start_service() {
    local words
    mapfile -t words <"$dir/$1.env"
    setsid "${words[@]}" >>"$dir/$1.log" 2>&1 </dev/null &
    echo $! >"$dir/$1.pid"
}
runs() { [ -s "$dir/$1.pid" ] && kill -0 "$(cat "$dir/$1.pid")" 2>/dev/null; }

case "$1 ${2:-}" in
    "info "*) echo true ;;
    "service inspect")
        service=${*: -1} service=${service#*_}
        grep -E '^[A-Z_]+=' "$dir/$service.env" ;;
    "service scale")
        spec=${*: -1} service=${spec%=*} service=${service#*_}
        echo "${spec#*=}" >"$dir/$service.replicas"
        if [ "${spec#*=}" = 0 ]; then stop_service "$service"; else runs "$service" || start_service "$service"; fi ;;
    "service ps")
        service=${*: -1} service=${service#*_}
        if [ -e "$dir/$service.stuck" ] || runs "$service"; then echo task-of-"$service"; fi ;;
    "service update")
        service=${*: -1} service=${service#*_}
        while [ $# -gt 1 ]; do
            case $1 in
                --env-add)
                    sed -i "/^${2%%=*}=/d" "$dir/$service.env"
                    # before the command, which is the last line
                    sed -i "\$i $2" "$dir/$service.env"
                    shift ;;
                --network-add) echo "$2" >"$dir/$service.network"; shift ;;
                --network-rm) shift ;;
            esac
            shift
        done
        if runs "$service"; then stop_service "$service"; start_service "$service"; fi ;;
    "ps -q")
        service=${*: -1} service=${service##*_}
        if runs "$service"; then echo "$service"; fi ;;
    exec\ *)
        service=$2
        shift 2
        runs "$service" || { echo "No such container" >&2; exit 1; }
        mapfile -t words < <(head -n -1 "$dir/$service.env")
        for word in "${words[@]}"; do
            case $word in PG_RUN_DIR=*) host=${word#*=} ;; PG_PORT=*) port=${word#*=} ;; PG_BIN=*) bin=${word#*=} ;; esac
        done
        exec "${words[@]}" PGHOST="$host" PGPORT="$port" PATH="$bin:$PATH" "$@" ;;
    *) echo "the stand-in for docker does not know: $*" >&2; exit 1 ;;
esac
