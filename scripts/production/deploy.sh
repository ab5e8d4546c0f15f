#!/bin/bash
# Deploys the stack, or updates it: verifies the prerequisites, builds or pulls the images, deploys, waits for health, prints where
# everything answers. Running it again with nothing changed changes nothing; running it after init-secrets.sh --rotate rolls the new
# secret; a service that was scaled up stays scaled up.
#
# Usage: deploy.sh [options]
#   --env-file FILE                settings (default: .env.prod beside README.md)
#   --profile small                lower reservations, for one host of 16 cores and 32 GB
#   --traefik-v2                   Traefik 2.10 (engines up to 28)
#   --alloy                        Grafana Alloy in the place of Promtail
#   --redis-replicas               six Redis nodes
#   --alertmanager-ha              two Alertmanagers
#   --overlay FILE                 one more stack file on top; may be repeated
#   --build, --push                build our images here; push them to REGISTRY
#   --local-images                 use the images of this engine as they are: nothing is pulled, no digest is asked for
#   --no-lint                      deploy what the linter of the contract would refuse: an overlay for a test or a rehearsal
#   --renew-images                 resolve the digests of compose/images.lock again
#   --accept-unpatched-overlay     deploy on engines whose encrypted overlay networks have known holes
#   --timeout SECONDS              how long the services may take to become healthy (600)
#   --no-smoke                     leave scripts/bigpods/smoke-prod-test.sh out
#   --keep-old-secrets             do not remove the versions of secrets and configs that nothing uses any more
#   --dry-run                      verify, render and lint; deploy nothing
# Exit codes: 0 done, 1 failed (changed pods were rolled back), 2 bad arguments, 3 a prerequisite is missing.
set -euo pipefail
# shellcheck source=scripts/production/lib/stack.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/stack.sh"

usage() { sed -n '/^# Usage:/,/^set /p' "${BASH_SOURCE[0]}" | sed '/^set /d; s/^# \{0,1\}//'; }

env_file=$stack_root/.env.prod profile='' build='' push='' local_images='' renew='' accept_unpatched='' timeout=600
smoke=yes linting=yes keep_old='' dry_run='' traefik_v2='' chosen=()
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit 0 ;;
        --env-file) env_file=${2:-}; shift 2 || die "$USAGE" "--env-file needs a file" ;;
        --profile) profile=${2:-}; shift 2 || die "$USAGE" "--profile needs a name" ;;
        --traefik-v2) traefik_v2=yes; shift ;;
        --alloy) chosen+=("$compose/docker-compose.alloy.yml"); shift ;;
        --redis-replicas) chosen+=("$compose/docker-compose.redis-6.yml"); shift ;;
        --alertmanager-ha) chosen+=("$compose/docker-compose.alertmanager-ha.yml"); shift ;;
        --overlay) chosen+=("$(realpath "${2:-}")"); shift 2 || die "$USAGE" "--overlay needs a file" ;;
        --build) build=yes; shift ;;
        --push) push=yes; shift ;;
        --local-images) local_images=yes; shift ;;
        --no-lint) linting=''; shift ;;
        --renew-images) renew=yes; shift ;;
        --accept-unpatched-overlay) accept_unpatched=yes; shift ;;
        --timeout) timeout=${2:-}; shift 2 || die "$USAGE" "--timeout needs seconds" ;;
        --no-smoke) smoke=''; shift ;;
        --keep-old-secrets) keep_old=yes; shift ;;
        --dry-run) dry_run=yes; shift ;;
        *) usage >&2; exit "$USAGE" ;;
    esac
done
[[ $timeout =~ ^[0-9]+$ ]] || die "$USAGE" "--timeout needs seconds"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Pods, what holds data, and the jobs that each deploy repeats.
PODS='core-pod business-pod experience-pod'
INFRA='redis-1 redis-2 redis-3 redis-4 redis-5 redis-6 kafka-1 kafka-2 kafka-3 postgres-replica postgres-primary minio'
MIGRATIONS='migrate-core migrate-business'
JOBS='minio-init kafka-topics-init redis-cluster-init'

