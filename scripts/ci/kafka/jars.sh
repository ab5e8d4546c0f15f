#!/usr/bin/env bash
# Prints the folder with the jars of Kafka's brokers, fetched once by Maven; prints nothing and says why where Java 17 or
# Maven is missing. Usage: KAFKA_JARS=$(scripts/ci/kafka/jars.sh)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tools=${DREAMSCAPE_TOOLS:-$HOME/.cache/dreamscape/tools}
version=$(sed -n 's:.*<version>\([0-9.]*[0-9]\.[0-9.]*\)</version>.*:\1:p' "$here/pom.xml")
jars="$tools/kafka-$version"

skip() { echo "SKIP real Kafka brokers: $1" >&2; exit 0; }
command -v java >/dev/null || skip "there is no java"
major=$(java -version 2>&1 | sed -n '1s/.*version "\([0-9]*\).*/\1/p')
[ "${major:-0}" -ge 17 ] || skip "java is older than 17"
if [ ! -e "$jars/complete" ]; then
    command -v mvn >/dev/null || skip "there is no mvn to fetch them"
    rm -rf "$jars"
    mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$jars" -DincludeScope=runtime >&2 ||
        skip "Maven could not fetch them"
    touch "$jars/complete"
fi
echo "$jars"
