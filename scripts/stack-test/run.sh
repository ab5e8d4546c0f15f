#!/usr/bin/env bash
# Deploys the production stack to an engine of its own and tries it, under the load of travellers where it says so: deploy, redeploy,
# journey, monitoring, rolling update, a broken release, a rotated secret, killed pods and data services, the standby promoted, the
# autoscaler, backup and restore, taking it down. Prints what was expected and what was seen.
#
# Usage: run.sh [--keep] [--dry-run]        as root; docs/operations/test-stack.md
#        run.sh --only STEP[,STEP…]         these steps, on a stack that --keep left; else on a new one, after those that bring it up
#        run.sh --stop                      end what --keep left
#        run.sh --list                      the names of the steps
#   --keep     leave engine and stack running
#   --dry-run  say what would be done
#   STACK_TEST_HOME     folder of the engine (/var/tmp/dreamscape-stack-test); removed at the end
#   STACK_TEST_BIN      folder of the release binaries ($CARGO_TARGET_DIR/release)
#   STACK_TEST_LOCK     a file that each step locks, shared: whoever measures on this machine locks it alone
# Exit codes: 0 every step as expected, 1 a step was not, 2 bad arguments, 3 a prerequisite is missing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
usage() { sed -n '/^# Usage:/,/^set /p' "$0" | sed '/^set /d; s/^# \{0,1\}//'; }

# name, what is done, what is expected; the function of a step is step_<name>
STEPS=$(sed 's/  */ /g' <<'STEPS'
images         | images                                | all made from local parts
secrets        | init-secrets.sh                       | all secrets made
lint           | deploy.sh --dry-run, no test overlay  | the linter of the contract finds nothing
deploy         | deploy.sh                             | every service healthy, jobs complete
origin         | the origin                            | answers through the edge
networks       | encrypted networks                    | 5 of 5
confinement    | confinement of each service           | read-only root, no root, no capability, no new privileges
segmentation   | segmentation, from inside             | only what the matrix allows, by name, databases by address too
journey        | dreamscape demo                       | every step, to confirmed bookings
monitoring     | Prometheus                            | every target up, rules loaded, Alertmanager found
redeploy       | deploy.sh again                       | no task replaced
autoscaler     | the autoscaler: load, then none       | one replica more, then one less, 0 failed requests
rolling        | a release of all pods, under load     | 0 failed requests
broken         | a broken release, under load          | back by itself, 0 failed requests
rotate         | rotate-secret.sh, under load          | 0 failed requests, the old version gone
pods           | kill a replica of each pod, under load | replaced; failures end within 15 s
redis          | kill the Redis nodes in turn, under load | the cluster is whole again; failures end within 15 s
broker         | kill a broker, under load             | 0 failed requests, every partition in sync again
promote        | kill the primary, promote-standby.sh, under load | writes go on, nothing lost, the old primary follows
again          | deploy.sh after the promotion          | the same primary, a standby that follows; at most those two replaced
backup         | backup.sh full                        | stored, every table restored and compared
restore        | restore.sh of it                      | what was there is, what came after is not, the journey goes on
down           | prod-bigpods.sh down                  | no running container, service, network or config left
STEPS
)
names=$(cut -d' ' -f1 <<<"$STEPS")

keep='' dry_run='' only='' stop=''
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit 0 ;;
        --list) echo "$names"; exit 0 ;;
        --keep) keep=yes; shift ;;
        --only) only=${2:-}; shift 2 || { usage >&2; exit 2; } ;;
        --stop) stop=yes; shift ;;
        --dry-run) dry_run=yes; shift ;;
        *) usage >&2; exit 2 ;;
    esac
