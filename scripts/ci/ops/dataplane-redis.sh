#!/usr/bin/env bash
# V10: three real nodes by the real entry point: create, heal, lose one, who may do what. contract: operations §6.8, P-10 to P-14
# shellcheck disable=SC2317  # functions are called by name, by `check`
set -euo pipefail
[ "${1:-}" != --help ] || { echo "Usage: dataplane-redis.sh   (KEEP=1 keeps the scratch folder)"; exit 0; }
# shellcheck source=scripts/ci/ops/lib/dataplane.sh
. "$(dirname "$0")/lib/dataplane.sh"
command -v redis-server >/dev/null || { skip V10 R-047,R-048,R-049,R-050,R-072 "there is no redis-server"; finish; }

secret >"$scratch/password"
secret >"$scratch/admin"
port=$(python3 - <<'PY'
import socket
while True:
    s = socket.socket(); s.bind(("127.0.0.1", 0)); port = s.getsockname()[1] % 20000 + 20000; s.close()
    try:
        for p in (port, port + 10000):  # the bus of the cluster is at port + 10000
            for last in (*range(21, 24), *range(31, 34), 43):
                t = socket.socket(); t.bind((f"127.0.0.{last}", p)); t.close()
        break
    except OSError:
        pass
print(port)
PY
)
declare -A pid_of
start() { # NUMBER ADDRESS; nodes miss each other sooner than in production, so that the check is short
    mkdir -p "$scratch/$1"
    # names that do not resolve here, as those of unhealthy containers do not
    REDIS_NODE=redis-$1 CACHE_SUBNET=$2/32 REDIS_ANNOUNCE_IP=$2 REDIS_BIND=$2 REDIS_PORT=$port REDIS_DATA=$scratch/$1 REDIS_RUN=$scratch/run-$1 \
        REDIS_CONF=$root/docker/redis/redis.conf REDIS_PASSWORD_FILE=$scratch/password REDIS_ADMIN_PASSWORD_FILE=$scratch/admin \
        REDIS_NODE_TIMEOUT=${node_timeout-1500} "$root/docker/redis/entrypoint.sh" >>"$scratch/$1.log" 2>&1 &
    pid_of[$1]=$!
    started+=("$!")
}
stop() {
    kill "${pid_of[$1]}"
    wait "${pid_of[$1]}" || true
}
admin() { REDISCLI_AUTH=$(cat "$scratch/admin") timeout 5 redis-cli --no-auth-warning --user admin -h "$1" -p "$port" "${@:2}" | tr -d '\r'; }
pod() { REDISCLI_AUTH=$(cat "$scratch/password") timeout 5 redis-cli --no-auth-warning -h "$1" -p "$port" "${@:2}" 2>&1 | tr -d '\r'; }
nodes_at() { local n; for n in "$@"; do printf '127.0.0.%s:%s ' "$n" "$port"; done; }
init() { # LAST-BYTES... : cluster-init.sh over those addresses
    REDIS_NODES=$(nodes_at "$@") REDIS_PASSWORD_FILE=$scratch/password REDIS_ADMIN_PASSWORD_FILE=$scratch/admin \
        REDIS_WAIT_SECONDS=${wait:-30} REDIS_SETTLE_SECONDS=3 REDIS_MEND_SECONDS=${mend:-15} "$root/docker/redis/cluster-init.sh"
}
field() { admin "$1" cluster info | sed -n "s/^$2://p"; }

node_timeout=
for n in 1 2 3; do start $n 127.0.0.2$n; done
says() { init 21 22 23 "${@:2}" | tee "$scratch/init.out" | grep -qF "$1" || { cat "$scratch/init.out"; return 1; }; }
check V10 R-047 "cluster-init.sh makes a cluster of three" says "16384 slots on 3 nodes"
check V10 R-047 "all 16384 slots are served" equal "ok 16384 3" \
    "$(field 127.0.0.21 cluster_state) $(field 127.0.0.21 cluster_slots_ok) $(field 127.0.0.21 cluster_size)"
