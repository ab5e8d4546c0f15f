#!/usr/bin/env bash
# Makes the database that `cargo check` reads the shapes of queries from: all migrations of all services, applied as
# plain SQL. Needs a PostgreSQL server and its address without a database in DEV_PG (postgres://user@host:port).
set -euo pipefail
name=${1:-dreamscape_dev}
server=${DEV_PG:?set DEV_PG to the address of a PostgreSQL server, e.g. postgres://postgres@127.0.0.1:5432}
cd "$(dirname "$0")/../.."
psql -qX "$server/postgres" -c "drop database if exists $name with (force)" -c "create database $name" >/dev/null
for service in migrations/*/; do
    schema=$(basename "$service")
    [ "$schema" = user ] && schema=users
    psql -qX -v ON_ERROR_STOP=1 "$server/$name" -c "create schema if not exists $schema" >/dev/null
    for file in "$service"*.sql; do
        [ -e "$file" ] || continue
        psql -qX -v ON_ERROR_STOP=1 -1 "$server/$name" -f "$file" >/dev/null
    done
done
echo "$server/$name"