done
for name in ${only//,/ }; do grep -qx -- "$name" <<<"$names" || { echo "there is no step $name; --list names them" >&2; exit 2; }; done
home=${STACK_TEST_HOME:-/var/tmp/dreamscape-stack-test}
export STACK_TEST_BIN=${STACK_TEST_BIN:-${CARGO_TARGET_DIR:-$HOME/.cache/dreamscape/target}/release}
registry=registry.test origin=http://127.0.0.1:18000 provider=http://127.0.0.1:18001 socket_group=990
export DOCKER_HOST=unix://$home/docker.sock STACK_TEST_SOCKET=$home/docker.sock
if [ -n "$dry_run" ]; then
    echo "would start an engine in $home, make images from Debian packages and $STACK_TEST_BIN, deploy the stack, try it (${only:-every step}) and remove all"
    exit 0
fi
die() { echo "error: $2" >&2; exit "$1"; }
[ "$(id -u)" -eq 0 ] || die 3 "an engine needs root"
for tool in dockerd docker debootstrap python3 curl iptables-save; do
    command -v "$tool" >/dev/null || die 3 "there is no $tool (Debian: docker.io, debootstrap, python3, curl, iptables)"
done
docker stack config --help 2>/dev/null | grep -q 'docker stack config' || die 3 "this docker command is too old for the stack file: 28 or newer is needed"
kept=''
if [ -n "$stop" ] || { [ -n "$only" ] && [ -e "$home/state" ]; }; then
    [ -e "$home/state" ] || die 3 "there is nothing in $home that --keep left"
    kept=yes
    # shellcheck disable=SC1091
    . "$home/state"
else
    [ ! -e "$home" ] || die 3 "$home is there already: another run, or one with --keep (--stop ends it)"
    mkdir -p "$home"
    # networks of a removed stack go away later: a fresh name each time
    stack=st$(date +%s) engine_pid=''
fi
env=$home/env.prod rows=$home/rows log=$home/steps.log failed=0
: >"$rows"

# ------------------------------------------------------------------------------------------------------------------- engine

other_engine() { pgrep -x dockerd | grep -qvx "${engine_pid:-0}"; }
links() { ip -o link | awk -F': ' '{ sub("@.*", "", $2); print $2 }' | sort; }
rules() { iptables-save | sed '/^[#:]/d' | sort; }
start_engine() {
    links >"$home/links"
    rules >"$home/rules"
    iptables-save >"$home/iptables"
    # in a mount namespace of its own, which ends with it, and whose root is shared as a service manager makes it
    setsid unshare --mount --propagation shared dockerd --data-root "$home/data" --exec-root "$home/exec" --pidfile "$home/pid" -H "$DOCKER_HOST" --group "$socket_group" \
        --no-new-privileges >"$home/engine.log" 2>&1 </dev/null &
    engine_pid=$!
    for _ in $(seq 60); do docker version >/dev/null 2>&1 && break; sleep 0.5; done
    docker version >/dev/null 2>&1 || { tail -n 5 "$home/engine.log" >&2; die 3 "the engine does not start"; }
    # a node that is silent for 15 s is taken for dead, and everything is started anew; a machine that is busy may be silent for longer
    docker swarm init --advertise-addr 127.0.0.1 --dispatcher-heartbeat 2m >/dev/null
    printf 'stack=%s engine_pid=%s\n' "$stack" "$engine_pid" >"$home/state"
    echo "engine $(docker version --format '{{.Server.Version}}') in $home"
}
# Ends the engine and removes what it leaves: containers, mounts, bridges, rules of its networks. Says what is left in the end.
stop_engine() {
    local n left=''
    [ -n "$engine_pid" ] || return 0
    docker swarm leave --force >/dev/null 2>&1 || true
    kill "$engine_pid" 2>/dev/null || true
    for n in $(seq 120); do kill -0 "$engine_pid" 2>/dev/null || break; sleep 0.5; done
    ! kill -0 "$engine_pid" 2>/dev/null || left+=" the engine"
    # another engine of this machine keeps its own
    if ! other_engine; then
        iptables-restore <"$home/iptables" || true
        comm -13 "$home/links" <(links) | while read -r n; do ip link del "$n" 2>/dev/null || true; done
        diff -q "$home/rules" <(rules) >/dev/null || left+=" rules of the packet filter"
        [ -z "$(comm -13 "$home/links" <(links))" ] || left+=" $(comm -13 "$home/links" <(links) | tr '\n' ' ')"
        [ -z "$(ip xfrm state 2>/dev/null)" ] || { ip xfrm state flush && ip xfrm policy flush; }
    fi
    mounts | while read -r n; do umount -l "$n" 2>/dev/null || true; done
    [ -z "$(mounts)" ] || left+=" mounts"
    engine_pid=''
    rm -rf --one-file-system "$home"
    [ ! -e "$home" ] || left+=" $home"
    [ -z "$left" ] || { echo "left:$left"; return 1; }
    echo "no process, mount, link or rule left"
}
mounts() { awk -v home="$home/" 'index($5, home) == 1 { print length($5), $5 }' /proc/self/mountinfo | sort -rn | cut -d' ' -f2-; }
finish() {
    local code=$?
    rm -f "$home/loading"
    if [ -n "$keep$kept" ]; then
        echo "running: DOCKER_HOST=$DOCKER_HOST, stack $stack; log in $log; run.sh --stop ends it"
    elif [ -n "$engine_pid" ]; then
        [ "$code" -eq 0 ] || keep_log
        stop_engine >/dev/null || true
    fi
    exit "$code"
}
keep_log() {
    cp "$log" "${TMPDIR:-/tmp}/stack-test.log" && echo "log: ${TMPDIR:-/tmp}/stack-test.log" >&2
    {
        docker service ls
        docker ps -a --filter 'label=com.docker.swarm.service.name' --format '{{.Names}} {{.Status}}'
    } >>"${TMPDIR:-/tmp}/stack-test.log" 2>&1 || true
}

# ------------------------------------------------------------------------------------------------------------------- helpers

setting() { sed -i "s|^$1=.*|$1=\"$2\"|" "$env"; }
deploy_options=(--local-images --no-lint --no-smoke --profile small --overlay "$root/compose/docker-compose.test.yml"
    --timeout "${STACK_TEST_TIMEOUT:-600}")
deploy() { "$root/scripts/production/deploy.sh" --env-file "$env" "${deploy_options[@]}" >>"$log" 2>&1; }
PODS='core-pod business-pod experience-pod'
DATA='postgres-primary postgres-replica redis-1 redis-2 redis-3 kafka-1 kafka-2 kafka-3 minio'
OBSERVERS='prometheus alertmanager postgres-exporter redis-exporter blackbox-exporter node-exporter autoscaler backup'
LASTING="$PODS edge payments $DATA $OBSERVERS"
tasks() { local name; for name in "$@"; do docker service ps --no-trunc -q "$(docker service inspect -f '{{.ID}}' "${stack}_$name")"; done | LC_ALL=C sort; }
container() { docker ps -q --filter "label=com.docker.swarm.service.name=${stack}_$1" | head -n 1; }
healthy() { docker ps -q --no-trunc --filter "label=com.docker.swarm.service.name=${stack}_$1" --filter health=healthy; }
image_of() { docker service inspect -f '{{.Spec.TaskTemplate.ContainerSpec.Image}}' "${stack}_$1"; }
replicas_of() { docker service inspect -f '{{.Spec.Mode.Replicated.Replicas}}' "${stack}_$1"; }
update_of() { docker service inspect -f '{{with .UpdateStatus}}{{.State}}{{end}}' "${stack}_$1"; }
# within SECONDS COMMAND…: until it succeeds; prints after how many seconds, fails if it does not
within() {
    local limit=$1 begun=$SECONDS
    shift
    until "$@" >/dev/null 2>&1; do
        [ $((SECONDS - begun)) -lt "$limit" ] || { echo "$limit"; return 1; }
        sleep 1
    done
    echo $((SECONDS - begun))
}
ready() { curl -fs -m 3 -o /dev/null "$origin/api/v1/locations/search?keyword=par"; }
# begin_load [option…]; the load of travellers, or of pages with --pages. One at a time.
load_pid=''
begin_load() { # OPTION… [-- PATH…]
    local options=() paths=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do options+=("$1"); shift; done
    [ $# -eq 0 ] || { shift; paths=("$@"); }
    touch "$home/loading"
    echo "-- load begins $(date +%T) ${options[*]-}" >>"$log"
    "$here/load.py" --pay "$provider" ${options[@]+"${options[@]}"} "$origin" "$home/loading" ${paths[@]+"${paths[@]}"} >"$home/load" 2>>"$log" &
    load_pid=$!
    sleep 3
}
end_load() { # load_saw: what the load saw. Not to be called in a subshell, which could not wait for it.
    local code=0
    rm -f "$home/loading"
    wait "$load_pid" || code=$?
    load_saw=$(cat "$home/load")
    echo "-- load ended $(date +%T): $load_saw" >>"$log"
    return "$code"
}
# An account, as a witness of what the database holds: witness NAME makes it, knows NAME asks whether it can sign in.
body_of() { printf '{"email":"%s.%s@example.com","password":"Dream-1a2B3c4D!x"%s}' "$1" "$stack" "${2:-}"; }
ask_auth() { curl -s -m 20 -o /dev/null -w '%{http_code}' -H 'content-type: application/json' -H "x-forwarded-for: 203.0.113.$((RANDOM % 250 + 1))" -d "$2" "$origin/api/v1/auth/$1"; }
witness() { [ "$(ask_auth register "$(body_of "$1" ',"firstName":"Ada","lastName":"Witness"')")" = 201 ]; }
knows() { [ "$(ask_auth login "$(body_of "$1")")" = 200 ]; }
knows_not() { [ "$(ask_auth login "$(body_of "$1")")" = 401 ]; }
sql() { docker exec "$(container "$1")" psql -qAtX -v ON_ERROR_STOP=1 -U postgres -d dreamscape_prod -c "$2"; }

# --------------------------------------------------------------------------------------------------------------------- steps
# Each prints what was seen (its last line is told) and fails with a code.

step_images() {
    cp "$root/.env.prod.example" "$env"
    setting DOMAIN dreamscape.test; setting ACME_EMAIL ops@dreamscape.test; setting STACK_NAME "$stack"
    setting REGISTRY "$registry"; setting VERSION 1.0.0; setting PROFILE small; setting DOCKER_GID "$socket_group"
    setting STRIPE_PUBLISHABLE_KEY pk_test_stack; setting SMTP_SMARTHOST mail.dreamscape.test:587
    setting CORE_POD_REPLICAS 2; setting BUSINESS_POD_REPLICAS 2; setting EXPERIENCE_POD_REPLICAS 2
    setting POSTGRES_SHARED_BUFFERS 128MB; setting POSTGRES_EFFECTIVE_CACHE_SIZE 512MB; setting REDIS_MAXMEMORY 128mb
    setting AUTOSCALER_ENABLED true; setting AUTOSCALER_DRY_RUN false
    "$here/images.sh" "$registry" 1.0.0 >>"$log"
    echo "$(docker images -q "$registry/*" | sort -u | wc -l) images"
}
step_secrets() {
    local random
    random=$(od -An -tx1 -N24 /dev/urandom | tr -d ' \n')
    STRIPE_SECRET_KEY=sk_test_$random STRIPE_WEBHOOK_SECRET=whsec_$random \
        "$root/scripts/production/init-secrets.sh" --env-file "$env" --allow-test-keys --skip-optional >>"$log"
    echo "$(docker secret ls -q | wc -l) secrets"
}
# With the figures of production, which the test stack cannot have.
step_lint() {
    sed '/_REPLICAS=\|^POSTGRES_\|^REDIS_MAX\|^AUTOSCALER_/d' "$env" >"$home/env.lint"
    grep '_REPLICAS=\|^POSTGRES_\|^REDIS_MAX\|^AUTOSCALER_' "$root/.env.prod.example" >>"$home/env.lint"
    "$root/scripts/production/deploy.sh" --env-file "$home/env.lint" --local-images --profile small --dry-run >"$home/lint" 2>&1 ||
        { cat "$home/lint" >&2; grep -m 1 '^error' "$home/lint"; return 1; }
    cat "$home/lint" >>"$log"
    sed -n 's/^ *lint: //p' "$home/lint" | grep . || { echo "no lint"; return 1; }
}
step_deploy() {
    deploy || { docker service ls >&2; grep -aE '^(error|not healthy)' "$log" | tail -n 1; return 1; }
    echo "$(docker ps -q | wc -l) containers, $(docker stats --no-stream --format '{{.MemUsage}}' | numeric_sum) MB"
}
numeric_sum() { awk '{ n = $1; if (n ~ /GiB/) f = 1024; else if (n ~ /KiB/) f = 1 / 1024; else f = 1; sub("[A-Za-z]+", "", n); s += n * f } END { printf "%d", s }'; }
step_origin() {
    within 60 ready >/dev/null || { echo "no answer"; return 1; }
    echo "$(curl -s -m 5 -o /dev/null -w '%{http_code}' "$origin/health") of /health, Paris found"
}
step_networks() {
    local name count=0
    for name in bigpods database cache storage monitoring; do
        [ "$(docker network inspect -f '{{index .Options "encrypted"}}' "${stack}_$name-network")" = true ] || { echo "$name-network is not"; return 1; }
        count=$((count + 1))
    done
    echo "$count of 5"
}
step_confinement() {
    local name id facts
    for name in $LASTING; do
        id=$(container "$name")
        [ -n "$id" ] || { echo "$name has no container"; return 1; }
        facts=$(docker inspect -f '{{.HostConfig.ReadonlyRootfs}} {{.Config.User}} {{.HostConfig.CapDrop}}' "$id")
        case $facts in 'true 0:'* | 'true  '* | false*) echo "$name: $facts"; return 1 ;; *'[ALL]') ;; *) echo "$name: $facts"; return 1 ;; esac
        facts=$(grep -E '^(NoNewPrivs|CapEff|CapBnd):' "/proc/$(docker inspect -f '{{.State.Pid}}' "$id")/status" | tr -d ' \t\n')
        [ "$facts" = CapEff:0000000000000000CapBnd:0000000000000000NoNewPrivs:1 ] || { echo "$name: $facts"; return 1; }
    done
    echo "$(wc -w <<<"$LASTING") services, as their processes are"
}
# reach FROM HOST PORT: whether a connection from a container of FROM is made and, where it can be told, whether it is the service
# that answers: a machine's way out may take every connection.
reach() {
    local say='' hear='^'
    case $3 in
        5432) say='\0\0\0\10\4\322\26\57' hear='^[NS]' ;;
        6379) say='PING\r\n' hear='^[-+]' ;;
    esac
    docker exec "$(container "$1")" timeout 5 bash -c 'exec 3<>"/dev/tcp/$1/$2" && { [ -z "$3" ] || { printf "$3" >&3; head -c 1 <&3 | grep -q "$4"; }; }' \
        - "$2" "$3" "$say" "$hear" >/dev/null 2>&1
}
addresses() { docker inspect -f '{{range .NetworkSettings.Networks}}{{println .IPAddress}}{{end}}' "$(container "$1")" | grep .; }
judge() { # may|not FROM SERVICE PORT, or out|in FROM
    local address
    case $1 in
        may) reach "$2" "$3" "$4" || echo "$2 cannot reach $3" ;;
        not)
            ! reach "$2" "$3" "$4" || echo "$2 reaches $3"
            # and each address of it, in whatever network
            case $4 in 5432 | 6379) for address in $(addresses "$3"); do ! reach "$2" "$address" "$4" || echo "$2 reaches $3 at $address"; done ;; esac
            ;;
        out) docker exec "$(container "$2")" ip route show default | grep -q . || echo "$2 has no way out of the stack" ;;
        in) ! docker exec "$(container "$2")" ip route show default | grep -q . || echo "$2 has a way out of the stack" ;;
    esac
}
step_segmentation() {
    local rule wrong=$home/segmentation matrix='
may core-pod postgres-primary 5432
may business-pod postgres-rw 5432
may core-pod redis-1 6379
may core-pod kafka-1 9092
may core-pod minio 9000
may experience-pod redis-1 6379
may experience-pod core-pod 8080
may experience-pod minio 9000
may backup postgres-rw 5432
may backup minio 9000
may postgres-exporter postgres-rw 5432
may redis-exporter redis-1 6379
may prometheus core-pod 9090
may prometheus alertmanager 9093
may autoscaler prometheus 9090
not experience-pod postgres-primary 5432
not edge postgres-primary 5432
not edge redis-1 6379
not edge minio 9000
not edge prometheus 9090
not kafka-1 postgres-primary 5432
not kafka-1 redis-1 6379
not redis-1 postgres-primary 5432
not redis-1 kafka-1 9092
not redis-1 minio 9000
not postgres-primary redis-1 6379
not postgres-primary kafka-1 9092
not prometheus postgres-primary 5432
not prometheus redis-1 6379
not autoscaler postgres-primary 5432
not backup redis-1 6379
in postgres-primary
in postgres-replica
in redis-1
out business-pod'
    : >"$wrong"
    # shellcheck disable=SC2086
    while read -r rule; do
        [ -z "$rule" ] || judge $rule >>"$wrong" &
        [ "$(jobs -rp | wc -l)" -lt 6 ] || wait -n || true
    done <<<"$matrix"
    wait
    if [ -s "$wrong" ]; then paste -sd, "$wrong"; return 1; fi
    echo "$(grep -c . <<<"$matrix") rules hold"
}
step_journey() {
    "$STACK_TEST_BIN/dreamscape" demo --base "$origin" --stripe-api "$provider" --patience 60 >"$home/journey" 2>&1 ||
        { cat "$home/journey" >&2; tail -n 1 "$home/journey"; return 1; }
    cat "$home/journey" >&2
    tail -n 1 "$home/journey"
}
prometheus() { docker exec "$(container prometheus)" wget -q -O - "http://127.0.0.1:9090/api/v1/$1"; }
targets_told() {
    prometheus 'targets?state=active' >"$home/targets"
    prometheus rules >"$home/alert-rules"
    prometheus alertmanagers >"$home/alertmanagers"
    # what has no container here, and MinIO's own figures, which another S3 server does not have
    python3 - "$home" >"$home/told" <<'PYTHON'
import collections, json, pathlib, sys
home = pathlib.Path(sys.argv[1])
data = lambda name: json.loads((home / name).read_text())["data"]
absent = {"traefik", "kafka-exporter", "minio", "minio-node", "minio-bucket", "grafana", "loki", "promtail", "cadvisor"}
up, down = collections.Counter(), set()
for target in data("targets")["activeTargets"]:
    job = target["labels"]["job"] if target["labels"].get("job") in absent else target["scrapePool"]
    if target["health"] == "up":
        up[job] += 1
    elif job not in absent:
        down.add(f"{job} {target['lastError']}")
rules = [rule for group in data("alert-rules")["groups"] for rule in group["rules"]]
bad = [rule["name"] for rule in rules if rule["health"] == "err"]
found = len(data("alertmanagers")["activeAlertmanagers"])
print(f"{sum(up.values())} targets of {len(up)} jobs up, {len(rules)} rules, {found} Alertmanager" + "".join(f"; down: {one}" for one in sorted(down))
      + "".join(f"; rule {one} fails" for one in bad))
sys.exit(1 if down or bad or not found or len(up) < 12 else 0)
PYTHON
}
step_monitoring() {
    local code=0
    within 120 targets_told >/dev/null || code=1
    cat "$home/told"
    return "$code"
}
redeployed() { # SERVICE…: deploy again, and see whether their tasks stayed
    local before after
    before=$(tasks "$@")
    deploy || { echo "deploy.sh failed"; return 1; }
    after=$(tasks "$@")
    [ "$before" = "$after" ] || { echo "$(comm -13 <(echo "$before") <(echo "$after") | wc -l) tasks replaced"; return 1; }
    echo "$(wc -l <<<"$after") tasks, none replaced"
}
# shellcheck disable=SC2086
step_redeploy() { redeployed $LASTING; }
# The update by promote-standby.sh leaves settings and mounts in an order of the engine's, which the stack file then puts right.
step_again() {
    local before after new
    new=$(sed -n 's/^PG_PRIMARY_SERVICE="\{0,1\}\([a-z-]*\).*/\1/p' "$env")
    before=$(sql "$new" 'select pg_is_in_recovery()')
    redeployed edge payments redis-1 redis-2 redis-3 kafka-1 kafka-2 kafka-3 minio || return 1
    follows() { [ "$(sql "$new" 'select pg_is_in_recovery()')$(sql "$new" "select count(*) from pg_stat_replication where application_name like 'postgres-%' and state = 'streaming'")" = f1 ]; }
    after=$(within 90 follows) || { echo "$new is no primary with a standby any more"; return 1; }
    [ "$before" = f ] && echo "$new is primary as before, its standby follows after $after s"
}
# Through deploy.sh: VERSION is the pods', and what holds data is not restarted for it.
step_rolling() {
    local name code=0 version data
    version=1.$(date +%s).0
    for name in $PODS autoscaler backup; do docker tag "$registry/$name:1.0.0" "$registry/$name:$version"; done
    setting VERSION "$version"
    # shellcheck disable=SC2086
    data=$(tasks edge payments $DATA)
    begin_load
    deploy || { code=1; echo "deploy.sh failed" >>"$log"; }
    end_load || code=1
    for name in $PODS; do [ "$(image_of "$name")" = "$registry/$name:$version" ] || { echo "$name is $(image_of "$name"), $(update_of "$name")"; return 1; }; done
    # shellcheck disable=SC2086
    [ "$data" = "$(tasks edge payments $DATA)" ] || { echo "data services were replaced"; return 1; }
    echo "6 replicas replaced, none of the data plane; $load_saw"
    return "$code"
}
step_broken() {
    local before code=0 state=''
    before=$(image_of experience-pod)
    begin_load
    docker service update --quiet --detach --no-resolve-image --image "$registry/broken:1.0.0" "${stack}_experience-pod" >>"$log" 2>&1 || true
    rolled_back() { [ "$(update_of experience-pod)" = rollback_completed ]; }
    within 180 rolled_back >/dev/null || true
    state=$(update_of experience-pod)
    end_load || code=1
    [ "$state" = rollback_completed ] && [ "$(image_of experience-pod)" = "$before" ] || { echo "state $state, $(image_of experience-pod)"; return 1; }
    echo "$state; $load_saw"
    return "$code"
}
# The account of the pods at the object storage: all three read it.
step_rotate() {
    local code=0 name data left
    # shellcheck disable=SC2086
    data=$(tasks $DATA)
    begin_load
    "$root/scripts/production/rotate-secret.sh" s3_access_key --env-file "$env" -- "${deploy_options[@]}" >>"$log" 2>&1 || { code=1; echo "rotate-secret.sh failed" >>"$log"; }
    end_load || code=1
    for name in $PODS; do
        docker service inspect -f '{{range .Spec.TaskTemplate.ContainerSpec.Secrets}}{{println .SecretName}}{{end}}' "${stack}_$name" |
            grep -qx 'dreamscape_s3_access_key_v[2-9]' || { echo "$name has the old secret"; return 1; }
    done
    left=$(docker secret ls --format '{{.Name}}' | grep -c '^dreamscape_s3_.*_v1$' || true)
    [ "$left" -eq 0 ] || { echo "$left old versions left"; return 1; }
    # shellcheck disable=SC2086
    [ "$data" = "$(tasks $DATA)" ] || { echo "data services were replaced"; return 1; }
    echo "$load_saw"
    return "$code"
}
both_without() { [ "$(healthy "$1" | grep -cv "^$2" || true)" -ge 2 ]; }
step_pods() {
    local name id took code=0
    for name in $PODS; do
        id=$(container "$name")
        begin_load --tolerate 15
        docker kill "$id" >/dev/null
        took=$(within 120 both_without "$name" "$id") || { code=1; took="not in $took"; }
        end_load || code=1
        printf '%s both again after %s s: %s; ' "${name%-pod}" "$took" "$load_saw"
    done
    echo
    return "$code"
}
cluster_whole() {
    local node
    for node in redis-1 redis-2 redis-3; do
        # shellcheck disable=SC2016
        docker exec "$(container "$node")" sh -c 'export REDISCLI_AUTH=$(cat /run/secrets/redis_admin_password)
            redis-cli --no-auth-warning --user admin cluster info && redis-cli --no-auth-warning --user admin cluster nodes' | tr -d '\r' >"$home/cluster" || return 1
        grep -qx cluster_state:ok "$home/cluster" && grep -qx cluster_slots_ok:16384 "$home/cluster" && ! grep -qE ' [a-z,]*fail' "$home/cluster" || return 1
    done
}
returned() { [ -n "$(healthy "$1" | grep -v "^$2" || true)" ]; }
step_redis() {
    local n id took code=0
    for n in 1 2 3; do
        id=$(container "redis-$n")
        begin_load --tolerate 15
        docker kill "$id" >/dev/null
        within 120 returned "redis-$n" "$id" >/dev/null || code=1
        took=$(within 90 cluster_whole) || { code=1; took="not in $took"; }
        end_load || code=1
        printf 'redis-%s: whole %s s after its return: %s; ' "$n" "$took" "$load_saw"
    done
    echo
    return "$code"
}
in_sync() {
    [ -z "$(docker exec "$(container kafka-1)" env -u KAFKA_OPTS KAFKA_HEAP_OPTS=-Xmx128m /opt/kafka/bin/kafka-topics.sh --bootstrap-server kafka-1:9092 \
        --describe --under-replicated-partitions 2>>"$log" || echo failed)" ]
}
step_broker() {
    local id took code=0
    id=$(container kafka-2)
    begin_load
    docker kill "$id" >/dev/null
    within 180 returned kafka-2 "$id" >/dev/null || { code=1; echo "kafka-2 did not return" >>"$log"; }
    took=$(within 120 in_sync) || { code=1; took="not in $took"; }
    end_load || code=1
    echo "in sync $took s after its return; $load_saw"
    return "$code"
}
step_promote() {
    local code=0 old new state account
    account=before-promotion-$(date +%s)
    witness "$account" || { echo "no account could be made"; return 1; }
    old=$(docker service inspect -f '{{range .Spec.TaskTemplate.ContainerSpec.Env}}{{println .}}{{end}}' "${stack}_postgres-primary" | sed -n 's/^PG_PRIMARY_SERVICE=//p')
    if [ "$old" = postgres-primary ]; then new=postgres-replica; else new=postgres-primary; fi
    begin_load --tolerate 180
    docker kill "$(container "$old")" >/dev/null
    "$root/scripts/production/promote-standby.sh" --stack "$stack" --env-file "$env" --yes --rejoin >>"$log" 2>&1 || { code=1; echo "promote-standby.sh failed" >>"$log"; }
    end_load || code=1
    knows "$account" || { echo "an account from before cannot sign in"; return 1; }
    state="$(sql "$new" 'select pg_is_in_recovery()')$(sql "$old" 'select pg_is_in_recovery()')"
    [ "$state" = ft ] || { echo "recovery of $new and $old: $state"; return 1; }
    ! sql "$old" 'create table fenced ()' 2>>"$log" || { echo "$old takes writes"; return 1; }
    grep -q "^PG_PRIMARY_SERVICE=$new" "$env" || { echo "the settings do not name $new"; return 1; }
    echo "$new is primary, $old follows and refuses writes; $load_saw"
    return "$code"
}
count_is() { [ "$(replicas_of experience-pod)" -eq "$1" ] && [ "$(healthy experience-pod | wc -l)" -eq "$1" ]; }
step_autoscaler() {
    local up down code=0
    [ "$(replicas_of experience-pod)" -eq 2 ] || { echo "$(replicas_of experience-pod) replicas before"; return 1; }
    begin_load --pages --visitors 24 --pause 0.02 -- / '/api/v1/locations/search?keyword=par' /api/v1/voyage/health
    up=$(within 240 count_is 3) || code=1
    end_load || code=1
    down=$(within 300 count_is 2) || code=1
    docker service logs --raw "${stack}_autoscaler" 2>&1 | grep -E '"action":"(up|down)"' >>"$log" || true
    echo "2, 3 after $up s, 2 again $down s after the load; $load_saw"
    return "$code"
}
step_backup() {
    date +%s >"$home/witness"
    witness "before-backup-$(cat "$home/witness")" || { echo "no account could be made"; return 1; }
    "$root/scripts/production/backup.sh" --stack "$stack" full >"$home/backup" 2>"$home/backup.log" || { cat "$home/backup.log" >&2; tail -n 1 "$home/backup.log"; return 1; }
    cat "$home/backup.log" >>"$log"
    echo "$(tail -n 1 "$home/backup"): $(sed -n 's/.*restored into an empty server, //p' "$home/backup.log" | tail -n 1)"
    grep -q 'restored into an empty server' "$home/backup.log"
}
step_restore() {
    local id code=0
    id=$(tail -n 1 "$home/backup")
    witness after-backup || { echo "no account could be made"; return 1; }
    "$root/scripts/production/restore.sh" --stack "$stack" --backup "$id" --force --yes >>"$log" 2>&1 || { echo "restore.sh failed"; return 1; }
    within 90 ready >/dev/null || { echo "the origin does not answer"; return 1; }
    knows "before-backup-$(cat "$home/witness")" || { echo "the account from before the backup is gone"; return 1; }
    knows_not after-backup || { echo "the account from after the backup is still there"; return 1; }
    begin_load
    sleep 10
    end_load || code=1
    echo "both accounts as expected; then $load_saw"
    return "$code"
}
left_over() {
    docker ps -q --filter "label=com.docker.stack.namespace=$stack"
    docker service ls -q --filter "label=com.docker.stack.namespace=$stack"
    docker network ls -q --filter "label=com.docker.stack.namespace=$stack"
    docker config ls -q --filter "label=com.docker.stack.namespace=$stack"
}
none_left() { [ -z "$(left_over)" ]; }
step_down() {
    local took code=0
    "$root/scripts/bigpods/prod-bigpods.sh" down --yes --env-file "$env" >>"$log" 2>&1 || { echo "prod-bigpods.sh failed"; return 1; }
    took=$(within 180 none_left) || { code=1; left_over >>"$log"; }
    echo "$(left_over | wc -l) left after $took s; $(docker ps -aq | wc -l) ended containers for maintenance-bigpods.sh clean; volumes and secrets stay, as they should: $(docker volume ls -q | grep -c "^${stack}_"), $(docker secret ls -q | wc -l)"
    return "$code"
}

# ---------------------------------------------------------------------------------------------------------------------- main

# step NAME: runs it and notes a row.
step() {
    local name what expected seen code=0 begun
    IFS='|' read -r name what expected < <(grep "^$1 " <<<"$STEPS")
    what=${what# } what=${what% } expected=${expected# }
    [ -z "${STACK_TEST_LOCK:-}" ] || { exec 9>>"$STACK_TEST_LOCK"; flock -s 9; }
    begun=$SECONDS
    echo "== $1 $(date +%T)" >>"$log"
    seen=$("step_$1" 2>>"$log" 9>&-) || code=$?
    exec 9>&-
    seen=$(tail -n 1 <<<"$seen")
    note "$code" "$what" "$expected" "${seen%; } ($((SECONDS - begun)) s)"
    return "$code"
}
note() { # CODE WHAT EXPECTED SEEN
    [ "$1" -eq 0 ] || failed=$((failed + 1))
    printf '%s\t%s\t%s\t%s\n' "$([ "$1" -eq 0 ] && echo PASS || echo FAIL)" "$2" "$3" "$4" | tee -a "$rows"
}
skip() { printf 'SKIP\t%s\t%s\t-\n' "$1" "$2" | tee -a "$rows"; }

if [ -n "$stop" ]; then
    stop_engine
    exit
fi
trap finish EXIT
trap 'exit 1' INT TERM
if [ -n "$kept" ]; then
    for name in ${only//,/ }; do step "$name" || true; done
    exit "$((failed > 0))"
fi
[ -z "$only" ] || names=$(printf '%s\n' images secrets deploy && tr ',' '\n' <<<"$only" | grep -vx 'images\|secrets\|deploy' || true)
start_engine
for name in $names; do
    step "$name" && continue
    case $name in images | secrets | deploy) cat "$log" >&2; break ;; esac
done
skip 'Traefik, MinIO, Grafana, Loki, Promtail' 'not in Debian, and no image can be pulled; HAProxy and another S3 server stand in for the first two'
skip 'cAdvisor, kafka-exporter, the proxy of the engine socket' 'not in Debian, and no image can be pulled'
begun=$SECONDS
if [ -z "$keep" ]; then
    [ "$failed" -eq 0 ] || keep_log
    cp "$rows" "${TMPDIR:-/tmp}/stack-test.rows.$$"
    rows=${TMPDIR:-/tmp}/stack-test.rows.$$
    code=0
    seen=$(stop_engine) || code=1
    engine_pid=''
    note "$code" 'stop the engine' 'nothing of it is left on the machine' "$seen ($((SECONDS - begun)) s)"
fi
printf '\n'
column -t -s $'\t' "$rows"
[ -n "$keep" ] || rm -f "$rows"
echo "$((SECONDS / 60)) minutes"
[ "$failed" -eq 0 ]
