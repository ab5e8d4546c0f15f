#!/bin/sh
# Makes three nodes one cluster, or mends one that has lost itself; does nothing where all is well. Run as a job after every deploy.
# contract: operations §6.8, P-10, P-11. BusyBox ash.
#
#   nodes that never met and hold no slots   redis-cli --cluster create, 3 masters, no replicas (or REDIS_REPLICAS)
#   a cluster that came back with all addresses changed (every node thinks the others are gone)
#                                            CLUSTER MEET with the addresses of now: slots and data are still there
#   a node that lost its volume              takes over the slots it had, empty
#   anything else                            left alone; exit 0 if all slots are served, 1 if not
#
# Usage: cluster-init.sh [--dry-run] [--help]
#   REDIS_NODES           "redis-1:6379 redis-2:6379 redis-3:6379"
#   REDIS_ADMIN_PASSWORD_FILE, or else REDIS_PASSWORD_FILE   the password of the user admin
#   REDIS_WAIT_SECONDS    how long to wait for nodes and for the cluster (120)
set -eu

dry_run=
case ${1:-} in
    --help) sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --dry-run) dry_run=yes ;;
    '') ;;
    *) echo "unknown argument: $1" >&2; exit 2 ;;
esac

nodes=${REDIS_NODES:-redis-1:6379 redis-2:6379 redis-3:6379}
limit=${REDIS_WAIT_SECONDS:-120}
REDISCLI_AUTH=$(cat "${REDIS_ADMIN_PASSWORD_FILE:-${REDIS_PASSWORD_FILE:?the file with the password}}")
export REDISCLI_AUTH # redis-cli reads it from here, so that it is on no command line

say() { echo "cluster-init: $*"; }
host() { echo "${1%:*}"; }
port() { echo "${1##*:}"; }
ask() { # NODE COMMAND...
    one=$1
    shift
    timeout 5 redis-cli --no-auth-warning --user admin -h "$(host "$one")" -p "$(port "$one")" "$@" 2>/dev/null | tr -d '\r'
}
info() { ask "$1" cluster info | sed -n "s/^$2://p"; }
count() { echo "$#"; }
# shellcheck disable=SC2086
total=$(count $nodes)

all_answer() {
    for node in $nodes; do [ "$(ask "$node" ping)" = PONG ] || return 1; done
}
# Every node says the cluster is well, serves all slots, and sees all others.
all_well() {
    for node in $nodes; do
        [ "$(info "$node" cluster_state)" = ok ] || return 1
        [ "$(info "$node" cluster_slots_ok)" = 16384 ] || return 1
        [ "$(info "$node" cluster_known_nodes)" -ge "$total" ] || return 1
        ! ask "$node" cluster nodes | grep -qE ' [a-z,]*(fail|handshake)' || return 1
    done
}
settled() {
    for node in $nodes; do
        up=$(ask "$node" info server | sed -n 's/^uptime_in_seconds://p')
        [ "${up:-0}" -ge "${REDIS_SETTLE_SECONDS:-12}" ] || return 1
    done
}
wait_for() { # COMMAND
    waited=0
    until "$1"; do
        [ "$waited" -lt "$limit" ] || return 1
        sleep 1
        waited=$((waited + 1))
    done
}
# Names are resolved here, because MEET takes addresses only.
address_of() {
    case $(host "$1") in
        *[!0-9.]*) getent hosts "$(host "$1")" | awk '{ print $1; exit }' ;;
        *) host "$1" ;;
    esac
}

wait_for all_answer || { say "not all nodes answer: $nodes"; exit 1; }

# Everything in this store may go at any time, so a node that lost its volume takes over the slots of the one it was, empty.
inherit() { # NODE
    own=$(ask "$1" cluster nodes | awk '$3 ~ /myself/')
    [ -z "$(echo "$own" | cut -s -d' ' -f9-)" ] || return 0
    name=$(echo "$own" | awk '{ split($2, part, ","); print part[2] }')
    [ -n "$name" ] || return 1
    for other in $nodes; do
        # It is known there by now, and so is the one it was: the same name, and gone. The slots are fields 9 and up.
        ask "$other" cluster nodes | grep -q "^${own%% *} .* connected" || continue
        was=$(ask "$other" cluster nodes | awk -v name="$name" -v own="${own%% *}" '{ split($2, part, ",") }
            part[2] == name && $1 != own && $3 ~ /(^|,)(fail|noaddr)(,|$)/ && NF > 8')
        [ "$(echo "$was" | grep -c .)" -eq 1 ] || continue
        for member in $nodes; do ask "$member" cluster forget "${was%% *}" >/dev/null || true; done
        for range in $(echo "$was" | cut -s -d' ' -f9-); do
            case $range in '['*) continue ;; esac
            ask "$1" cluster addslotsrange "${range%-*}" "${range#*-}" >/dev/null
        done
        say "$name came back empty and has its slots again"
        return 0
    done
    return 1
}
introduce() {
    for node in $nodes; do
        for other in $nodes; do
            [ "$node" != "$other" ] || continue
            address=$(address_of "$other")
            [ -n "$address" ] || { say "$other has no address"; continue; }
            ask "$node" cluster meet "$address" "$(port "$other")" >/dev/null || true
        done
    done
}

fresh=0 empty=
for node in $nodes; do
    if [ "$(info "$node" cluster_known_nodes)" = 1 ] && [ "$(info "$node" cluster_slots_assigned)" = 0 ]; then
        fresh=$((fresh + 1))
        empty="$empty $node"
    fi
done

if [ "$fresh" -eq "$total" ]; then
    say "making a cluster of $total nodes"
    [ -z "$dry_run" ] || exit 0
    # shellcheck disable=SC2086
    redis-cli --no-auth-warning --user admin --cluster create $nodes --cluster-replicas "${REDIS_REPLICAS:-0}" --cluster-yes
else
    # A node that was just started believes in the addresses it wrote down until they have been silent for cluster-node-timeout;
    # before that "ok" says nothing. One node with a new address is found by the others, and forgiven after twice that time.
    wait_for settled || { say "the nodes keep restarting"; exit 1; }
    patience=$limit limit=${REDIS_MEND_SECONDS:-15}
    if wait_for all_well; then
        say "all is well, nothing to do"
        exit 0
    fi
    limit=$patience
    say "the nodes do not find each other, introducing them"
    [ -z "$dry_run" ] || exit 0
    # A greeting can be lost, and a failed node is not known to all at once: again, until all is well or the time is up.
    tried=0 limit=5
    while [ "$tried" -lt "$patience" ]; do
        introduce
        for node in $empty; do inherit "$node" || true; done
        ! wait_for all_well || break
        tried=$((tried + limit))
    done
    limit=1
fi

if wait_for all_well; then
    say "the cluster is well: 16384 slots on $total nodes"
else
    say "the cluster is not well:"
    for node in $nodes; do echo "$node"; ask "$node" cluster info | head -5; ask "$node" cluster nodes; done
    exit 1
fi
