#!/bin/bash
# Asks the deployed platform everything that shows whether it is what was meant to be deployed: the Swarm about its services, the world
# outside about addresses and headers, the data plane about its state. Runs all checks, then fails if any did.
#
# Usage: smoke-prod-test.sh [options]
#   --base-url URL    where the platform answers (https://$DOMAIN)
#   --api-url URL     where its API answers (https://api.$DOMAIN)
#   --resolve IP      the address all names have (before DNS knows them)
#   --insecure        accept certificates of nobody (a rehearsal)
#   --journey         also sign a traveller up and in, and search; leaves an account behind
#   --no-public       leave out what needs the public addresses
#   --no-engine       leave out what needs the Swarm
#   --skip NAMES      leave out checks by name, separated by commas
#   --json            results as JSON lines
#   --list            the names of the checks
#   --env-file FILE   settings (default: .env.prod)
# Exit codes: 0 all passed, 1 some failed, 2 bad arguments, 3 a prerequisite is missing.
set -euo pipefail
# shellcheck source=scripts/bigpods/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

env_file=$stack_root/.env.prod base_url='' api_url='' insecure='' journey='' public=yes engine=yes skips='' json='' list='' resolve=''
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) show_usage "${BASH_SOURCE[0]}"; exit 0 ;;
        --base-url) base_url=${2:?}; shift 2 ;;
        --api-url) api_url=${2:?}; shift 2 ;;
        --resolve) resolve=${2:?}; shift 2 ;;
        --insecure) insecure=yes; shift ;;
        --journey) journey=yes; shift ;;
        --no-public) public=''; shift ;;
        --no-engine) engine=''; shift ;;
        --skip) skips=",${2:?},"; shift 2 ;;
        --json) json=yes; shift ;;
        --list) list=yes; shift ;;
        --env-file) env_file=${2:?}; shift 2 ;;
        *) show_usage "${BASH_SOURCE[0]}" >&2; exit "$USAGE" ;;
    esac
done
settings_if_any
base_url=${base_url:-https://${DOMAIN:-localhost}}
api_url=${api_url:-https://api.${DOMAIN:-localhost}}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

passed=0 failed=0 left_out=0
# test_that NAME TEXT COMMAND…: one check; its output is shown when it fails.
test_that() {
    local name=$1 text=$2 output result=PASS
    shift 2
    if [ -n "$list" ]; then printf '%-24s %s\n' "$name" "$text"; return; fi
    if [[ $skips == *",$name,"* ]]; then
        result=SKIP left_out=$((left_out + 1)) output='asked for'
    else
        local code=0
        output=$("$@" 2>&1) || code=$?
        # 77: this release has nothing to ask
        case $code in
            0) passed=$((passed + 1)) ;;
            77) result=SKIP left_out=$((left_out + 1)) ;;
            *) result=FAIL failed=$((failed + 1)) ;;
        esac
    fi
    if [ -n "$json" ]; then
        python3 -c 'import json, sys; print(json.dumps(dict(zip(("check", "result", "text", "output"), sys.argv[1:]))))' \
            "$name" "$result" "$text" "$([ "$result" = FAIL ] && printf '%s' "$output")"
    else
        printf '%s  %s\n' "$result" "$text"
        [ "$result" != FAIL ] || tail -n 5 <<<"$output" | sed 's/^/        /'
    fi
}

# ------------------------------------------------------------------------------------------------------------- the public side

