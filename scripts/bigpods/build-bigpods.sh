#!/bin/bash
# Builds our images: the three pods, the autoscaler and those of the data plane and the edge.
#
# Usage: build-bigpods.sh [NAME…] [options]
#   NAME             core, business, experience, autoscaler, traefik, postgres, redis, kafka, minio or backup; none: all there are
#   --env-file FILE  where REGISTRY and VERSION are (default: .env.prod); --registry and --version win
#   --registry R, --version V
#   --push           push each image after it was built
#   --dry-run        say what would be done
# Exit codes: 0 done, 1 failed, 2 bad arguments, 3 a prerequisite is missing.
set -euo pipefail
# shellcheck source=scripts/bigpods/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

env_file=$stack_root/.env.prod registry='' version='' push='' dry_run='' names=()
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) show_usage "${BASH_SOURCE[0]}"; exit 0 ;;
        --env-file) env_file=${2:?}; shift 2 ;;
        --registry) registry=${2:?}; shift 2 ;;
        --version) version=${2:?}; shift 2 ;;
        --push) push=yes; shift ;;
        --dry-run) dry_run=yes; shift ;;
        -*) show_usage "${BASH_SOURCE[0]}" >&2; exit "$USAGE" ;;
        *) names+=("$1"); shift ;;
    esac
done
need_docker
settings_if_any
registry=${registry:-${REGISTRY:-}} version=${version:-${VERSION:-}}
[ -n "$registry" ] && [ -n "$version" ] || die "$PREREQUISITE" "REGISTRY and VERSION are not set, in $env_file or by --registry and --version"
[ "$version" != latest ] || die "$USAGE" "a version is a release, never latest"
cd "$stack_root"
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
created=$(date -u +%Y-%m-%dT%H:%M:%SZ)

file_of() {
    case $1 in
        core | business | experience) echo "docker/$1-pod/Dockerfile.prod" ;;
        traefik-v2.10) echo docker/traefik/Dockerfile ;;
        *) echo "docker/$1/Dockerfile" ;;
    esac
}

if [ "${#names[@]}" -eq 0 ]; then
    for name in core business experience autoscaler traefik traefik-v2.10 postgres redis kafka minio backup; do
        [ -f "$(file_of "$name")" ] || continue
        # the source of the autoscaler may not be in this tree
        [ "$name" != autoscaler ] || [ -d autoscaler ] || { log_warn "autoscaler: no source, left out"; continue; }
        [ "$name" != traefik-v2.10 ] || [ "${TRAEFIK_VERSION:-3}" = 2.10 ] || continue
        names+=("$name")
    done
fi
for name in "${names[@]}"; do
    name=${name%-pod}
    file=$(file_of "$name")
    [ -f "$file" ] || die "$USAGE" "there is no $file"
    case $name in core | business | experience) image=$registry/$name-pod:$version ;; *) image=$registry/$name:$version ;; esac
    extra=()
    case $name in
        traefik-v2.10) extra=(--build-arg TRAEFIK_IMAGE=traefik:v2.10.7) ;;
        backup) extra=(--build-arg "MINIO_BUILD=$registry/minio:$version") ;;
    esac
    # base images at the digests of the lock, where it has them
    while read -r lock; do
        [ "$lock" != TRAEFIK_IMAGE ] || [ "$name" = traefik ] || continue
        pinned=$(sed -n "s/^$lock=\"\(.*@.*\)\"\$/\1/p" compose/images.lock 2>/dev/null || true)
        if [ -n "$pinned" ]; then extra+=(--build-arg "$lock=$pinned"); fi
    done < <(sed -n 's/^ARG \([A-Z]*_IMAGE\)=.*/\1/p' "$file")
    log_info "$image"
    run docker build --file "$file" --tag "$image" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
        --build-arg "CREATED=$created" ${extra[@]+"${extra[@]}"} . || exit 1
    [ -z "$push" ] || run docker push --quiet "$image" || exit 1
done
exit 0