# ------------------------------------------------------------------------------------------------------------ prerequisites

check_engine() {
    local version
    version=$(docker version --format '{{.Server.Version}}' 2>/dev/null) || die "$PREREQUISITE" "the engine does not answer"
    note "engine $version"
    if version_lt "$version" 20.10; then die "$PREREQUISITE" "Docker 20.10 or newer is needed, this is $version"; fi
    # CVE-2023-28840, 28841, 28842: packets of encrypted overlay networks can be forged or leave in clear
    if version_lt "$version" 20.10.24 || { ! version_lt "$version" 23.0 && version_lt "$version" 23.0.3; }; then
        [ -n "$accept_unpatched" ] ||
            die "$PREREQUISITE" "encrypted overlay networks are broken in $version (CVE-2023-28840 and others); update to 20.10.24, 23.0.3 or newer, or give --accept-unpatched-overlay"
        warn "encrypted overlay networks are broken in $version; accepted"
    elif version_lt "$version" 29.9.3; then
        warn "engines before 29.9.3 have known holes in encrypted overlay networks (CVE-2026-92542, CVE-2026-115538); this is $version"
    fi
    if [ -n "$traefik_v2" ] && ! version_lt "$version" 29; then
        die "$PREREQUISITE" "Traefik 2.10 cannot talk to engine $version; leave --traefik-v2 (TRAEFIK_VERSION) out"
    fi
    forbids_new_privileges ||
        warn 'a stack file cannot forbid new privileges: put "no-new-privileges": true into daemon.json of every node (older engines do not say whether it is there)'
}

# Newer engines say it; with an older one a running container of the stack shows it.
forbids_new_privileges() {
    local container
    if docker info --format '{{.SecurityOptions}}' 2>/dev/null | grep -q no-new-privileges; then return; fi
    container=$(docker ps -q --filter "label=com.docker.stack.namespace=$stack" | head -n 1)
    [ -n "$container" ] && docker exec "$container" cat /proc/1/status 2>/dev/null | grep -q '^NoNewPrivs:[[:space:]]*1'
}

