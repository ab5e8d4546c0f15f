-- As in shared/sql/events.sql. contract: events §6

-- Wakes the relay at commit. Once per statement; PostgreSQL folds repetitions within a transaction. A relay that is awake
-- reads on by itself and holds this lock: notifications of all databases of a server commit one after the other, and each
-- wakes every relay of this one.
create or replace function payment.wake_relay() returns trigger language plpgsql as $$
begin
    if pg_try_advisory_xact_lock_shared(hashtextextended(tg_table_schema || '.outbox', 2)) then
        perform pg_notify('outbox_' || tg_table_schema, '');
    end if;
    return null;
end
$$;
