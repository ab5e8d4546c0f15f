#!/usr/bin/env bash
# Makes roles, database and grants (scripts/postgres-init-prod.sql), then gives each role the password of its secret. Runs at every
# start of the primary; run it by hand after a secret changed and the server shall not restart. Passwords travel over the socket
# only: never on a command line, and neither the log nor pg_stat_statements keeps the statements.
# Usage: apply-roles.sh      (environment: node.sh, "Secrets"; PGHOST and PGPORT of the socket)
set -euo pipefail
[ "${1:-}" != --help ] || { sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0; }

here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
init=${PG_INIT_SQL:-/etc/postgresql/postgres-init-prod.sql}
[ -e "$init" ] || init=$here/../../scripts/postgres-init-prod.sql
psql=("${PG_BIN:+$PG_BIN/}psql" -qX -v ON_ERROR_STOP=1 -U postgres -d postgres)

# The password inside postgres://role:password@host/…, percent-decoded.
from_url() {
    local url=$1 rest
    rest=${url#*://}
    rest=${rest%%@*}
    case $rest in *:*) rest=${rest#*:} ;; *) return 1 ;; esac
    printf '%b' "${rest//%/\\x}"
}

literal() { printf "'%s'" "${1//\'/\'\'}"; }

statements=
given=()
set_password() { # role, file, kind
    local role=$1 file=$2 kind=${3:-plain} secret
    [ -n "$file" ] || return 0
    [ -r "$file" ] || { echo "apply-roles: the secret of $role cannot be read: $file" >&2; exit 1; }
    secret=$(cat "$file")
    if [ "$kind" = url ]; then
        secret=$(from_url "$secret") || { echo "apply-roles: the address for $role holds no password" >&2; exit 1; }
    fi
    case $secret in *\\*) echo "apply-roles: the password of $role holds a backslash" >&2; exit 1 ;; esac
    [ ${#secret} -ge 16 ] || { echo "apply-roles: the password of $role is shorter than 16 characters" >&2; exit 1; }
    statements+="alter role $role password $(literal "$secret");"$'\n'
    given+=("$role")
}

set_password dreamscape_prod "${POSTGRES_PASSWORD_FILE:-}"
set_password replicator "${REPLICATION_PASSWORD_FILE:-}"
set_password exporter "${EXPORTER_PASSWORD_FILE:-}"
set_password dreamscape_ro "${READONLY_PASSWORD_FILE:-}"
for service in auth user mail voyage payment ai; do
    variable=${service^^}_DATABASE_URL_FILE
    set_password "${service}_service" "${!variable:-}" url
done

"${psql[@]}" -f "$init" >/dev/null
if [ -n "$statements" ]; then
    "${psql[@]}" >/dev/null <<SQL
set pg_stat_statements.track = 'none';
set pg_stat_statements.track_utility = off;
set log_statement = 'none';
set log_min_duration_statement = -1;
set log_min_error_statement = 'panic';
begin;
$statements
commit;
SQL
fi
echo "apply-roles: roles are in place, passwords set for: ${given[*]:-none}"
