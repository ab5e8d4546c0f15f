#!/usr/bin/env bash
# Three real KRaft brokers with the settings of the stack: the topics, the loss of a broker, a cold start. Needs Java, and Maven once.
# contract: operations §6.9, R-051 to R-055
# shellcheck disable=SC2317  # functions are called by name, by `check`
set -euo pipefail
[ "${1:-}" != --help ] || { echo "Usage: dataplane-kafka.sh   (KEEP=1 keeps the scratch folder)"; exit 0; }
# shellcheck source=scripts/ci/ops/lib/dataplane.sh
. "$(dirname "$0")/../lib/dataplane.sh"
jars=$("$root/scripts/ci/kafka/jars.sh" "$root/scripts/ci/kafka/stack.xml" 2>"$scratch/why")
[ -n "$jars" ] || { skip V17 R-051,R-052,R-053,R-054,R-055 "$(sed 's/^SKIP //;q' "$scratch/why")"; finish; }

read -r b1 b2 b3 c1 c2 c3 < <(free_ports 6)
broker_port=("" "$b1" "$b2" "$b3") controller_port=("" "$c1" "$c2" "$c3")
bootstrap=127.0.0.1:$b1,127.0.0.1:$b2,127.0.0.1:$b3
cluster_id=$(head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | tr -d '=')
tool() { java -Xmx128m -XX:TieredStopAtLevel=1 -cp "$jars/*" "$@"; }

# The tools as the image has them.
mkdir -p "$scratch/bin"
# shellcheck disable=SC2016  # the variable is the script's
wrapper() { printf '#!/bin/sh\nexec java $KAFKA_HEAP_OPTS -cp "%s/*" %s "$@"\n' "$jars" "$2" >"$scratch/bin/$1"; chmod +x "$scratch/bin/$1"; }
wrapper kafka-topics.sh org.apache.kafka.tools.TopicCommand
wrapper kafka-configs.sh kafka.admin.ConfigCommand

# The image's way from environment to properties, over the real broker.env; only addresses and folders are of this machine.
for n in 1 2 3; do
    {
        sed -n 's/^KAFKA_//p' "$root/docker/kafka/broker.env" | while IFS='=' read -r name value; do
            printf '%s=%s\n' "$(tr 'A-Z_' 'a-z.' <<<"$name")" "$value"
        done | grep -vE '^(listeners|log\.dirs|controller\.quorum\.voters)='
        echo "node.id=$n"
        echo "listeners=PLAINTEXT://127.0.0.1:${broker_port[n]},CONTROLLER://127.0.0.1:${controller_port[n]}"
        echo "advertised.listeners=PLAINTEXT://127.0.0.1:${broker_port[n]}"
        echo "controller.quorum.voters=1@127.0.0.1:$c1,2@127.0.0.1:$c2,3@127.0.0.1:$c3"
        echo "log.dirs=$scratch/data-$n"
    } >"$scratch/$n.properties"
    tool kafka.tools.StorageTool format -t "$cluster_id" -c "$scratch/$n.properties" >/dev/null
done
declare -A pid_of
start() {
    java -Xmx400m -XX:TieredStopAtLevel=1 -cp "$jars/*" kafka.Kafka "$scratch/$1.properties" >"$scratch/$1.log" 2>&1 &
    pid_of[$1]=$!
    started+=("$!")
}
stop() {
    kill "-$2" "${pid_of[$1]}"
    wait "${pid_of[$1]}" 2>/dev/null || true
}
for n in 1 2 3; do start $n; done

