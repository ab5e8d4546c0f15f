-- Payments, refunds, webhook inbox and ledger (contract: payment §7, §8, §13).
-- Money is a bigint of minor units with its currency. Nothing here is a secret: client secrets are never stored.

create type payment.transaction_status as enum ('PENDING', 'PROCESSING', 'SUCCEEDED', 'FAILED', 'CANCELED', 'REFUNDED');
create type payment.refund_status as enum ('PENDING', 'SUCCEEDED', 'FAILED');
create type payment.inbox_status as enum ('PROCESSED', 'IGNORED', 'PARKED');

create table payment.payment_transactions (
    id uuid primary key,
    -- null until Stripe has answered; such rows are hidden from reads
    payment_intent_id text constraint payment_transactions_intent_key unique,
    booking_id uuid not null,
    booking_reference text not null,
    user_id uuid not null,
    amount_minor bigint not null constraint payment_transactions_amount_check check (amount_minor between 1 and 99999999),
    currency char(3) not null,
    currency_exponent smallint not null,
    status payment.transaction_status not null default 'PENDING',
    -- the last word Stripe used for it
    provider_status text,
    provider text not null default 'stripe',
    livemode boolean not null,
    -- number of attempts that have ended, well or badly
    attempt integer not null default 0,
    captured_minor bigint not null default 0 check (captured_minor >= 0),
    -- refunds asked for (pending and succeeded) and refunds that arrived
    reserved_minor bigint not null default 0,
    refunded_minor bigint not null default 0,
    payment_method text,
    charge_id text,
    -- the charge or attempt that last_failure was about, so that one failure is counted once
    failure_key text,
    failure_code text,
    failure_message text,
    review_reason text,
    cancel_reason text,
    -- set when somebody wants it cancelled and Stripe has not been asked yet
    cancel_requested_at timestamptz,
    metadata jsonb not null default '{}',
    correlation_id text,
    last_provider_event_at timestamptz,
    -- when it was last compared with Stripe
    checked_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    confirmed_at timestamptz,
    failed_at timestamptz,
    canceled_at timestamptz,
    refunded_at timestamptz,
    constraint payment_transactions_refund_check check (
        refunded_minor >= 0 and refunded_minor <= reserved_minor and reserved_minor <= captured_minor
    )
);
-- at most one payment of a booking can be charged
create unique index payment_transactions_open_booking_key
    on payment.payment_transactions (booking_id) where status in ('PENDING', 'PROCESSING', 'FAILED');
create index payment_transactions_booking_idx on payment.payment_transactions (booking_id, created_at desc);
create index payment_transactions_reference_idx on payment.payment_transactions (booking_reference);
create index payment_transactions_user_idx on payment.payment_transactions (user_id, created_at desc);
create index payment_transactions_unsettled_idx
    on payment.payment_transactions (coalesce(checked_at, created_at)) where status in ('PENDING', 'PROCESSING', 'FAILED');

-- The state machine of payment §7, so that not even SQL by hand can break it. A refund that arrived and failed
-- afterwards reopens the payment (REFUNDED to SUCCEEDED).
create function payment.guard_transaction_status() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        if new.status <> 'PENDING' then
            raise exception 'a payment starts as PENDING, not as %', new.status
                using errcode = 'check_violation', constraint = 'payment_transactions_status_guard';
        end if;
        return new;
    end if;
    if (old.amount_minor, old.currency, old.booking_id) is distinct from (new.amount_minor, new.currency, new.booking_id)
        or (old.payment_intent_id is not null and new.payment_intent_id is distinct from old.payment_intent_id) then
        raise exception 'what a payment is for never changes'
            using errcode = 'check_violation', constraint = 'payment_transactions_identity_guard';
    end if;
    if old.status <> new.status and not (
        (old.status = 'PENDING' and new.status in ('PROCESSING', 'SUCCEEDED', 'FAILED', 'CANCELED'))
        or (old.status = 'PROCESSING' and new.status in ('SUCCEEDED', 'FAILED', 'CANCELED'))
        or (old.status = 'FAILED' and new.status in ('PROCESSING', 'SUCCEEDED', 'CANCELED'))
        or (old.status = 'CANCELED' and new.status = 'SUCCEEDED')
        or (old.status = 'SUCCEEDED' and new.status = 'REFUNDED' and new.refunded_minor = new.captured_minor)
        or (old.status = 'REFUNDED' and new.status = 'SUCCEEDED' and new.refunded_minor < new.captured_minor)
    ) then
        raise exception 'a payment cannot go from % to %', old.status, new.status
            using errcode = 'check_violation', constraint = 'payment_transactions_status_guard';
    end if;
    return new;
