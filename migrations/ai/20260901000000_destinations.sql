-- What travellers want, by destination. contract: ai §11.6, §14.1, §16
--
-- Counters only: no row tells who searched or booked. A destination is a city; its name, country and place on the map are
-- looked up by code, not kept here.

create table ai.destinations (
    id uuid primary key,
    place_code text not null, -- IATA code of the city: TYO for NRT and HND
    place_kind text not null default 'CITY',
    -- Exponentially decayed sums, as they stood at `stamped_at`; each event adds 1 at its own time.
    searches double precision not null default 0, -- half-life 30 days
    bookings double precision not null default 0, -- half-life 120 days
    demand_short double precision not null default 0, -- searches and bookings, half-life 14 days
    demand_long double precision not null default 0, -- the same, half-life 90 days
    stamped_at timestamptz not null,
    -- Plain totals, for people to read.
    search_count bigint not null default 0,
    booking_count bigint not null default 0,
    last_booking_at timestamptz,
    -- Where the destination stands in each of the eight dimensions of ai §11.1; 0.5 says that nothing is known.
    vector double precision[] not null default array_fill(0.5::double precision, array[8]),
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint destinations_place_code_key unique (place_code),
    constraint destinations_counts_check check (
        searches >= 0 and bookings >= 0 and demand_short >= 0 and demand_long >= 0
        and search_count >= 0 and booking_count >= 0
    ),
    constraint destinations_vector_check check (array_length(vector, 1) = 8)
);

-- Which bookings are counted, so that a cancellation takes back exactly what the confirmation added, whichever event comes
-- first. The key is the SHA-256 of the reference: nothing here leads back to a traveller.
create table ai.counted_bookings (
    booking_digest bytea primary key,
    destinations text[] not null,
    confirmed_at timestamptz, -- set while the booking is counted
    cancelled_at timestamptz,
    updated_at timestamptz not null
);

create index counted_bookings_updated_at on ai.counted_bookings (updated_at);
