-- Accounts, sign-ins and their secrets. contract: core §2, §4, §11
--
-- A session is one sign-in and keeps its id (`sid`) for all its life; the refresh tokens and browser cookies of a session
-- are rows of their own and are kept as SHA-256 only. What is used once stays until it would have run out, because a
-- second use must be told apart from a forgery.

create table auth.users (
    id uuid primary key,
    email text not null, -- normalised; what sign-in looks for
    email_display text not null, -- as typed; where mail goes
    username text,
    password_hash text not null, -- PHC string
    first_name text,
    last_name text,
    role text not null default 'USER',
    is_verified boolean not null default false,
    onboarding_completed_at timestamptz,
    suspended_at timestamptz,
    suspended_reason text,
    deleted_at timestamptz,
    last_login_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint users_email_key unique (email),
    constraint users_username_key unique (username),
    constraint users_role_check check (role in ('USER', 'ADMIN', 'MODERATOR'))
);

create index users_created_at on auth.users (created_at);

create table auth.sessions (
    id uuid primary key,
    user_id uuid not null references auth.users (id) on delete cascade,
    remember_me boolean not null,
    auth_method text not null,
    ip_address text,
    user_agent text,
    created_at timestamptz not null,
    last_seen_at timestamptz not null,
    expires_at timestamptz not null, -- slides with every refresh
    absolute_expires_at timestamptz not null, -- does not
    revoked_at timestamptz,
    revoke_reason text
);

-- The live sessions of one account, oldest first: the limit per account evicts from here.
create index sessions_live on auth.sessions (user_id, created_at) where revoked_at is null;
create index sessions_expires_at on auth.sessions (expires_at);
create index sessions_revoked_at on auth.sessions (revoked_at) where revoked_at is not null;

create table auth.refresh_tokens (
    token_hash bytea primary key,
    session_id uuid not null references auth.sessions (id) on delete cascade,
    issued_at timestamptz not null,
    expires_at timestamptz not null,
    used_at timestamptz
);

create index refresh_tokens_session_id on auth.refresh_tokens (session_id);
create index refresh_tokens_expires_at on auth.refresh_tokens (expires_at);

create table auth.session_cookies (
    token_hash bytea primary key,
    session_id uuid not null references auth.sessions (id) on delete cascade,
    created_at timestamptz not null
);

create index session_cookies_session_id on auth.session_cookies (session_id, created_at);

-- What the user service may read of an account, so that a profile is one round trip. No secret is in it.
create view auth.accounts as
select id, email, email_display, username, first_name, last_name, created_at, updated_at
from auth.users
where deleted_at is null;

-- The role exists where each service has its own (production); a laptop has one role for everything.
do $$
begin
    if exists (select from pg_roles where rolname = 'user_service') then
        grant usage on schema auth to user_service;
        grant select on auth.accounts to user_service;
    end if;
end
$$;