check_settings() {
    local name missing=()
    while IFS= read -r name; do
        case $name in
            CDN_DOMAIN | OTEL_EXPORTER_OTLP_ENDPOINT | SMTP_USERNAME | SLACK_CHANNEL | HEARTBEAT_URL | PAGERDUTY_ENABLED | DOCKER_GID | INFRA_VERSION) continue ;;
        esac
        [ -n "${!name:-}" ] || missing+=("$name")
    done < <(setting_names "$stack_root/.env.prod.example")
    [ "${#missing[@]}" -eq 0 ] || die "$PREREQUISITE" "not set in $(basename "$env_file"): ${missing[*]}"
    # shellcheck disable=SC2153  # of the settings
    [ "$VERSION" != latest ] || die "$PREREQUISITE" "VERSION is a release, never latest: an update and a rollback must know what they deploy"
    # Empty: a release of the pods alone, so what holds data or a port keeps the image that it runs.
    if [ -z "${INFRA_VERSION:-}" ]; then
        INFRA_VERSION=$(image_of postgres-primary)
        INFRA_VERSION=${INFRA_VERSION%@*} INFRA_VERSION=${INFRA_VERSION##*:}
        INFRA_VERSION=${INFRA_VERSION:-$VERSION}
    fi
    [ "$INFRA_VERSION" != latest ] || die "$PREREQUISITE" "INFRA_VERSION is a release, never latest"
    case $DOMAIN in *example.*) warn "DOMAIN is $DOMAIN" ;; esac
    [[ $KAFKA_CLUSTER_ID =~ ^[A-Za-z0-9_-]{22}$ ]] || die "$PREREQUISITE" "KAFKA_CLUSTER_ID is not 22 characters of base64url; init-secrets.sh makes one"
    [[ $STRIPE_PUBLISHABLE_KEY =~ ^pk_(live|test)_ ]] || die "$PREREQUISITE" "STRIPE_PUBLISHABLE_KEY is no publishable key (pk_live_…)"
    if [ "$ENABLE_TRACING" = true ]; then
        [ -n "${OTEL_EXPORTER_OTLP_ENDPOINT:-}" ] || die "$PREREQUISITE" "ENABLE_TRACING needs OTEL_EXPORTER_OTLP_ENDPOINT"
    else
        OTEL_EXPORTER_OTLP_ENDPOINT=
    fi
    [ "$ENABLE_METRICS" = true ] || warn "metrics are always on: alerts and the autoscaler live of them"
    # shellcheck disable=SC2034  # exported by name
    [ "$ENABLE_DEBUG" != true ] || LOG_LEVEL=debug
    case ${profile:-$PROFILE} in
        full) ;;
        small) chosen=("$compose/docker-compose.profile-small.yml" ${chosen[@]+"${chosen[@]}"}); small=yes ;;
        *) die "$USAGE" "there are the profiles full and small" ;;
    esac
    case $TRAEFIK_VERSION in
        3*) ;;
        2.10*) traefik_v2=yes ;;
        *) die "$USAGE" "TRAEFIK_VERSION is 3 or 2.10" ;;
    esac
    [ -z "$traefik_v2" ] || chosen+=("$compose/docker-compose.traefik-v2.10.yml")
    ! backup_is_external || chosen+=("$external_backup")
    # shellcheck disable=SC2034  # exported by name
    case $PG_PRIMARY_SERVICE in
        postgres-primary) PG_PRIMARY_ALIAS=postgres-rw PG_REPLICA_ALIAS=postgres-ro ;;
        postgres-replica) PG_PRIMARY_ALIAS=postgres-ro PG_REPLICA_ALIAS=postgres-rw ;;
        *) die "$PREREQUISITE" "PG_PRIMARY_SERVICE is postgres-primary or postgres-replica" ;;
    esac
    if [ -z "${DOCKER_GID:-}" ]; then
        DOCKER_GID=$(stat -c %g /var/run/docker.sock 2>/dev/null) ||
            die "$PREREQUISITE" "DOCKER_GID is not set, and /var/run/docker.sock is not here to take it from"
    fi
    [ "$DOCKER_GID" != 0 ] || die "$PREREQUISITE" "the engine's socket belongs to group 0, which the autoscaler must not be in; set DOCKER_GID"
}

check_secrets() {
    local key missing=()
    mapfile -t secrets < <(secret_keys)
    read_versions "$(existing_secrets)"
    for key in "${secrets[@]}"; do [ -n "${newest[$key]:-}" ] || missing+=("$key"); done
    [ "${#missing[@]}" -eq 0 ] || die "$PREREQUISITE" "secrets are missing (${missing[*]}); run scripts/production/init-secrets.sh"
    note "all secrets are there"
}

check_nodes() {
    local nodes count cpus=0 memory=0 labels pair missing=() nano bytes
    nodes=$(docker node ls -q)
    count=$(wc -w <<<"$nodes")
    # shellcheck disable=SC2086
    while read -r nano bytes; do
        cpus=$((cpus + nano / 1000000000)) memory=$((memory + bytes / 1073741824))
    done < <(docker node inspect --format '{{.Description.Resources.NanoCPUs}} {{.Description.Resources.MemoryBytes}}' $nodes)
    note "$count node(s), $cpus CPU, $memory GB"
    if [ -z "$small" ] && { ((cpus < 24)) || ((memory < 58)); }; then
        warn "the reservations are about 24 CPU and 58 GB: tasks will stay pending. Three nodes of 16 CPU and 32 GB are the least for production; --profile small fits one such host"
    elif ((cpus < 16 || memory < 30)); then
        warn "16 CPU and 32 GB are the least that the platform is made for"
    fi
    if ((count > 1)); then
        chosen+=("$compose/docker-compose.multi-node.yml")
        # shellcheck disable=SC2086
        labels=$(docker node inspect --format '{{range $k, $v := .Spec.Labels}}{{$k}}={{$v}} {{end}}' $nodes | tr ' ' '\n')
        for pair in pg=primary pg=replica redis=1 redis=2 redis=3 kafka=1 kafka=2 kafka=3 minio=true monitoring=true edge=true; do
            grep -qx "$pair" <<<"$labels" || missing+=("$pair")
        done
        [ "${#missing[@]}" -eq 0 ] ||
            die "$PREREQUISITE" "volumes are local to a node, so each stateful service needs its label. Missing: ${missing[*]} (docker node update --label-add ${missing[0]} NODE)"
    fi
}

