#!/usr/bin/env bash
# The list of topics is the code's, and the job that makes them does what it says; with a stand-in for Kafka's tools. Real brokers:
# slow/dataplane-kafka.sh. contract: events §4, operations R-055
# shellcheck disable=SC2317  # functions are called by name, by `check`
set -euo pipefail
[ "${1:-}" != --help ] || { echo "Usage: dataplane-topics.sh   (KEEP=1 keeps the scratch folder)"; exit 0; }
# shellcheck source=scripts/ci/ops/lib/dataplane.sh
. "$(dirname "$0")/lib/dataplane.sh"

# -- The list is the registry of the code, in its order
from_code() { sed -n '/pub const fn name/,/^    }/s/.*=> "\(.*\)",/\1/p' "$root/shared/src/events/topic.rs"; }
from_list() { awk '!/^#/ && NF { print $1 }' "$root/docker/kafka/topics.txt"; }
check V8 R-055 "the code's registry has 38 topics" equal 38 "$(from_code | wc -l)"
check V8 R-055 "topics.txt names exactly the topics of shared::events::Topic" diff <(from_code) <(from_list)
check V8 R-052 "every topic has 6 partitions" equal 6 "$(awk '!/^#/ && NF { print $2 }' "$root/docker/kafka/topics.txt" | sort -u)"
kept() {
    equal "30" "$(awk '$1 ~ /^dreamscape.payment/ { print $3 }' "$root/docker/kafka/topics.txt" | sort -u)" &&
        equal "7" "$(awk '!/^#/ && NF && $1 !~ /^dreamscape.payment/ { print $3 }' "$root/docker/kafka/topics.txt" | sort -u)" &&
        grep -q 'starts_with("payment.")' "$root/shared/src/events/kafka/topics.rs"
}
check V8 R-054 "payments are kept 30 days, everything else 7, as in the code" kept
figure() { grep -qx "$1" "$root/docker/kafka/broker.env"; }
for line in "R-052 KAFKA_NUM_PARTITIONS=6" "R-053 KAFKA_DEFAULT_REPLICATION_FACTOR=3" "R-053 KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=3" \
    "R-053 KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR=3" "R-053 KAFKA_MIN_INSYNC_REPLICAS=2" \
    "R-053 KAFKA_TRANSACTION_STATE_LOG_MIN_ISR=2" "R-054 KAFKA_LOG_RETENTION_HOURS=168" "R-055 KAFKA_AUTO_CREATE_TOPICS_ENABLE=false"; do
    check V8 "${line%% *}" "broker.env: ${line#* }" figure "${line#* }"
done

# -- A stand-in for kafka-topics.sh and kafka-configs.sh: the topics are lines of a file
mkdir -p "$scratch/bin"
cat >"$scratch/bin/kafka-topics.sh" <<'FAKE'
#!/usr/bin/env bash
set -euo pipefail
state=${FAKE_STATE:?}
[ ! -e "$state.down" ] || { echo "no broker" >&2; exit 1; }
declare -A given=()
configs=
while [ $# -gt 0 ]; do
    case $1 in --config) configs+=${configs:+,}$2; shift ;; --create | --alter | --describe) action=${1#--} ;; --if-not-exists) ;; --*) given[${1#--}]=$2; shift ;; esac
    shift
done
[ -z "${KAFKA_OPTS:-}" ] || { echo "the agent's KAFKA_OPTS reached a tool" >&2; exit 1; }
case $action in
    describe)
        while read -r name partitions replication config; do
            printf 'Topic: %s\tTopicId: x\tPartitionCount: %s\tReplicationFactor: %s\tConfigs: %s\n' "$name" "$partitions" "$replication" "$config"
            printf '\tTopic: %s\tPartition: 0\tLeader: 1\n' "$name"
        done <"$state" ;;
    create)
        [ "${given[topic]}" != "${FAKE_REFUSE:-}" ] || { echo "refused" >&2; exit 1; }
        flock "$state.lock" bash -c 'echo "$1" >>"$2"' - "${given[topic]} ${given[partitions]} ${given[replication-factor]} $configs" "$state"
        echo "created ${given[topic]}" ;;
    alter) sed -i "s/^\(${given[topic]}\) [0-9]*/\1 ${given[partitions]}/" "$state" ;;
esac
FAKE
cat >"$scratch/bin/kafka-configs.sh" <<'FAKE'
#!/usr/bin/env bash
set -euo pipefail
while [ $# -gt 0 ]; do case $1 in --entity-name) name=$2 ;; --add-config) config=$2 ;; esac; shift; done
sed -i "s/^\($name [0-9]* [0-9]*\).*/\1 $config/" "${FAKE_STATE:?}"
FAKE
chmod +x "$scratch/bin"/*
export FAKE_STATE=$scratch/state KAFKA_BIN=$scratch/bin KAFKA_WAIT_SECONDS=0 KAFKA_OPTS=-javaagent:x
: >"$FAKE_STATE"
create() { "$root/docker/kafka/create-topics.sh" "$@"; }
says() { local words=$1; shift; create "$@" >"$scratch/out" 2>&1 || { cat "$scratch/out"; return 1; }; grep -qF -- "$words" "$scratch/out" || { cat "$scratch/out"; return 1; }; }

check V8 R-055 "a dry run says what it would do" says "76 changes would be made" --dry-run
check V8 R-055 "and does nothing" equal 0 "$(wc -l <"$FAKE_STATE")"
check V8 R-055 "--check fails where topics are missing" refused_with "76 differences" create --check
check V8 R-055 "all 76 topics are created" says "76 topics are as they should be, 76 changed"
check V8 R-055 "each .dlq has one partition" equal 38 "$(grep -c '\.dlq 1 3 ' "$FAKE_STATE")"
check V8 R-053 "all have 3 copies and min.insync.replicas 2" equal 76 "$(grep -c ' 3 .*min.insync.replicas=2' "$FAKE_STATE")"
check V8 R-054 "payments are kept 30 days" equal 10 "$(grep -c '^dreamscape.payment.*retention.ms=2592000000' "$FAKE_STATE")"
check V8 R-055 "again: nothing to change" says "76 topics are as they should be, 0 changed"
check V8 R-055 "--check agrees" says "76 topics are as they should be" --check
sed -i 's/^dreamscape.auth.login 6/dreamscape.auth.login 3/; s/retention.ms=2592000000/retention.ms=1/' "$FAKE_STATE"
check V8 R-055 "too few partitions and other settings are repaired" says "76 topics are as they should be, 11 changed"
check V8 R-055 "and are then right" says "76 topics are as they should be" --check
sed -i 's/^dreamscape.auth.login 6 3/dreamscape.auth.login 9 1/' "$FAKE_STATE"
check V8 R-053 "too many partitions and missing copies end with 1" refused_with "2 differences that nothing here can repair" create
sed -i '/^dreamscape.auth.login 9/d' "$FAKE_STATE"
FAKE_REFUSE=dreamscape.auth.login check V8 R-055 "a topic that cannot be created ends with 1" refused_with "could not be created" create
: >"$FAKE_STATE.down"
check V8 R-055 "silent brokers end with 1" refused_with "do not answer" create
printf 'dreamscape.x six 7\n' >"$scratch/topics.txt"
KAFKA_TOPICS_FILE=$scratch/topics.txt check V8 R-055 "a broken list is refused" refused_with "not a line of topics" create
finish
