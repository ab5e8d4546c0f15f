-- What the user service may read of payments, and what administrators did to them. contract: core §5.12, §11; payment §9

-- A status that an administrator set: who, from where, why, and whether Stripe was asked and agreed. Never updated.
create table payment.admin_actions (
    id uuid primary key,
    transaction_id uuid not null references payment.payment_transactions,
    actor_id uuid not null,
    from_status payment.transaction_status not null,
    to_status payment.transaction_status not null,
    reason text not null,
    ip_address text,
    -- false: Stripe could not be asked, the administrator's word stands alone
    verified boolean not null,
    at timestamptz not null
);

create index admin_actions_transaction_idx on payment.admin_actions (transaction_id, at);

-- What is compared with Stripe: open payments, and those that an administrator calls paid although no money was seen.
create index payment_transactions_unsure_idx on payment.payment_transactions (coalesce(checked_at, created_at))
    where status in ('PENDING', 'PROCESSING', 'FAILED') or (status = 'SUCCEEDED' and captured_minor = 0);

create index payment_transactions_newest_idx on payment.payment_transactions (created_at desc, id desc)
    where payment_intent_id is not null;
create index payment_transactions_by_status_idx on payment.payment_transactions (status, created_at desc)
    where payment_intent_id is not null;

-- Search by any part of a reference or PaymentIntent needs trigrams. Where the extension is not installed at all, search
-- works without these indexes.
do $$
declare
    place text;
begin
    begin
        create extension if not exists pg_trgm;
    exception
        when others then
            raise notice 'pg_trgm is not available (%), search goes without its index', sqlerrm;
    end;
    select quote_ident(namespace.nspname)
    into place
    from pg_extension as extension
    join pg_namespace as namespace on namespace.oid = extension.extnamespace
    where extension.extname = 'pg_trgm';
    if place is not null then
        execute format(
            'create index payment_transactions_search_idx on payment.payment_transactions using gin (
                 booking_reference %1$s.gin_trgm_ops, payment_intent_id %1$s.gin_trgm_ops
             )',
            place
        );
    end if;
end
$$;

-- Payments as the contract lists them (core §11), without those that Stripe has not answered yet. `amount` is in major units;
-- the columns in minor units are exact. What was taken less what was given back is what a payment brought in.
create view payment.transaction_data as
select
    id, payment_intent_id, booking_id, booking_reference, user_id,
    round(amount_minor / power(10::numeric, currency_exponent), currency_exponent) as amount, amount_minor,
    captured_minor, refunded_minor, currency::text as currency, currency_exponent, status::text as status, payment_method,
    null::text as stripe_customer_id, failure_message as failure_reason, metadata,
    created_at, updated_at, confirmed_at, failed_at, refunded_at
from payment.payment_transactions
where payment_intent_id is not null;

-- The role exists where each service has its own (production); a laptop has one role for everything.
do $$
begin
    if exists (select from pg_roles where rolname = 'user_service') then
        grant usage on schema payment to user_service;
        grant select on payment.transaction_data to user_service;
    end if;
end
$$;