check_host() {
    local free root
    root=$(docker info --format '{{.DockerRootDir}}' 2>/dev/null || echo /var/lib/docker)
    free=$(df -Pk "$root" 2>/dev/null | awk 'NR == 2 { print int($4 / 1048576) }' || true)
    [ -z "$free" ] || ((free >= 50)) || warn "$free GB are free in $root; 50 are needed for images, logs and a month of metrics"
    if command -v timedatectl >/dev/null; then
        [ "$(timedatectl show -p NTPSynchronized --value 2>/dev/null || echo yes)" = yes ] || warn "the clock is not synchronised: tokens and certificates need it"
    fi
    if ! docker service inspect "${stack}_traefik" >/dev/null 2>&1 && command -v ss >/dev/null; then
        if ss -Hltn 'sport = :80 or sport = :443' 2>/dev/null | grep -q .; then
            die "$PREREQUISITE" "port 80 or 443 of this host is taken (ss -ltnp)"
        fi
    fi
    if command -v getent >/dev/null; then
        local name unknown=()
        for name in "$DOMAIN" "www.$DOMAIN" "api.$DOMAIN" "grafana.$DOMAIN" "prometheus.$DOMAIN" "traefik.$DOMAIN"; do
            getent ahostsv4 "$name" >/dev/null 2>&1 || unknown+=("$name")
        done
        [ "${#unknown[@]}" -eq 0 ] || warn "no address in DNS for ${unknown[*]}: no certificate can be had for them"
    fi
}

# -------------------------------------------------------------------------------------------------------------------- images

