-- What we quoted, and who searched for what. contract: voyage §3 (offer_snapshots, search_history), §7.4

create table voyage.offer_snapshots (
    id           text primary key,
    kind         text not null check (kind in ('FLIGHT')),
    provider     text not null,
    -- what the offer was asked for: passengers, cabin, dates
    params       jsonb not null,
    -- the offer as it was sent; json, not jsonb: nothing looks inside, and the bytes stay those of the answer
    payload      json not null,
    amount_minor bigint not null check (amount_minor > 0),
    currency     char(3) not null,
    origin       text not null,
    destination  text not null,
    departs_at   timestamptz not null,
    expires_at   timestamptz not null,
    created_at   timestamptz not null
);

-- expired rows are kept for 24 hours, so that their ids are answered with OFFER_EXPIRED; then they are swept
create index offer_snapshots_expires_at on voyage.offer_snapshots (expires_at);

create table voyage.search_history (
    id             uuid primary key,
    user_id        uuid not null,
    search_type    text not null check (search_type in ('flight')),
    query          text not null,
    origin         text not null,
    destination    text not null,
    departure_date date not null,
    return_date    date,
    adults         smallint not null,
    children       smallint not null,
    infants        smallint not null,
    cabin_class    text not null,
    results_count  integer not null,
    searched_at    timestamptz not null
);

create index search_history_of_user on voyage.search_history (user_id, searched_at desc);
