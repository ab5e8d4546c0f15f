#!/usr/bin/env bash
# V8: the operator's front doors to backup and restore, with a stand-in for `docker` that writes down what it is asked; and that every
# script of the data plane is what all scripts here must be. contract: operations §6.14
# shellcheck disable=SC2317  # functions are called by name, by `check`
set -euo pipefail
[ "${1:-}" != --help ] || { echo "Usage: dataplane-scripts.sh   (KEEP=1 keeps the scratch folder)"; exit 0; }
# shellcheck source=scripts/ci/ops/lib/dataplane.sh
. "$(dirname "$0")/lib/dataplane.sh"

# -- Form
scripts=("$root"/docker/{postgres,redis,backup}/*.sh "$root"/docker/kafka/create-topics.sh "$root"/docker/minio/init.sh
    "$root"/scripts/production/{backup,restore,promote-standby,promote-replica}.sh
    "$root"/scripts/ci/ops/dataplane-*.sh "$root"/scripts/ci/ops/slow/dataplane-*.sh)
form() {
    local script first
    for script in "${scripts[@]}"; do
        first=$(head -1 "$script")
        ! grep -q $'\r' "$script" || { echo "$script has CRLF"; return 1; }
        case $script in */common.sh) continue ;; esac
        [ -x "$script" ] || { echo "$script is not executable"; return 1; }
        case $first in '#!/bin/sh' | '#!/bin/bash' | '#!/usr/bin/env bash') ;; *) echo "$script begins with $first"; return 1 ;; esac
        grep -qE '^set -E?eu' "$script" || { echo "$script goes on after errors"; return 1; }
        grep -q 'Usage: ' "$script" || { echo "$script does not say its usage"; return 1; }
        if [[ $first == '#!/bin/sh' ]]; then sh -n "$script"; else bash -n "$script"; fi || return 1
    done
}
check V8 - "scripts: first line, mode, line ends, errors end them, usage, syntax" form
if command -v shellcheck >/dev/null; then
    check V8 - "shellcheck is content" shellcheck -x -P "$root" "${scripts[@]}" "$root"/scripts/ci/ops/lib/dataplane*.sh "$root/scripts/ci/kafka/jars.sh"
else
    skip V8 - "shellcheck is not here"
fi
helps() {
    local name
    for name in backup restore promote-standby; do
        [[ $("$root/scripts/production/$name.sh" --help | head -1) == "Usage: $name.sh"* ]] || { echo "$name.sh --help"; return 1; }
        "$root/scripts/production/$name.sh" --frobnicate >/dev/null 2>&1 && return 1
        [ $? -eq 2 ] || { echo "$name.sh with an unknown argument must end with 2"; return 1; }
    done
}
check V8 - "--help begins with Usage:, an unknown argument ends with 2" helps
python_compiles() { python3 -m py_compile "$root"/docker/backup/*.py && rm -rf "$root/docker/backup/__pycache__"; }
check V8 - "the Python of the backup compiles" python_compiles

# -- The front doors
mkdir -p "$scratch/bin"
cat >"$scratch/bin/docker" <<'FAKE'
#!/usr/bin/env bash
set -euo pipefail
echo "$*" >>"${FAKE_DIR:?}/transcript"
case "$*" in
    "ps -q"*) [ -e "$FAKE_DIR/elsewhere" ] || echo backup-container ;;
    "service ps"*) echo node-2 ;;
    "-H ssh://node-2 ps"*) echo far-container ;;
    *"exec -i"*) cat >"$FAKE_DIR/stdin" ;;
    "service inspect"*core-pod) echo 5 ;;
    "service inspect"*business-pod) echo 7 ;;
    *"exec backup-container restore"*--dry-run*) echo "would restore"; [ ! -e "$FAKE_DIR/no-backup" ] ;;
    *"exec backup-container restore"*) [ ! -e "$FAKE_DIR/restore-fails" ] ;;
    *"exec backup-container backup database") [ ! -e "$FAKE_DIR/backup-fails" ] ;;
esac
FAKE
chmod +x "$scratch/bin/docker"
export FAKE_DIR=$scratch PATH="$scratch/bin:$PATH"
asked() { cat "$scratch/transcript" 2>/dev/null || true; }
fresh() { rm -f "$scratch/transcript" "$scratch"/{elsewhere,no-backup,restore-fails,backup-fails}; }
front() { "$root/scripts/production/$1.sh" "${@:2}" </dev/null; }

fresh
front backup full >/dev/null
check V8 R-133 "backup.sh runs the command in the service's container, found by its label" equal \
    "ps -q --filter label=com.docker.swarm.service.name=dreamscape_backup|exec backup-container backup full" "$(asked | paste -sd'|')"
fresh
: >"$scratch/elsewhere"
front backup --stack other verify X --restore >/dev/null
check V8 R-133 "or on the node where it is" equal "-H ssh://node-2 exec far-container backup verify X --restore" "$(asked | tail -1)"
fresh
printf 'DOMAIN=example.test\n' >"$scratch/env.prod"
mkdir -p "$scratch/secrets"
echo hidden >"$scratch/secrets/one"
front backup configs --env-file "$scratch/env.prod" --from-dir "$scratch/secrets" >/dev/null
check V8 R-133 "configs: env file, stack files and secrets go through standard input" equal "compose/README.md env.prod secrets/one" \
    "$(tar -tf "$scratch/stdin" | grep -xE 'env.prod|compose/README.md|secrets/one' | sort | xargs)"
check V8 R-078 "and no secret on a command line" bash -c "! grep -q hidden '$scratch/transcript'"

order() { asked | sed -n 's/^service \(scale\|update\).* dreamscape_\([a-z=0-9-]*\)$/\1:\2/p; s/^exec backup-container \(backup database\)$/\1/p; s/^exec backup-container restore.*--yes$/restore/p' | paste -sd' '; }
fresh
front restore --force --yes >/dev/null
check V8 R-134 "restore.sh: stop, keep what is there, restore, migrate, start with as many replicas" equal \
    "scale:core-pod=0 scale:business-pod=0 backup database restore update:migrate-core update:migrate-business scale:core-pod=5 scale:business-pod=7" "$(order)"
fresh
: >"$scratch/restore-fails"
failing() { refused_with "$1" front restore "${@:2}"; }
check V8 R-134 "a restore that fails leaves the pods stopped" failing "the pods stay stopped" --force --yes
check V8 R-134 "and starts nothing" equal "scale:core-pod=0 scale:business-pod=0 backup database restore" "$(order)"
fresh
: >"$scratch/backup-fails"
check V8 R-134 "nothing is thrown away that could not be stored first" failing "not thrown away" --force --yes
fresh
: >"$scratch/no-backup"
check V8 R-134 "a backup that is not there is found out before the pods stop" refused front restore --force --yes
check V8 R-134 "so they were not stopped" equal "" "$(order)"
fresh
front restore --force --dry-run >/dev/null
check V8 R-134 "a dry run stops and restores nothing" equal "" "$(order)"
check V8 R-134 "without --yes nothing begins" failing "say --yes" --force
fresh
front restore --only-objects --yes >/dev/null
check V8 R-134 "objects alone are restored beside the running pods" equal "restore" "$(order)"
finish