check V10 R-047 "cluster-init.sh again does nothing" says "nothing to do"
setting() { equal "$2" "$(admin 127.0.0.22 config get "$1" | tail -1)"; }
check V10 R-048 "maxmemory is 2 GB per node" setting maxmemory 2147483648
check V10 R-049 "maxmemory-policy is allkeys-lru" setting maxmemory-policy allkeys-lru
check V10 R-047 "cluster-node-timeout is 5 s" setting cluster-node-timeout 5000
unset node_timeout
for n in 1 2 3; do admin 127.0.0.2$n config set cluster-node-timeout 1500 >/dev/null; done
check V10 R-050 "cluster-enabled is yes" setting cluster-enabled yes
check V10 R-047 "appendonly is yes, appendfsync everysec, no snapshots" equal "yes everysec " \
    "$(admin 127.0.0.22 config get appendonly | tail -1) $(admin 127.0.0.22 config get appendfsync | tail -1) $(admin 127.0.0.22 config get save | tail -1)"
check V10 R-047 "a lost node does not stop the others (cluster-require-full-coverage no)" setting cluster-require-full-coverage no
answers_with_names() { # a key in a slot of another node: the answer names the node (P-12)
    local said
    said=$(REDISCLI_AUTH=$(cat "$scratch/password") redis-cli --no-auth-warning -h 127.0.0.21 -p "$port" get "$key_of_3")
    [[ $said == MOVED*redis-3:"$port" ]] || { echo "$said"; return 1; }
}
# keys by the node that has them, found by asking
for candidate in a b c d e f g h i j k l; do
    slot=$(admin 127.0.0.21 cluster keyslot "$candidate")
    if [ "$slot" -le 5460 ]; then key_of_1=$candidate; elif [ "$slot" -ge 10923 ]; then key_of_3=$candidate; else key_of_2=$candidate; fi
done
check V10 R-047 "MOVED names the node, so clients survive new addresses" answers_with_names

