#!/usr/bin/env bash
# Prints the folder with brokers and tools of Kafka in the version of the stack, fetched once by Maven; prints nothing and says why
# where that cannot be. Usage: KAFKA_JARS=$(scripts/ci/ops/kafka/jars.sh)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's:.*<version>\([0-9]*\.[0-9]*\.[0-9]*\)</version>.*:\1:p' "$here/pom.xml" | head -1)
jars=${DREAMSCAPE_TOOLS:-$HOME/.cache/dreamscape/tools}/kafka-with-tools-$version

skip() { echo "$1" >&2; exit 0; }
command -v java >/dev/null || skip "there is no java"
if [ ! -e "$jars/complete" ]; then
    command -v mvn >/dev/null || skip "there is no mvn to fetch Kafka"
    rm -rf "$jars"
    mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$jars" -DincludeScope=runtime >&2 ||
        skip "Maven could not fetch Kafka"
    touch "$jars/complete"
fi
echo "$jars"
