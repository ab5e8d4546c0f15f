-- The queue of outgoing mail. contract: core §9
--
-- A mail is enqueued in the transaction of the change it tells of, by whichever service makes the change, through the
-- function below: both commit or neither does. Workers of any number of replicas claim what is due with `for update skip
-- locked`; a claim is a lease (`next_attempt_at` moves into the future), so a mail whose worker was killed is claimed
-- again. Address, words and secret links are one encrypted value that is emptied as soon as the mail is sent.

create table mail.messages (
    id uuid primary key, -- also the Message-ID: a repetition can be recognised
    idempotency_key text not null,
    user_id uuid, -- whose mail it is, for the language and for erasure; null: nobody's account
    template text not null,
    state text not null default 'pending',
    sealed bytea, -- encrypted for this id; null once it is sent or never will be
    attempts integer not null default 0, -- claims, not answers: a mail that kills its worker ends as well
    next_attempt_at timestamptz not null,
    not_after timestamptz not null, -- of no use to anybody later
    created_at timestamptz not null,
    ended_at timestamptz,
    outcome text, -- a class of failure, never a provider's text: that quotes addresses
    constraint messages_idempotency_key_key unique (idempotency_key),
    constraint messages_state_check check (state in ('pending', 'sent', 'dead'))
);

create index messages_due on mail.messages (next_attempt_at) where state = 'pending';
create index messages_ended_at on mail.messages (ended_at) where state <> 'pending';
create index messages_user_id on mail.messages (user_id) where user_id is not null;

-- Rows are updated twice and deleted a month later: keep pages reusable.
alter table mail.messages set (autovacuum_vacuum_scale_factor = 0.05, fillfactor = 80);

-- Wakes the workers at commit; PostgreSQL folds repetitions within a transaction.
create function mail.wake_workers() returns trigger language plpgsql as $$
begin
    perform pg_notify('mail_queue', '');
    return null;
end
$$;

create trigger messages_wake_workers after insert on mail.messages
    for each statement execute function mail.wake_workers();

-- What the other services may do with the queue: add to it. False says that a mail of this key was there already.
create function mail.enqueue(
    id uuid,
    idempotency_key text,
    user_id uuid,
    template text,
    sealed bytea,
    not_after timestamptz,
    created_at timestamptz
) returns boolean
language sql
security definer
set search_path = ''
as $$
    with added as (
        insert into mail.messages
            (id, idempotency_key, user_id, template, sealed, next_attempt_at, not_after, created_at)
        values ($1, $2, $3, $4, $5, $7, $6, $7)
        on conflict (idempotency_key) do nothing
        returning 1
    )
    select exists (select from added)
$$;

revoke all on function mail.enqueue (uuid, text, uuid, text, bytea, timestamptz, timestamptz) from public;

-- Events already applied, by consumer group: shared/sql/events.sql. Mail publishes nothing, so it has no outbox.
create table mail.inbox (
    consumer_group text not null,
    event_id text not null,
    topic text not null,
    processed_at timestamptz not null default now(),
    primary key (consumer_group, event_id)
);

create index inbox_processed_at on mail.inbox (processed_at);

-- The roles exist where each service has its own (production); a laptop may have one role for everything.
do $$
declare
    sender text;
begin
    foreach sender in array array['auth_service', 'user_service'] loop
        if exists (select from pg_roles where rolname = sender) then
            execute format('grant usage on schema mail to %I', sender);
            execute format(
                'grant execute on function mail.enqueue (uuid, text, uuid, text, bytea, timestamptz, timestamptz) to %I',
                sender
            );
        end if;
    end loop;
end
$$;
