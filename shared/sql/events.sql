-- What a service needs to publish and to consume events exactly once in effect (events contract §6).
-- Copied into a migration of each service, with `service_schema` replaced by its schema:
--     sed 's/service_schema/voyage/g' shared/sql/events.sql
-- shared::events reads and writes these tables; a service never touches them itself.

-- Events waiting for the relay, appended in the transaction of the change they tell of. `position` follows the order of
-- commits for each key, because shared::events::outbox locks the key before it draws the number.
create table service_schema.outbox (
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

create unique index outbox_event_id_key on service_schema.outbox (event_id);
create index outbox_pending on service_schema.outbox (position) where published_at is null and refused_at is null;
create index outbox_published on service_schema.outbox (published_at) where published_at is not null;

-- Rows are updated once and deleted a day later: keep dead rows few and pages reusable.
alter table service_schema.outbox set (autovacuum_vacuum_scale_factor = 0.02, fillfactor = 80);

-- Wakes the relay at commit. Once per statement; PostgreSQL folds repetitions within a transaction. A relay that is awake
-- reads on by itself and holds this lock: notifications of all databases of a server commit one after the other, and each
-- wakes every relay of this one.
create function service_schema.wake_relay() returns trigger language plpgsql as $$
begin
    if pg_try_advisory_xact_lock_shared(hashtextextended(tg_table_schema || '.outbox', 2)) then
        perform pg_notify('outbox_' || tg_table_schema, '');
    end if;
    return null;
end
$$;

create trigger outbox_wakes_relay after insert on service_schema.outbox
    for each statement execute function service_schema.wake_relay();

-- Events already applied, by consumer group. The row is inserted in the transaction of the effects.
create table service_schema.inbox (
    consumer_group text not null,
    event_id text not null,
    topic text not null,
    processed_at timestamptz not null default now(),
    primary key (consumer_group, event_id)
);

create index inbox_processed_at on service_schema.inbox (processed_at);
