-- Roles, database, extensions and grants of the production database. Nothing else: no password, no row, no table; those come from
-- secrets (docker/postgres/apply-roles.sh) and from the migrations. Safe to run again at any time. contract: operations R-046, §6.7
--
--     psql -v ON_ERROR_STOP=1 -d postgres -f scripts/postgres-init-prod.sql
--
-- Each service of the pods connects as a role of its own, which the `migrate` job (as dreamscape_prod) lets read and write its own
-- schema; the migrations grant the few views and functions that cross schemas. A role without a password cannot log in.

\set ON_ERROR_STOP on
set client_min_messages = warning;

do $$
declare
    name text;
begin
    -- dreamscape_pods: the group that pg_hba.conf admits from the network
    foreach name in array array['dreamscape_prod', 'dreamscape_pods', 'dreamscape_ro', 'replicator', 'exporter',
        'auth_service', 'user_service', 'mail_service', 'voyage_service', 'payment_service', 'ai_service']
    loop
        if not exists (select from pg_roles where rolname = name) then
            execute format('create role %I', name);
        end if;
    end loop;
end
$$;

-- Attributes are set anew each time: what somebody changed by hand does not stay.
alter role dreamscape_prod login nosuperuser nocreatedb nocreaterole noreplication nobypassrls;
alter role dreamscape_pods nologin nosuperuser nocreatedb nocreaterole noreplication nobypassrls;
alter role dreamscape_ro login nosuperuser nocreatedb nocreaterole noreplication nobypassrls connection limit 10;
alter role replicator login nosuperuser nocreatedb nocreaterole replication nobypassrls connection limit 10;
alter role exporter login nosuperuser nocreatedb nocreaterole noreplication nobypassrls connection limit 5;

do $$
declare
    name text;
begin
    foreach name in array array['auth_service', 'user_service', 'mail_service', 'voyage_service', 'payment_service', 'ai_service']
    loop
        execute format('alter role %I login nosuperuser nocreatedb nocreaterole noreplication nobypassrls', name);
        execute format('alter role %I set statement_timeout = %L', name, '30s');
        execute format('alter role %I set idle_in_transaction_session_timeout = %L', name, '60s');
        execute format('grant dreamscape_pods to %I', name);
    end loop;
end
$$;

alter role dreamscape_prod set statement_timeout = '30s'; -- the migrate job and the dump ask for more themselves
alter role dreamscape_ro set default_transaction_read_only = on;
alter role dreamscape_ro set statement_timeout = '5min';

grant pg_monitor to exporter;
grant pg_read_all_data to dreamscape_ro;

-- The database has the name of its owner: `pg_dump -U dreamscape_prod` needs no more.
select 'create database dreamscape_prod owner dreamscape_prod encoding ''UTF8'' template template0'
where not exists (select from pg_database where datname = 'dreamscape_prod')
\gexec

alter database dreamscape_prod owner to dreamscape_prod;
revoke all on database dreamscape_prod from public;
grant connect on database dreamscape_prod to dreamscape_pods, dreamscape_ro, exporter;
revoke all on database postgres from public;
grant connect on database postgres to exporter, replicator;
revoke all on database template1 from public;

-- In the database `postgres`, not in the one that is dumped: a restore must not need a superuser.
\connect -reuse-previous=on postgres
set client_min_messages = warning;
create extension if not exists pg_stat_statements;

-- What pg_rewind reads of a primary (its manual, "Notes").
grant execute on function pg_catalog.pg_ls_dir(text, boolean, boolean) to replicator;
grant execute on function pg_catalog.pg_stat_file(text, boolean) to replicator;
grant execute on function pg_catalog.pg_read_binary_file(text) to replicator;
grant execute on function pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean) to replicator;

\connect -reuse-previous=on dreamscape_prod
set client_min_messages = warning;
revoke all on schema public from public;
grant all on schema public to dreamscape_prod;
