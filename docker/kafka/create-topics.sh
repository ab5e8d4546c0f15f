#!/usr/bin/env bash
# Brings the topics of topics.txt, and the dead-letter topic of each, to what they should be. Run as a job after every deploy.
# contract: events §4, operations §6.9, R-052 to R-055
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: create-topics.sh [--check | --dry-run] [--help]

  missing topics              are created
  too few partitions          are added (a key may then go to another partition: do it when nothing is in flight)
  other retention, min ISR    are set
  too many partitions, another replication factor   are told and end with 1: nothing here can repair them
  topics nobody knows         are told

  --check      changes nothing; 1 if anything is not as it should be
  --dry-run    says what would be done
Environment: KAFKA_BOOTSTRAP (kafka-1:9092,kafka-2:9092,kafka-3:9092), KAFKA_REPLICATION_FACTOR (3), KAFKA_BIN (/opt/kafka/bin),
KAFKA_TOPICS_FILE (topics.txt beside this script), KAFKA_WAIT_SECONDS (180), KAFKA_JOBS (4 at once).
TEXT
}

mode=apply
case ${1:-} in
    --help | -h) usage; exit 0 ;;
    --check) mode=check ;;
    --dry-run) mode=dry ;;
    '') ;;
    *) echo "unknown argument: $1" >&2; usage >&2; exit 2 ;;
esac

here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
brokers=${KAFKA_BOOTSTRAP:-kafka-1:9092,kafka-2:9092,kafka-3:9092}
replication=${KAFKA_REPLICATION_FACTOR:-3}
bin=${KAFKA_BIN:-/opt/kafka/bin}
file=${KAFKA_TOPICS_FILE:-$here/topics.txt}
[ -r "$file" ] || { echo "create-topics: $file is missing" >&2; exit 3; }
min_isr=1
[ "$replication" -lt 3 ] || min_isr=2
# The agent of the brokers must not start in a tool (P-18).
unset KAFKA_OPTS KAFKA_JMX_OPTS JMX_PORT
export KAFKA_HEAP_OPTS=${KAFKA_TOOL_HEAP_OPTS:--Xmx128m -XX:TieredStopAtLevel=1}

say() { echo "create-topics: $*"; }
topics() { "$bin/kafka-topics.sh" --bootstrap-server "$brokers" "$@"; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# name partitions retention.ms
while read -r name partitions days rest; do
    case $name in '' | \#*) continue ;; esac
    if ! [[ $name =~ ^dreamscape(\.[a-z]+)+$ && $partitions =~ ^[1-9][0-9]*$ && $days =~ ^[1-9][0-9]*$ && -z $rest ]]; then
        echo "create-topics: not a line of topics: $name $partitions $days $rest" >&2
        exit 3
    fi
    echo "$name $partitions $((days * 86400000))"
    echo "$name.dlq 1 $((days * 86400000))"
done <"$file" >"$work/wanted"

deadline=$((SECONDS + ${KAFKA_WAIT_SECONDS:-180}))
until topics --describe >"$work/described" 2>"$work/error"; do
    [ "$SECONDS" -lt "$deadline" ] || { cat "$work/error" >&2; say "the brokers $brokers do not answer"; exit 1; }
    sleep 2
done

# What is there: name partitions replication configs
awk -F '\t' '$1 ~ /^Topic: / && /PartitionCount:/ {
    for (i = 1; i <= NF; i++) { split($i, pair, ": "); value[pair[1]] = pair[2] }
    print value["Topic"], value["PartitionCount"], value["ReplicationFactor"], value["Configs"]
    delete value
}' "$work/described" >"$work/there"

wrong=0 changed=0
: >"$work/create"
has() { [[ ,$1, == *,$2,* ]]; }
while read -r name partitions retention; do
    read -r _ there_partitions there_replication configs < <(grep -F "$name " "$work/there" | awk -v n="$name" '$1 == n') || true
    if [ -z "${there_partitions:-}" ]; then
        printf '%s %s %s\n' "$name" "$partitions" "$retention" >>"$work/create"
        continue
    fi
    if [ "$there_partitions" -lt "$partitions" ]; then
        say "$name has $there_partitions partitions, adding up to $partitions"
        changed=$((changed + 1))
        [ "$mode" != apply ] || topics --alter --topic "$name" --partitions "$partitions"
    elif [ "$there_partitions" -gt "$partitions" ]; then
        say "$name has $there_partitions partitions, more than $partitions; that cannot be undone"
        wrong=$((wrong + 1))
    fi
    if [ "$there_replication" != "$replication" ]; then
        say "$name has $there_replication copies, not $replication; use kafka-reassign-partitions.sh"
        wrong=$((wrong + 1))
    fi
    if ! has "$configs" "retention.ms=$retention" || ! has "$configs" "min.insync.replicas=$min_isr"; then
        say "$name has other settings ($configs), setting them"
        changed=$((changed + 1))
        [ "$mode" != apply ] || "$bin/kafka-configs.sh" --bootstrap-server "$brokers" --entity-type topics --entity-name "$name" --alter \
            --add-config "retention.ms=$retention,min.insync.replicas=$min_isr"
    fi
    there_partitions=
done <"$work/wanted"

while read -r name _; do
    case $name in __*) continue ;; esac
    grep -q "^$name " "$work/wanted" || say "nobody knows the topic $name"
done <"$work/there"

missing=$(wc -l <"$work/create")
if [ "$missing" -gt 0 ]; then
    say "$missing topics are missing"
    changed=$((changed + missing))
    if [ "$mode" = apply ]; then
        create_one() {
            "$bin/kafka-topics.sh" --bootstrap-server "$brokers" --create --if-not-exists --topic "$1" --partitions "$2" \
                --replication-factor "$replication" --config "retention.ms=$3" --config "min.insync.replicas=$min_isr" |
                grep -v '^WARNING: Due to limitations' || [ "${PIPESTATUS[0]}" -eq 0 ]
        }
        export -f create_one
        export bin brokers replication min_isr
        # A tool or a broker may stumble once; asking again for a topic that is there does no harm.
        for attempt in 1 2 3; do
            # shellcheck disable=SC2016
            xargs -r -P "${KAFKA_JOBS:-4}" -n 3 bash -c 'create_one "$@"' - <"$work/create" && break
            [ "$attempt" -lt 3 ] || { say "some topics could not be created"; exit 1; }
        done
    fi
fi

total=$(wc -l <"$work/wanted")
[ "$wrong" -eq 0 ] || { say "$wrong differences that nothing here can repair"; exit 1; }
case $mode in
    apply) say "$total topics are as they should be, $changed changed" ;;
    dry) say "$changed changes would be made" ;;
    check) [ "$changed" -eq 0 ] || { say "$changed differences"; exit 1; }; say "$total topics are as they should be" ;;
esac