# -- Who may do what
check V10 R-072 "nobody comes in without the password" equal "NOAUTH Authentication required." "$(redis-cli -h 127.0.0.21 -p "$port" get x 2>&1)"
check V10 R-072 "a wrong password is refused" bash -c "REDISCLI_AUTH=wrong redis-cli -h 127.0.0.21 -p $port get x 2>&1 | grep -qE 'WRONGPASS|NOAUTH'"
closed() {
    local command
    for command in "flushall" "flushdb" "config get maxmemory" "keys a" "shutdown nosave" "cluster forget x" "acl list" "replicaof no one" "client list" "sort a" "migrate x 1 a 0 1"; do
        # shellcheck disable=SC2086
        [[ $(REDISCLI_AUTH=$(cat "$scratch/password") redis-cli --no-auth-warning -h 127.0.0.21 -p "$port" $command 2>&1) == NOPERM* ]] ||
            { echo "the pods may: $command"; return 1; }
    done
    [[ $(admin 127.0.0.21 debug sleep 0 2>&1) == *"unknown command"* ]] || { echo "DEBUG is there"; return 1; }
}
check V10 R-072 "the pods' user may not flush, configure, list or shut down" closed
open_to_pods() {
    equal OK "$(pod 127.0.0.21 set "$key_of_1" one)" && equal OK "$(pod 127.0.0.22 set "$key_of_2" two)" && equal OK "$(pod 127.0.0.23 set "$key_of_3" three)" || return 1
    equal 4 "$(REDISCLI_AUTH=$(cat "$scratch/password") redis-cli --no-auth-warning -h 127.0.0.21 -p "$port" eval 'return redis.call("hset", KEYS[1], "a", 1) + 3' 1 "{$key_of_1}h")" || return 1
    equal 0 "$(pod 127.0.0.21 publish channel x)" || return 1
    [[ $(pod 127.0.0.21 cluster slots) == *redis-1* && $(pod 127.0.0.21 info) == *redis_version* ]] && equal 0 "$(pod 127.0.0.21 slowlog len)"
}
check V10 R-047 "the pods' user may use data, scripts, channels, and ask for the slots" open_to_pods
no_password_seen() {
    # shellcheck disable=SC2009
    ! ps -eo args | grep -v grep | grep -qFf <(cat "$scratch/password" <(echo) "$scratch/admin" <(echo)) || { echo "on a command line"; return 1; }
    ! grep -qFf <(cat "$scratch/password" <(echo) "$scratch/admin" <(echo)) "$scratch"/*.log || { echo "in a log"; return 1; }
    equal 600 "$(stat -c %a "$scratch/run-1/redis-redis-1.conf")"
}
check V10 R-078 "the password is on no command line, in no log, and in a file of mode 0600" no_password_seen
bad_password() {
    printf 'short' >"$scratch/short"
    REDIS_NODE=x REDIS_ANNOUNCE_IP=127.0.0.21 REDIS_PASSWORD_FILE=$scratch/short REDIS_RUN=$scratch/x "$root/docker/redis/entrypoint.sh"
}
check V10 R-072 "a short password is refused" refused_with "shorter than 16" bad_password
own_address() {
    sed -n '/^number()/,/^address=/p' "$root/docker/redis/entrypoint.sh" | sed '$d' >"$scratch/address.sh"
    equal 10.20.1.9 "$(CACHE_SUBNET=10.20.1.0/24 sh -euc '. "$1"; addresses() { echo 10.0.0.5 10.20.2.9 10.20.1.9 172.18.0.3; }; own_address' - "$scratch/address.sh")"
}
check V10 R-047 "of several addresses the one in CACHE_SUBNET is announced" own_address

# -- A node goes: the others serve on
stop 3
both_serve() { equal one "$(pod 127.0.0.21 get "$key_of_1")" && equal two "$(pod 127.0.0.22 get "$key_of_2")"; }
check V10 R-047 "with one node gone the keys of the others are served" both_serve
noticed() { admin 127.0.0.21 cluster nodes | grep -q 'master,fail'; }
check V10 R-047 "the others notice that it is gone" eventually 20 noticed
serves_rest() { both_serve && equal OK "$(pod 127.0.0.22 set "$key_of_2" two)"; }
check V10 R-047 "and go on serving and taking writes after that" serves_rest
check V10 R-047 "cluster-init.sh reports the missing node" refused_with "not all nodes answer" env -S wait=1 bash -c "$(declare -f init nodes_at); root=$root scratch=$scratch port=$port wait=1; init 21 22 23"
start 3 127.0.0.43
mends() { init 21 22 43 | grep -q "nothing to do"; }
check V10 R-047 "a node that returns with a new address is found again" mends
check V10 R-047 "with its data" equal three "$(pod 127.0.0.43 get "$key_of_3")"

# -- All come back with new addresses (a restart of the stack): only an introduction helps (P-10)
for n in 1 2 3; do stop $n; done
for n in 1 2 3; do start $n 127.0.0.3$n; done
heals() {
    mend=2 init 31 32 33 >"$scratch/init.out" || { cat "$scratch/init.out"; return 1; }
    grep -q "introducing" "$scratch/init.out" && grep -q "16384 slots" "$scratch/init.out"
}
check V10 R-047 "all three with new addresses are introduced to each other and heal" heals
kept() { equal "one two three" "$(pod 127.0.0.31 get "$key_of_1") $(pod 127.0.0.32 get "$key_of_2") $(pod 127.0.0.33 get "$key_of_3")"; }
check V10 R-047 "slots and data are as they were" kept

# -- A volume is lost: the node comes back with nothing
stop 2
rm -rf "${scratch:?}/2"
start 2 127.0.0.32
inherits() {
    mend=6 init 31 32 33 >"$scratch/init.out" || { cat "$scratch/init.out"; return 1; }
    grep -q "redis-2 came back empty and has its slots again" "$scratch/init.out" || { cat "$scratch/init.out"; return 1; }
}
check V10 R-047 "a node that lost its volume takes over its slots" inherits
whole() { equal "ok 16384 3" "$(field 127.0.0.31 cluster_state) $(field 127.0.0.32 cluster_slots_ok) $(field 127.0.0.33 cluster_size)" && equal OK "$(pod 127.0.0.32 set "$key_of_2" again)" && equal one "$(pod 127.0.0.31 get "$key_of_1")"; }
check V10 R-047 "the cluster is whole, the others kept their keys" whole
check V10 R-047 "healthcheck.sh says alive, and dead for a node that is not" bash -c "
    export REDIS_PASSWORD_FILE=$scratch/password REDIS_PORT=$port
    REDIS_HOST=127.0.0.31 $root/docker/redis/healthcheck.sh && ! REDIS_HOST=127.0.0.21 $root/docker/redis/healthcheck.sh"
if command -v busybox >/dev/null; then
    check V8 - "the scripts of the image are BusyBox ash" bash -c "for f in $root/docker/redis/*.sh; do busybox ash -n \$f || exit 1; done"
else
    skip V8 - "busybox is not here, its syntax was not checked"
fi
finish
