#!/usr/bin/env bash
# One of Kafka's tools, by the name it is called by. Usage: kafka-topics.sh …, kafka-configs.sh …
set -euo pipefail
case $(basename "$0") in
    kafka-topics.sh) class=org.apache.kafka.tools.TopicCommand ;;
    kafka-configs.sh) class=kafka.admin.ConfigCommand ;;
    *) echo "tool.sh: unknown tool $0" >&2; exit 2 ;;
esac
# shellcheck disable=SC2086
exec java ${KAFKA_HEAP_OPTS:-} -cp '/opt/kafka/libs/*' "$class" "$@"
