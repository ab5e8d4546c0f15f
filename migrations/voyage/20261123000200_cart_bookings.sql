-- Carts, bookings and what moves them. contract: voyage §3, §7

create table voyage.carts (
    id            uuid primary key,
    user_id       uuid,
    -- SHA-256 of the browser's `ds_guest` cookie: who reads this table cannot open anybody's cart
    anonymous_key bytea,
    currency      char(3) not null,
    total_minor   bigint not null default 0 check (total_minor >= 0),
    -- counts changes of the content; a booking is a snapshot of (cart, version)
    version       integer not null default 0,
    expires_at    timestamptz not null,
    created_at    timestamptz not null,
    updated_at    timestamptz not null,
    constraint carts_one_owner check ((user_id is null) <> (anonymous_key is null)),
    constraint carts_user_key unique (user_id),
    constraint carts_anonymous_key unique (anonymous_key)
);

create index carts_expires_at on voyage.carts (expires_at);

create table voyage.cart_items (
    id               uuid primary key,
    cart_id          uuid not null references voyage.carts on delete cascade,
    -- order of arrival: two lines may come within one clock tick
    position         bigint generated always as identity,
    kind             text not null check (kind in ('FLIGHT', 'HOTEL', 'ACTIVITY')),
    item_id          text not null,
    -- what tells two lines of one item apart: its dates
    variant_key      text not null default '',
    item_data        jsonb not null,
    quantity         integer not null check (quantity > 0),
    -- what the line costs, exactly; the unit price is this divided by the quantity
    line_total_minor bigint not null check (line_total_minor >= 0),
    currency         char(3) not null,
    price_verified   boolean not null,
    -- of verified lines: who sells the offer, until when it holds, where it goes
    provider         text,
    offer_expires_at timestamptz,
    destination      text,
    travelers        jsonb not null default '[]',
    created_at       timestamptz not null,
    constraint cart_items_identity unique (cart_id, kind, item_id, variant_key)
);

create table voyage.bookings (
    id                  uuid primary key,
    reference           text not null constraint bookings_reference_key unique,
    -- the owner; a random pseudonym once the account is deleted
    user_id             uuid not null,
    kind                text not null check (kind in ('FLIGHT', 'HOTEL', 'TRANSFER', 'ACTIVITY', 'PACKAGE')),
    status              text not null check (
        status in ('DRAFT', 'PENDING_PAYMENT', 'PENDING', 'CONFIRMED', 'CANCELLED', 'COMPLETED', 'FAILED')
    ),
    version             integer not null default 0,
    cart_id             uuid,
    cart_version        integer,
    payment_intent_id   text,
    total_minor         bigint not null check (total_minor >= 0),
    currency            char(3) not null,
    items               jsonb not null,
    metadata            jsonb not null default '{}',
    -- why it failed or was cancelled, and whether a later success of the same payment revives it
    reason              text,
    revivable           boolean not null default false,
    ended_at            timestamptz,
    confirmed_at        timestamptz,
    expires_at          timestamptz not null,
    refunded_minor      bigint,
    pseudonymised_at    timestamptz,
    -- the request id of the checkout: it runs through the whole saga
    correlation_id      text,
    created_at          timestamptz not null,
    updated_at          timestamptz not null
);

create index bookings_of_user on voyage.bookings (user_id, created_at desc);
create index bookings_of_user_by_status on voyage.bookings (user_id, status);
create unique index bookings_payment_intent_key on voyage.bookings (payment_intent_id)
    where payment_intent_id is not null;
create index bookings_of_cart on voyage.bookings (cart_id) where cart_id is not null;
-- what the reconciler looks at: everything that is still under way
create index bookings_open on voyage.bookings (status, expires_at)
    where status in ('DRAFT', 'PENDING_PAYMENT', 'PENDING') or revivable;

-- Every transition, in order. `at` is ours; `actor` is who caused it: checkout, payment, supplier, reconciler, account.
create table voyage.booking_events (
    booking_id  uuid not null references voyage.bookings on delete cascade,
    seq         integer not null,
    from_status text,
    to_status   text not null,
    actor       text not null,
    reason      text,
    at          timestamptz not null,
    primary key (booking_id, seq)
);

-- One supplier order per line. The row stands before the supplier is asked, with an id of our making, so that a repeated
-- request finds the earlier order.
create table voyage.provider_orders (
    booking_id   uuid not null references voyage.bookings on delete cascade,
    line_no      integer not null,
    provider     text not null,
    offer_id     text not null,
    provider_ref text,
    status       text not null check (status in ('pending', 'confirmed', 'failed')),
    created_at   timestamptz not null,
    updated_at   timestamptz not null,
    primary key (booking_id, line_no)
);

create index provider_orders_pending on voyage.provider_orders (booking_id) where status = 'pending';

-- What payment has still to be asked for: cancelling an intent, giving money back. Written in the transaction that decides
-- it, carried out afterwards until payment has answered.
create table voyage.payment_tasks (
    id                uuid primary key,
    booking_id        uuid not null references voyage.bookings on delete cascade,
    kind              text not null check (kind in ('cancel', 'refund')),
    -- null: whatever payment the booking has
    payment_intent_id text,
    reason            text not null,
    -- one key is one effect for ever: `late:<pi>`
    idempotency_key   text not null constraint payment_tasks_idempotency_key unique,
    attempts          integer not null default 0,
    next_attempt_at   timestamptz not null,
    done_at           timestamptz,
    outcome           text,
    created_at        timestamptz not null
);

create index payment_tasks_due on voyage.payment_tasks (next_attempt_at) where done_at is null;
