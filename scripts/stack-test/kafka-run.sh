#!/usr/bin/env bash
# What the start script of Apache's image does, for a broker of the test stack: KAFKA_LOG_DIRS becomes log.dirs, the storage is
# formatted once, the broker starts. Usage: run.sh (environment: KAFKA_*, CLUSTER_ID)
set -euo pipefail
properties=/opt/kafka/config/server.properties
: >"$properties"
while IFS='=' read -r name value; do
    case $name in
        KAFKA_HEAP_OPTS | KAFKA_OPTS | KAFKA_JARS) continue ;;
        KAFKA_*) ;;
        *) continue ;;
    esac
    name=${name#KAFKA_}
    name=${name,,}
    printf '%s=%s\n' "${name//_/.}" "$value" >>"$properties"
done < <(env)
# shellcheck disable=SC2086
env -u KAFKA_OPTS java ${KAFKA_HEAP_OPTS:-} -cp '/opt/kafka/libs/*' kafka.tools.StorageTool format --ignore-formatted \
    -t "${CLUSTER_ID:?}" -c "$properties"
# shellcheck disable=SC2086
exec java ${KAFKA_HEAP_OPTS:-} ${KAFKA_OPTS:-} -XX:TieredStopAtLevel=1 -cp '/opt/kafka/libs/*' kafka.Kafka "$properties"