end $$;
create trigger payment_transactions_guard before insert or update on payment.payment_transactions
    for each row execute function payment.guard_transaction_status();

-- One row per attempt that ended (payment §13: intent/attempt split).
create table payment.payment_attempts (
    id uuid primary key,
    transaction_id uuid not null references payment.payment_transactions,
    attempt integer not null,
    outcome text not null check (outcome in ('failed', 'succeeded')),
    charge_id text,
    payment_method text,
    error_code text,
    decline_code text,
    error_message text,
    at timestamptz not null,
    constraint payment_attempts_number_key unique (transaction_id, attempt)
);

create table payment.payment_refunds (
    id uuid primary key,
    transaction_id uuid not null references payment.payment_transactions,
    stripe_refund_id text constraint payment_refunds_stripe_key unique,
    -- the caller's key, for ever: `cancel:<reference>`, `late:<pi>`, `stripe:<re>` for refunds made at Stripe
    idempotency_key text not null constraint payment_refunds_idempotency_key unique,
    amount_minor bigint not null check (amount_minor > 0),
    currency char(3) not null,
    status payment.refund_status not null default 'PENDING',
    reason text not null check (reason in ('duplicate', 'fraudulent', 'requested_by_customer')),
    note text,
    failure_reason text,
    correlation_id text,
    -- when Stripe is asked next, if it has not answered yet
    next_attempt_at timestamptz not null,
    attempts integer not null default 0,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    succeeded_at timestamptz
);
create index payment_refunds_transaction_idx on payment.payment_refunds (transaction_id);
create index payment_refunds_pending_idx on payment.payment_refunds (next_attempt_at) where status = 'PENDING';

-- Every webhook event that was verified, once. `payload` is the event without client secrets; purged after 90 days.
create table payment.webhook_inbox (
    event_id text primary key,
    event_type text not null,
    object_id text,
    livemode boolean not null,
    payload jsonb,
    status payment.inbox_status not null,
    parked_reason text,
    attempts integer not null default 1,
    created_at timestamptz not null,
    received_at timestamptz not null,
    processed_at timestamptz
);
create index webhook_inbox_parked_idx on payment.webhook_inbox (received_at) where status = 'PARKED';

-- Double-entry ledger, append-only. A posting (`tx_id`) balances per currency, checked at commit.
create table payment.ledger_accounts (
    id bigint generated always as identity primary key,
    name text not null constraint ledger_accounts_name_key unique,
    kind text not null check (kind in ('asset', 'liability')),
    created_at timestamptz not null default now()
);
insert into payment.ledger_accounts (name, kind) values ('psp:stripe:clearing', 'asset');

create table payment.ledger_entries (
    id bigint generated always as identity primary key,
    -- the payment for a charge, the refund for a refund, a new id for a reversal: a fact is posted once
    tx_id uuid not null,
    posting text not null check (posting in ('charge', 'refund', 'refund_reversal')),
    transaction_id uuid not null references payment.payment_transactions,
    account_id bigint not null references payment.ledger_accounts,
    side text not null check (side in ('debit', 'credit')),
    minor bigint not null check (minor > 0),
    currency char(3) not null,
    at timestamptz not null,
    constraint ledger_entries_once_key unique (tx_id, posting, account_id, side)
);
create index ledger_entries_transaction_idx on payment.ledger_entries (transaction_id);

create function payment.check_ledger_balance() returns trigger language plpgsql as $$
begin
    if exists (
        select 1 from payment.ledger_entries
        where tx_id = new.tx_id and posting = new.posting
        group by currency
        having sum(case side when 'debit' then minor else -minor end) <> 0
    ) then
        raise exception 'the ledger posting % does not balance', new.tx_id
            using errcode = 'check_violation', constraint = 'ledger_entries_balance_check';
    end if;
    return null;
end $$;
create constraint trigger ledger_entries_balance after insert on payment.ledger_entries
    deferrable initially deferred for each row execute function payment.check_ledger_balance();

create function payment.refuse_ledger_change() returns trigger language plpgsql as $$
begin
    raise exception 'the ledger is append-only: correct it with a reversing posting'
        using errcode = 'check_violation', constraint = 'ledger_entries_append_only';
end $$;
create trigger ledger_entries_append_only before update or delete on payment.ledger_entries
    for each row execute function payment.refuse_ledger_change();
create trigger ledger_entries_no_truncate before truncate on payment.ledger_entries
    for each statement execute function payment.refuse_ledger_change();