resolve_images() {
    local lock=$compose/images.lock name image digest locked used
    used=$(cat "$compose/docker-compose.bigpods.prod.yml" ${chosen[@]+"${chosen[@]}"})
    # base images are of interest only where our own are built from them
    [ -z "$build" ] || used+=$(cat "$stack_root"/docker/*/Dockerfile*)
    # The tags in images.env are what we want; the lock says which bytes that was when it was resolved.
    : >"$work/images"
    while IFS= read -r name; do
        image=$(sed -n "s/^$name=\"\(.*\)\"\$/\1/p" "$compose/images.env")
        if [ -n "$local_images" ]; then
            printf '%s="%s"\n' "$name" "$image" >>"$work/images"
            continue
        fi
        locked=$(sed -n "s/^$name=\"\(.*\)\"\$/\1/p" "$lock" 2>/dev/null || true)
        if ! grep -qF "\${$name" <<<"$used"; then
            [ -z "$locked" ] || printf '%s="%s"\n' "$name" "$locked" >>"$work/images"
            continue
        fi
        if [ -n "$renew" ] || [ "${locked%@*}" != "$image" ]; then
            docker pull --quiet "$image" >/dev/null || die "$FAILED" "$image cannot be pulled"
            digest=$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$image" | sed -n 's/.*@\(sha256:[0-9a-f]\{64\}\)$/\1/p' | head -n 1)
            [ -n "$digest" ] || die "$FAILED" "$image has no digest"
            locked=$image@$digest
            note "$locked"
        fi
        printf '%s="%s"\n' "$name" "$locked" >>"$work/images"
    done < <(setting_names "$compose/images.env")
    if [ -z "$local_images" ] && [ -z "$dry_run" ] && ! cmp -s "$work/images" "$lock"; then
        cp "$work/images" "$lock"
        note "wrote compose/images.lock; keep it with .env.prod, it is what the next deploy uses"
    fi
}

# ------------------------------------------------------------------------------------------------------------------- rendering

# Everything the stack files may ask for, as a file of exports that the docker CLI alone gets to see.
write_settings() {
    local name key upper count now hash path
    {
        while IFS= read -r name; do printf 'export %s=%q\n' "$name" "${!name}"; done < <(setting_names "$stack_root/.env.prod.example")
        for name in PG_PRIMARY_ALIAS PG_REPLICA_ALIAS; do printf 'export %s=%q\n' "$name" "${!name}"; done
        sed 's/^/export /' "$work/images"
        # SECRET_VERSION_<KEY>: the newest version of each secret
        for key in "${secrets[@]}"; do printf 'export SECRET_VERSION_%s=v%s\n' "${key^^}" "${newest[$key]}"; done
        # CONFIG_HASH_<KEY>: a config cannot be changed, so a changed file is another config
        paste <(cut -f1 "$work/configs") <(cut -f2 "$work/configs" | tr '\n' '\0' | xargs -0 sha256sum) |
            while read -r key hash path; do printf 'export CONFIG_HASH_%s=%s\n' "${key^^}" "${hash:0:8}"; done
        # A service that the autoscaler or an operator scaled up is not scaled down by a deploy.
        for name in $PODS; do
            upper=${name^^}
            upper=${upper//-/_}_REPLICAS
            count=${!upper}
            now=$(docker service inspect --format '{{with .Spec.Mode.Replicated}}{{.Replicas}}{{end}}' "${stack}_$name" 2>/dev/null || true)
            if [[ $now =~ ^[0-9]+$ ]] && ((now > count)); then
                note "$name stays at $now replicas" >&2
                count=$now
            fi
            printf 'export %s=%q\n' "$upper" "$count"
        done
    } >"$work/settings"
}

# shellcheck disable=SC1091
with_settings() { (. "$work/settings" && "$@"); }

# key and file of each config, as the stack files name them; a later file wins
config_table() {
    awk '
        /^[a-z]/ { inside = ($1 == "configs:") }
        inside && /^  [a-z0-9_]+:/ { key = $1; sub(":.*", "", key) }
        inside && /^    file:/ { file[key] = folder[FILENAME] $2 }
        FNR == 1 { path = FILENAME; sub("[^/]*$", "", path); folder[FILENAME] = path }
        END { for (key in file) print key "\t" file[key] }' "$@" | sort
}

render() {
    local lint=() path short
    files=("$compose/docker-compose.bigpods.prod.yml" ${chosen[@]+"${chosen[@]}"})
    arguments=()
    for path in "${files[@]}"; do arguments+=(-c "$path"); done
    config_table "${files[@]}" >"$work/configs"
    while IFS=$'\t' read -r _ path; do
        [ -f "$path" ] || die "$PREREQUISITE" "the stack needs $path"
    done <"$work/configs"
    write_settings
    if ! with_settings docker stack config "${arguments[@]}" >"$work/stack.yml"; then
        docker stack config --help 2>/dev/null | grep -q 'docker stack config' ||
            die "$PREREQUISITE" "this docker command ($(docker version --format '{{.Client.Version}}')) knows no \`docker stack config\`; 28 or newer is needed here, the engines may be older"
        die "$FAILED" "the stack files cannot be rendered"
    fi
    note "${#files[@]} file(s), $(grep -c '^    image:' "$work/stack.yml") services"
    [ -z "$small" ] || lint+=(--small)
    for short in redis-6 traefik-v2.10 backup-external; do
        [[ " ${files[*]} " == *"docker-compose.$short.yml"* ]] && lint+=(--overlay "$short")
    done
    [ -z "$local_images" ] || lint+=(--local-images)
    if [ -z "$linting" ]; then
        warn "lint: left out, as told"
    elif python3 -c 'import yaml' 2>/dev/null; then
        python3 "$stack_root/scripts/ci/ops/lib/stack_lint.py" --rendered "$work/stack.yml" ${lint[@]+"${lint[@]}"} ||
            die "$FAILED" "the stack breaks a rule of the contract"
        note "lint: every rule holds"
    else
        warn "lint: left out, Python has no yaml (python3-yaml)"
    fi
}

# ------------------------------------------------------------------------------------------------------------------ deployment

service_exists() { docker service inspect "${stack}_$1" >/dev/null 2>&1; }
image_of() { docker service inspect --format '{{.Spec.TaskTemplate.ContainerSpec.Image}}' "${stack}_$1" 2>/dev/null || true; }
version_of() { docker service inspect --format '{{.Version.Index}}' "${stack}_$1" 2>/dev/null || true; }

# run_job NAME [option…]: runs a job of the stack once more and waits for it, since a finished job is not repeated by itself; or
# replaces the task of a service.
run_job() {
    local name=$1
    shift
    note "$name"
    timeout "$timeout" docker service update --quiet --detach=false --force "$@" "${stack}_$name" >/dev/null ||
        { docker service logs --tail 20 "${stack}_$name" 2>&1 | sed 's/^/    /' >&2 || true; return 1; }
}

# During an update the new schema comes first: migrations must work under the old release, new code not without them.
migrate_first() {
    local name pod
    for name in $MIGRATIONS; do
        service_exists "$name" || continue
        pod=${name#migrate-}-pod
        [ "${previous[$pod]%@*}" != "$REGISTRY/$pod:$VERSION" ] || continue
        run_job "$name" --with-registry-auth ${local_images:+--no-resolve-image} --image "$REGISTRY/$pod:$VERSION" || die "$FAILED" "$name failed; nothing else was changed"
    done
}

# New images of what holds data: one node after the other, each healthy before the next. The stack file would restart all at once.
infra_one_by_one() {
    local name image now
    for name in $INFRA; do
        service_exists "$name" || continue
        case $name in postgres-*) image=postgres ;; *) image=${name%%-*} ;; esac
        now=$(image_of "$name")
        case ${now%@*} in "$REGISTRY/$image:$INFRA_VERSION") continue ;; "$REGISTRY/$image:"*) ;; *) continue ;; esac
        run_job "$name" --with-registry-auth ${local_images:+--no-resolve-image} --image "$REGISTRY/$image:$INFRA_VERSION" ||
            die "$FAILED" "$name did not become healthy with its new image; nothing else was changed"
    done
}

deploy() {
    local resolve=always detach=() code=0
    [ -z "$local_images" ] || resolve=never
    # The waiting is ours (converge): the CLI's would last until the timeout where a service has no task, because it was scaled to
    # none or no node may run it. Older CLIs never wait and know no such flag.
    if docker stack deploy --help 2>/dev/null | grep -q -- --detach; then detach=(--detach=true); fi
    with_settings timeout "$timeout" docker stack deploy --with-registry-auth --resolve-image "$resolve" --prune \
        ${detach[@]+"${detach[@]}"} "${arguments[@]}" "$stack" >"$work/deploy.log" 2>&1 || code=$?
    if [ "$code" -ne 0 ]; then
        sed 's/^/    /' "$work/deploy.log" >&2
        return 1
    fi
    grep -q '^Creating service' "$work/deploy.log" && note "$(grep -c '^Creating service' "$work/deploy.log") services created"
    grep -q '^Updating service' "$work/deploy.log" && note "$(grep -c '^Updating service' "$work/deploy.log") services compared"
    return 0
}

# Every service has all its replicas, and none was paused or rolled back. Jobs count when they are complete.
converge() {
    local deadline=$((SECONDS + timeout)) name mode replicas pending state
    while :; do
        pending=()
        while IFS=$'\t' read -r name mode replicas; do
            # 3/3, or 0/1 (1/1 completed) for a job
            case $replicas in
                *'('*completed*) replicas=${replicas#*\(} replicas=${replicas%% *} ;;
            esac
            replicas=${replicas%% *}
            # a global service whose task has just failed says 0/0, as one does that no node may run
            if [ "$mode $replicas" = 'global 0/0' ] && [ -n "$(docker service ps -q --filter desired-state=running --filter desired-state=ready "$name" 2>/dev/null)" ]; then replicas=0/1; fi
            [ "${replicas%/*}" = "${replicas#*/}" ] || pending+=("${name#"${stack}_"} $replicas")
        done < <(docker service ls --filter "label=com.docker.stack.namespace=$stack" --format '{{.Name}}\t{{.Mode}}\t{{.Replicas}}')
        for name in $PODS; do
            state=$(docker service inspect --format '{{with .UpdateStatus}}{{.State}}{{end}}' "${stack}_$name" 2>/dev/null || true)
            case $state in
                paused | rollback_*)
                    say "the update of $name did not become healthy: $state" >&2
                    return 1
                    ;;
                updating) pending+=("$name updating") ;;
            esac
        done
        [ "${#pending[@]}" -gt 0 ] || return 0
        if ((SECONDS >= deadline)); then
            printf 'not healthy after %s s: %s\n' "$timeout" "$(IFS=,; echo "${pending[*]}")" >&2
            return 1
        fi
        sleep "${DEPLOY_POLL_SECONDS:-3}"
    done
}

