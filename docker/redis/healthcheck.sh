#!/bin/sh
# Whether this node answers; not whether the cluster is whole (P-32). LOADING counts: the node is reading its file.
# Usage: healthcheck.sh      contract: operations §2, §6.8
set -eu
REDISCLI_AUTH=$(cat "${REDIS_PASSWORD_FILE:?}")
export REDISCLI_AUTH
case $(timeout 4 redis-cli --no-auth-warning -h "${REDIS_HOST:-127.0.0.1}" -p "${REDIS_PORT:-6379}" ping 2>&1) in
    PONG | LOADING*) ;;
    *) exit 1 ;;
esac
