-- What administrators change of a booking, and what the user service may read of bookings and searches.
-- contract: core §5.12, §11; voyage §3, §7.5
--
-- The views are the only thing of this schema that another service sees: the admin API and the export of a traveller's data
-- read them. Whoever wants to change a booking asks the internal API.

alter table voyage.bookings
    -- notes and corrections of administrators; they lie over the rest of `data` and never over what money depends on
    add column admin_data jsonb not null default '{}' constraint bookings_admin_data_check check (
        jsonb_typeof(admin_data) = 'object'
    ),
    -- the refund that a cancellation asked payment for, and how far it has come
    add column refund_minor bigint constraint bookings_refund_minor_check check (refund_minor > 0),
    add column refund_status text constraint bookings_refund_status_check check (
        refund_status in ('pending', 'succeeded', 'failed')
    );

-- Which administrator caused a transition; null for everybody else.
alter table voyage.booking_events add column actor_id uuid;

-- Decimal digits of a currency's minor unit. The list is ISO 4217's; a test compares it with the one the programs use.
create function voyage.currency_exponent(currency text) returns integer
language sql immutable parallel safe
as $$
    select case
        when currency in (
            'BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'UYI', 'VND', 'VUV', 'XAF', 'XOF',
            'XPF', 'XAG', 'XAU', 'XBA', 'XBB', 'XBC', 'XBD', 'XDR', 'XPD', 'XPT', 'XSU', 'XTS', 'XUA', 'XXX'
        ) then 0
        when currency in ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') then 3
        when currency in ('CLF', 'UYW') then 4
        else 2
    end
$$;

-- Minor units as major ones, exactly.
create function voyage.major_units(minor bigint, currency text) returns numeric
language sql immutable parallel safe
as $$
    select round(minor / power(10::numeric, voyage.currency_exponent(currency)), voyage.currency_exponent(currency))
$$;

-- The first of these keys that holds a text: in what administrators wrote, else in what was bought. The last resort is the
-- code that the checkout noted with the line.
create function voyage.destination_of(admin_data jsonb, items jsonb, keys text[]) returns text
language sql immutable parallel safe
as $$
    select left(coalesce(
        (
            select named.value #>> '{}'
            from unnest(array[admin_data, items -> 0 -> 'itemData']) with ordinality as source (data, place)
            cross join unnest(keys) with ordinality as key (name, place)
            cross join lateral (select source.data -> key.name as value) as named
            where jsonb_typeof(named.value) = 'string' and btrim(named.value #>> '{}') <> ''
            order by source.place, key.place
            limit 1
        ),
        items -> 0 ->> 'destination'
    ), 200)
$$;

-- Kept with the row, because lists filter by it and the dashboard counts by it. The two differ in what a hotel is called.
alter table voyage.bookings
    add column destination text generated always as (voyage.destination_of(admin_data, items, case kind
        when 'FLIGHT' then array['to', 'destination']
        when 'TRANSFER' then array['to', 'destination']
        when 'HOTEL' then array['hotel', 'city', 'destination']
        when 'ACTIVITY' then array['location', 'city', 'destination']
        else array['destination']
    end)) stored,
    add column destination_city text generated always as (voyage.destination_of(admin_data, items, case kind
        when 'FLIGHT' then array['to', 'destination', 'cityCode']
        when 'TRANSFER' then array['to', 'destination', 'cityCode']
        when 'HOTEL' then array['city', 'destination', 'hotel', 'cityCode']
        when 'ACTIVITY' then array['city', 'destination', 'location', 'activity']
        else array['destination', 'city', 'cityCode']
    end)) stored;

create index bookings_newest on voyage.bookings (created_at desc, id desc);
create index bookings_by_status on voyage.bookings (status, created_at desc);
create index search_history_newest on voyage.search_history (searched_at);

-- Search by any part of a reference or destination needs trigrams. Where the extension is not installed at all, search
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
        execute format('create index bookings_search on voyage.bookings using gin (reference %s.gin_trgm_ops)', place);
        execute format(
            'create index bookings_destination on voyage.bookings using gin (destination %s.gin_trgm_ops)', place
        );
    end if;
end
$$;

-- A line of a booking as clients read it.
create function voyage.published_items(items jsonb, currency text) returns jsonb
language sql immutable parallel safe
as $$
    select coalesce(
        jsonb_agg(
            jsonb_build_object(
                'type', line.value -> 'type',
                'itemId', line.value -> 'itemId',
                'itemData', line.value -> 'itemData',
                'quantity', line.value -> 'quantity',
                'price', round(
                    voyage.major_units((line.value ->> 'lineTotalMinor')::bigint, currency)
                    / greatest((line.value ->> 'quantity')::numeric, 1),
                    voyage.currency_exponent(currency)
                ),
                'lineTotal', voyage.major_units((line.value ->> 'lineTotalMinor')::bigint, currency),
                'currency', currency
            )
            order by line.place
        ),
        '[]'
    )
    from jsonb_array_elements(items) with ordinality as line (value, place)
$$;

-- An instant as it stands on the wire.
create function voyage.iso(instant timestamptz) returns text
language sql immutable parallel safe
as $$
    select to_char(instant at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;

-- Bookings as the contract lists them (core §11). `total_minor` is exact, `total_amount` the same in major units.
create view voyage.booking_data as
select
    id, user_id, kind as type, reference, status, payment_intent_id, confirmed_at,
    voyage.major_units(total_minor, currency) as total_amount, total_minor, currency::text as currency,
    destination, destination_city, refund_status,
    jsonb_build_object(
        'cartId', cart_id, 'items', voyage.published_items(items, currency), 'metadata', metadata, 'createdFrom', 'cart'
    )
    || jsonb_strip_nulls(jsonb_build_object(
        'failureReason', case status when 'FAILED' then reason end,
        'failedAt', case status when 'FAILED' then voyage.iso(ended_at) end,
        'cancellationReason', case status when 'CANCELLED' then reason end,
        'cancelledAt', case status when 'CANCELLED' then voyage.iso(ended_at) end
    ))
    || case
        when refund_status is null then '{}'::jsonb
        else jsonb_build_object('refund', jsonb_build_object(
            'amount', voyage.major_units(refund_minor, currency), 'currency', currency, 'status', refund_status
        ))
    end
    || admin_data as data,
    created_at, updated_at
from voyage.bookings;

-- What signed-in travellers searched for; searches without an account leave no row. `session_id` is the account's id, as in
-- the event `voyage.search.performed`.
create view voyage.search_data as
select
    id, user_id, user_id::text as session_id, origin, destination, departure_date, return_date,
    jsonb_build_object('adults', adults, 'children', children, 'infants', infants) as passengers,
    cabin_class, searched_at, results_count
from voyage.search_history;

-- The role exists where each service has its own (production); a laptop has one role for everything.
do $$
begin
    if exists (select from pg_roles where rolname = 'user_service') then
        grant usage on schema voyage to user_service;
        grant select on voyage.booking_data, voyage.search_data to user_service;
    end if;
end
$$;