# Pods whose specification this run changed go back to the one before; the engine has done so already for an update that it paused.
roll_back() {
    local name
    for name in $PODS; do
        [ -n "${previous[$name]}" ] || continue
        [ "$(version_of "$name")" != "${version[$name]}" ] || continue
        case $(docker service inspect --format '{{with .UpdateStatus}}{{.State}}{{end}}' "${stack}_$name" 2>/dev/null || true) in
            rollback_*) note "$name went back by itself" ;;
            *)
                note "rolling $name back"
                docker service rollback --quiet --detach=false "${stack}_$name" >/dev/null || warn "$name cannot be rolled back"
                ;;
        esac
    done
}

failed() {
    printf '\nerror: %s\n' "$1" >&2
    roll_back
    exit "$FAILED"
}

remove_unused() {
    local name key
    for name in $(existing_secrets); do
        key=${name#dreamscape_} key=${key%_v*}
        if [ -n "${newest[$key]:-}" ] && [ "$name" != "dreamscape_${key}_v${newest[$key]}" ]; then
            docker secret rm "$name" >/dev/null 2>&1 && note "removed the old secret $name"
        fi
    done
    # the engine refuses to remove what a service still uses
    for name in $(docker config ls --filter "label=com.docker.stack.namespace=$stack" --format '{{.Name}}'); do
        docker config rm "$name" >/dev/null 2>&1 && note "removed the old config $name"
    done
    return 0
}

# ------------------------------------------------------------------------------------------------------------------------ main

small=''
phase "1/5 prerequisites"
need_docker
load_settings "$env_file"
check_engine
need_manager
check_settings
check_secrets
check_nodes
check_host

phase "2/5 images"
resolve_images
if [ -n "$build" ]; then
    "$stack_root/scripts/bigpods/build-bigpods.sh" --env-file "$env_file" ${push:+--push} ${dry_run:+--dry-run}
fi

phase "3/5 deploy"
render
declare -A previous=() version=()
for name in $PODS; do previous[$name]=$(image_of "$name") version[$name]=$(version_of "$name"); done
if [ -n "$dry_run" ]; then
    say "dry run: nothing was deployed"
    exit 0
fi
first=yes
! service_exists core-pod || first=''
if [ -z "$first" ]; then
    infra_one_by_one
    migrate_first
fi
deploy || failed "the engine refused the stack"

phase "4/5 health"
if [ -z "$first" ]; then
    # what these jobs look after may have changed without their own specification changing
    for name in $JOBS; do run_job "$name" || failed "$name failed"; done
fi
converge || failed "the stack is not healthy"
note "every service has its replicas"
if [ -n "$smoke" ]; then
    "$stack_root/scripts/bigpods/smoke-prod-test.sh" --env-file "$env_file" || failed "the smoke test failed"
fi
[ -n "$keep_old" ] || remove_unused

phase "5/5 where everything answers"
cat <<URLS
  the platform   https://$DOMAIN           health https://$DOMAIN/health
  the API        https://api.$DOMAIN       https://api.$DOMAIN/auth/health, https://api.$DOMAIN/voyage/health
  Grafana        https://grafana.$DOMAIN
  Prometheus     https://prometheus.$DOMAIN
  Traefik        https://traefik.$DOMAIN/dashboard/
URLS
