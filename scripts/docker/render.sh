#!/bin/bash
# Writes the Dockerfiles of our own programs from the one they have in common, docker/program.Dockerfile.in.
# Usage: scripts/docker/render.sh [--check]      --check writes nothing and fails when a file is not what would be written
set -euo pipefail
case ${1:-} in
    --help | -h) sed -n '2,3s/^# \{0,1\}//p' "$0" | sed '1!b' && echo "Usage: scripts/docker/render.sh [--check]" && exit 0 ;;
    --check | '') ;;
    *) echo "Usage: scripts/docker/render.sh [--check]" >&2 && exit 2 ;;
esac
cd "$(dirname "$0")/../.."
template=docker/program.Dockerfile.in
stale=0

# name, file, what it is, environment, ports, start period, whether the browser's files are in it
render() {
    local name=$1 file=$2 title=$3 environment=$4 ports=$5 start=$6 web=$7 text
    if [ "$web" = yes ]; then text=$(sed 's/^#web \{0,1\}//' "$template"); else text=$(sed '/^#web/d' "$template"); fi
    text=${text//@NAME@/$name}
    text=${text//@FILE@/$file}
    text=${text//@TITLE@/$title}
    text=${text//@ENVIRONMENT@/$environment}
    text=${text//@PORTS@/$ports}
    text=${text//@START@/$start}
    if [ "$mode" = check ]; then
        [ "$text" = "$(cat "$file" 2>/dev/null)" ] || { echo "$file is not what docker/program.Dockerfile.in gives" >&2; stale=1; }
    else
        printf '%s\n' "$text" >"$file"
    fi
}

mode="write"
[ "${1:-}" != --check ] || mode="check"
render core-pod docker/core-pod/Dockerfile.prod "Gateway, auth and user services in one process" \
    "ENV APP_ENV=production" "8080 9090" 40s no
render business-pod docker/business-pod/Dockerfile.prod "Voyage, payment and AI services in one process" \
    "ENV APP_ENV=production" "8080 9090" 40s no
render experience-pod docker/experience-pod/Dockerfile.prod "The browser's origin: files, panorama and gateway in one process" \
    "ENV APP_ENV=production" "8080 9090" 40s yes
render autoscaler docker/autoscaler/Dockerfile "Scales the pods of the stack by what Prometheus reports" \
    "ENV METRICS_PORT=9090" "9090" 20s no
exit "$stale"
