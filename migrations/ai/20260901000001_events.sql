-- What a service needs to publish and to consume events exactly once in effect (events contract §6).
-- Copied into a migration of each service, with `ai` replaced by its schema:
--     sed 's/ai/voyage/g' shared/sql/events.sql
-- shared::events reads and writes these tables; a service never touches them itself.

-- Events waiting for the relay, appended in the transaction of the change they tell of. `position` follows the order of
-- commits for each key, because shared::events::outbox locks the key before it draws the number.
create table ai.outbox (
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

create unique index outbox_event_id_key on ai.outbox (event_id);
create index outbox_pending on ai.outbox (position) where published_at is null and refused_at is null;
create index outbox_published on ai.outbox (published_at) where published_at is not null;

-- Rows are updated once and deleted a day later: keep dead rows few and pages reusable.
alter table ai.outbox set (autovacuum_vacuum_scale_factor = 0.02, fillfactor = 80);

-- Wakes the relay at commit. Once per statement; PostgreSQL folds repetitions within a transaction.
create function ai.wake_relay() returns trigger language plpgsql as $$
begin
    perform pg_notify('outbox_' || tg_table_schema, '');
    return null;
end
$$;

create trigger outbox_wakes_relay after insert on ai.outbox
    for each statement execute function ai.wake_relay();

-- Events already applied, by consumer group. The row is inserted in the transaction of the effects.
create table ai.inbox (
    consumer_group text not null,
    event_id text not null,
    topic text not null,
    processed_at timestamptz not null default now(),
    primary key (consumer_group, event_id)
);

create index inbox_processed_at on ai.inbox (processed_at);
