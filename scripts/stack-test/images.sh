#!/usr/bin/env bash
# Makes the images of the test stack in an engine, from Debian packages, Maven's jars and our release binaries: nothing is pulled.
# Usage: images.sh REGISTRY VERSION        (DOCKER_HOST: the engine; CARGO_TARGET_DIR: where release/ is; root)
#   STACK_TEST_CACHE   where the base is kept (~/.cache/dreamscape/stack-test)
#   STACK_TEST_BIN     the folder of the binaries ($CARGO_TARGET_DIR/release)
set -euo pipefail
[ "${1:-}" != --help ] || { sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0; }
[ $# -eq 2 ] || { echo "Usage: images.sh REGISTRY VERSION" >&2; exit 2; }
registry=$1 version=$2
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${STACK_TEST_CACHE:-$HOME/.cache/dreamscape/stack-test}
bin=${STACK_TEST_BIN:-${CARGO_TARGET_DIR:-$HOME/.cache/dreamscape/target}/release}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
suite=bookworm
packages=(ca-certificates curl wget procps iproute2 libgcc-s1 postgresql-15 redis-server haproxy openjdk-17-jre-headless
    gnupg jq python3 util-linux prometheus prometheus-alertmanager prometheus-node-exporter prometheus-postgres-exporter
    prometheus-redis-exporter prometheus-blackbox-exporter)
moto='moto[server,s3]==5.2.1'
export DOCKER_BUILDKIT=0

say() { printf '  %s\n' "$*"; }
programs=(core-pod business-pod experience-pod devkit autoscaler)
for program in "${programs[@]}"; do
    [ -x "$bin/$program" ] || { echo "images.sh: $bin/$program is missing: cargo build --release" >&2; exit 3; }
done

mkdir -p "$cache"
base=$cache/base-$(printf '%s\n' "$suite" "${packages[@]}" 2 | sha256sum | cut -c1-12).tar
if [ ! -e "$base" ]; then
    command -v debootstrap >/dev/null || { echo "images.sh: debootstrap is missing" >&2; exit 3; }
    say "making the base of Debian $suite (once, some minutes)"
    tree=$(mktemp -d "$cache/tree.XXXXXX")
    chmod 0755 "$tree"
    trap 'umount "$tree/proc" 2>/dev/null || true; rm -rf --one-file-system "$tree"' EXIT
    debootstrap --variant=minbase "$suite" "$tree" "$mirror" >"$cache/base.log" 2>&1 || { tail -n 20 "$cache/base.log" >&2; exit 1; }
    printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d"
    chmod 0755 "$tree/usr/sbin/policy-rc.d"
    # What the host uses to reach its packages (a proxy) serves here too.
    cp /etc/apt/apt.conf.d/*proxy* "$tree/etc/apt/apt.conf.d/" 2>/dev/null || true
    mount -t proc proc "$tree/proc"
    DEBIAN_FRONTEND=noninteractive chroot "$tree" sh -ec 'apt-get update -q; apt-get install -y -q --no-install-recommends "$@"; apt-get clean' \
        - "${packages[@]}" >>"$cache/base.log" 2>&1 || { tail -n 20 "$cache/base.log" >&2; exit 1; }
    umount "$tree/proc"
    # The ids of the images in production; Debian gives others.
    chroot "$tree" sh -ec 'groupmod -g 70 postgres; usermod -u 70 -g 70 postgres; groupadd -g 1000 app
        useradd -u 1000 -g 1000 -M -d /nonexistent app; usermod -u 999 redis; rm -rf /var/lib/apt/lists/* /usr/share/doc /usr/share/man'
    tar -C "$tree" -cf "$base.part" .
    mv "$base.part" "$base"
    rm -rf --one-file-system "$tree"
    trap - EXIT
fi

if ! docker image inspect "$registry/base:$version" >/dev/null 2>&1; then
    docker import -c 'ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8' \
        "$base" "$registry/base:$version" >/dev/null
fi

# An S3 server from PyPI, for Debian's Python.
s3=$cache/moto-$(printf '%s' "$moto" | sha256sum | cut -c1-12)
if [ ! -e "$s3" ]; then
    say "fetching $moto (once)"
    rm -rf "$s3.part" "$cache/pip"
    python3 -m venv "$cache/pip"
    "$cache/pip/bin/pip" install -q --target "$s3.part" --python-version 3.11 --only-binary=:all: "$moto" >&2
    rm -rf "$cache/pip"
    mv "$s3.part" "$s3"
fi

context=$(mktemp -d "$cache/context.XXXXXX")
trap 'rm -rf "$context"' EXIT
mkdir -p "$context/bin" "$context/kafka/jars"
cp -r "$root/docker" "$context/docker"
cp "$root/scripts/postgres-init-prod.sql" "$here"/{haproxy.cfg,payments.cfg,payments.sh,s3.py,s3-buckets.py} "$context/"
cp -r "$s3" "$context/moto"
cp "$here/kafka-run.sh" "$context/kafka/run.sh"
cp "$here/kafka-tool.sh" "$context/kafka/tool.sh"
chmod 0755 "$context"/kafka/*.sh
for program in "${programs[@]}"; do cp "$bin/$program" "$context/bin/"; done
strip "$context"/bin/* 2>/dev/null || true
jars=$("$root/scripts/ci/kafka/jars.sh" "$root/scripts/ci/kafka/stack.xml")
[ -n "$jars" ] || exit 3
cp "$jars"/*.jar "$context/kafka/jars/"
agent=$(sed -n 's/^ARG JMX_AGENT_VERSION=//p' "$root/docker/kafka/Dockerfile")
agent_jar=$HOME/.m2/repository/io/prometheus/jmx/jmx_prometheus_javaagent/$agent/jmx_prometheus_javaagent-$agent.jar
[ -e "$agent_jar" ] || mvn -q -B dependency:get "-Dartifact=io.prometheus.jmx:jmx_prometheus_javaagent:$agent" -Dtransitive=false >&2
sed -n 's/^ARG JMX_AGENT_SHA256=//p' "$root/docker/kafka/Dockerfile" | sed "s:\$:  $agent_jar:" | sha256sum --check --quiet
cp "$agent_jar" "$context/kafka/jmx_prometheus_javaagent.jar"

# One stage and only what it needs: the old builder runs all stages before it too, and takes everything that it is given each time.
build() { # TARGET NAME "FILE…" [argument…]
    local target=$1 name=$2 files=$3
    shift 3
    awk -v stage="$target" '/^FROM base AS / { inside = ($4 == stage); if (inside) print "ARG BASE\nFROM ${BASE}"; next } inside' \
        "$here/Dockerfile" >"$context/Dockerfile"
    # shellcheck disable=SC2086
    tar -C "$context" -c Dockerfile $files |
        docker build -q --network none --build-arg "BASE=$registry/base:$version" "$@" -t "$registry/$name:$version" - >/dev/null
    say "$registry/$name:$version"
}
for pod in core-pod business-pod experience-pod; do build pod "$pod" "bin/$pod" --build-arg "POD=$pod"; done
build postgres postgres 'docker/postgres postgres-init-prod.sql'
build redis redis docker/redis
build kafka kafka kafka
build edge edge haproxy.cfg
build broken broken ''
build backup backup 'docker/backup postgres-init-prod.sql'
build s3 s3 'moto s3.py s3-buckets.py'
build payments payments 'bin/devkit payments.cfg payments.sh'
build autoscaler autoscaler bin/autoscaler
build observe observe ''
