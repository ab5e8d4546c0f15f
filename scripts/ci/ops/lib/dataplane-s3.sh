# A real S3 server for the checks of the backups: moto's, from PyPI, over loopback.
# shellcheck shell=bash disable=SC2317,SC2034,SC2154

# Prints the python that has moto's server; installs it once. Nothing if that cannot be.
moto_python() {
    local tools=${DREAMSCAPE_TOOLS:-$HOME/.cache/dreamscape/tools}/moto
    if python3 -c 'import moto.server, boto3' 2>/dev/null; then
        command -v python3
    elif [ -x "$tools/bin/python" ] && "$tools/bin/python" -c 'import moto.server, boto3' 2>/dev/null; then
        echo "$tools/bin/python"
    elif python3 -m venv "$tools" 2>/dev/null && "$tools/bin/pip" install -q 'moto[server,s3]==5.2.1' >/dev/null 2>&1; then
        echo "$tools/bin/python"
    fi
}

# Starts the server with the buckets of the platform; sets S3_ENDPOINT and the keys.
start_s3() {
    local port
    moto=$(moto_python)
    [ -n "$moto" ] || return 1
    port=$(free_ports 1)
    MOTO_S3_DEFAULT_KEY_BUFFER_SIZE=1048576 "$moto" -m moto.server -H 127.0.0.1 -p "$port" >"$scratch/s3.log" 2>&1 &
    s3_pid=$!
    started+=("$s3_pid")
    export S3_ENDPOINT=http://127.0.0.1:$port S3_REGION=us-east-1 S3_ACCESS_KEY_FILE=$scratch/secrets/s3-access S3_SECRET_KEY_FILE=$scratch/secrets/s3-secret
    mkdir -p "$scratch/secrets"
    secret >"$S3_ACCESS_KEY_FILE"
    secret >"$S3_SECRET_KEY_FILE"
    eventually 30 curl -sf "$S3_ENDPOINT/moto-api/" || { cat "$scratch/s3.log" >&2; return 1; }
    local bucket
    boto 'pass'
    for bucket in dreamscape-vr-assets dreamscape-user-uploads dreamscape-ai-generations dreamscape-backups; do
        boto "s3.create_bucket(Bucket='$bucket')"
    done
}
# The database that the checks of the backups back up, its keys and the spool; sets tool_env and run_tool. R-NUMBERS: for what fails.
start_what_is_backed_up() {
    prepare_nodes
    node_extra="-c shared_buffers=128MB"
    secret >"$scratch/secrets/backup-key"
    mkdir -p "$scratch/spool"
    own "$scratch/spool" "$scratch/secrets"
    start_node "$a" primary-entrypoint.sh
    eventually 30 has_passwords "$a" || { cat "$scratch/$a.log" >&2; fail V11 "$1" "the database starts"; finish; }
    tool_env=(DB_HOST="$a" DB_PORT="${port_of[$a]}" DB_PASSWORD_FILE="$scratch/secrets/db" REPLICATION_PASSWORD_FILE="$scratch/secrets/replication"
        BACKUP_ENCRYPTION_KEY_FILE="$scratch/secrets/backup-key" BACKUP_SPOOL="$scratch/spool" PG_BIN="$PG_BIN"
        PG_INIT_SQL="$root/scripts/postgres-init-prod.sql" S3_TRIES=2 BACKUP_VERIFY=no)
}
run_tool() { as_account env "${tool_env[@]}" "$root/docker/backup/$1" "${@:2}"; }
owner() { sql_as "$a" dreamscape_prod "$(cat "$scratch/secrets/db")" "$1"; }
# boto LINE...: pieces of Python with boto3's client as `s3`, run one after the other in a process that lives as long as the check.
boto() {
    local status said
    if [ ! -p "$scratch/boto.in" ]; then
        mkfifo "$scratch/boto.in" "$scratch/boto.out"
        AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test "$moto" -c "$boto_server" "$S3_ENDPOINT" <"$scratch/boto.in" >"$scratch/boto.out" &
        started+=("$!")
        exec 5>"$scratch/boto.in" 6<"$scratch/boto.out"
    fi
    printf '%s\n' "$@" | base64 -w0 >&5
    echo >&5
    read -r status said <&6
    base64 -d <<<"$said"
    return "$status"
}
boto_server='
import base64, contextlib, io, sys, traceback
import boto3
s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1")
for line in sys.stdin:
    said, status = io.StringIO(), 0
    with contextlib.redirect_stdout(said):
        try:
            exec(base64.b64decode(line).decode(), {"s3": s3})
        except Exception:
            status = 1
            print(traceback.format_exc(limit=-1))
    print(status, base64.b64encode(said.getvalue().encode()).decode(), flush=True)
'
