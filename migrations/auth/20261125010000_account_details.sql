-- What an account holds beyond its sign-in, lockout, and what happened to it. contract: core §2.1, §2.6, §4.4, §11, §14
--
-- Only additions: the previous release runs on this schema as well.

alter table auth.users
    add column phone_number text,
    add column date_of_birth date,
    add column nationality text, -- ISO 3166 alpha-2 in capitals, or a name
    add column user_category text not null default 'LEISURE',
    add column locale text, -- BCP 47; null: nobody chose
    add column mfa_enabled boolean not null default false,
    add column password_changed_at timestamptz,
    -- wrong passwords in a row since the last right one or the last lockout; decided under the lock of this row, so that
    -- any number of replicas and of guesses at once agree
    add column failed_logins integer not null default 0,
    -- lockouts in a row: each is twice as long as the one before
    add column lockouts integer not null default 0,
    add column locked_until timestamptz,
    -- what the administrators' search looks in
    add column search_text text generated always as (
        lower(
            email || ' ' || email_display || ' ' || coalesce(username, '') || ' ' || coalesce(first_name, '') || ' '
            || coalesce(last_name, '')
        )
    ) stored,
    add constraint users_user_category_check check (user_category in ('LEISURE', 'BUSINESS'));

create index users_role on auth.users (role, created_at) where role <> 'USER';
create index users_suspended_at on auth.users (suspended_at) where suspended_at is not null;

-- Search by any part of a name or address needs trigrams. The extension is a trusted one: the owner of the database may
-- create it. Where it is not installed at all, search still works, without this index.
do $$
declare
    place text;
begin
    begin
        create extension if not exists pg_trgm with schema auth;
    exception
        when others then
            raise notice 'pg_trgm is not available (%), search goes without its index', sqlerrm;
    end;
    select quote_ident(namespace.nspname)
    into place
    from pg_extension as extension
    join pg_namespace as namespace on namespace.oid = extension.extnamespace
    where extension.extname = 'pg_trgm';
    if place is not null then
        execute format('create index users_search on auth.users using gin (search_text %s.gin_trgm_ops)', place);
    else
        create index users_search_prefix on auth.users (search_text text_pattern_ops);
    end if;
end
$$;

-- What happened to an account, for its owner to see. No secret and nothing of others is in `data`.
create table auth.security_events (
    id uuid primary key,
    user_id uuid not null references auth.users (id) on delete cascade,
    kind text not null,
    session_id uuid,
    ip_address text,
    user_agent text,
    data jsonb not null default '{}',
    created_at timestamptz not null
);

create index security_events_user_id on auth.security_events (user_id, created_at desc, id desc);
create index security_events_created_at on auth.security_events (created_at);

-- Programs an account has signed in with: a sign-in from any other is told to the owner.
create table auth.known_devices (
    user_id uuid not null references auth.users (id) on delete cascade,
    fingerprint bytea not null, -- SHA-256 of browser, system and kind
    first_seen_at timestamptz not null,
    last_seen_at timestamptz not null,
    primary key (user_id, fingerprint)
);

create or replace view auth.accounts as
select
    id, email, email_display, username, first_name, last_name, created_at, updated_at,
    role, is_verified, suspended_at, suspended_reason, user_category, onboarding_completed_at, last_login_at, phone_number,
    date_of_birth, nationality, locale, mfa_enabled, locked_until, search_text
from auth.users
where deleted_at is null;

-- The one thing of an account that the user service changes in a transaction of its own. Null takes it back; false says
-- that there is no such account.
create function auth.set_onboarding_completed(user_id uuid, at timestamptz) returns boolean
language sql
security definer
set search_path = ''
as $$
    with changed as (
        update auth.users as account
        set onboarding_completed_at = at, updated_at = greatest(account.updated_at, at)
        where account.id = user_id and account.deleted_at is null
        returning 1
    )
    select exists (select from changed)
$$;

revoke all on function auth.set_onboarding_completed (uuid, timestamptz) from public;

do $$
begin
    if exists (select from pg_roles where rolname = 'user_service') then
        grant execute on function auth.set_onboarding_completed (uuid, timestamptz) to user_service;
    end if;
end
$$;
