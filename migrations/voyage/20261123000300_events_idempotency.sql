-- What voyage needs to publish and consume events and to honour idempotency keys. contract: events §6, voyage §7.6
-- Copied from shared/sql/events.sql and shared/sql/idempotency.sql, which explain the columns.


-- Events waiting for the relay, appended in the transaction of the change they tell of. `position` follows the order of
-- commits for each key, because shared::events::outbox locks the key before it draws the number.
create table voyage.outbox (
    position bigint generated always as identity primary key,
    event_id uuid not null,
    topic text not null,
    key text not null,
    envelope json not null, -- json, not jsonb: the text goes out as it came in
    traceparent text,
    created_at timestamptz not null default clock_timestamp(),
    published_at timestamptz,
    refused_at timestamptz, -- the broker will never take this record; a person has to look
    refusal text
);

create unique index outbox_event_id_key on voyage.outbox (event_id);
create index outbox_pending on voyage.outbox (position) where published_at is null and refused_at is null;
create index outbox_published on voyage.outbox (published_at) where published_at is not null;

-- Rows are updated once and deleted a day later: keep dead rows few and pages reusable.
alter table voyage.outbox set (autovacuum_vacuum_scale_factor = 0.02, fillfactor = 80);

-- Wakes the relay at commit. Once per statement; PostgreSQL folds repetitions within a transaction.
create function voyage.wake_relay() returns trigger language plpgsql as $$
begin
    perform pg_notify('outbox_' || tg_table_schema, '');
    return null;
end
$$;

create trigger outbox_wakes_relay after insert on voyage.outbox
    for each statement execute function voyage.wake_relay();

-- Events already applied, by consumer group. The row is inserted in the transaction of the effects.
create table voyage.inbox (
    consumer_group text not null,
    event_id text not null,
    topic text not null,
    processed_at timestamptz not null default now(),
    primary key (consumer_group, event_id)
);

create index inbox_processed_at on voyage.inbox (processed_at);

create table voyage.idempotency_keys (
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

create index idempotency_keys_expires_at on voyage.idempotency_keys (expires_at);
