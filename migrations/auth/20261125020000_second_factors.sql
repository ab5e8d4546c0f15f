-- Second factors, passkeys, step-up, and accounts at other providers. contract: core §11, §14
--
-- Only additions: the previous release runs on this schema as well.

-- How the owner of a session proved who they are, and when last. A session of the previous release has null in
-- `authenticated_at`: then it is as old as the session.
alter table auth.sessions
    add column amr text[] not null default '{pwd}', -- RFC 8176
    add column authenticated_at timestamptz,
    add column second_factor_at timestamptz;

-- An account made by another provider has a password nobody knows, until its owner sets one.
alter table auth.users
    add column has_password boolean not null default true;

create function auth.note_password_set() returns trigger language plpgsql as $$
begin
    new.has_password := true;
    return new;
end
$$;

create trigger users_password_set before update of password_hash on auth.users
    for each row when (new.password_hash is distinct from old.password_hash)
    execute function auth.note_password_set();

-- One authenticator app per account. Not confirmed yet: nothing asks for it.
create table auth.mfa_totp (
    user_id uuid primary key references auth.users (id) on delete cascade,
    secret_sealed bytea not null, -- shared::crypto, bound to the account
    created_at timestamptz not null,
    confirmed_at timestamptz,
    last_step bigint not null default 0 -- the newest time step a code was accepted for: none is accepted twice
);

create table auth.mfa_recovery_codes (
    user_id uuid not null references auth.users (id) on delete cascade,
    code_hash bytea not null, -- SHA-256 of 80 random bits
    created_at timestamptz not null,
    used_at timestamptz,
    primary key (user_id, code_hash)
);

create table auth.webauthn_credentials (
    id uuid primary key,
    user_id uuid not null references auth.users (id) on delete cascade,
    credential_id bytea not null,
    passkey jsonb not null, -- public key, signature counter, flags, as webauthn-rs writes them; nothing secret
    name text not null,
    created_at timestamptz not null,
    last_used_at timestamptz,
    constraint webauthn_credentials_credential_id_key unique (credential_id)
);

create index webauthn_credentials_user_id on auth.webauthn_credentials (user_id, created_at);

create table auth.external_identities (
    id uuid primary key,
    user_id uuid not null references auth.users (id) on delete cascade,
    provider text not null,
    subject text not null,
    email text, -- as the provider said it last
    created_at timestamptz not null,
    last_used_at timestamptz not null,
    constraint external_identities_subject_key unique (provider, subject),
    constraint external_identities_user_key unique (user_id, provider)
);

-- What is begun in one request and finished in another: sign-ins that wait for the second factor, challenges for passkeys,
-- sign-ins at other providers. A row is deleted by whoever finishes it, which is what makes it good for one use. It is
-- here and not in Redis because Redis may forget, and a forgotten use would be a second one.
create table auth.ceremonies (
    key_hash bytea primary key, -- SHA-256 of the handle the client holds
    kind text not null,
    user_id uuid references auth.users (id) on delete cascade,
    binding bytea, -- SHA-256 of what the same client shows again: its address, or a cookie
    state_sealed bytea not null, -- shared::crypto, bound to the kind
    tries smallint not null default 0,
    expires_at timestamptz not null
);

create index ceremonies_expires_at on auth.ceremonies (expires_at);
create index ceremonies_user_id on auth.ceremonies (user_id) where user_id is not null;