export KAFKA_BIN=$scratch/bin KAFKA_BOOTSTRAP=$bootstrap KAFKA_JOBS=2
create() { "$root/docker/kafka/create-topics.sh" "$@"; }
says() {
    local words=$1
    shift
    create "$@" >"$scratch/out" 2>&1 || { tail -5 "$scratch/out"; return 1; }
    grep -qF -- "$words" "$scratch/out" || { tail -5 "$scratch/out"; return 1; }
}
check V17 R-055 "create-topics.sh makes all 76 topics on real brokers" says "76 topics are as they should be, 76 changed"
check V17 R-055 "a second run changes nothing" says "76 topics are as they should be, 0 changed"
"$scratch/bin/kafka-topics.sh" --bootstrap-server "$bootstrap" --describe >"$scratch/described" 2>/dev/null
count() { grep -P "$1" "$scratch/described" | grep -cE "$2" || true; }
check V17 R-052 "38 topics have 6 partitions" equal 38 "$(count '^Topic: dreamscape' 'PartitionCount: 6')"
check V17 R-055 "38 dead-letter topics have one" equal 38 "$(count '^Topic: dreamscape.*\.dlq' 'PartitionCount: 1')"
check V17 R-053 "all have 3 copies, of which 2 must be in sync" equal 76 "$(count '^Topic: dreamscape' 'ReplicationFactor: 3.*min.insync.replicas=2')"
check V17 R-053 "every partition has all its copies in sync" equal 266 "$(count '^\t.*Partition: ' 'Isr: [123],[123],[123]')"
voters() { equal 3 "$(tool org.apache.kafka.tools.MetadataQuorumCommand --bootstrap-server "$bootstrap" describe --status 2>/dev/null | grep CurrentVoters | grep -oE '"id": [123]|[[,][123]\b' | wc -l)"; }
check V17 R-051 "the quorum has 3 voters" voters
figures() {
    tool kafka.admin.ConfigCommand --bootstrap-server "$bootstrap" --describe --entity-type brokers --entity-name 1 --all 2>/dev/null >"$scratch/broker-1"
    local figure
    for figure in num.partitions=6 default.replication.factor=3 min.insync.replicas=2 offsets.topic.replication.factor=3 \
        transaction.state.log.replication.factor=3 transaction.state.log.min.isr=2 log.retention.hours=168 auto.create.topics.enable=false \
        unclean.leader.election.enable=false message.max.bytes=10485760; do
        grep -q "^ *$figure " "$scratch/broker-1" || { echo "not $figure"; return 1; }
    done
}
check V17 R-052,R-053,R-054 "a running broker has the figures of the requirements" figures

# -- Partitions and settings of a topic that somebody made by hand
"$scratch/bin/kafka-configs.sh" --bootstrap-server "$bootstrap" --entity-type topics --entity-name dreamscape.payment.completed --alter --add-config retention.ms=1000 >/dev/null
check V17 R-054 "a changed retention is found" refused_with "1 differences" create --check
check V17 R-054 "and set right" says "1 changed"
check V17 R-054 "then --check is content" says "as they should be" --check

# -- The loss of a broker: what was confirmed is there, and the rest goes on
topic=dreamscape.payment.completed
produce() { # FROM TO: with acks=all
    seq "$1" "$2" | tool kafka.tools.ConsoleProducer --bootstrap-server "$bootstrap" --topic "$topic" \
        --producer-property acks=all --producer-property enable.idempotence=true >"$scratch/produced" 2>&1 && ! grep -i error "$scratch/produced"
}
consume() { tool org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$bootstrap" --topic "$topic" --from-beginning --timeout-ms 8000 2>/dev/null | sort -n | uniq | wc -l; }
all_there() { equal 1000 "$(consume)"; } # a consumer that is late sees nothing: it is asked again
check V17 R-053 "messages are confirmed by all copies in sync" produce 1 500
stop 2 KILL
check V17 R-053 "with one broker killed, messages are still confirmed" produce 501 1000
check V17 R-053 "and none is lost" eventually 30 all_there
check V17 R-055 "create-topics.sh --check works with one broker away" says "as they should be" --check
start 2
recovered() { [ -z "$("$scratch/bin/kafka-topics.sh" --bootstrap-server "$bootstrap" --describe --under-replicated-partitions 2>/dev/null)" ]; }
check V17 R-053 "the broker returns and catches up" eventually 60 recovered

# -- A broker loses its volume: it comes back with its id and the cluster's, and nothing else
stop 3 KILL
rm -rf "${scratch:?}/data-3"
tool kafka.tools.StorageTool format -t "$cluster_id" -c "$scratch/3.properties" >/dev/null
start 3
check V17 R-053 "a broker with an empty volume copies everything from the others" eventually 90 recovered

# -- All brokers away and back
for n in 1 2 3; do stop $n TERM; done
for n in 3 1 2; do start $n; done
check V17 R-051 "a cold start of all three finds everything" eventually 60 recovered
check V17 R-053 "and every message" eventually 30 all_there
finish