fetch() {
    local url=${*: -1} host port
    local -a more=()
    [ -z "$insecure" ] || more+=(--insecure)
    if [ -n "$resolve" ]; then
        host=${url#*://} host=${host%%/*}
        port=443
        [[ $url == http://* ]] && port=80
        [[ $host == *:* ]] && port=${host##*:} host=${host%%:*}
        more+=(--resolve "$host:$port:$resolve")
    fi
    curl --silent --show-error --max-time 10 ${more[@]+"${more[@]}"} "$@"
}
status() { fetch --output /dev/null --write-out '%{http_code}' "$@"; }
status_is() { local wanted=$1 found; shift; found=$(status "$@"); [[ $found =~ ^($wanted)$ ]] || { echo "answered $found, not $wanted"; return 1; }; }
header_of() { fetch --dump-header - --output /dev/null "$2" | tr -d '\r' | sed -n "s/^$1: //Ip" | head -n 1; }
header_has() { local found; found=$(header_of "$1" "$3"); grep -qi -- "$2" <<<"$found" || { echo "$1 is '$found', not '$2'"; return 1; }; }
header_absent() { local found; found=$(header_of "$1" "$2"); [ -z "$found" ] || { echo "$1: $found"; return 1; }; }

redirects() { status_is '301|308' "http://${base_url#*://}/" && header_has location '^https://' "http://${base_url#*://}/"; }
old_tls_refused() {
    command -v openssl >/dev/null || { echo "no openssl here"; return 1; }
    local host=${base_url#*://}
    host=${host%%/*}
    openssl s_client -connect "${resolve:-$host}:443" -servername "$host" -tls1_2 </dev/null 2>/dev/null | grep -q 'Cipher is [^(]' ||
        { echo "TLS 1.2 is refused too, or nobody answers"; return 1; }
    # the client must be willing for the server's refusal to count
    ! openssl s_client -connect "${resolve:-$host}:443" -servername "$host" -tls1_1 -cipher 'DEFAULT:@SECLEVEL=0' </dev/null 2>/dev/null | grep -q 'Cipher is [^(]'
}
health_answers() {
    local found
    found=$(status "$1")
    case $found in
        200 | 206) ;;
        503) ! fetch "$1" | grep -q '"code":"UPSTREAM_UNAVAILABLE"' || [[ $1 != */panorama/health ]] || { echo "this release has no panorama service"; return 77; }
            echo "answered 503"; return 1 ;;
        *) echo "answered $found"; return 1 ;;
    esac
}
is_401() { status_is 401 "$1"; }
cors_is_strict() {
    local found
    found=$(fetch --dump-header - --output /dev/null -H 'Origin: https://evil.example' "$api_url/auth/health" | tr -d '\r' | sed -n 's/^access-control-allow-origin: //Ip')
    [ -z "$found" ] || { echo "lets $found in"; return 1; }
}
compresses() {
    local found
    found=$(fetch --dump-header - --output /dev/null -H 'Accept-Encoding: gzip' "$api_url/api/v1/openapi.json" | tr -d '\r' | sed -n 's/^content-encoding: //Ip')
    [[ $found == gzip ]] || { echo "content-encoding is '$found'"; return 1; }
}
socket_opens() { fetch "$base_url/socket.io/?EIO=4&transport=polling" | grep -q '"upgrades":\["websocket"\]'; }
sticks() {
    local jar=$work/cookies first other
    first=$(fetch --cookie-jar "$jar" --dump-header - --output /dev/null "$api_url/auth/health" | tr -d '\r' | sed -n 's/^x-pod-instance: //Ip')
    other=$(for _ in 1 2 3 4 5; do fetch --cookie "$jar" --dump-header - --output /dev/null "$api_url/auth/health" | tr -d '\r' | sed -n 's/^x-pod-instance: //Ip'; done | sort -u)
    [ -n "$first" ] && [ "$first" = "$other" ] || { echo "first $first, then ${other//$'\n'/, }"; return 1; }
}
pin_across_replicas() {
    local pin found
    pin=$(fetch -X POST -H 'Content-Type: application/json' -d '{"destination":"paris"}' "$base_url/api/v1/vr/sessions" | sed -n 's/.*"pin":"\{0,1\}\([0-9]*\).*/\1/p')
    [ -n "$pin" ] || { echo "no PIN was given"; return 1; }
    found=$(status "$base_url/api/v1/vr/sessions/$pin")
    [ "$found" = 200 ] || { echo "another request answered $found"; return 1; }
}
search_answers() {
    local day
    day=$(date -u -d '+45 days' +%Y-%m-%d 2>/dev/null || date -u -v+45d +%Y-%m-%d)
    status_is 200 "$api_url/api/v1/flights/search?originLocationCode=PAR&destinationLocationCode=TYO&departureDate=$day&adults=1"
}
walk() { # signs up, signs in, reads the profile; the password is made here and known to nobody
    local address password token body
    address="smoke-$(date +%s)-$RANDOM@${DOMAIN:-example.org}"
    password="Aa1!$(head -c 18 /dev/urandom | base64 | tr '+/' 'xy')"
    body="{\"email\":\"$address\",\"password\":\"$password\",\"firstName\":\"Smoke\",\"lastName\":\"Test\"}"
    printf '%s' "$body" | status_is '200|201' -X POST -H 'Content-Type: application/json' --data @- "$api_url/api/v1/auth/register" || return 1
    token=$(printf '%s' "{\"email\":\"$address\",\"password\":\"$password\"}" |
        fetch -X POST -H 'Content-Type: application/json' --data @- "$api_url/api/v1/auth/login" |
        python3 -c '
import json, sys
body = json.load(sys.stdin)
data = body.get("data") or body
tokens = data.get("tokens") or data
print(tokens.get("accessToken", ""))')
    [ -n "$token" ] || { echo "no token after signing in"; return 1; }
    printf 'header = "Authorization: Bearer %s"\n' "$token" >"$work/token"
    status_is 200 --config "$work/token" "$api_url/api/v1/auth/profile"
}

public_checks() {
    test_that redirect "HTTP goes to HTTPS for good" redirects
    test_that old-tls "TLS 1.1 is refused" old_tls_refused
    test_that health "$base_url/health" health_answers "$base_url/health"
    local path
    for path in auth users voyage payment ai panorama gateway; do
        test_that "health-$path" "$api_url/$path/health" health_answers "$api_url/$path/health"
    done
    test_that hsts "HSTS for a year" header_has strict-transport-security 'max-age=31536000; includeSubDomains' "$base_url/"
    test_that nosniff "X-Content-Type-Options" header_has x-content-type-options nosniff "$base_url/"
    test_that frames "X-Frame-Options" header_has x-frame-options SAMEORIGIN "$base_url/"
    test_that referrer "Referrer-Policy of pages" header_has referrer-policy strict-origin-when-cross-origin "$base_url/"
    test_that permissions "Permissions-Policy lets VR work" header_has permissions-policy 'xr-spatial-tracking=(self)' "$base_url/"
    test_that no-server "no Server header" header_absent server "$base_url/"
    test_that no-powered-by "no X-Powered-By header" header_absent x-powered-by "$api_url/auth/health"
    test_that request-id "answers carry X-Request-Id" header_has x-request-id '.' "$api_url/auth/health"
    test_that cors "foreign origins may not read the API" cors_is_strict
    test_that compression "documents are compressed" compresses
    test_that sticky "the cookie ds_core leads to one core pod" sticks
    test_that internal "no internal page is public" status_is 404 "$api_url/metrics"
    test_that grafana "Grafana answers" status_is '200|302' "https://grafana.${DOMAIN:-localhost}/api/health"
    test_that prometheus-auth "Prometheus asks for a password" is_401 "https://prometheus.${DOMAIN:-localhost}/"
    test_that traefik-auth "Traefik's dashboard asks for a password" is_401 "https://traefik.${DOMAIN:-localhost}/dashboard/"
    test_that socket "a socket can be opened" socket_opens
    test_that search "a flight search answers" search_answers
    test_that pin "a VR PIN made by one replica is known to another" pin_across_replicas
    if [ -n "$journey" ] || [ -n "$list" ]; then test_that journey "a traveller signs up, signs in and reads the own profile" walk; fi
}

# -------------------------------------------------------------------------------------------------------------------- the Swarm

services() { docker service ls --filter "label=com.docker.stack.namespace=$stack" --format '{{.Name}}\t{{.Mode}}\t{{.Replicas}}'; }
inspect() { docker service inspect --format "$2" "${stack}_$1"; }
container_of() { docker ps -q --filter "label=com.docker.swarm.service.name=${stack}_$1" | head -n 1; }
# in_service NAME COMMAND…: inside a task of it on this node
in_service() {
    local container
    container=$(container_of "$1")
    [ -n "$container" ] || { echo "no task of $1 on this node"; return 1; }
    shift
    docker exec "$container" "$@"
}

all_replicas() {
    local name mode replicas bad=0
    while IFS=$'\t' read -r name mode replicas; do
        case $mode in
            *job*) [[ $replicas =~ \(([0-9]+)/([0-9]+)\ completed\) ]] && [ "${BASH_REMATCH[1]}" = "${BASH_REMATCH[2]}" ] || { echo "$name $replicas"; bad=1; } ;;
            *) replicas=${replicas%% *}; [ "${replicas%/*}" = "${replicas#*/}" ] || { echo "$name $replicas"; bad=1; } ;;
        esac
    done < <(services)
    [ -n "$(services)" ] || { echo "there is no stack $stack"; return 1; }
    return "$bad"
}
containers_healthy() {
    local bad
    bad=$(docker ps --filter "label=com.docker.stack.namespace=$stack" --filter health=unhealthy --format '{{.Names}}')
    [ -z "$bad" ] || { echo "unhealthy: $bad"; return 1; }
}
network_flags() {
    local name bad=0 found wanted
    for name in bigpods database cache storage monitoring; do
        found=$(docker network inspect --format '{{.Driver}} {{index .Options "encrypted"}} {{.Internal}}' "${stack}_$name-network" 2>&1) || { echo "$found"; bad=1; continue; }
        case $name in database | cache | storage) wanted='overlay true true' ;; *) wanted='overlay true false' ;; esac
        # the engine keeps the option under its own key, with or without a value
        [ "$found" = "$wanted" ] || [ "${found/  / true }" = "$wanted" ] || { echo "$name-network: $found"; bad=1; }
    done
    [ "$(docker network ls -q --filter "label=com.docker.stack.namespace=$stack" | wc -l)" -eq 5 ] || { echo "not exactly five networks"; bad=1; }
    return "$bad"
}
no_secret_in_specs() {
    local name bad=0 found
    while IFS=$'\t' read -r name _; do
        found=$(docker service inspect --format '{{range .Spec.TaskTemplate.ContainerSpec.Env}}{{println .}}{{end}}' "$name" |
            grep -E '^[A-Z0-9_]*(PASSWORD|SECRET|TOKEN|API_KEY|PRIVATE)[A-Z0-9_]*=' | grep -vE '^[A-Z0-9_]+_FILE=|^SECRETS=0$' | cut -d= -f1 || true)
        [ -z "$found" ] || { echo "$name: ${found//$'\n'/, }"; bad=1; }
    done < <(services)
    return "$bad"
}
limits_everywhere() {
    local name found bad=0
    while IFS=$'\t' read -r name _; do
        found=$(docker service inspect --format '{{with .Spec.TaskTemplate.Resources}}{{with .Limits}}{{.NanoCPUs}} {{.MemoryBytes}}{{end}}{{end}}' "$name")
        [[ $found =~ ^[1-9][0-9]*\ [1-9][0-9]*$ ]] || { echo "$name: $found"; bad=1; }
    done < <(services)
    return "$bad"
}
read_only_roots() {
    local name bad=0
    while IFS=$'\t' read -r name _; do
        [ "$name" != "${stack}_cadvisor" ] || continue
        [ "$(docker service inspect --format '{{.Spec.TaskTemplate.ContainerSpec.ReadOnly}}' "$name")" = true ] || { echo "$name can write to its root"; bad=1; }
    done < <(services)
    return "$bad"
}
not_root() {
    local name user bad=0
    for name in core-pod business-pod experience-pod; do
        user=$(inspect "$name" '{{.Spec.TaskTemplate.ContainerSpec.User}}')
        [ "$user" = 1000:1000 ] || { echo "$name runs as '$user'"; bad=1; }
    done
    return "$bad"
}
caches_are_closed() { # Traefik is on no network of the data plane
    local container
    container=$(container_of traefik)
    [ -n "$container" ] || { echo "no Traefik on this node"; return 1; }
    docker exec "$container" sh -c 'nc -z -w 3 core-pod 8080 || nc -z -w 3 tasks.core-pod 8080' || { echo "Traefik does not even reach a pod"; return 1; }
    ! docker exec "$container" nc -z -w 3 postgres-rw 5432 && ! docker exec "$container" nc -z -w 3 redis-1 6379 &&
        ! docker exec "$container" nc -z -w 3 minio 9000 || { echo "Traefik reaches the data plane"; return 1; }
}
prometheus_query() { in_service prometheus wget -q -O - "http://127.0.0.1:9090/api/v1/query?query=$1"; }
targets_up() {
    prometheus_query 'up%3D%3D0' | python3 -c '
import json, sys
rows = json.load(sys.stdin)["data"]["result"]
print(", ".join(r["metric"].get("job", "?") + " " + r["metric"].get("instance", "?") for r in rows))
sys.exit(1 if rows else 0)'
}
rules_loaded() { in_service prometheus wget -q -O - http://127.0.0.1:9090/api/v1/rules | python3 -c '
import json, sys
groups = json.load(sys.stdin)["data"]["groups"]
bad = [r["name"] for g in groups for r in g["rules"] if r["health"] == "err"]
print(len(groups), "groups; in error:", bad)
sys.exit(1 if bad or not groups else 0)'; }
alertmanager_ready() { in_service alertmanager wget -q -O - http://127.0.0.1:9093/-/ready; }
loki_has_pods() {
    local found pod bad=0
    found=$(in_service prometheus wget -q -O - http://loki:3100/loki/api/v1/label/pod/values) || return 1
    for pod in core business experience; do [[ $found == *"\"$pod\""* ]] || { echo "no log of $pod"; bad=1; }; done
    return "$bad"
}
dashboards_there() {
    local count
    count=$(in_service grafana sh -c 'ls /var/lib/grafana/dashboards/*.json | wc -l')
    ((count >= 10)) || { echo "$count dashboards"; return 1; }
}
primary=${PG_PRIMARY_SERVICE:-postgres-primary}
sql() { in_service "$primary" psql -qAtX -h /var/run/postgresql -U postgres -d postgres -c "$1"; }
streaming() { [ "$(sql "select count(*) from pg_stat_replication where state = 'streaming'")" -ge 1 ]; }
postgres_figures() {
    [ "$(sql 'show max_connections')" = "${POSTGRES_MAX_CONNECTIONS:-500}" ] && [ "$(sql 'show shared_buffers')" = "${POSTGRES_SHARED_BUFFERS:-2GB}" ]
}
redis_cli() { in_service "$1" sh -c "REDISCLI_AUTH=\$(cat /run/secrets/redis_admin_password) redis-cli --user admin --no-auth-warning $2"; }
redis_cluster() {
    local info
    info=$(redis_cli redis-1 'cluster info') || return 1
    grep -q 'cluster_state:ok' <<<"$info" && grep -q 'cluster_slots_ok:16384' <<<"$info" || { echo "$info"; return 1; }
}
kafka_tool() { local tool=$1; shift; in_service kafka-1 env -u KAFKA_OPTS "/opt/kafka/bin/$tool" --bootstrap-server kafka-1:9092 "$@"; }
kafka_quorum() {
    local out
    out=$(kafka_tool kafka-metadata-quorum.sh describe --status) || { echo "$out"; return 1; }
    [ "$(sed -n 's/^CurrentVoters:[[:space:]]*//p' <<<"$out" | grep -oE '"?id"?: *[0-9]+|[0-9]+' | grep -oE '[0-9]+$' | sort -un | wc -l)" -ge 3 ] || { echo "$out"; return 1; }
}
kafka_replicated() {
    local out
    out=$(kafka_tool kafka-topics.sh --describe --under-replicated-partitions)
    [ -z "$out" ] || { head -n 3 <<<"$out"; return 1; }
}
buckets_there() {
    local bucket bad=0
    for bucket in dreamscape-vr-assets dreamscape-user-uploads dreamscape-ai-generations "${BACKUP_S3_BUCKET:-dreamscape-backups}"; do
        in_service minio sh -c "test -d /data/$bucket || ls -d /data/*/$bucket >/dev/null 2>&1" || { echo "no bucket $bucket"; bad=1; }
    done
    return "$bad"
}

engine_checks() {
    test_that services "every service has its replicas" all_replicas
    test_that containers "no container is unhealthy" containers_healthy
    test_that networks "five networks, encrypted, three of them internal" network_flags
    test_that specs "no secret stands in a specification" no_secret_in_specs
    test_that limits "every service has limits" limits_everywhere
    test_that read-only "roots are read-only" read_only_roots
    test_that users "pods run as UID 1000" not_root
    test_that segmentation "Traefik does not reach the data plane" caches_are_closed
    test_that targets "Prometheus reaches all its targets" targets_up
    test_that rules "Prometheus has its rules, none in error" rules_loaded
    test_that alertmanager "Alertmanager is ready" alertmanager_ready
    test_that logs "Loki has the logs of each pod" loki_has_pods
    test_that dashboards "Grafana has its dashboards" dashboards_there
    test_that replication "PostgreSQL streams to its standby" streaming
    test_that postgres "PostgreSQL has the figures of its settings" postgres_figures
    test_that redis "the Redis cluster is whole: 16384 slots" redis_cluster
    test_that kafka-quorum "Kafka has three voters" kafka_quorum
    test_that kafka-replicas "no partition lacks a replica" kafka_replicated
    test_that buckets "the buckets are there" buckets_there
}

if [ -z "$list" ]; then
    [ -z "$public" ] || command -v curl >/dev/null || die "$PREREQUISITE" "there is no curl"
    if [ -n "$engine" ]; then need_docker; need_manager; fi
fi
[ -z "$engine" ] || engine_checks
[ -z "$public" ] || public_checks
[ -z "$list" ] || exit 0
[ -n "$json" ] || printf '\nsmoke test: %s passed, %s failed, %s left out\n' "$passed" "$failed" "$left_out"
[ "$failed" -eq 0 ]
