-- Single-use tokens that travel by mail, and the requests that lead to them. contract: core §11, §14
--
-- Only the SHA-256 of a token is kept. A used token stays until it would have run out.

create table auth.one_time_tokens (
    id uuid primary key,
    user_id uuid not null references auth.users (id) on delete cascade,
    purpose text not null,
    token_hash bytea not null,
    payload jsonb not null default '{}',
    created_at timestamptz not null,
    expires_at timestamptz not null,
    used_at timestamptz,
    constraint one_time_tokens_token_hash_key unique (token_hash),
    constraint one_time_tokens_purpose_check check (
        purpose in ('verify_email', 'reset_password', 'change_email', 'revert_email', 'revoke_session')
    )
);

create index one_time_tokens_user_id on auth.one_time_tokens (user_id, purpose, created_at);
create index one_time_tokens_expires_at on auth.one_time_tokens (expires_at);

-- Somebody asked for a link. The request notes the address and is answered; whether there is such an account is looked
-- up afterwards, by a worker, so that neither the answer nor its time can tell.
create table auth.recovery_requests (
    id uuid primary key,
    purpose text not null,
    email text not null, -- normalised
    requested_at timestamptz not null,
    constraint recovery_requests_purpose_check check (purpose in ('reset_password', 'verify_email'))
);

create index recovery_requests_requested_at on auth.recovery_requests (requested_at);

-- The "not me" link of a mail about a new device: made by the mail service when it writes the mail, because a token must
-- not travel over Kafka. Only for a session of this account; false says there is none.
create function auth.issue_session_revocation(
    id uuid,
    user_id uuid,
    session_id uuid,
    token_hash bytea,
    created_at timestamptz,
    expires_at timestamptz
) returns boolean
language sql
security definer
set search_path = ''
as $$
    with issued as (
        insert into auth.one_time_tokens (id, user_id, purpose, token_hash, payload, created_at, expires_at)
        select $1, session.user_id, 'revoke_session', $4, jsonb_build_object('session', session.id), $5, $6
        from auth.sessions as session
        where session.id = $3 and session.user_id = $2
        returning 1
    )
    select exists (select from issued)
$$;

revoke all on function auth.issue_session_revocation (uuid, uuid, uuid, bytea, timestamptz, timestamptz) from public;

do $$
begin
    if exists (select from pg_roles where rolname = 'mail_service') then
        grant usage on schema auth to mail_service;
        grant select on auth.accounts to mail_service;
        grant execute on function
            auth.issue_session_revocation (uuid, uuid, uuid, bytea, timestamptz, timestamptz) to mail_service;
    end if;
end
$$;
