#!/bin/sh
# Starts one node of the Redis Cluster. The password comes from a file and goes into a file that only this account reads: never on a
# command line. The address the node announces is its own in CACHE_SUBNET, because a name has no address before the node is healthy.
# contract: operations §6.8, P-10 to P-13. BusyBox ash. Usage: entrypoint.sh, with this environment:
#
#   REDIS_NODE               name the other nodes and the clients know this one by (redis-1)
#   CACHE_SUBNET             network of the cluster, a.b.c.d/n: the address in it is announced
#   REDIS_ANNOUNCE_IP        the address itself, where it is known
#   REDIS_PASSWORD_FILE      the password of the pods (user `default`)
#   REDIS_ADMIN_PASSWORD_FILE  the password of operators, of cluster-init and between the nodes (user `admin`); unset: the same
#   REDIS_MAXMEMORY, REDIS_MAXMEMORY_POLICY, REDIS_NODE_TIMEOUT   in place of 2gb, allkeys-lru and 5000 ms
#   REDIS_PORT, REDIS_DATA, REDIS_RUN, REDIS_CONF, REDIS_BIND   port, folders, redis.conf; for other places than a container
set -eu

node=${REDIS_NODE:?the name of this node}
port=${REDIS_PORT:-6379}
data=${REDIS_DATA:-/data}
run=${REDIS_RUN:-/tmp}
conf=${REDIS_CONF:-/etc/redis/redis.conf}
password_file=${REDIS_PASSWORD_FILE:?the file with the password}

die() { echo "entrypoint.sh $node: $*" >&2; exit 1; }

number() { # a.b.c.d as one number
    old_ifs=$IFS IFS=.
    # shellcheck disable=SC2086
    set -- $1
    IFS=$old_ifs
    echo $((($1 << 24) + ($2 << 16) + ($3 << 8) + $4))
}
in_subnet() { # ADDRESS NETWORK/BITS
    mask=$(((0xffffffff << (32 - ${2#*/})) & 0xffffffff))
    [ $(($(number "$1") & mask)) -eq $(($(number "${2%/*}") & mask)) ]
}
own_address() {
    if [ -n "${REDIS_ANNOUNCE_IP:-}" ]; then
        echo "$REDIS_ANNOUNCE_IP"
        return
    fi
    for address in $(addresses); do
        if in_subnet "$address" "${CACHE_SUBNET:?the network of the cluster}"; then
            echo "$address"
            return
        fi
    done
}
addresses() { # all of this machine
    if command -v ip >/dev/null 2>&1; then
        ip -4 -o addr show | awk '{ split($4, part, "/"); print part[1] }'
    else
        hostname -I 2>/dev/null || hostname -i
    fi
}

address=$(own_address)
[ -n "$address" ] || die "no address in $CACHE_SUBNET"
read_password() { # FILE
    [ -r "$1" ] || die "$1 cannot be read"
    secret=$(cat "$1")
    [ ${#secret} -ge 16 ] || die "the password in $1 is shorter than 16 characters"
    case $secret in *[!A-Za-z0-9._~-]*) die "the password in $1 holds characters that a configuration file reads differently" ;; esac
}
read_password "$password_file"
password=$secret
read_password "${REDIS_ADMIN_PASSWORD_FILE:-$password_file}"
admin_password=$secret

umask 077
mkdir -p "$run"
# The pods may use data and pub/sub; what belongs to operators (CONFIG, FLUSHALL, KEYS, SHUTDOWN, …) is closed to them. What is opened
# again tells of the node and of the cluster: clients and the exporter ask for it.
rights='+info +cluster|slots +cluster|shards +cluster|nodes +cluster|info +cluster|keyslot +cluster|myid'
rights="$rights +slowlog|len +slowlog|get +latency|latest +latency|histogram"
cat >"$run/redis-$node.conf" <<CONF
include $conf
port $port
bind ${REDIS_BIND:-0.0.0.0}
dir $data
maxmemory ${REDIS_MAXMEMORY:-2gb}
maxmemory-policy ${REDIS_MAXMEMORY_POLICY:-allkeys-lru}
cluster-node-timeout ${REDIS_NODE_TIMEOUT:-5000}
cluster-announce-ip $address
cluster-announce-hostname $node
masteruser admin
masterauth $admin_password
rename-command DEBUG ""
user admin on >$admin_password ~* &* +@all
user default on >$password ~* &* +@all -@admin -@dangerous $rights
CONF

echo "entrypoint.sh $node: announcing $address:$port" >&2
exec redis-server "$run/redis-$node.conf"
