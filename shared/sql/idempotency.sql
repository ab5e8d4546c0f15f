-- Idempotency keys of one service (core §14, payment §3). Copy into the service's migration and replace service_schema.
-- Rows hold answers as they were sent, for a day; they may contain personal data and are erased with the account.
create table service_schema.idempotency_keys (
    caller text not null,
    method text not null,
    path text not null,
    key text not null,
    -- SHA-256 of the canonical request body: the same key with another body is a conflict
    body_hash bytea not null,
    -- who works on it: an answer is stored only by the attempt that holds the row
    attempt uuid not null,
    -- while nothing is stored: after this instant another attempt may take over (the first one crashed)
    locked_until timestamptz not null,
    -- the stored answer; null while in progress
    status smallint,
    headers jsonb,
    body bytea,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    primary key (caller, method, path, key)
);

create index idempotency_keys_expires_at on service_schema.idempotency_keys (expires_at);
