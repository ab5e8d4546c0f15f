#!/usr/bin/env bash
# Prints the folder with the jars of Kafka that a POM names, fetched once by Maven; prints nothing and says why where Java or Maven is
# missing. tests.xml has the brokers that the tests of the pods talk to, stack.xml brokers and tools of the version that the stack runs.
# Usage: KAFKA_JARS=$(scripts/ci/kafka/jars.sh scripts/ci/kafka/tests.xml)
set -euo pipefail
case ${1:-} in
    -h | --help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
    '') echo "Usage: scripts/ci/kafka/jars.sh POM" >&2; exit 2 ;;
esac
pom=$(realpath -e "$1")
# another POM is another folder, whatever of it changed
jars=${DREAMSCAPE_TOOLS:-$HOME/.cache/dreamscape/tools}/kafka-$(basename "$pom" .xml)-$(sha256sum "$pom" | cut -c1-12)

skip() { echo "SKIP real Kafka brokers: $1" >&2; exit 0; }
command -v java >/dev/null || skip "there is no java"
major=$(java -version 2>&1 | sed -n '1s/.*version "\([0-9]*\).*/\1/p')
needed=$(sed -n 's:.*<maven.compiler.release>\([0-9]*\)<.*:\1:p' "$pom")
[ "${major:-0}" -ge "$needed" ] || skip "java is older than $needed"
if [ ! -e "$jars/complete" ]; then
    command -v mvn >/dev/null || skip "there is no mvn to fetch them"
    rm -rf "$jars"
    mvn -q -B -f "$pom" dependency:copy-dependencies -DoutputDirectory="$jars" -DincludeScope=runtime >&2 ||
        skip "Maven could not fetch them"
    touch "$jars/complete"
fi
echo "$jars"
